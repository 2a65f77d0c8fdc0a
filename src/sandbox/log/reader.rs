//! Reading the log of a sandbox: all of it, its end, or what comes from now on.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd as _;

use super::{LogRecord, TIME_LENGTH, current, older, time_text};

/// Bytes read at a time.
const BLOCK: usize = 256 * 1024;
/// How often a reader that waits for more looks whether anybody is left to write.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Which part of a log is wanted.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Only so many lines at the end.
    pub tail: Option<u64>,
    /// Only what was written at this time or later.
    pub since: Option<jiff::Timestamp>,
    /// Only what was written before this time.
    pub until: Option<jiff::Timestamp>,
}

/// Whether more is waited for at the end of the log.
pub enum Follow<'a> {
    /// No.
    No,
    /// Yes, while this says that somebody may write.
    While(&'a dyn Fn() -> bool),
}

/// Reads a log from its first wanted record on.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    /// Open files still to be read, the next one last.
    files: Vec<File>,
    rest: Vec<u8>,
    until: Option<String>,
}

impl LogReader {
    /// Opens the log in `dir` at the first record that `query` wants. Files keep their contents when the log is rotated
    /// meanwhile. A sandbox that never ran has an empty log.
    ///
    /// # Errors
    /// The system's answer.
    pub fn open(dir: &Path, query: &LogQuery) -> io::Result<Self> {
        // Newest first; a file that is moved on between two opens is found twice.
        let mut files: Vec<File> = Vec::new();
        for number in 0.. {
            let path = if number == 0 { current(dir) } else { older(dir, number) };
            match File::open(path) {
                Ok(file) => {
                    let id = identity(&file)?;
                    if !files.iter().any(|known| identity(known).is_ok_and(|known| known == id)) {
                        files.push(file);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if number > 0 {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(since) = query.since {
            seek_time(&mut files, &time_text(since))?;
        }
        if let Some(tail) = query.tail {
            seek_tail(&mut files, tail)?;
        }
        Ok(Self { dir: dir.to_owned(), files, rest: Vec::new(), until: query.until.map(time_text) })
    }

    /// Gives every record up to the end of the log to `take`.
    ///
    /// # Errors
    /// The system's answer, or what `take` says.
    pub fn read(&mut self, take: impl FnMut(LogRecord<'_>) -> io::Result<()>) -> io::Result<()> {
        self.read_on(&Follow::No, take)
    }

    /// The same, and waits for more as `follow` says.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read_on(
        &mut self,
        follow: &Follow<'_>,
        mut take: impl FnMut(LogRecord<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let watch = match follow {
            Follow::No => None,
            Follow::While(_) => {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
                inotify.add_watch(
                    &self.dir,
                    AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_CREATE,
                )?;
                Some(inotify)
            }
        };
        loop {
            // Asked before the last look at the file, so that what is written between the two is not missed.
            let more = matches!(follow, Follow::While(alive) if alive());
            if !self.drain(&mut take)? {
                return Ok(());
            }
            match &watch {
                Some(inotify) if more => wait(inotify)?,
                _ => return Ok(()),
            }
        }
    }

    /// Reads to the end of the newest file. `false` when the end of the wanted time is reached.
    fn drain(&mut self, take: &mut impl FnMut(LogRecord<'_>) -> io::Result<()>) -> io::Result<bool> {
        loop {
            let Some(file) = self.files.last_mut() else {
                match File::open(current(&self.dir)) {
                    Ok(file) => self.files.push(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                    Err(error) => return Err(error),
                }
                continue;
            };
            let start = self.rest.len();
            self.rest.resize(start + BLOCK, 0);
            let count = file.read(&mut self.rest[start..])?;
            self.rest.truncate(start + count);
            if count == 0 {
                let was_last = self.files.len() == 1;
                if was_last && self.is_current()? {
                    return Ok(true);
                }
                self.files.pop();
                continue;
            }
            if !self.give(take)? {
                return Ok(false);
            }
        }
    }

    /// Gives the whole records in the buffer.
    fn give(&mut self, take: &mut impl FnMut(LogRecord<'_>) -> io::Result<()>) -> io::Result<bool> {
        let mut given = 0;
        for line in self.rest.split_inclusive(|byte| *byte == b'\n') {
            let Some(record) = line.strip_suffix(b"\n") else { break };
            given += line.len();
            let Some(record) = LogRecord::parse(record) else { continue };
            if self.until.as_deref().is_some_and(|until| record.time >= until) {
                return Ok(false);
            }
            take(record)?;
        }
        self.rest.drain(..given);
        Ok(true)
    }

    /// Whether the file being read is the one being written.
    fn is_current(&self) -> io::Result<bool> {
        let Some(file) = self.files.last() else { return Ok(false) };
        match std::fs::metadata(current(&self.dir)) {
            Ok(now) => Ok(identity(file)? == (now.dev(), now.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|data| (data.dev(), data.ino()))
}

fn wait(inotify: &Inotify) -> io::Result<()> {
    let limit = PollTimeout::try_from(LOOK_UP).unwrap_or(PollTimeout::NONE);
    match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], limit) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    match inotify.read_events() {
        Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Leaves the files, newest first, at the first record that is not before `since`.
fn seek_time(files: &mut Vec<File>, since: &str) -> io::Result<()> {
    for index in 0..files.len() {
        let Some(file) = files.get_mut(index) else { break };
        let found = first_since(file, since)?;
        file.seek(SeekFrom::Start(found))?;
        if found > 0 {
            // What is older lies before this.
            files.truncate(index + 1);
            break;
        }
    }
    Ok(())
}

/// Offset of the first record of `file` that is not before `since`, by bisection: records are in order of time.
fn first_since(file: &File, since: &str) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        match record_after(file, middle, end)? {
            Some((_, time)) if time.as_slice() < since.as_bytes() => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(record_after(file, low, end)?.map_or(end, |(start, _)| start))
}

/// The first record that starts at or after `offset`, before `end`: its start and its time.
fn record_after(file: &File, offset: u64, end: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    // A record starts behind a newline, the first one at 0.
    let mut at = offset.saturating_sub(1);
    let mut block = vec![0; 4096];
    let start = if offset == 0 {
        Some(0)
    } else {
        loop {
            let count = file.read_at(&mut block, at)?;
            if count == 0 || at >= end {
                break None;
            }
            if let Some(newline) = block[..count].iter().position(|byte| *byte == b'\n') {
                break Some(at + newline as u64 + 1);
            }
            at += count as u64;
        }
    };
    let Some(start) = start.filter(|start| *start < end) else { return Ok(None) };
    let mut time = vec![0; TIME_LENGTH];
    match file.read_exact_at(&mut time, start) {
        Ok(()) => Ok(Some((start, time))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Leaves the files, newest first, at the last `lines` lines that come after where they stand now.
fn seek_tail(files: &mut Vec<File>, lines: u64) -> io::Result<()> {
    let mut missing = lines;
    for index in 0..files.len() {
        let Some(file) = files.get_mut(index) else { break };
        let from = file.stream_position()?;
        // A line whose end is still to come counts, but not one that goes on in the next file.
        let open_end = index == 0;
        let (start, left) = last_lines(file, from, missing, open_end)?;
        file.seek(SeekFrom::Start(start))?;
        missing = left;
        if missing == 0 {
            files.truncate(index + 1);
            break;
        }
    }
    Ok(())
}

/// The offset, not below `from`, at which the last `lines` lines begin, and how many there are too few. A line is what ends in a
/// whole record; with `open_end` a part at the very end counts as one.
fn last_lines(file: &File, from: u64, lines: u64, open_end: bool) -> io::Result<(u64, u64)> {
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok((end, 0));
    }
    let (mut at, mut next, mut found) = (end, end, 0);
    let mut tail: Vec<u8> = Vec::new();
    // `tail` holds what lies between `at` and the first record not yet judged, which starts after a newline.
    while at > from {
        let step = (at - from).min(BLOCK as u64);
        let mut block = vec![0; step as usize];
        file.read_exact_at(&mut block, at - step)?;
        at -= step;
        block.extend_from_slice(&tail);
        tail = block;
        while let Some(newline) = tail[..tail.len().saturating_sub(1)].iter().rposition(|byte| *byte == b'\n')
        {
            let record = &tail[newline + 1..];
            let start = at + newline as u64 + 1;
            if ends_line(record, open_end && start + record.len() as u64 == end) {
                if found == lines {
                    return Ok((next, 0));
                }
                found += 1;
            }
            next = start;
            tail.truncate(newline + 1);
        }
    }
    if !tail.is_empty() && ends_line(&tail, open_end && next == end) {
        if found == lines {
            return Ok((next, 0));
        }
        found += 1;
    }
    Ok((from, lines - found))
}

/// Whether a record, with its newline, is the last of a line, as the `last` one is in any case.
fn ends_line(record: &[u8], last: bool) -> bool {
    LogRecord::parse(record.strip_suffix(b"\n").unwrap_or(record)).is_none_or(|record| record.whole || last)
}
