//! Secrets as flags have them: `NAME[=SOURCE]@HOST[,HOST…][:in=PLACE[,PLACE…]]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{HostPatternError, PlaceError, Places, Secret, Source};

/// Why a text is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No hosts are named.
    #[error("it names no hosts: write NAME@HOST, as in API_KEY@api.example.com")]
    NoHosts,
    /// The variable cannot be one.
    #[error("`{0}` cannot be the name of a variable: use letters, digits and `_`, and begin with no digit")]
    Name(String),
    /// A value instead of where it is.
    #[error(
        "what follows `=` says where the value is, never what it is: env:VAR, file:PATH, command:LINE or keyring:SERVICE/ACCOUNT"
    )]
    Source,
    /// A host.
    #[error(transparent)]
    Host(#[from] HostPatternError),
    /// A place.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Whether shells and programs take `name` for a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(word)
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        // Paths and accounts may have an `@` of their own.
        let (left, right) = text.rsplit_once('@').ok_or(SecretError::NoHosts)?;
        let (name, source) = match left.split_once('=') {
            Some((name, source)) => (name, Some(source)),
            None => (left, None),
        };
        if !is_variable(name) {
            return Err(SecretError::Name(name.chars().take(40).collect()));
        }
        let from = match source {
            Some(source) => source.parse()?,
            None => Source::Env(name.to_owned()),
        };
        let (hosts, places) = match right.split_once(":in=") {
            Some((hosts, places)) => (hosts, Some(places)),
            None => (right, None),
        };
        let hosts = hosts.split(',').map(str::parse).collect::<Result<Vec<_>, _>>()?;
        let places = match places {
            None => Places::default(),
            Some(places) => {
                let places = places.split(',').map(str::parse).collect::<Result<Vec<_>, _>>()?;
                Places::new(places).unwrap_or_default()
            }
        };
        Ok(Self { name: name.to_owned(), from, hosts, places, folder: PathBuf::new() })
    }
}

impl FromStr for Source {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (kind, rest) = text.split_once(':').ok_or(SecretError::Source)?;
        if rest.is_empty() {
            return Err(SecretError::Source);
        }
        match kind {
            "env" => Ok(Self::Env(rest.to_owned())),
            "file" => Ok(Self::File(rest.into())),
            "command" => Ok(Self::Command(["/bin/sh", "-c", rest].map(str::to_owned).into())),
            "keyring" => Ok(Self::Keyring(rest.to_owned())),
            _ => Err(SecretError::Source),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Command(argv) => write!(f, "the command `{}`", argv.join(" ")),
            Self::Keyring(entry) => write!(f, "the keyring's entry {entry}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{HostPattern, Place};
    use super::*;

    fn read(text: &str) -> Secret {
        text.parse().unwrap()
    }

    #[test]
    fn flags_name_variable_source_hosts_and_places() {
        let plain = read("KEY@api.example.com");
        assert_eq!((plain.name.as_str(), plain.from), ("KEY", Source::Env("KEY".into())));
        assert!(plain.places.contains(Place::Header) && plain.places.contains(Place::Basic));
        assert!(!plain.places.contains(Place::Body));
        let whole = read("KEY=file:/a@b/c@API.example.com,*.example.org:in=query,body");
        assert_eq!(whole.from, Source::File("/a@b/c".into()));
        assert_eq!(
            whole.hosts.iter().map(HostPattern::to_string).collect::<Vec<_>>(),
            ["api.example.com", "*.example.org"]
        );
        assert_eq!(whole.places.iter().collect::<Vec<_>>(), [Place::Query, Place::Body]);
        let command = read("K=command:pass show x=y@h.example");
        assert_eq!(
            command.from,
            Source::Command(vec!["/bin/sh".into(), "-c".into(), "pass show x=y".into()])
        );
    }

    #[test]
    fn a_value_on_the_command_line_is_refused_without_repeating_it() {
        let error = "KEY=hunter2@api.example.com".parse::<Secret>().unwrap_err();
        assert_eq!(error, SecretError::Source);
        assert!(!error.to_string().contains("hunter2"));
        for (text, error) in [
            ("KEY", SecretError::NoHosts),
            ("1K@a.b", SecretError::Name("1K".into())),
            ("K=env:@a.b", SecretError::Source),
            ("K@*", HostPatternError::Everybody.into()),
            ("K@1.2.3.4", HostPatternError::Address("1.2.3.4".into()).into()),
            ("K@https://a.b", HostPatternError::Url("https://a.b".into()).into()),
            ("K@a.b:in=cookie", PlaceError("cookie".into()).into()),
        ] {
            assert_eq!(text.parse::<Secret>().unwrap_err(), error, "{text}");
        }
    }
}
