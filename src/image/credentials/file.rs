//! Docker's `config.json` and podman's `auth.json`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{Credential, CredentialsError};
use crate::image::reference::DEFAULT_REGISTRY;

/// Docker writes padding, some people's scripts do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// These files hold a few kilobytes.
const MAX_FILE: u64 = 4 << 20;

/// The contents of such a file, what we do not know included and in its order.
pub(super) struct AuthFile {
    path: PathBuf,
    all: IndexMap<String, Value>,
}

impl AuthFile {
    /// An empty file to be.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), all: IndexMap::new() }
    }

    /// `None` when there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        let failed = |source| CredentialsError::Io { action: "read", path: path.to_path_buf(), source };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
        let wrong = |problem: String| CredentialsError::Format { path: path.to_path_buf(), problem };
        if text.len() as u64 > MAX_FILE {
            return Err(wrong(format!("it has more than {MAX_FILE} bytes")));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Self::new(path)));
        }
        // The parser's own words may quote the text.
        let all = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("line {}, column {}", error.line(), error.column())))?;
        Ok(Some(Self { path: path.to_path_buf(), all }))
    }

    /// The helper that keeps the credentials of `host`.
    pub(super) fn helper(&self, host: &str) -> Option<&str> {
        let own = self.all.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            helpers.iter().find(|(key, _)| is_host(key, host)).and_then(|(_, name)| name.as_str())
        });
        let common = || self.all.get("credsStore").and_then(Value::as_str);
        own.filter(|name| !name.is_empty()).or_else(|| common().filter(|name| !name.is_empty()))
    }

    /// What the file itself holds for a repository of `host`; podman also keeps credentials for parts of a registry.
    pub(super) fn credential(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        let Some(auths) = self.all.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let full = format!("{host}/{repository}");
        let parts = full.match_indices('/').map(|(end, _)| &full[..end]).chain([full.as_str()]);
        // The most specific one first; the last of these is the host alone.
        for part in parts.collect::<Vec<_>>().into_iter().rev() {
            let entries = auths.iter().filter(|(key, _)| *key == part || part == host && is_host(key, host));
            for (key, entry) in entries {
                if let Some(credential) = self.entry(key, entry)? {
                    return Ok(Some(credential));
                }
            }
        }
        Ok(None)
    }

    fn entry(&self, key: &str, entry: &Value) -> Result<Option<Credential>, CredentialsError> {
        let text = |name: &str| {
            entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(auth) = text("auth") {
            let decoded = BASE64.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            // Docker pads the password with NUL bytes at times.
            let pair = decoded.as_deref().and_then(|pair| pair.trim_end_matches('\0').split_once(':'));
            let Some((user, password)) = pair else {
                return Err(CredentialsError::Format {
                    path: self.path.clone(),
                    problem: format!("`auth` of `{key}` is not USER:PASSWORD in base64"),
                });
            };
            return Ok(Some(password_or_token(user.to_owned(), password.to_owned())));
        }
        match (text("username"), text("password")) {
            (Some(user), Some(password)) => Ok(Some(password_or_token(user, password))),
            _ => Ok(None),
        }
    }

    /// Puts `credential` under `key`, or an empty entry that says a helper has it.
    pub(super) fn set(&mut self, key: &str, credential: Option<&Credential>) {
        let entry = match credential {
            None => json!({}),
            Some(Credential::Password { user, password }) => {
                json!({"auth": base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))})
            }
            Some(Credential::IdentityToken(token)) => json!({"identitytoken": token}),
            Some(Credential::RegistryToken(token)) => json!({"registrytoken": token}),
        };
        let auths = self.all.entry("auths".to_owned()).or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key.to_owned(), entry);
        }
    }

    /// Takes out everything about `host`. Whether there was anything.
    pub(super) fn remove(&mut self, host: &str) -> bool {
        let Some(auths) = self.all.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        *auths =
            std::mem::take(auths).into_iter().filter(|(key, _)| !is_host(key, host)).collect::<Map<_, _>>();
        auths.len() < before
    }

    /// Replaces the file, or the one a link in its place leads to, in one step. Nobody else can read it.
    pub(super) fn write(&self) -> Result<(), CredentialsError> {
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |source| CredentialsError::Io { action: "write", path: path.clone(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut text =
            serde_json::to_vec_pretty(&self.all).map_err(|error| failed(std::io::Error::from(error)))?;
        text.push(b'\n');
        let private = std::fs::Permissions::from_mode(0o600);
        let new = tempfile::Builder::new().prefix(".msb-").permissions(private).tempfile_in(folder);
        let mut new = new.map_err(failed)?;
        new.write_all(&text).and_then(|()| new.as_file().sync_all()).map_err(failed)?;
        new.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Docker's sign for a refresh token in the place of a password.
pub(super) fn password_or_token(user: String, password: String) -> Credential {
    match user.as_str() {
        "<token>" => Credential::IdentityToken(password),
        _ => Credential::Password { user, password },
    }
}

/// Whether a key of `auths` or `credHelpers` means all of `host`: `HOST`, `https://HOST`, `https://HOST/v1/`, and for
/// Docker Hub any of its names.
fn is_host(key: &str, host: &str) -> bool {
    let bare = ["https://", "http://"].iter().find_map(|scheme| key.strip_prefix(scheme));
    let name = match bare {
        Some(address) => address.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/').trim_end_matches("/v2").trim_end_matches("/v1"),
    };
    let is_hub = matches!(name, DEFAULT_REGISTRY | "index.docker.io" | "registry-1.docker.io");
    name.eq_ignore_ascii_case(host) || (host == DEFAULT_REGISTRY && is_hub)
}
