//! `envs:`, environment variables as a list of `KEY=VALUE` or as a map.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serializer};
use thiserror::Error;

use super::decode::{Text, short};

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvVar {
    /// Its name: not empty, without `=` and NUL.
    pub key: String,
    /// Its value, without NUL.
    pub value: String,
}

/// Why a text is not an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvVarError {
    /// No `=`.
    #[error("`{0}` has no value: write `{0}=VALUE`, or `{0}=` for an empty one")]
    NoValue(String),
    /// Nothing before the `=`.
    #[error("`{0}` has no name before the `=`")]
    NoKey(String),
    /// A NUL byte, which no environment can hold.
    #[error("the environment variable `{0}` contains a NUL byte")]
    Nul(String),
}

impl EnvVar {
    /// A variable that keeps the rules of both halves.
    ///
    /// # Errors
    /// When the key is empty or has `=`, or either half has a NUL byte.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Result<Self, EnvVarError> {
        let var = Self { key: key.into(), value: value.into() };
        if var.key.is_empty() || var.key.contains('=') {
            return Err(EnvVarError::NoKey(short(&var.to_string())));
        }
        if var.key.contains('\0') || var.value.contains('\0') {
            return Err(EnvVarError::Nul(short(&var.key)));
        }
        Ok(var)
    }
}

impl fmt::Display for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl FromStr for EnvVar {
    type Err = EnvVarError;

    fn from_str(text: &str) -> Result<Self, EnvVarError> {
        match text.split_once('=') {
            Some((key, value)) => Self::new(key, value),
            None => Err(EnvVarError::NoValue(short(text))),
        }
    }
}

pub(super) fn serialize<S: Serializer>(envs: &[EnvVar], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(envs.len()))?;
    for var in envs {
        list.serialize_element(&var.to_string())?;
    }
    list.end()
}

/// One `KEY=VALUE` of a list, so that a mistake is reported at that element.
struct Assignment(EnvVar);

impl<'de> Deserialize<'de> for Assignment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EnvVar>, D::Error> {
    struct EnvsVisitor;
    impl<'de> Visitor<'de> for EnvsVisitor {
        type Value = Vec<EnvVar>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of KEY=VALUE or a map")
        }

        fn visit_unit<E>(self) -> Result<Vec<EnvVar>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<EnvVar>, A::Error> {
            let mut envs = Vec::new();
            while let Some(Assignment(var)) = list.next_element()? {
                envs.push(var);
            }
            Ok(envs)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<EnvVar>, A::Error> {
            let mut envs = Vec::new();
            while let Some((Text(key), Text(value))) = map.next_entry()? {
                envs.push(EnvVar::new(key, value).map_err(de::Error::custom)?);
            }
            Ok(envs)
        }
    }
    deserializer.deserialize_any(EnvsVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_equals_sign() {
        let var = |key: &str, value: &str| EnvVar { key: key.to_owned(), value: value.to_owned() };
        assert_eq!("A=b=c".parse(), Ok(var("A", "b=c")));
        assert_eq!("A=".parse(), Ok(var("A", "")));
        assert_eq!("A= x\n".parse(), Ok(var("A", " x\n")));
    }

    #[test]
    fn refuses_what_no_environment_can_hold() {
        let error = |text: &str| text.parse::<EnvVar>().err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(error("A"), "`A` has no value: write `A=VALUE`, or `A=` for an empty one");
        assert_eq!(error("=b"), "`=b` has no name before the `=`");
        assert_eq!(error("A=\0"), "the environment variable `A` contains a NUL byte");
    }
}
