//! What a machine costs the host, as `proc(5)` tells it.

use std::fs;
use std::time::Duration;

/// Resident memory of process `pid` in bytes; `None` when it is gone.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let pages: u64 =
        fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * setting(libc::_SC_PAGESIZE)?)
}

/// Processor time that process `pid` has taken; `None` when it is gone.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything. utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / setting(libc::_SC_CLK_TCK)?))
}

fn setting(name: libc::c_int) -> Option<u64> {
    // SAFETY: takes a plain number.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_memory_and_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).is_some_and(|bytes| bytes > 1 << 20));
        let before = cpu_time(pid);
        while cpu_time(pid) == before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
