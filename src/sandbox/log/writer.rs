//! Writing the log of a sandbox.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{LogStream, current, older, time_text};

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogLimits {
    /// Bytes after which a new file is begun.
    pub size: u64,
    /// Files kept, the one being written included.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { size: 16 << 20, files: 4 }
    }
}

/// Appends to the log of one sandbox. There is one writer at a time: whoever has the sandbox's lock.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    limits: LogLimits,
    file: File,
    size: u64,
    record: Vec<u8>,
}

impl LogWriter {
    /// Opens or makes the log in `dir`, readable by its owner alone.
    ///
    /// # Errors
    /// The system's answer.
    pub fn open(dir: &Path, limits: LogLimits) -> io::Result<Self> {
        let file = open(dir)?;
        let size = file.metadata()?.len();
        Ok(Self { dir: dir.to_owned(), limits, file, size, record: Vec::new() })
    }

    /// Adds `bytes` that were written to `stream` now.
    ///
    /// # Errors
    /// The system's answer, a full disk for example; the log stays usable.
    pub fn write(&mut self, stream: LogStream, bytes: &[u8]) -> io::Result<()> {
        let head = format!("{} {} ", time_text(jiff::Timestamp::now()), stream.name());
        self.record.clear();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.record.extend_from_slice(head.as_bytes());
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    self.record.extend_from_slice(b"F ");
                    self.record.extend_from_slice(line);
                }
                None => {
                    self.record.extend_from_slice(b"P ");
                    self.record.extend_from_slice(line);
                }
            }
            self.record.push(b'\n');
        }
        if self.size > 0 && self.size + self.record.len() as u64 > self.limits.size {
            self.rotate()?;
        }
        self.file.write_all(&self.record)?;
        self.size += self.record.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let last = self.limits.files.max(1) - 1;
        let found = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if last == 0 {
            found(fs::remove_file(current(&self.dir)))?;
        } else {
            for number in (1..last).rev() {
                found(fs::rename(older(&self.dir, number), older(&self.dir, number + 1)))?;
            }
            found(fs::rename(current(&self.dir), older(&self.dir, 1)))?;
        }
        self.file = open(&self.dir)?;
        self.size = 0;
        Ok(())
    }
}

fn open(dir: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(current(dir))
}
