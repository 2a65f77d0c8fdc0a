//! Authorization: challenges (RFC 9110 §11) and the token protocol registries share
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use std::time::{Duration, Instant};

use http_auth::ChallengeRef;
use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;
use serde_json::Value;

use super::client::Registry;
use super::error::{Identity, RegistryError};
use super::http::{Redirects, client, read_bounded};
use super::notice::{Notice, Notify};
use super::settings::Host;
use super::words::printable;
use crate::image::credentials::{Credential, Found};

/// Tokens are a few kilobytes.
const MAX_TOKEN: u64 = 1 << 20;
/// A token lives at least so long, whatever its maker says: the protocol's default.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// And at most so long for us, which a clock can add up.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What goes into the `Authorization` header.
#[derive(Clone, PartialEq, Eq, Default)]
enum Authorization {
    #[default]
    None,
    /// A token for one repository; registries hand out anonymous ones too.
    Bearer(String),
    Basic {
        user: String,
        password: String,
    },
}

/// How far the talk about who we are has come.
#[derive(Clone, Default)]
pub(super) struct Session {
    authorization: Authorization,
    /// What a token was got for; the same again gets the next one.
    challenge: Option<Challenge>,
    expires: Option<Instant>,
    /// Who the registry was told we are.
    pub(super) identity: Identity,
    /// Tells sessions apart, since two may be alike.
    pub(super) number: u64,
}

impl Session {
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Authorization::None => request,
            Authorization::Bearer(token) => request.bearer_auth(token),
            Authorization::Basic { user, password } => request.basic_auth(user, Some(password)),
        }
    }

    /// The challenge to answer again before the next request, as its token is about to end.
    pub(super) fn expired(&self, now: Instant) -> Option<Challenge> {
        self.expires.filter(|expires| *expires <= now).and(self.challenge.clone())
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    // A number; some write it as text.
    #[serde(default)]
    expires_in: Value,
}

impl TokenResponse {
    /// How long the token is used: a little shorter than it lives.
    fn life(&self) -> Duration {
        let text = self.expires_in.as_str().and_then(|text| text.parse().ok());
        let seconds = self.expires_in.as_u64().or(text).unwrap_or_default();
        Duration::from_secs(seconds).clamp(SHORTEST_LIFE, LONGEST_LIFE) * 9 / 10
    }
}

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The strongest one of a 401 response that we know.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        choose(headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
    }
}

/// What there is to say to a challenge.
pub(super) enum Answer {
    /// Ask again with this.
    Session(Box<Session>),
    /// Nothing; and this is who we are.
    Nothing(Identity),
}

impl Registry {
    /// Answers a challenge.
    pub(super) async fn authorize(
        &self,
        challenge: &Challenge,
        notify: Notify<'_>,
    ) -> Result<Answer, RegistryError> {
        let (credential, identity) = self.credential(notify).await;
        let session = Session { identity, challenge: Some(challenge.clone()), ..Session::default() };
        let (authorization, expires) = match (challenge, credential) {
            (Challenge::Basic, Some(Credential::Password { user, password })) => {
                (Authorization::Basic { user, password }, None)
            }
            (Challenge::Basic, _) => return Ok(Answer::Nothing(session.identity)),
            (Challenge::Bearer { .. }, Some(Credential::RegistryToken(token))) => {
                (Authorization::Bearer(token), None)
            }
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let scope = scope.clone().or_else(|| self.default_scope());
                let (now, realm) = (Instant::now(), self.check_realm(realm)?);
                let wanted = Wanted { realm, service: service.as_deref(), scope: scope.as_deref() };
                let answer = self.token(wanted, credential.as_ref(), &session.identity).await?;
                let expires = Some(now + answer.life());
                let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
                (Authorization::Bearer(token), expires)
            }
        };
        Ok(Answer::Session(Box::new(Session { authorization, expires, ..session })))
    }

    /// What the user gave or stored. What cannot be read is as good as nothing: most images need no more, and
    /// when this one does, the reason is told then.
    async fn credential(&self, notify: Notify<'_>) -> (Option<Credential>, Identity) {
        if let Some(credential) = self.given() {
            return (Some(credential.clone()), Identity::of(credential, None));
        }
        let (files, host) = (self.settings().credentials.clone(), self.host().as_str().to_owned());
        let repository = self.repository().to_owned();
        // A credential helper is a process; it may take its time.
        let found = tokio::task::spawn_blocking(move || files.find(&host, &repository)).await;
        match found {
            Ok(Ok(Some(Found { credential, keeper }))) => {
                let identity = Identity::of(&credential, Some(keeper));
                (Some(credential), identity)
            }
            Ok(Err(error)) => {
                let reason = error.to_string();
                notify(Notice::CredentialsUnusable { reason: reason.clone() });
                (None, Identity::Unusable { reason, hint: error.hint() })
            }
            Ok(Ok(None)) | Err(_) => (None, Identity::Nobody),
        }
    }

    /// A registry reached over TLS must not make us send credentials in the clear.
    fn check_realm(&self, realm: &str) -> Result<Url, RegistryError> {
        match Url::parse(realm) {
            Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && !self.is_https()) => Ok(url),
            _ => Err(self.protocol(format!("it sends us for a token to `{}`", printable(realm, 200)))),
        }
    }

    async fn token(
        &self,
        wanted: Wanted<'_>,
        credential: Option<&Credential>,
        identity: &Identity,
    ) -> Result<TokenResponse, RegistryError> {
        let Wanted { realm: mut url, service, scope } = wanted;
        let host =
            Host::of_url(&url).ok_or_else(|| self.protocol("its token server has no name".to_owned()))?;
        let request = match credential {
            Some(Credential::IdentityToken(token)) => {
                // A refresh token is sent as a form and never in the address, and it stays with who it is for.
                let mut form = url.clone();
                form.query_pairs_mut()
                    .clear()
                    .extend_pairs(service.map(|service| ("service", service)))
                    .extend_pairs(scope.map(|scope| ("scope", scope)))
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "msb")
                    .append_pair("refresh_token", token);
                let form = form.query().unwrap_or_default().to_owned();
                let request = client(&host, self.settings(), Redirects::Refuse)?.post(url);
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
            credential => {
                // Scopes are separated by blanks in a challenge and repeated in an address.
                let scopes = scope.into_iter().flat_map(str::split_whitespace);
                url.query_pairs_mut()
                    .extend_pairs(service.map(|service| ("service", service)))
                    .extend_pairs(scopes.map(|scope| ("scope", scope)));
                let request = client(&host, self.settings(), Redirects::Follow)?.get(url);
                match credential {
                    Some(Credential::Password { user, password }) => request.basic_auth(user, Some(password)),
                    _ => request,
                }
            }
        };
        let response =
            request.send().await.map_err(|error| RegistryError::classify(host.address(), error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, identity).await);
        }
        let body = read_bounded(response, MAX_TOKEN, "a token", host.address()).await?;
        let answer: Option<TokenResponse> = serde_json::from_slice(&body).ok();
        // The parser's own words may quote the token.
        answer
            .filter(|answer| !answer.token.is_empty() || !answer.access_token.is_empty())
            .ok_or_else(|| self.protocol(format!("its token cannot be read ({} bytes)", body.len())))
    }
}

/// A token to ask for.
struct Wanted<'a> {
    realm: Url,
    service: Option<&'a str>,
    scope: Option<&'a str>,
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
#[allow(clippy::unwrap_used)]
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

    #[test]
    fn tokens_are_used_for_their_life() {
        let life = |text: &str| {
            let answer: TokenResponse = serde_json::from_str(text).unwrap();
            answer.life().as_secs()
        };
        assert_eq!(life(r#"{"token":"x","expires_in":300}"#), 270);
        assert_eq!(life(r#"{"token":"x","expires_in":"300"}"#), 270);
        for text in
            [r#"{"token":"x"}"#, r#"{"token":"x","expires_in":-5}"#, r#"{"token":"x","expires_in":1}"#]
        {
            assert_eq!(life(text), 54, "{text}");
        }
        assert!(life(r#"{"token":"x","expires_in":18446744073709551615}"#) <= 24 * 60 * 60);

        let now = Instant::now();
        let session = |after| Session {
            challenge: Some(Challenge::Basic),
            expires: Some(now + Duration::from_secs(after)),
            ..Session::default()
        };
        assert_eq!(session(1).expired(now), None);
        assert_eq!(session(0).expired(now), Some(Challenge::Basic));
        assert_eq!(Session::default().expired(now), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_challenges_never_panic(header: String, tail in "(Bearer|Basic) [ -~]{0,60}") {
            let _ = choose([header.as_str(), tail.as_str()].into_iter());
        }
    }
}
