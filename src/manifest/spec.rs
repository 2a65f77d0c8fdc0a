//! The types a Sandboxfile is read into.

use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::artifacts::{self, Exports, Imports};
use super::decode;
use super::depends::{self, Dependencies};
use super::duration;
use super::envs::{self, EnvVar};
use super::error::Error;
use super::groups::{self, GroupMembers, GroupSpec};
use super::keys::nearest;
use super::life::{Healthcheck, Restart};
use super::modules::Modules;
use super::network::{self, NetworkSpec};
use super::schema;
use super::secrets::SecretSpecs;
use super::size::Size;
use super::volume::{self, Tmpfs, Volume};
use super::{check, env_file};
use crate::net::policy::Scope;
use crate::net::port::PortSpec;

/// A whole Sandboxfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sandboxfile {
    /// What this project is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// The sandboxes of the project by name, in the order of the file.
    #[serde(default, deserialize_with = "decode::or_default")]
    #[schemars(schema_with = "schema::sandboxes")]
    pub sandboxes: IndexMap<String, SandboxSpec>,
    /// Sandboxes of other Sandboxfiles that belong to this project as well: by path of a Sandboxfile or its folder, their names
    /// there, each with nothing or with `as: NAME`, its name here.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "decode::or_default")]
    #[schemars(schema_with = "schema::modules")]
    pub modules: Modules,
    /// Groups of sandboxes that reach each other by name, on networks of their own. They need not be written down unless one is to
    /// have a certain network; where some are, they are all there are.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "decode::or_default")]
    #[schemars(schema_with = "schema::groups")]
    pub groups: IndexMap<String, GroupSpec>,
}

/// One sandbox: the image it runs and what differs from the image's own defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = { "required": ["exec", "command"] }))]
pub struct SandboxSpec {
    /// The OCI image, as in `python`, `python:3.12-slim` or `ghcr.io/owner/name@sha256:…`.
    #[serde(deserialize_with = "decode::text")]
    #[schemars(length(min = 1, max = 4096))]
    pub image: String,
    /// Memory of the machine, at least 64 MiB. A whole number alone is MiB; 1024 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Number of virtual CPUs; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::cpus")]
    #[schemars(range(min = 1, max = 255))]
    pub cpus: Option<u8>,
    /// How many processes and threads its commands may have at a time; no limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pids_limit: Option<u32>,
    /// Environment variables, added to the image's: a list of `KEY=VALUE`, or a map.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "envs::serialize",
        deserialize_with = "envs::deserialize"
    )]
    #[schemars(schema_with = "schema::envs")]
    pub envs: Vec<EnvVar>,
    /// Files of environment variables (`KEY=VALUE` lines), one path or a list, relative to the Sandboxfile.
    /// Later files win over earlier ones, and `envs` over all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "decode::one_or_many")]
    #[schemars(schema_with = "schema::one_or_many")]
    pub env_file: Vec<String>,
    /// The folder commands start in, an absolute path; the image's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    #[schemars(regex(pattern = "^/"))]
    pub workdir: Option<String>,
    /// The shell of `msb shell` and of scripts; `/bin/sh` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    #[schemars(length(min = 1))]
    pub shell: Option<String>,
    /// Scripts by name, run by the shell; `start` is what `msb run NAME` runs.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "decode::scripts")]
    #[schemars(schema_with = "schema::scripts")]
    pub scripts: IndexMap<String, String>,
    /// The program to run and its arguments, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "decode::texts")]
    #[schemars(schema_with = "schema::texts")]
    pub command: Vec<String>,
    /// The program to run without arguments, one path that is not split; excludes `command`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    #[schemars(length(min = 1))]
    pub exec: Option<String>,
    /// What this sandbox is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// The version of this sandbox, a semantic version such as 1.0.0.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::version")]
    #[schemars(schema_with = "schema::version")]
    pub version: Option<Version>,
    /// Who runs the commands: a name or a number, with `:group` if wanted; the image's user when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    #[schemars(schema_with = "schema::user")]
    pub user: Option<String>,
    /// Size of the writable disk, at least 64 MiB. A whole number alone is MiB; 8G when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// Folders and files of the host, and named volumes, with their places in the sandbox: `./src:/work`, `data:/var/lib/db`,
    /// `~/.config/x:/etc/x:ro`. Paths are relative to the Sandboxfile.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "volume::serialize",
        deserialize_with = "volume::list"
    )]
    #[schemars(schema_with = "schema::volumes")]
    pub volumes: Vec<Volume>,
    /// File systems in memory: `/tmp`, `/run:size=64m`, `/cache:size=1g,mode=700`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "volume::list")]
    #[schemars(schema_with = "schema::tmpfs")]
    pub tmpfs: Vec<Tmpfs>,
    /// What it reaches where no rule of `network` says otherwise: `none`, `group` (the sandboxes of its groups), `public` (those, and
    /// the internet, but nothing private), `any` (everything, the host included). `public` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "network::scope")]
    #[schemars(schema_with = "schema::scope")]
    pub scope: Option<Scope>,
    /// What it may reach and who may reach it, the first rule that matches deciding: `allow example.com`, `allow tcp://host:5432`,
    /// `deny *.example.com:80`, `deny 10.0.0.0/8`, `allow from lan:8080`.
    #[serde(default, skip_serializing_if = "NetworkSpec::is_empty", deserialize_with = "network::network")]
    #[schemars(schema_with = "schema::network")]
    pub network: NetworkSpec,
    /// Ports of the sandbox that are published on the host: `8080:80`, `53:53/udp`, `0.0.0.0:8000-8009:8000-8009`, `0:80` for
    /// a free one. On the host's loopback alone where no address is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "network::ports")]
    #[schemars(schema_with = "schema::ports")]
    pub ports: Vec<PortSpec>,
    /// What it may use towards their own hosts without having it: by the variables that hold a placeholder in it, `from` (`env`,
    /// `file`, `command` or `keyring`), the `hosts` that get the value, and `in`, the parts of a request it may stand in.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "decode::or_default")]
    #[schemars(schema_with = "schema::secrets")]
    pub secrets: SecretSpecs,
    /// The groups it is in: a list of names, or a map from their names to its `network` there, with its `ip` and a `hostname`
    /// beside its own name.
    #[serde(
        default,
        skip_serializing_if = "IndexMap::is_empty",
        serialize_with = "groups::serialize",
        deserialize_with = "groups::deserialize"
    )]
    #[schemars(schema_with = "schema::memberships")]
    pub groups: GroupMembers,
    /// Whether commands get a terminal: true always, false never; when left out, if msb itself runs on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// What must be there before it starts: a list of sandboxes, or a map from their names to `condition: started`, `healthy`
    /// or `completed`.
    #[serde(
        default,
        skip_serializing_if = "IndexMap::is_empty",
        serialize_with = "depends::serialize",
        deserialize_with = "depends::deserialize"
    )]
    #[schemars(schema_with = "schema::depends_on")]
    pub depends_on: Dependencies,
    /// Whether it is started again in the background when it has ended by itself: `no`, `on-failure`, `on-failure:COUNT` or
    /// `always`.
    #[serde(default, skip_serializing_if = "Restart::is_no")]
    #[schemars(schema_with = "schema::restart")]
    pub restart: Restart,
    /// Files and folders it gets before it starts, which it may only read: by path of the host (`./file`), or by the name under
    /// which another sandbox exports them, where they go.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "decode::or_default")]
    #[schemars(schema_with = "schema::imports")]
    pub imports: Imports,
    /// Files and folders that are copied out of it when its main process has ended well: names, and where they are.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "artifacts::exports")]
    #[schemars(schema_with = "schema::exports")]
    pub exports: Exports,
    /// How it is seen to be well while it runs in the background.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Whether it starts no main process in the background, and is up until it is stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// How long it may run in the background: `90s`, `12h`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration")]
    #[schemars(schema_with = "schema::duration")]
    pub max_duration: Option<Duration>,
    /// How long it may run in the background without anybody who uses it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration")]
    #[schemars(schema_with = "schema::duration")]
    pub idle_timeout: Option<Duration>,
}

/// Facts for people and catalogues; nothing at run time depends on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Who made it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "decode::texts")]
    #[schemars(schema_with = "schema::texts")]
    pub authors: Vec<String>,
    /// What it is, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    pub description: Option<String>,
    /// Its web page.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    pub homepage: Option<String>,
    /// Where its source is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    pub repository: Option<String>,
    /// Path of its read-me file, relative to the Sandboxfile.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    pub readme: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "decode::texts")]
    #[schemars(schema_with = "schema::texts")]
    pub tags: Vec<String>,
    /// Path of its icon, relative to the Sandboxfile.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::optional_text")]
    pub icon: Option<String>,
}

impl Sandboxfile {
    /// The sandbox `name`.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`], which knows the nearest names.
    pub fn sandbox(&self, name: &str) -> Result<&SandboxSpec, Error> {
        self.sandboxes.get(name).ok_or_else(|| Error::UnknownSandbox {
            name: name.to_owned(),
            nearest: nearest(name, self.sandboxes.keys().map(String::as_str)),
            defined: self.sandboxes.keys().cloned().collect(),
        })
    }
}

impl SandboxSpec {
    /// Name of the script that `msb run NAME` runs.
    pub const START: &'static str = "start";

    /// A sandbox of `image` with nothing else set.
    pub fn new(image: impl Into<String>) -> Self {
        Self { image: image.into(), ..Self::default() }
    }

    /// The body of the script `script` of the sandbox called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownScript`], which knows the nearest names.
    pub fn script(&self, name: &str, script: &str) -> Result<&str, Error> {
        self.scripts.get(script).map(String::as_str).ok_or_else(|| Error::UnknownScript {
            sandbox: name.to_owned(),
            script: script.to_owned(),
            nearest: nearest(script, self.scripts.keys().map(String::as_str)),
            defined: self.scripts.keys().cloned().collect(),
        })
    }

    /// The program and arguments set by `command` or `exec`; `None` leaves it to the image.
    pub fn program(&self) -> Option<Vec<String>> {
        match &self.exec {
            Some(exec) => Some(vec![exec.clone()]),
            None if self.command.is_empty() => None,
            None => Some(self.command.clone()),
        }
    }

    /// Every variable of `env_file` and `envs`, one per key, `envs` winning; relative paths start at `base`,
    /// the folder of the Sandboxfile.
    ///
    /// # Errors
    /// When an env file cannot be read or holds a mistake.
    pub fn environment(&self, base: &Path) -> Result<Vec<EnvVar>, Error> {
        let mut merged: IndexMap<String, String> = IndexMap::new();
        for file in &self.env_file {
            merged.extend(env_file::load(&base.join(file))?.into_iter().map(|var| (var.key, var.value)));
        }
        merged.extend(self.envs.iter().map(|var| (var.key.clone(), var.value.clone())));
        Ok(merged.into_iter().map(|(key, value)| EnvVar { key, value }).collect())
    }

    /// Checks this sandbox, to be called `name`, as if it stood in a Sandboxfile.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a snippet, for the first rule it breaks.
    pub fn validate(&self, name: &str) -> Result<(), Error> {
        check::sandbox(name, self).map_err(|problem| problem.without_place())
    }
}
