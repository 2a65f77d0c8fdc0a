//! `msb logs`.

use std::io::{self, Write as _};

use jiff::Timestamp;

use crate::sandbox::{Follow, LogQuery, LogReader, LogRecord, LogStream};

use super::Outcome;
use super::args::{FileArgs, parse_time};
use super::settings::Context;

/// Show what the main process of a sandbox has written
///
/// Standard output goes to standard output and standard error to standard error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb logs app\n  msb logs -f --tail 20 web\n  msb logs --since 10m --timestamps db\n  \
    msb logs --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z db"
)]
pub(super) struct Args {
    /// Sandbox
    name: String,
    #[command(flatten)]
    file: FileArgs,
    /// Wait for more until the sandbox has ended
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines at the end
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what was written since: a duration such as 10m, or a time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only what was written before: a duration such as 10m, or a time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Put the time in front of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only standard output, or only standard error
    #[arg(long, value_enum, value_name = "STREAM")]
    stream: Option<StreamArg>,
}

/// Names of `--stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StreamArg {
    /// Standard output, or the terminal
    Stdout,
    /// Standard error
    Stderr,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = context.target(&self.file.project(), &self.name)?;
        let query = LogQuery { tail: self.tail, since: self.since, until: self.until };
        let mut reader = LogReader::open(&target.folder, &query)?;
        // A sandbox that cannot be looked at is not waited for.
        let alive = || target.is_running().unwrap_or(false);
        let follow = if self.follow { Follow::While(&alive) } else { Follow::No };
        let mut printer = Printer::new(self.timestamps, self.stream, self.follow);
        let read = if target.folder.exists() {
            reader.read_on(&follow, |record| printer.print(record))
        } else {
            Ok(())
        };
        read.and_then(|()| printer.flush())?;
        Ok(0)
    }
}

/// Writes records to the stream they came from.
struct Printer {
    timestamps: bool,
    only: Option<StreamArg>,
    eager: bool,
    out: io::BufWriter<io::StdoutLock<'static>>,
    err: io::StderrLock<'static>,
    /// Whether the next record of each stream starts a line.
    fresh: [bool; 2],
}

impl Printer {
    fn new(timestamps: bool, only: Option<StreamArg>, eager: bool) -> Self {
        let out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
        Self { timestamps, only, eager, out, err: io::stderr().lock(), fresh: [true; 2] }
    }

    fn print(&mut self, record: LogRecord<'_>) -> io::Result<()> {
        let (index, wanted) = match record.stream {
            LogStream::Stdout => (0, StreamArg::Stdout),
            LogStream::Stderr => (1, StreamArg::Stderr),
        };
        if self.only.is_some_and(|only| only != wanted) {
            return Ok(());
        }
        let to: &mut dyn io::Write = if index == 0 {
            &mut self.out
        } else {
            // What was written before it comes before it, where both go to the same place.
            self.out.flush()?;
            &mut self.err
        };
        if self.timestamps && self.fresh.get(index).copied().unwrap_or(true) {
            write!(to, "{} ", record.time)?;
        }
        to.write_all(record.content)?;
        if record.whole {
            to.write_all(b"\n")?;
        }
        if let Some(fresh) = self.fresh.get_mut(index) {
            *fresh = record.whole;
        }
        if self.eager { self.out.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
