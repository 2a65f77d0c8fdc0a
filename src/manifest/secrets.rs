//! `secrets:`.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use indexmap::IndexMap;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::check::{Checker, Problem};
use super::decode::{self, Text};
use super::spec::SandboxSpec;
use crate::net::secret::{HostPattern, Place, Places, Secret, Source, is_variable};

/// Secrets by the sandbox's variables that hold their placeholders.
pub type SecretSpecs = IndexMap<String, SecretSpec>;

/// One secret: where its value is, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    /// Where the value comes from; the caller's variable of the same name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "source")]
    pub from: Option<Source>,
    /// Whose it is.
    #[serde(deserialize_with = "hosts")]
    pub hosts: Vec<HostPattern>,
    /// Where in a request it may stand.
    #[serde(rename = "in", default, skip_serializing_if = "is_default", deserialize_with = "places")]
    pub places: Places,
    /// Where relative paths begin, in a sandbox that comes from another file.
    #[serde(skip)]
    pub folder: PathBuf,
}

fn is_default(places: &Places) -> bool {
    *places == Places::default()
}

impl SecretSpec {
    /// The secret with this name; relative paths begin in `base`.
    #[must_use]
    pub fn named(&self, name: &str, base: &std::path::Path) -> Secret {
        Secret {
            name: name.to_owned(),
            from: self.from.clone().unwrap_or_else(|| Source::Env(name.to_owned())),
            hosts: self.hosts.clone(),
            places: self.places.clone(),
            folder: base.join(&self.folder),
        }
    }
}

impl From<Secret> for SecretSpec {
    fn from(secret: Secret) -> Self {
        let Secret { name, from, hosts, places, .. } = secret;
        let from = Some(from).filter(|from| *from != Source::Env(name));
        Self { from, hosts, places, folder: PathBuf::new() }
    }
}

fn parsed<T: FromStr<Err: Display>, E: de::Error>(texts: Vec<String>) -> Result<Vec<T>, E> {
    texts.into_iter().map(|text| text.parse().map_err(E::custom)).collect()
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HostPattern>, D::Error> {
    parsed(decode::one_or_many(deserializer)?)
}

fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Places, D::Error> {
    let places = parsed::<Place, D::Error>(decode::one_or_many(deserializer)?)?;
    Ok(Places::new(places).unwrap_or_default())
}

/// Exactly one of `env`, `file`, `command` and `keyring`.
fn source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Source>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        env: Option<Text>,
        file: Option<Text>,
        command: Option<Vec<Text>>,
        keyring: Option<Text>,
    }
    let Some(keys) = Option::<Keys>::deserialize(deserializer)? else { return Ok(None) };
    let sources = [
        keys.env.map(|Text(name)| Source::Env(name)),
        keys.file.map(|Text(path)| Source::File(path.into())),
        keys.command.map(|words| Source::Command(words.into_iter().map(|Text(word)| word).collect())),
        keys.keyring.map(|Text(entry)| Source::Keyring(entry)),
    ];
    let mut sources = sources.into_iter().flatten();
    match (sources.next(), sources.next()) {
        (Some(source), None) => Ok(Some(source)),
        _ => Err(de::Error::custom("write one of `env`, `file`, `command` and `keyring`")),
    }
}

/// Names are variables of their own, and every secret is somebody's.
pub(super) fn check(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    for (name, secret) in &spec.secrets {
        let at_key = |rule: &str, hint: Option<&str>| {
            let mut problem = checker.problem(&["secrets", name], rule, hint);
            problem.at_key = true;
            problem
        };
        if !is_variable(name) {
            let hint =
                "it is a variable in the sandbox: use letters, digits and `_`, and begin with no digit";
            return Err(at_key("cannot be the name of a variable", Some(hint)));
        }
        if spec.envs.iter().any(|var| var.key == *name) {
            return Err(at_key("is also in `envs`", Some("give one of them another name")));
        }
        if secret.hosts.is_empty() {
            return Err(checker.problem(
                &["secrets", name, "hosts"],
                "is empty",
                Some("name whom it may be sent to"),
            ));
        }
        match &secret.from {
            Some(Source::Command(words)) if words.first().is_none_or(String::is_empty) => {
                return Err(checker.problem(&["secrets", name, "from"], "has no program", None));
            }
            Some(Source::Env(text) | Source::Keyring(text)) if text.is_empty() => {
                return Err(checker.problem(&["secrets", name, "from"], "has no name", None));
            }
            Some(Source::File(path)) if path.as_os_str().is_empty() => {
                return Err(checker.problem(&["secrets", name, "from"], "has no path", None));
            }
            _ => {}
        }
    }
    Ok(())
}
