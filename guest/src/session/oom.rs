//! Did the guest's kernel kill something for lack of memory?

use std::fs::File;
use std::io::Read;

/// Kernel-wide counter of such kills.
const COUNTER: &[u8] = b"\noom_kill ";

/// Notices that the counter went up since it was last looked at.
#[derive(Debug)]
pub struct OomWatch {
    seen: u64,
}

impl OomWatch {
    /// Starts at zero, the value at boot.
    #[must_use]
    pub fn from_boot() -> OomWatch {
        OomWatch { seen: 0 }
    }

    /// Starts at the present value.
    #[must_use]
    pub fn from_now() -> OomWatch {
        OomWatch { seen: kills().unwrap_or(0) }
    }

    /// Whether there was a kill since the last call.
    pub fn new_kill(&mut self) -> bool {
        let Some(now) = kills() else { return false };
        let more = now > self.seen;
        self.seen = now;
        more
    }
}

fn kills() -> Option<u64> {
    let mut text = [0; 16 * 1024];
    let mut len = 0;
    let mut file = File::open("/proc/vmstat").ok()?;
    while len < text.len() {
        match file.read(&mut text[len..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => len += count,
        }
    }
    parse(&text[..len])
}

fn parse(text: &[u8]) -> Option<u64> {
    let at = text.windows(COUNTER.len()).position(|w| w == COUNTER)? + COUNTER.len();
    let end = text[at..].iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&text[at..at + end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_among_its_likes() {
        assert_eq!(parse(b"nr_free 3\nx_oom_kill 9\noom_kill 12\nfoo 1\n"), Some(12));
        assert_eq!(parse(b"nr_free 3\n"), None);
        assert_eq!(parse(b"\noom_kill 12"), None);
    }
}
