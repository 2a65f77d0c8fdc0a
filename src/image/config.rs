//! The image configuration: what runs, as whom and where (OCI image specification, `config.md`; docker's
//! configuration has the same shape).

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::digest::Digest;
use super::manifest::{MAX_LAYERS, null_as_default};
use super::platform::Platform;

/// Largest configuration accepted, in bytes.
pub const MAX_CONFIG: u64 = 8 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is larger than [`MAX_CONFIG`].
    #[error("it is larger than {MAX_CONFIG} bytes")]
    TooLarge,
    /// It is not the JSON the specification asks for.
    #[error("it is not valid: {0}")]
    Json(#[source] serde_json::Error),
    /// A string holds a NUL byte, which no argument, variable or path can.
    #[error("{0} holds a NUL byte")]
    Nul(&'static str),
    /// More layers than any image may have.
    #[error("it lists {0} layers, more than the {MAX_LAYERS} allowed")]
    TooManyLayers(usize),
}

/// What an image says about how to run it. Absent values are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// The platform it was built for.
    pub platform: Platform,
    /// `ENTRYPOINT`: arguments that stay when the user gives a command.
    pub entrypoint: Vec<String>,
    /// `CMD`: arguments the user's command replaces.
    pub cmd: Vec<String>,
    /// `ENV` in order, as name and value.
    pub env: Vec<(String, String)>,
    /// `WORKDIR`.
    pub working_dir: Option<String>,
    /// `USER`: `name`, `uid`, `name:group` or `uid:gid`; names are the image's own.
    pub user: Option<String>,
    /// `STOPSIGNAL`: a name (`SIGTERM`, `TERM`) or a number.
    pub stop_signal: Option<String>,
    /// `LABEL`.
    pub labels: BTreeMap<String, String>,
    /// `EXPOSE`, such as `80/tcp`. Nothing is published because of it.
    pub exposed_ports: Vec<String>,
    /// `VOLUME`.
    pub volumes: Vec<String>,
    /// When it was built (RFC 3339), as the builder wrote it.
    pub created: Option<String>,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads and checks a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(ConfigError::TooLarge);
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if raw.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(ConfigError::TooManyLayers(raw.rootfs.diff_ids.len()));
        }
        let run = raw.config.unwrap_or_default();
        let config = Self {
            platform: Platform::new(&raw.os, &raw.architecture, raw.variant.as_deref()),
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env.iter().filter_map(|entry| split_variable(entry)).collect(),
            working_dir: filled(run.working_dir),
            user: filled(run.user),
            stop_signal: filled(run.stop_signal),
            labels: run.labels,
            exposed_ports: run.exposed_ports.into_keys().collect(),
            volumes: run.volumes.into_keys().collect(),
            created: filled(raw.created),
            diff_ids: raw.rootfs.diff_ids,
        };
        config.check_nul()?;
        Ok(config)
    }

    fn check_nul(&self) -> Result<(), ConfigError> {
        let variables = self.env.iter().flat_map(|(name, value)| [name, value]);
        let fields: [(&'static str, Vec<&String>); 6] = [
            ("Entrypoint", self.entrypoint.iter().collect()),
            ("Cmd", self.cmd.iter().collect()),
            ("Env", variables.collect()),
            ("WorkingDir", self.working_dir.iter().collect()),
            ("User", self.user.iter().collect()),
            ("StopSignal", self.stop_signal.iter().collect()),
        ];
        match fields.iter().find(|(_, values)| values.iter().any(|value| value.contains('\0'))) {
            Some((field, _)) => Err(ConfigError::Nul(field)),
            None => Ok(()),
        }
    }
}

/// `NAME=VALUE`; a name alone is an empty variable, no name is none.
fn split_variable(entry: &str) -> Option<(String, String)> {
    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
    (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

fn filled(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "null_as_default")]
    os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    config: Option<RawRun>,
    #[serde(default, deserialize_with = "null_as_default")]
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
struct RawRootfs {
    #[serde(default, deserialize_with = "null_as_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    #[serde(deserialize_with = "words")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "words")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    env: Vec<String>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_as_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_as_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
}

/// A list of words; docker also reads a lone string as a list of one.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    match Option::<Words>::deserialize(deserializer) {
        Ok(Some(Words::Many(words))) => Ok(words),
        Ok(Some(Words::One(word))) => Ok(vec![word]),
        Ok(None) => Ok(Vec::new()),
        Err(_) => Err(D::Error::custom("a command must be a list of strings")),
    }
}

#[cfg(test)]
mod tests;
