//! Credentials for registries, from docker's `config.json` (with its helpers), else podman's `auth.json`.

use docker_credential::DockerCredential;

/// How to prove who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// Not at all.
    Anonymous,
    /// User name and password.
    Password(String, String),
    /// A refresh token, exchanged for access tokens (`docker login` through a browser).
    IdentityToken(String),
}

/// Docker Hub's key in both files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What the user stored for `registry`. Reads files and may run a credential helper, so it blocks. Missing or
/// broken configuration means anonymous: most images need no more, and the registry says so if this one does.
pub(super) fn lookup(registry: &str) -> Credential {
    let key = if registry == super::reference::DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
    let found = docker_credential::get_credential(key).or_else(|_| {
        // Podman writes the bare host also for Docker Hub.
        docker_credential::get_podman_credential(registry)
    });
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) if user == "<token>" => {
            Credential::IdentityToken(password)
        }
        Ok(DockerCredential::UsernamePassword(user, password)) => Credential::Password(user, password),
        Ok(DockerCredential::IdentityToken(token)) => Credential::IdentityToken(token),
        Err(_) => Credential::Anonymous,
    }
}
