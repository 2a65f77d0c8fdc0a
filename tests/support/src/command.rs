//! One `msb` command, before it runs.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::finished::Finished;
use crate::process::{die_with_parent, wait_until};
use crate::running::Running;
use crate::terminal::Terminal;

/// A command to run in a [`crate::TestEnv`]: `msb`, one of its other names, or anything on the environment's PATH.
#[derive(Debug)]
pub struct Msb {
    pub(crate) command: Command,
    pub(crate) limit: Duration,
    input: Vec<u8>,
}

impl Msb {
    pub(crate) fn new(command: Command, limit: Duration) -> Self {
        Self { command, limit, input: Vec::new() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable of the host's process.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in another folder than the environment's working folder.
    #[must_use]
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Bytes for its standard input, which ends after them. Without this the input is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end within the limit; the message has what it printed.
    #[track_caller]
    #[must_use]
    pub fn run(self) -> Finished {
        let limit = self.limit;
        self.try_run().unwrap_or_else(|unfinished| panic!("did not end within {limit:?}\n{unfinished}"))
    }

    /// The same; what took too long is killed, and is the error.
    ///
    /// # Errors
    /// What the command had printed when its time was over.
    pub fn try_run(mut self) -> Result<Finished, Box<Finished>> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = self.shown();
        let (limit, input) = (self.limit, std::mem::take(&mut self.input));
        let start = Instant::now();
        let mut child = self.start().child;
        let mut stdin = child.stdin.take().unwrap();
        // A command need not read its input to the end, so a broken pipe is no failure.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let elapsed = start.elapsed();
        if status.is_some() {
            let _ = writer.join();
        }
        let finished = Finished::new(shown, status, stdout.join().unwrap(), stderr.join().unwrap(), elapsed);
        if status.is_some() { Ok(finished) } else { Err(Box::new(finished)) }
    }

    /// Starts it with pipes on all three streams and leaves it running.
    #[must_use]
    pub fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.start()
    }

    /// Starts it as the leader of a session on a new terminal of this size.
    #[must_use]
    pub fn terminal(self, rows: u16, columns: u16) -> Terminal {
        Terminal::start(self, rows, columns)
    }

    /// The command line as a person would type it.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(shown_word).collect::<Vec<_>>().join(" ")
    }

    fn start(mut self) -> Running {
        // SAFETY: the closure makes one async-signal-safe system call.
        unsafe { self.command.pre_exec(die_with_parent) };
        let shown = self.shown();
        let child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start `{shown}`: {error}"));
        Running::new(child, shown, self.limit)
    }
}

/// Reads a pipe to its end on a thread. A process that outlives the command may keep the pipe open, so the end may come late; that is a
/// failure too, because a caller's `$(msx …)` would hang.
fn collect(mut pipe: impl Read + Send + 'static) -> Collected {
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    });
    Collected { reader }
}

struct Collected {
    reader: thread::JoinHandle<Vec<u8>>,
}

impl Collected {
    fn join(self) -> thread::Result<Vec<u8>> {
        wait_until(Duration::from_secs(10), "the pipe ends with the command", || self.reader.is_finished());
        self.reader.join()
    }
}

fn shown_word(word: &OsStr) -> String {
    let name = OsString::from(word).to_string_lossy().into_owned();
    let short =
        if name.chars().count() > 200 { name.chars().take(200).chain(['…']).collect() } else { name };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@~,+%".contains(c);
    if !short.is_empty() && short.chars().all(plain) {
        short
    } else {
        format!("'{}'", short.replace('\'', r"'\''"))
    }
}
