//! Who uses an image: whoever holds a shared `flock` on its `config.json`.
//!
//! A run takes the lock when it finds the image and keeps it to its end; the kernel drops it with the process, so no
//! record can outlive its run. Whoever removes the image takes the lock exclusively first. `/proc/locks` tells
//! who holds it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How exactly the time of last use is kept: a start within it writes nothing.
const USE_STEP: Duration = Duration::from_secs(3600);

/// An image that stays where it is for as long as this lives.
#[derive(Debug)]
pub(super) struct Lease(File);

impl Lease {
    /// Locks the image whose configuration is at `path`. `None` when it is not there, or is just being removed.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever removes an image holds the lock for an instant, so this waits rather than fails.
        while let Err(error) = file.lock_shared() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let is_there = file.metadata()?.nlink() > 0;
        Ok(is_there.then_some(Self(file)))
    }

    /// The configuration.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.0.read_to_end(&mut text).map(|_| text)
    }

    /// Remembers that the image was used now.
    pub(super) fn note_use(&self) {
        let now = SystemTime::now();
        let last = self.0.metadata().and_then(|metadata| metadata.modified());
        let is_recent = last.is_ok_and(|last| now.duration_since(last).is_ok_and(|since| since < USE_STEP));
        if !is_recent {
            // A store that may only be read has no use for it.
            let _ = self.0.set_modified(now);
        }
    }
}

/// The lock of whoever is about to remove an image: nobody uses it and nobody can begin to.
#[derive(Debug)]
pub(super) struct Exclusion(#[expect(dead_code, reason = "held for its lock")] Option<File>);

impl Exclusion {
    /// Locks out new users of the image whose configuration is at `path`; `None` when it has users.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            // What has no configuration cannot be used.
            Err(error) if is_absent(&error) => return Ok(Some(Self(None))),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(Some(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The processes that use the image whose configuration is at `path`, as people know them: `msx python (process 7)`.
pub(super) fn users(path: &Path) -> Vec<String> {
    let Ok(inode) = fs::metadata(path).map(|metadata| metadata.ino()) else { return Vec::new() };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut processes: Vec<u32> = locks.lines().filter_map(|line| holder(line, inode)).collect();
    processes.sort_unstable();
    processes.dedup();
    processes.iter().map(|pid| format!("`{}` (process {pid})", command(*pid))).collect()
}

/// The process of a line such as `3: FLOCK  ADVISORY  READ 9016 fe:00:6324719 0 EOF`. The device is not compared:
/// several file systems show another one here than in `stat`.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "READ", pid, place, ..] = words[..] else { return None };
    let at: u64 = place.rsplit(':').next()?.parse().ok()?;
    (at == inode).then(|| pid.parse().ok()).flatten()
}

/// The command line of a process, short and on one line.
fn command(pid: u32) -> String {
    const LONGEST: usize = 80;
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    match text.chars().count() {
        0 => "another user's process".to_owned(),
        1..=LONGEST => text,
        _ => text.chars().take(LONGEST).chain(['…']).collect(),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_exclude_removal_and_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(Lease::take(&path).unwrap().is_none());
        fs::write(&path, "{}").unwrap();
        let (one, mut two) = (Lease::take(&path).unwrap().unwrap(), Lease::take(&path).unwrap().unwrap());
        assert_eq!(two.read().unwrap(), b"{}");
        assert!(Exclusion::take(&path).unwrap().is_none());
        drop((one, two));
        let exclusion = Exclusion::take(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        drop(exclusion);
        assert!(Lease::take(&path).unwrap().is_none());
    }

    #[test]
    fn an_image_removed_between_open_and_lock_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "{}").unwrap();
        let exclusion = Exclusion::take(&path).unwrap().unwrap();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || Lease::take(&path).unwrap().is_none())
        };
        // The lock is waited for by a line of its own, marked with an arrow.
        let inode = fs::metadata(&path).unwrap().ino().to_string();
        while !fs::read_to_string("/proc/locks")
            .unwrap()
            .lines()
            .any(|line| line.contains("->") && line.contains(&inode))
        {
            std::thread::yield_now();
        }
        fs::remove_file(&path).unwrap();
        drop(exclusion);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn reads_the_list_of_locks() {
        assert_eq!(holder("3: FLOCK  ADVISORY  READ 9016 fe:00:6324719 0 EOF", 6_324_719), Some(9016));
        for line in [
            "",
            "3: POSIX  ADVISORY  READ 9016 fe:00:6324719 0 EOF",
            "1: -> FLOCK  ADVISORY  READ 9 0:0:6324719 0 EOF",
        ] {
            assert_eq!(holder(line, 6_324_719), None, "{line}");
        }
        assert!(command(std::process::id()).contains("msb"));
        assert_eq!(command(u32::MAX), "another user's process");
    }

    #[test]
    fn use_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "{}").unwrap();
        let old = SystemTime::now() - Duration::from_secs(100_000);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        Lease::take(&path).unwrap().unwrap().note_use();
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > old + Duration::from_secs(90_000));
    }
}
