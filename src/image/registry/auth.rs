//! Authorization: challenges (RFC 9110 §11) and the token protocol registries share.

use http_auth::ChallengeRef;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use super::client::Registry;
use super::error::{RegistryError, printable};
use super::http::read_bounded;
use crate::image::credentials::{self, Credential};

/// Tokens are a few kilobytes.
const MAX_TOKEN: u64 = 1 << 20;

/// What goes into the `Authorization` header.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) enum Authorization {
    /// Nothing.
    #[default]
    None,
    /// A token for one repository; registries hand out anonymous ones too.
    Bearer {
        /// The token.
        token: String,
        /// Whether it was given to nobody in particular.
        anonymous: bool,
    },
    /// User name and password.
    Basic(String, String),
}

impl Authorization {
    /// Whether the registry was told who asks.
    pub(super) fn is_personal(&self) -> bool {
        matches!(self, Self::Basic(..) | Self::Bearer { anonymous: false, .. })
    }

    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Bearer { token, .. } => request.bearer_auth(token),
            Self::Basic(user, password) => request.basic_auth(user, Some(password)),
        }
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Registry {
    /// Answers the challenge of a 401 response. Returns `None` when there is nothing to answer it with.
    pub(super) async fn authorize(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<Authorization>, RegistryError> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = choose(values);
        let name = self.credential_name().to_owned();
        // A credential helper is a process; it may take its time.
        let credential = tokio::task::spawn_blocking(move || credentials::lookup(&name))
            .await
            .unwrap_or(Credential::Anonymous);
        match (challenge, credential) {
            (Some(Challenge::Basic), Credential::Password(user, password)) => {
                Ok(Some(Authorization::Basic(user, password)))
            }
            (Some(Challenge::Bearer { realm, service, scope }), credential) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository()));
                let realm = self.check_realm(&realm)?;
                self.token(realm, service.as_deref(), &scope, &credential).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A registry reached over TLS must not make us send credentials in the clear.
    fn check_realm(&self, realm: &str) -> Result<Url, RegistryError> {
        match Url::parse(realm) {
            Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && !self.is_https()) => Ok(url),
            _ => Err(RegistryError::Protocol {
                registry: self.address().to_owned(),
                reason: format!("it sends us for a token to `{}`", printable(realm, 200)),
            }),
        }
    }

    async fn token(
        &self,
        realm: Url,
        service: Option<&str>,
        scope: &str,
        credential: &Credential,
    ) -> Result<Authorization, RegistryError> {
        let mut url = realm;
        // A refresh token is sent as a form and never in the address.
        {
            let mut pairs = url.query_pairs_mut();
            pairs.extend_pairs(service.map(|service| ("service", service)));
            pairs.append_pair("scope", scope);
            if let Credential::IdentityToken(token) = credential {
                pairs.append_pair("grant_type", "refresh_token").append_pair("client_id", "msb");
                pairs.append_pair("refresh_token", token);
            }
        }
        let request = match credential {
            Credential::Anonymous => self.http().get(url),
            Credential::Password(user, password) => self.http().get(url).basic_auth(user, Some(password)),
            Credential::IdentityToken(_) => {
                let form = url.query().unwrap_or_default().to_owned();
                url.set_query(None);
                let kind = "application/x-www-form-urlencoded";
                self.http().post(url).header(reqwest::header::CONTENT_TYPE, kind).body(form)
            }
        };
        let response =
            request.send().await.map_err(|error| RegistryError::classify(self.address(), error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, *credential != Credential::Anonymous).await);
        }
        let body = read_bounded(response, MAX_TOKEN, "a token", self.address()).await?;
        let answer: TokenResponse =
            serde_json::from_slice(&body).map_err(|error| RegistryError::Protocol {
                registry: self.address().to_owned(),
                reason: format!("its token cannot be read: {error}"),
            })?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        Ok(Authorization::Bearer { token, anonymous: *credential == Credential::Anonymous })
    }
}

/// The strongest challenge we can answer; a registry may offer several, in one header or many.
fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for challenge in http_auth::ChallengeParser::new(header).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter(&challenge, "realm") {
                    let (service, scope) = (parameter(&challenge, "service"), parameter(&challenge, "scope"));
                    return Some(Challenge::Bearer { realm, service, scope });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.to_unescaped()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(choose([r#"Basic realm="x""#, hub].into_iter()), Some(expected));
        assert_eq!(choose([r#"basic realm="x""#].into_iter()), Some(Challenge::Basic));
        assert_eq!(choose(["Bearer", "", "Negotiate", "=,\"", "Bearer realm="].into_iter()), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_challenges_never_panic(header: String, tail in "(Bearer|Basic) [ -~]{0,60}") {
            let _ = choose([header.as_str(), tail.as_str()].into_iter());
        }
    }
}
