//! What the guest kernel says on its serial console, kept and understood within bounds.
//!
//! Everything here is written by the guest: it may be endless, binary, or made to look like something else. Findings therefore
//! explain an end that has happened anyway; they never decide anything.

use std::collections::VecDeque;

/// Bytes of console output that are kept.
pub const KEPT_BYTES: usize = 64 << 10;
/// Longer lines are judged by their beginning.
const MAX_LINE: usize = 1024;
/// Findings of one kind that are kept.
const MAX_FINDINGS: usize = 16;

/// A process the guest kernel killed because memory ran out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// Process id in the guest.
    pub pid: u32,
    /// Name of the process, as the kernel shows it (at most 15 bytes).
    pub name: String,
}

/// What stood out in the console output so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// The reason of a kernel panic: the first one counts, later ones are consequences.
    pub panic: Option<String>,
    /// Processes killed for lack of memory, oldest first, at most 16.
    pub oom_kills: Vec<OomKill>,
    /// Errors about disks and file systems, oldest first, at most 16.
    pub disk_errors: Vec<String>,
}

/// Collects console output. Costs at most some 70 KiB whatever is fed to it.
#[derive(Debug, Default)]
pub struct Console {
    kept: VecDeque<u8>,
    line: Vec<u8>,
    findings: Findings,
}

impl Console {
    /// An empty console.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of output, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// The last output, at most [`KEPT_BYTES`], made safe for a terminal: text without control characters but line ends and
    /// tabs.
    pub fn tail(&self) -> String {
        let (older, newer) = self.kept.as_slices();
        printable(&[older, newer].concat())
    }

    /// The last `lines` lines that are not empty.
    pub fn last_lines(&self, lines: usize) -> Vec<String> {
        last_lines(&self.tail(), lines)
    }

    /// What stood out, including in a last line that has not ended yet.
    pub fn findings(&self) -> Findings {
        let mut findings = self.findings.clone();
        findings.judge(&self.line);
        findings
    }

    fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT_BYTES)..];
        let excess = (self.kept.len() + bytes.len()).saturating_sub(KEPT_BYTES);
        self.kept.drain(..excess);
        self.kept.extend(bytes);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.findings.judge(&line);
        self.line = line;
        self.line.clear();
    }
}

impl Findings {
    /// Whether nothing stood out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn judge(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let line = printable(line);
        let message = without_time(line.trim());
        if let Some(reason) = message.strip_prefix("Kernel panic - not syncing: ") {
            self.panic.get_or_insert_with(|| reason.trim().to_owned());
        } else if let Some(kill) = oom_kill(message) {
            if self.oom_kills.len() < MAX_FINDINGS {
                self.oom_kills.push(kill);
            }
        } else if is_disk_error(message) && self.disk_errors.len() < MAX_FINDINGS {
            self.disk_errors.push(message.to_owned());
        }
    }
}

/// `Out of memory: Killed process 42 (name) total-vm:…`, also of a memory cgroup (Linux: mm/oom_kill.c).
fn oom_kill(message: &str) -> Option<OomKill> {
    const START: &str = "ut of memory: Killed process ";
    let at = message.find(START).filter(|at| *at > 0 && *at < 32)?;
    let (pid, rest) = message[at + START.len()..].split_once(' ')?;
    let name = rest.strip_prefix('(')?;
    // A process may have parentheses in its name; what follows the name has none.
    let end = name.find(") total-vm").or_else(|| name.rfind(')'))?;
    Some(OomKill { pid: pid.parse().ok()?, name: name[..end].to_owned() })
}

/// Messages of the block layer and of the file systems a sandbox is made of that tell of damage or of a mount that failed.
fn is_disk_error(message: &str) -> bool {
    let ext4 = message.starts_with("EXT4-fs error")
        || (message.starts_with("EXT4-fs (")
            && ["VFS: Can't find", "unable to", "failed", "corrupt", "error", "Unrecognized", "Remounting"]
                .iter()
                .any(|word| message.contains(word)));
    let erofs = ["erofs: ", "erofs ("].iter().any(|start| message.starts_with(start))
        && ["cannot", "failed", "invalid", "unsupported", "bogus", "isn't supported", "corrupt"]
            .iter()
            .any(|word| message.contains(word));
    let block = ["I/O error, dev ", "critical target error, dev ", "critical space allocation error, dev "]
        .iter()
        .any(|start| message.contains(start));
    let mount = message.starts_with("VFS: Unable to mount") || message.starts_with("VFS: Cannot open root");
    ext4 || erofs || block || mount || message.starts_with("overlayfs: fail")
}

/// Removes the kernel's time stamp: `[    0.123456] `.
fn without_time(line: &str) -> &str {
    let Some(rest) = line.strip_prefix('[') else { return line };
    match rest.split_once(']') {
        Some((time, message)) if time.bytes().all(|byte| matches!(byte, b' ' | b'.' | b'0'..=b'9')) => {
            message.trim_start()
        }
        _ => line,
    }
}

/// Text without the control characters that move cursors, change titles or hide text on a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || is_invisible(*c)))
        .collect()
}

/// Characters that change the direction of text or take no room.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The last `lines` non-empty lines of `text`.
pub(super) fn last_lines(text: &str, lines: usize) -> Vec<String> {
    let mut last: Vec<String> = text
        .lines()
        .rev()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .take(lines)
        .map(str::to_owned)
        .collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn findings(text: &str) -> Findings {
        let mut console = Console::new();
        console.push(text.as_bytes());
        console.findings()
    }

    #[test]
    fn a_panic_is_recognised_with_its_reason_and_the_first_one_counts() {
        let text = "[    0.5] Kernel panic - not syncing: No working init found.  Try passing init= option\r\n\
                    [    0.6] Kernel panic - not syncing: Fatal exception\r\n";
        let reason = findings(text).panic;
        assert_eq!(reason.as_deref(), Some("No working init found.  Try passing init= option"));
        assert_eq!(findings("user said: Kernel panic - not syncing: hi\n").panic, None);
    }

    #[test]
    fn out_of_memory_kills_name_the_process() {
        let text = "[   12.3] Out of memory: Killed process 42 (python3) total-vm:1kB, anon-rss:1kB\n\
                    [   13.0] Memory cgroup out of memory: Killed process 7 (a) b) total-vm:1kB\n\
                    Out of memory: Killed process x (y)\n";
        let kill = |pid, name: &str| OomKill { pid, name: name.into() };
        assert_eq!(findings(text).oom_kills, [kill(42, "python3"), kill(7, "a) b")]);
    }

    #[test]
    fn disk_errors_are_told_from_other_messages() {
        for line in [
            "EXT4-fs (vdb): VFS: Can't find ext4 filesystem",
            "EXT4-fs error (device vdb): ext4_lookup:1: inode #2: comm x: deleted inode referenced: 3",
            "erofs: (device vda): cannot find valid erofs superblock",
            "erofs (device vda): cannot find valid erofs superblock",
            "I/O error, dev vdb, sector 8 op 0x1:(WRITE)",
            "VFS: Unable to mount root fs on unknown-block(0,0)",
        ] {
            assert_eq!(findings(&format!("[ 1.0] {line}\n")).disk_errors, [line], "{line}");
        }
        for line in [
            "EXT4-fs (vdb): mounted filesystem r/w with ordered data mode. Quota mode: none.",
            "erofs (device vda): mounted with root inode @ nid 36.",
            "hello",
        ] {
            assert!(findings(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn output_is_bounded_and_safe_for_a_terminal() {
        let mut console = Console::new();
        console.push(b"first\n");
        console.push(&vec![b'x'; 10 * KEPT_BYTES]);
        console.push("\n\x1b[2J\x1b]0;title\x07l\u{202e}ast\n".as_bytes());
        assert!(console.tail().len() <= KEPT_BYTES);
        assert_eq!(console.last_lines(1), ["[2J]0;titlelast"]);
        assert!(!console.tail().contains("first"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_stay_within_bounds(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..40)) {
            let mut console = Console::new();
            for chunk in &chunks {
                console.push(chunk);
            }
            prop_assert!(console.kept.len() <= KEPT_BYTES && console.line.len() <= MAX_LINE);
            let _ = (console.tail(), console.findings(), console.last_lines(5));
        }

        #[test]
        fn arbitrary_lines_are_judged_alike_however_they_are_cut(
            lines in proptest::collection::vec("(\\[ 1\\.0\\] )?(Kernel panic - not syncing: |Out of memory: Killed process |EXT4-fs error)?[a-z0-9() ]{0,20}", 0..20),
            cut in 1usize..7,
        ) {
            let text = lines.join("\n");
            let mut console = Console::new();
            for piece in text.as_bytes().chunks(cut) {
                console.push(piece);
            }
            prop_assert_eq!(console.findings(), findings(&text));
            prop_assert!(console.findings().oom_kills.len() <= MAX_FINDINGS);
        }
    }
}
