//! Logging in to a registry and out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Registry, Settings};
use super::error::{Identity, RegistryError};
use super::settings::{Host, Registries};
use crate::image::credentials::{Credential, CredentialFiles, CredentialsError};

/// Time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a login or logout did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry could not be reached or refused.
    #[error("cannot log in: {0}")]
    Registry(#[source] Box<RegistryError>),
    /// The credential cannot be kept or forgotten.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No threads or sockets.
    #[error("cannot log in: {0}")]
    System(#[source] std::io::Error),
}

impl LoginError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Credentials(error) => error.hint(),
            Self::System(_) => None,
        }
    }
}

/// A user's name and password for one registry.
pub struct Login {
    /// The registry.
    pub host: Host,
    /// The user.
    pub user: String,
    /// The password, or an access token that stands for it.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("host", &self.host).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A login that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The file or helper that keeps the credential now.
    pub keeper: String,
    /// Whether the registry wanted to see it at all.
    pub checked: bool,
}

impl Login {
    /// Shows user name and password to the registry and keeps them when it accepts them. Blocks; not for the
    /// threads of an asynchronous runtime.
    ///
    /// # Errors
    /// See [`LoginError`]; nothing is kept then.
    pub fn run(self, registries: &Arc<Registries>, files: &CredentialFiles) -> Result<LoggedIn, LoginError> {
        let settings = Settings {
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            registries: registries.clone(),
            credentials: files.clone(),
        };
        let credential = Credential::Password { user: self.user, password: self.password };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(LoginError::System)?;
        let identity = Registry::with_credential(&self.host, credential.clone(), &settings)
            .and_then(|registry| runtime.block_on(registry.enter(&|_| {})))
            .map_err(|error| LoginError::Registry(Box::new(error)))?;
        let keeper = files.store(self.host.as_str(), &credential)?;
        Ok(LoggedIn { keeper, checked: matches!(identity, Identity::User { .. }) })
    }
}

impl CredentialFiles {
    /// Forgets what is stored for `host`. Returns the files and helpers that had something.
    ///
    /// # Errors
    /// A file or helper that fails.
    pub fn log_out(&self, host: &Host) -> Result<Vec<String>, LoginError> {
        Ok(self.erase(host.as_str())?)
    }
}
