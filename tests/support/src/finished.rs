//! A command that has ended: its exit and its output, with the checks tests make on them.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use snapbox::{Assert, IntoData, Redactions};

/// What a command did. The checks return `self`, so that they chain, and show everything when they fail.
#[derive(Debug, Clone)]
pub struct Finished {
    command: String,
    status: Option<ExitStatus>,
    /// All bytes of its standard output.
    pub stdout: Vec<u8>,
    /// All bytes of its standard error.
    pub stderr: Vec<u8>,
    /// From its start to its end.
    pub elapsed: Duration,
}

impl Finished {
    pub(crate) fn new(
        command: String,
        status: Option<ExitStatus>,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        elapsed: Duration,
    ) -> Self {
        Self { command, status, stdout, stderr, elapsed }
    }

    /// The exit code, or `None` for a death by signal.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Standard output as text, lossily.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, lossily.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON on stdout: {error}\n{self}"))
    }

    /// It exited with 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// It exited with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(self.exit_code() == Some(code), "wanted exit code {code}\n{self}");
        self
    }

    /// Standard output is exactly this.
    #[track_caller]
    pub fn stdout_is(self, wanted: impl AsRef<[u8]>) -> Self {
        let wanted = wanted.as_ref();
        assert!(self.stdout == wanted, "wanted on stdout: {:?}\n{self}", String::from_utf8_lossy(wanted));
        self
    }

    /// Standard output holds this text.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.out().contains(text), "wanted on stdout: {text:?}\n{self}");
        self
    }

    /// Standard error holds this text, case aside.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Self {
        assert!(
            self.err().to_lowercase().contains(&text.to_lowercase()),
            "wanted on stderr: {text:?}\n{self}"
        );
        self
    }

    /// Standard error does not hold this text.
    #[track_caller]
    pub fn stderr_lacks(self, text: &str) -> Self {
        assert!(!self.err().contains(text), "unwanted on stderr: {text:?}\n{self}");
        self
    }

    /// It failed in msb itself: 125, nothing on stdout, and a message that says all of `texts`.
    #[track_caller]
    pub fn failed_saying(self, texts: &[&str]) -> Self {
        let mut this = self.code(125).stdout_is("");
        for text in texts {
            this = this.stderr_has(text);
        }
        this
    }

    /// The whole result equals a snapshot, after what differs between runs was replaced: see `redactions`.
    #[track_caller]
    pub fn snapshot(self, wanted: impl IntoData) -> Self {
        let actual = format!(
            "[exit {}]\n{}{}",
            self.status_text(),
            section("stdout", &self.stdout),
            section("stderr", &self.stderr)
        );
        Assert::new().action_env("SNAPSHOTS").redact_with(redactions()).eq(actual, wanted);
        self
    }

    fn status_text(&self) -> String {
        match (self.exit_code(), self.status.and_then(|status| status.signal())) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "not reached".to_owned(),
        }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "$ {}", self.command)?;
        writeln!(out, "[exit {} after {:.2?}]", self.status_text(), self.elapsed)?;
        write!(
            out,
            "{}{}",
            section("stdout", &shortened(&self.stdout)),
            section("stderr", &shortened(&self.stderr))
        )
    }
}

/// What differs between two runs that did the same: temporary folders, ports, digests, sizes, times.
fn redactions() -> Redactions {
    let mut redactions = Redactions::new();
    let patterns = [
        ("[ROOT]", r"(?<redacted>/[^\s:']*/msb-test-[A-Za-z0-9]{6})"),
        ("[REGISTRY]", r"(?<redacted>127\.0\.0\.1:[0-9]{2,5})"),
        ("[DIGEST]", r"(?<redacted>(?:sha256:)?[0-9a-f]{64})"),
        ("[SHORT_DIGEST]", r"\b(?<redacted>[0-9a-f]{12})\b"),
        ("[TIME]", r"(?<redacted>[0-9]+(?:\.[0-9]+)?\s?(?:ms|s))\b"),
        ("[SIZE]", r"(?<redacted>[0-9]+(?:\.[0-9]+)?\s?(?:B|[KMGT]i?B))\b"),
    ];
    for (placeholder, pattern) in patterns {
        redactions.insert(placeholder, regex::Regex::new(pattern).unwrap()).unwrap();
    }
    redactions
}

fn section(name: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n[no newline]\n" };
    format!("--- {name}\n{text}{end}")
}

/// Enough of a long output to see what it is.
fn shortened(bytes: &[u8]) -> Vec<u8> {
    const KEEP: usize = 4000;
    if bytes.len() <= 2 * KEEP {
        return bytes.to_vec();
    }
    let left_out = format!("\n[… {} bytes …]\n", bytes.len() - 2 * KEEP);
    [&bytes[..KEEP], left_out.as_bytes(), &bytes[bytes.len() - KEEP..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_runs_is_replaced() {
        let text =
            "pulled 127.0.0.1:40321/busybox in 1.25 s (2.1 MiB) to /tmp/msb-test-aB3xYz/msb as sha256:";
        let text = format!("{text}{}\n", "0123456789abcdef".repeat(4));
        let finished =
            Finished::new("msb pull".to_owned(), None, Vec::new(), text.into_bytes(), Duration::ZERO);
        finished.snapshot(snapbox::str![[r#"
[exit not reached]
--- stdout
--- stderr
pulled [REGISTRY]/busybox in [TIME] ([SIZE]) to [ROOT]/msb as [DIGEST]

"#]]);
    }
}
