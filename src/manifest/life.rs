//! How long a sandbox lives and how it is seen to be well: `restart:` and `healthcheck:`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::check::{Checker, Problem};
use super::decode::{Text, short};
use super::spec::SandboxSpec;
use super::{duration, schema};

/// When a sandbox that has ended by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it failed, at most so many times in a row.
    OnFailure(Option<u32>),
    /// Always.
    Always,
}

impl Restart {
    pub(super) fn is_no(&self) -> bool {
        *self == Self::No
    }
}

impl FromStr for Restart {
    type Err = String;

    /// `no`, `on-failure`, `on-failure:3`, `always`, as docker writes it.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').map_or((text, None), |(word, count)| (word, Some(count))) {
            ("no", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("on-failure", None) => Ok(Self::OnFailure(None)),
            ("on-failure", Some(count)) => match count.parse() {
                Ok(count) => Ok(Self::OnFailure(Some(count))),
                Err(_) => Err(format!("`{}` is not a number of restarts", short(count))),
            },
            _ => Err("a restart policy is `no`, `on-failure`, `on-failure:COUNT` or `always`".into()),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(count)) => write!(f, "on-failure:{count}"),
            Self::Always => f.write_str("always"),
        }
    }
}

impl Serialize for Restart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Restart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// How a running sandbox is seen to be well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// What is run in the sandbox; exit code 0 is well. A list is a program and its arguments, a text is run by the shell.
    #[schemars(schema_with = "schema::health_test")]
    pub test: Test,
    /// Time between two runs; 30s when left out. Until the first success it is run more often.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: Option<Duration>,
    /// How long one run may take; 30s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make a sandbox unhealthy; 3 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub retries: Option<u32>,
    /// Time after the start in which failures do not count; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration")]
    #[schemars(schema_with = "schema::duration")]
    pub start_period: Option<Duration>,
}

impl Healthcheck {
    /// Time between two runs.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(30))
    }

    /// How long one run may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }

    /// Failures in a row that make a sandbox unhealthy.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(3)
    }

    /// Time after the start in which failures do not count.
    #[must_use]
    pub fn start_period(&self) -> Duration {
        self.start_period.unwrap_or_default()
    }
}

/// The command of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A program and its arguments.
    Program(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

impl Default for Test {
    fn default() -> Self {
        Self::Shell("true".to_owned())
    }
}

impl Test {
    /// The program and its arguments, where `shell` is the sandbox's.
    #[must_use]
    pub fn argv(&self, shell: &str) -> Vec<String> {
        match self {
            Self::Program(argv) => argv.clone(),
            Self::Shell(line) => vec![shell.to_owned(), "-c".to_owned(), line.clone()],
        }
    }

    /// A list as compose has it may begin with `CMD` or `CMD-SHELL`.
    fn from_list(mut list: Vec<String>) -> Self {
        match list.first().map(String::as_str) {
            Some("CMD") => {
                list.remove(0);
                Self::Program(list)
            }
            Some("CMD-SHELL") if list.len() == 2 => Self::Shell(list.remove(1)),
            _ => Self::Program(list),
        }
    }
}

impl Serialize for Test {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shell(line) => serializer.serialize_str(line),
            // What is called CMD itself must not be taken for compose's word.
            Self::Program(argv) if argv.first().is_some_and(|word| word.starts_with("CMD")) => {
                let marked: Vec<&str> = ["CMD"].into_iter().chain(argv.iter().map(String::as_str)).collect();
                marked.serialize(serializer)
            }
            Self::Program(argv) => argv.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Test {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TestVisitor;
        impl<'de> Visitor<'de> for TestVisitor {
            type Value = Test;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a line for the shell, or a list of a program and its arguments")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<Test, E> {
                Ok(Test::Shell(line.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<Test, E> {
                Ok(Test::Shell(word.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Test, A::Error> {
                let mut argv = Vec::new();
                while let Some(Text(word)) = list.next_element()? {
                    argv.push(word);
                }
                Ok(Test::from_list(argv))
            }
        }
        deserializer.deserialize_any(TestVisitor)
    }
}

/// Checks the keys of one sandbox that are about its life.
pub(super) fn check(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    for (key, length) in [("max_duration", spec.max_duration), ("idle_timeout", spec.idle_timeout)] {
        if length.is_some_and(|length| length.is_zero()) {
            return Err(checker.problem(&[key], "is no time at all", Some("leave it out for no limit")));
        }
    }
    if spec.idle && (!spec.command.is_empty() || spec.exec.is_some()) {
        let hint = "an idle sandbox has no main process; leave out `command` and `exec`, or `idle`";
        return Err(checker.problem(&["idle"], "excludes `command` and `exec`", Some(hint)));
    }
    let Some(health) = &spec.healthcheck else { return Ok(()) };
    match &health.test {
        Test::Program(argv) if argv.first().is_none_or(String::is_empty) => {
            let rule = "is empty, and must be a program and its arguments";
            return Err(checker.problem(&["healthcheck", "test"], rule, None));
        }
        Test::Program(argv) if argv.iter().map(String::as_str).eq(["NONE"]) => {
            let hint = "leave the whole `healthcheck` out for none";
            return Err(checker.problem(&["healthcheck", "test"], "is NONE", Some(hint)));
        }
        Test::Shell(line) => checker.text(&["healthcheck", "test"], line)?,
        Test::Program(_) => {}
    }
    for (key, length) in [("interval", health.interval), ("timeout", health.timeout)] {
        if length.is_some_and(|length| length.is_zero()) {
            return Err(checker.problem(&["healthcheck", key], "is no time at all", None));
        }
    }
    if health.retries == Some(0) {
        return Err(checker.problem(&["healthcheck", "retries"], "is 0, and must be at least 1", None));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn parse(lines: &str) -> Result<SandboxSpec, super::super::Error> {
        let text = format!("sandboxes:\n  a:\n    image: x\n    {}\n", lines.replace('\n', "\n    "));
        super::super::parse(&text, Path::new("f")).map(|file| file.sandboxes["a"].clone())
    }

    #[test]
    fn a_test_is_a_line_or_a_list() {
        let test =
            |text: &str| parse(&format!("healthcheck:\n  test: {text}")).unwrap().healthcheck.unwrap().test;
        let program = |words: &[&str]| Test::Program(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(test("wget -q localhost"), Test::Shell("wget -q localhost".into()));
        assert_eq!(test("true"), Test::Shell("true".into()));
        assert_eq!(test("[test, -e, /ready]"), program(&["test", "-e", "/ready"]));
        assert_eq!(test("[CMD, curl, 8080]"), program(&["curl", "8080"]));
        assert_eq!(test("[CMD-SHELL, 'a || b']"), Test::Shell("a || b".into()));
        assert_eq!(Test::Shell("a".into()).argv("/bin/bash"), ["/bin/bash", "-c", "a"]);
    }

    #[test]
    fn lives_are_read() {
        let spec = parse("restart: on-failure:3\nidle: true\nmax_duration: 1h 30m\nidle_timeout: 90s\nhealthcheck: {test: [x], interval: 500ms, retries: 5}").unwrap();
        assert_eq!(spec.restart, Restart::OnFailure(Some(3)));
        assert!(spec.idle);
        assert_eq!(spec.max_duration, Some(Duration::from_secs(5400)));
        assert_eq!(spec.idle_timeout, Some(Duration::from_secs(90)));
        let health = spec.healthcheck.unwrap();
        assert_eq!((health.interval(), health.retries()), (Duration::from_millis(500), 5));
        assert_eq!((health.timeout(), health.start_period()), (Duration::from_secs(30), Duration::ZERO));
        for (text, restart) in [("no", Restart::No), ("always", Restart::Always)] {
            assert_eq!(parse(&format!("restart: {text}")).unwrap().restart, restart);
            assert_eq!(restart.to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (lines, words) in [
            ("restart: sometimes", "`restart` of sandbox `a`: a restart policy is"),
            ("restart: on-failure:x", "`x` is not a number of restarts"),
            ("max_duration: 30", "`30` is not a length of time"),
            ("idle_timeout: 0s", "no time at all"),
            ("idle: true\ncommand: [x]", "`idle` of sandbox `a` excludes"),
            ("healthcheck: {interval: 1s}", "missing key `test`"),
            ("healthcheck: {test: []}", "must be a program"),
            ("healthcheck: {test: [NONE]}", "is NONE"),
            ("healthcheck: {test: x, retries: 0}", "at least 1"),
            ("healthcheck: {test: x, intervall: 1s}", "unknown key `intervall`"),
        ] {
            let error = parse(lines).unwrap_err();
            assert!(error.to_string().contains(words), "{lines}: {error}");
            assert!(
                error.snippet().is_some_and(|snippet| snippet.line >= 4),
                "{lines}: {:?}",
                error.snippet()
            );
        }
    }
}
