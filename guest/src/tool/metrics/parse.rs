//! The kernel's texts. <https://docs.kernel.org/filesystems/proc.html>

use crate::message::{CpuMetrics, IoMetrics, MemoryMetrics};

/// Nanoseconds of the clock tick in which `/proc` counts CPU time: `USER_HZ` is 100 on every machine msb runs on.
pub(super) const TICK_NS: u64 = 10_000_000;
/// Bytes of the sector in which `/proc/diskstats` counts, whatever the disk's own.
const SECTOR: u64 = 512;

/// The words of each line.
fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.split_ascii_whitespace().collect())
}

fn number(words: &[&str], index: usize) -> u64 {
    words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// `/proc/stat`
pub(super) fn cpu(text: &[u8]) -> CpuMetrics {
    let mut cpu = CpuMetrics::default();
    for words in lines(text) {
        match words.first() {
            Some(&"cpu") => {
                let ticks = |index| number(&words, index).saturating_mul(TICK_NS);
                cpu.user_ns = ticks(1) + ticks(2);
                cpu.system_ns = ticks(3) + ticks(6) + ticks(7);
                cpu.total_ns = cpu.user_ns + cpu.system_ns;
                cpu.steal_ns = ticks(8);
            }
            Some(name) if name.starts_with("cpu") => cpu.count += 1,
            _ => {}
        }
    }
    cpu
}

/// `/proc/loadavg`
pub(super) fn load(text: &[u8]) -> [f64; 3] {
    let words = lines(text).next().unwrap_or_default();
    let average = |index: usize| words.get(index).and_then(|word| word.parse().ok());
    [0, 1, 2].map(|index| average(index).filter(|value: &f64| value.is_finite()).unwrap_or(0.0))
}

/// `/proc/meminfo`
pub(super) fn memory(text: &[u8]) -> MemoryMetrics {
    let mut memory = MemoryMetrics::default();
    for words in lines(text) {
        let bytes = number(&words, 1).saturating_mul(1024);
        match words.first() {
            Some(&"MemTotal:") => memory.total = bytes,
            Some(&"MemAvailable:") => memory.available = bytes,
            Some(&("Buffers:" | "Cached:" | "SReclaimable:")) => memory.cache += bytes,
            _ => {}
        }
    }
    memory.used = memory.total.saturating_sub(memory.available);
    memory
}

/// `/proc/diskstats`: the virtio disks, which are all a guest has of its own.
pub(super) fn block(text: &[u8]) -> IoMetrics {
    let mut sum = IoMetrics::default();
    for words in lines(text).filter(|words| words.get(2).is_some_and(|name| name.starts_with("vd"))) {
        sum.reads += number(&words, 3);
        sum.read_bytes += number(&words, 5).saturating_mul(SECTOR);
        sum.writes += number(&words, 7);
        sum.written_bytes += number(&words, 9).saturating_mul(SECTOR);
    }
    sum
}

/// `/proc/net/dev`
pub(super) fn network(text: &[u8]) -> IoMetrics {
    let mut sum = IoMetrics::default();
    for line in text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        let Some((name, counts)) = line.split_once(':').filter(|(name, _)| name.trim() != "lo") else {
            continue;
        };
        let words: Vec<&str> = counts.split_ascii_whitespace().collect();
        debug_assert!(!name.is_empty());
        sum.read_bytes += number(&words, 0);
        sum.reads += number(&words, 1);
        sum.written_bytes += number(&words, 8);
        sum.writes += number(&words, 9);
    }
    sum
}

/// `/proc/pressure/*`: the total of the line `some`, which is in microseconds.
pub(super) fn pressure(text: &[u8]) -> Option<u64> {
    let words = lines(text).find(|words| words.first() == Some(&"some"))?;
    let total = words.iter().find_map(|word| word.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()?.saturating_mul(1000))
}

/// What a line of `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Process<'a> {
    pub(super) name: &'a [u8],
    pub(super) state: char,
    /// A thread of the kernel and no program.
    pub(super) kernel: bool,
    pub(super) cpu_ns: u64,
    /// Pages in memory.
    pub(super) pages: u64,
}

/// `/proc/PID/stat`. The name stands in brackets and may hold anything, brackets too.
pub(super) fn process(text: &[u8]) -> Option<Process<'_>> {
    /// `PF_KTHREAD` of `linux/sched.h`.
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let name = text.get(open + 1..close)?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The third field of the line is the first word here.
    let field = |number_in_line: usize| number(&words, number_in_line - 3);
    Some(Process {
        name,
        state: words.first()?.chars().next()?,
        kernel: field(9) & KERNEL_THREAD != 0,
        cpu_ns: (field(14) + field(15)).saturating_mul(TICK_NS),
        pages: field(24),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_their_time() {
        let text =
            b"cpu  10 1 20 999 5 3 4 7 0 0\ncpu0 5 1 10 1 1 1 1 1 0 0\ncpu1 5 0 10 1 1 1 1 1 0 0\nintr 5\n";
        let cpu = cpu(text);
        assert_eq!(cpu.count, 2);
        assert_eq!((cpu.user_ns, cpu.system_ns), (110_000_000, 270_000_000));
        assert_eq!((cpu.total_ns, cpu.steal_ns), (380_000_000, 70_000_000));
        assert_eq!(load(b"0.20 1.18 0.12 1/80 11206\n"), [0.20, 1.18, 0.12]);
        assert_eq!(load(b""), [0.0; 3]);
    }

    #[test]
    fn memory_in_bytes() {
        let text = b"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\nBuffers: 1 kB\nCached: 200 kB\nSReclaimable: 9 kB\n";
        let expected = MemoryMetrics { total: 1_024_000, used: 409_600, available: 614_400, cache: 215_040 };
        assert_eq!(memory(text), expected);
    }

    #[test]
    fn only_disks_and_outside_interfaces_count() {
        let disks = b" 254 0 vda 10 1 80 5 20 2 160 9 0 1 1\n 7 0 loop0 99 0 99 0 99 0 99 0 0 0 0\n 254 16 vdb 1 0 8 0 0 0 0 0 0 0 0\n";
        let expected = IoMetrics { read_bytes: 88 * 512, written_bytes: 160 * 512, reads: 11, writes: 20 };
        assert_eq!(block(disks), expected);
        let text = b"Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo:  9 9 0 0 0 0 0 0 9 9 0\n  eth0: 100 2 0 0 0 0 0 0 300 4 0 0\n";
        let expected = IoMetrics { read_bytes: 100, written_bytes: 300, reads: 2, writes: 4 };
        assert_eq!(network(text), expected);
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(pressure(text), Some(123_000));
        assert_eq!(pressure(b""), None);
    }

    #[test]
    fn names_of_processes_cannot_forge_numbers() {
        let line = b"7 (a) R 1 (b) S 1 7 7 0 -1 4194560 9 9 9 9 30 12 0 0 20 0 1 0 9 1000 250 1 1";
        let process = process(line).unwrap();
        assert_eq!((process.name, process.state, process.kernel), (&b"a) R 1 (b"[..], 'S', false));
        assert_eq!((process.cpu_ns, process.pages), (420_000_000, 250));
        assert!(super::process(b"7 (a) R 1 1 1 0 -1 2129984 0").unwrap().kernel);
        assert_eq!(super::process(b"7 a"), None);
    }
}
