//! Credentials for registries, kept where docker and podman keep them.
//!
//! Docker's `config.json` and podman's `auth.json` have one format
//! (<https://docs.docker.com/reference/cli/docker/login/#credential-stores>): `auths` holds credentials, `credHelpers`
//! and `credsStore` name programs that do. A secret is neither an argument of a program nor part of an error or
//! of `Debug` output.

mod file;
mod helper;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reference::DEFAULT_REGISTRY;
use file::AuthFile;
use helper::Helper;

/// Docker Hub's key, from the times of its first protocol.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// A helper may ask a person to unlock something.
const HELPER_LIMIT: Duration = Duration::from_secs(60);

/// How to prove who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// User name and password.
    Password {
        /// The user.
        user: String,
        /// The password, or an access token that stands for it.
        password: String,
    },
    /// A refresh token, exchanged for access tokens (`docker login` through a browser).
    IdentityToken(String),
    /// A token to present as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

/// A credential and who keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) credential: Credential,
    /// A file, or a helper's name.
    pub(super) keeper: String,
}

/// Why stored credentials cannot be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Neither `HOME` nor `DOCKER_CONFIG` says where credentials are kept.
    #[error("there is no place for credentials: neither HOME nor DOCKER_CONFIG is set")]
    NoPlace,
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file is not JSON of the right shape. What is in it is not told, since it may be a secret.
    #[error("{} is not a file of credentials: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        problem: String,
    },
    /// The helper cannot be started.
    #[error("the credential helper `{helper}` cannot be started: {source}")]
    NoHelper {
        /// The program.
        helper: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The helper failed.
    #[error("the credential helper `{helper}` failed: {message}")]
    HelperFailed {
        /// The program.
        helper: String,
        /// Its words.
        message: String,
    },
    /// The helper succeeded with something that is no credential.
    #[error("the credential helper `{helper}` answers with something that is no credential")]
    HelperNonsense {
        /// The program.
        helper: String,
    },
    /// The helper does not come to an end.
    #[error("the credential helper `{helper}` does not answer; it was stopped after {} seconds", limit.as_secs())]
    HelperSilent {
        /// The program.
        helper: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl CredentialsError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPlace => Some("set HOME, or DOCKER_CONFIG to a folder of yours".into()),
            Self::Io { .. } => None,
            Self::Format { path, .. } => {
                Some(format!("mend or remove {}, then log in again", path.display()))
            }
            Self::NoHelper { helper, .. } => {
                Some(format!("install {helper}, or take it out of `credsStore` and `credHelpers`"))
            }
            Self::HelperFailed { helper, .. }
            | Self::HelperNonsense { helper }
            | Self::HelperSilent { helper, .. } => {
                Some(format!("`echo REGISTRY | {helper} get` shows what it does"))
            }
        }
    }
}

/// The files that hold credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Where a login is written to, and the first to be read.
    own: Option<PathBuf>,
    /// Read besides, in this order.
    others: Vec<PathBuf>,
    helper_limit: Duration,
}

impl Default for CredentialFiles {
    /// Those of the environment.
    fn default() -> Self {
        Self::from_variables(|name| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        })
    }
}

impl CredentialFiles {
    /// `$REGISTRY_AUTH_FILE`, docker's `config.json`, podman's two `auth.json`.
    fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let home = variable("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
        let config = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let podman = [variable("XDG_RUNTIME_DIR"), config];
        let podman = podman.into_iter().flatten().map(|folder| folder.join("containers/auth.json"));
        let explicit = variable("REGISTRY_AUTH_FILE");
        let docker = docker.map(|folder| folder.join("config.json"));
        let mut files = explicit.into_iter().chain(docker).chain(podman);
        Self { own: files.next(), others: files.collect(), helper_limit: HELPER_LIMIT }
    }

    /// One file alone.
    #[must_use]
    pub fn only(path: &Path) -> Self {
        Self { own: Some(path.to_path_buf()), others: Vec::new(), helper_limit: HELPER_LIMIT }
    }

    /// What is stored for a repository of `host`. Reads files and may run a helper, so it blocks.
    pub(super) fn find(&self, host: &str, repository: &str) -> Result<Option<Found>, CredentialsError> {
        for path in self.own.iter().chain(&self.others) {
            let Some(file) = AuthFile::read(path)? else { continue };
            if let Some(name) = file.helper(host) {
                let helper = Helper::new(name, self.helper_limit);
                if let Some(credential) = helper.get(&key(host))? {
                    return Ok(Some(Found { credential, keeper: helper.program().to_owned() }));
                }
            }
            if let Some(credential) = file.credential(host, repository)? {
                return Ok(Some(Found { credential, keeper: path.display().to_string() }));
            }
        }
        Ok(None)
    }

    /// Keeps `credential` for `host` and says who has it now.
    pub(super) fn store(&self, host: &str, credential: &Credential) -> Result<String, CredentialsError> {
        let path = self.own.as_deref().ok_or(CredentialsError::NoPlace)?;
        let mut file = AuthFile::read(path)?.unwrap_or_else(|| AuthFile::new(path));
        file.remove(host);
        match file.helper(host) {
            Some(name) => {
                let helper = Helper::new(name, self.helper_limit);
                helper.store(&key(host), credential)?;
                // Docker marks with an empty entry that a helper has the credential.
                file.set(&key(host), None);
                file.write()?;
                Ok(helper.program().to_owned())
            }
            None => {
                file.set(&key(host), Some(credential));
                file.write()?;
                Ok(path.display().to_string())
            }
        }
    }

    /// Forgets what is stored for `host`, in all files. Returns who had something.
    pub(super) fn erase(&self, host: &str) -> Result<Vec<String>, CredentialsError> {
        let mut keepers = Vec::new();
        for path in self.own.iter().chain(&self.others) {
            let Some(mut file) = AuthFile::read(path)? else { continue };
            if let Some(name) = file.helper(host) {
                let helper = Helper::new(name, self.helper_limit);
                if helper.get(&key(host))?.is_some() {
                    helper.erase(&key(host))?;
                    keepers.push(helper.program().to_owned());
                }
            }
            if file.remove(host) {
                file.write()?;
                keepers.push(path.display().to_string());
            }
        }
        keepers.dedup();
        Ok(keepers)
    }
}

/// What docker calls a registry in its file and towards helpers.
fn key(host: &str) -> String {
    if host == DEFAULT_REGISTRY { DOCKER_HUB.to_owned() } else { host.to_owned() }
}

#[cfg(test)]
mod tests;
