//! What a sandbox's main process has written, kept beside its disk.
//!
//! The format is that of container runtimes for Kubernetes (CRI): one record per line, `TIME STREAM TAG CONTENT`, where TIME
//! is RFC 3339 with nanoseconds, STREAM `stdout` or `stderr`, and TAG `F` for a whole line and `P` for a part of one whose rest is the
//! next record of that stream. Bytes are kept as they came.

mod reader;
mod writer;

pub use reader::{Follow, LogQuery, LogReader};
pub use writer::{LogLimits, LogWriter};

use std::path::{Path, PathBuf};

/// One of the two outputs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// When it was written: RFC 3339, always of the same length.
    pub time: &'a str,
    /// Where to.
    pub stream: LogStream,
    /// Whether the line ends here.
    pub whole: bool,
    /// Its bytes, without the end of the line.
    pub content: &'a [u8],
}

/// Length of a time: `2026-01-02T03:04:05.123456789Z`.
const TIME_LENGTH: usize = 30;

impl<'a> LogRecord<'a> {
    /// Reads a record, without its newline; `None` for what is none.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = line.split_at_checked(TIME_LENGTH)?;
        let rest = rest.strip_prefix(b" ")?;
        let (stream, rest) = match rest.split_at_checked(7)? {
            (b"stdout ", rest) => (LogStream::Stdout, rest),
            (b"stderr ", rest) => (LogStream::Stderr, rest),
            _ => return None,
        };
        let (whole, content) = match rest.split_at_checked(2)? {
            (b"F ", content) => (true, content),
            (b"P ", content) => (false, content),
            _ => return None,
        };
        Some(Self { time: std::str::from_utf8(time).ok()?, stream, whole, content })
    }
}

/// The file that is written now.
fn current(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// The `number`th older file; 1 is the newest of them.
fn older(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("log.{number}"))
}

/// A time as records have it.
fn time_text(time: jiff::Timestamp) -> String {
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    pub(super) fn text(query: &LogQuery, dir: &Path) -> String {
        let mut all = String::new();
        let mut reader = LogReader::open(dir, query).unwrap();
        reader
            .read(|record| {
                all += &String::from_utf8_lossy(record.content);
                if record.whole {
                    all.push('\n');
                }
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn lines_come_back_as_they_were_written_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), LogLimits { size: 400, files: 100 }).unwrap();
        let mut expected = String::new();
        for number in 0..100 {
            log.write(LogStream::Stdout, format!("line {number}").as_bytes()).unwrap();
            log.write(LogStream::Stdout, b" goes on\n\nlast").unwrap();
            log.write(LogStream::Stdout, b"\n").unwrap();
            expected += &format!("line {number} goes on\n\nlast\n");
        }
        assert!(older(dir.path(), 5).exists());
        assert_eq!(text(&LogQuery::default(), dir.path()), expected);
        for tail in [0, 1, 2, 7, 50, 299, 300, 301, 5000] {
            let lines: Vec<&str> = expected.lines().collect();
            let from = lines.len().saturating_sub(tail);
            let wanted: String = lines[from..].iter().map(|line| format!("{line}\n")).collect();
            assert_eq!(
                text(&LogQuery { tail: Some(tail as u64), ..LogQuery::default() }, dir.path()),
                wanted
            );
        }
    }

    #[test]
    fn the_oldest_files_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), LogLimits { size: 100, files: 2 }).unwrap();
        for number in 0..20 {
            log.write(LogStream::Stderr, format!("line {number} {}\n", "x".repeat(50)).as_bytes()).unwrap();
        }
        let kept = text(&LogQuery::default(), dir.path());
        assert!(kept.contains("line 19 ") && !kept.contains("line 10 "), "{kept}");
        assert!(!older(dir.path(), 2).exists());
        drop(log);
        // Another run goes on in the same file.
        LogWriter::open(dir.path(), LogLimits::default())
            .unwrap()
            .write(LogStream::Stdout, b"new\n")
            .unwrap();
        assert!(text(&LogQuery::default(), dir.path()).ends_with("\nnew\n"));
    }

    #[test]
    fn times_select_records() {
        let dir = tempfile::tempdir().unwrap();
        let line = |second: u32| {
            format!("2026-01-02T03:{:02}:{:02}.000000000Z stdout F {second}\n", second / 60, second % 60)
        };
        let [old, new]: [String; 2] = [0..100, 100..3000].map(|range| range.map(line).collect());
        std::fs::write(older(dir.path(), 1), old).unwrap();
        std::fs::write(current(dir.path()), new).unwrap();
        for since in [0, 1, 99, 100, 101, 2500, 2999] {
            let at = |second: u32| {
                Some(format!("2026-01-02T03:{:02}:{:02}Z", second / 60, second % 60).parse().unwrap())
            };
            let query = LogQuery { since: at(since), until: at(since + 2), ..LogQuery::default() };
            let wanted: String = (since..(since + 2).min(3000)).map(|second| format!("{second}\n")).collect();
            assert_eq!(text(&query, dir.path()), wanted, "{since}");
        }
    }

    proptest! {
        #[test]
        fn records_are_read_or_refused_and_never_panic(line: Vec<u8>) {
            let _ = LogRecord::parse(&line);
        }

        #[test]
        fn bytes_come_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = LogWriter::open(dir.path(), LogLimits::default()).unwrap();
            for chunk in &chunks {
                log.write(LogStream::Stdout, chunk).unwrap();
            }
            let mut back = Vec::new();
            LogReader::open(dir.path(), &LogQuery::default()).unwrap().read(|record| {
                back.extend_from_slice(record.content);
                back.extend(record.whole.then_some(b'\n'));
                Ok(())
            }).unwrap();
            prop_assert_eq!(back, chunks.concat());
        }
    }
}
