//! Which secret may stand where, and putting it there.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::refusal::Refusal;
use super::search::{Finder, replace_all};
use crate::net::policy::Name;
use crate::net::secret::{Held, Place, Secrets};

/// What stands for itself in every part of a URL (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Bytes of content that are held at a time: a sandbox may begin many requests and finish none.
const ROOM: usize = 32 << 20;
/// Bytes of heads that are held at a time. Whoever begins more requests than have room is told so.
const HEAD_ROOM: usize = 64 << 20;
/// Shorter values are too likely to be in a header by chance.
const LEAST_CONCEALED: usize = 8;

/// The secrets of a sandbox, and how to find their placeholders.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) secrets: Secrets,
    pub(super) plain: Finder,
    pub(super) disguised: Finder,
    /// Bytes that may be held of content at a time, of all requests together.
    room: Arc<Semaphore>,
    /// The same of heads.
    head_room: Arc<Semaphore>,
}

/// How content has to hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Raw,
    /// Inside a string of JSON.
    Json,
    /// Inside a form's field.
    Form,
}

impl Encoding {
    /// How content of this type has to.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/x-www-form-urlencoded" => Self::Form,
            "application/json" | "application/x-ndjson" => Self::Json,
            other if other.ends_with("+json") => Self::Json,
            _ => Self::Raw,
        }
    }

    /// `value` so written.
    pub(super) fn write(self, value: &[u8]) -> Zeroizing<Vec<u8>> {
        let raw = || Zeroizing::new(value.to_vec());
        match (self, std::str::from_utf8(value)) {
            (Self::Form, _) => in_url(value),
            (Self::Json, Ok(text)) => serde_json::to_vec(text).map_or_else(
                |_| raw(),
                |quoted| {
                    let quoted = Zeroizing::new(quoted);
                    Zeroizing::new(quoted[1..quoted.len() - 1].to_vec())
                },
            ),
            (Self::Raw | Self::Json, _) => raw(),
        }
    }
}

fn in_url(value: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(percent_encode(value, RESERVED).to_string().into_bytes())
}

impl Rules {
    pub(super) fn new(secrets: Secrets) -> Self {
        let (plain, disguised) = (Finder::plain(&secrets), Finder::disguised(&secrets));
        let (room, head_room) = (Arc::new(Semaphore::new(ROOM)), Arc::new(Semaphore::new(HEAD_ROOM)));
        Self { secrets, plain, disguised, room, head_room }
    }

    /// Room for so many bytes of content, if there is some just now.
    pub(super) fn room(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(length).ok()?).ok()
    }

    /// Room for a head of so many bytes, if there is some just now.
    pub(super) fn head_room(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.head_room).try_acquire_many_owned(u32::try_from(length).ok()?).ok()
    }

    /// The secret whose placeholder was found in `place` of a request to `host`, if it may be there.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn allow(&self, secret: usize, host: &Name, place: Place) -> Result<&Held, Refusal> {
        // Finders know no other places.
        let Some(held) = self.secrets.get(secret) else {
            let secret = String::new();
            return Err(Refusal::Place { secret, host: host.to_string(), place });
        };
        let (secret, host_text) = (held.secret.name.clone(), host.to_string());
        if !held.secret.is_for(host) {
            let hosts: Vec<String> = held.secret.hosts.iter().map(ToString::to_string).collect();
            return Err(Refusal::OtherHost { secret, host: host_text, hosts: hosts.join(", ") });
        }
        if !held.secret.places.contains(place) {
            return Err(Refusal::Place { secret, host: host_text, place });
        }
        Ok(held)
    }

    /// Whether some secret may stand in the content of requests to `host`.
    pub(super) fn rewrite_bodies(&self, host: &Name) -> bool {
        self.secrets.iter().any(|held| held.secret.is_for(host) && held.secret.places.contains(Place::Body))
    }

    /// Puts the secrets into the head of a request to `host`.
    ///
    /// # Errors
    /// One may not be there.
    pub(super) fn rewrite_head(&self, parts: &mut Parts, host: &Name) -> Result<(), Refusal> {
        if let Some(target) = parts.uri.path_and_query()
            && let Some(rewritten) = self.rewrite_target(target, host)?
        {
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.path_and_query = Some(rewritten);
            parts.uri = Uri::from_parts(uri).map_err(|_| self.misplaced(host, Place::Path))?;
        }
        for (name, value) in &mut parts.headers {
            if name == HOST {
                continue;
            }
            if name == AUTHORIZATION
                && let Some(rewritten) = self.rewrite_basic(value, host)?
            {
                *value = rewritten;
                continue;
            }
            let with = |secret| {
                self.allow(secret, host, Place::Header).map(|held| Zeroizing::new(held.value().into()))
            };
            if let Some(rewritten) = replace_all(&self.plain, value.as_bytes(), with)? {
                *value = self.header(&rewritten, host)?;
            }
        }
        Ok(())
    }

    /// A header field with a value; it is never kept in a table of header compression (RFC 7541 §7.1.3).
    fn header(&self, value: &[u8], host: &Name) -> Result<HeaderValue, Refusal> {
        let mut value = HeaderValue::from_bytes(value).map_err(|_| self.misplaced(host, Place::Header))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What cannot happen with values that were looked at when they were read.
    fn misplaced(&self, host: &Name, place: Place) -> Refusal {
        let secret = self.secrets.iter().find(|held| held.secret.is_for(host));
        let secret = secret.map_or_else(String::new, |held| held.secret.name.clone());
        Refusal::Place { secret, host: host.to_string(), place }
    }

    fn rewrite_target(&self, target: &PathAndQuery, host: &Name) -> Result<Option<PathAndQuery>, Refusal> {
        let with = |place| move |secret| self.allow(secret, host, place).map(|held| in_url(held.value()));
        let path = replace_all(&self.plain, target.path().as_bytes(), with(Place::Path))?;
        let query =
            target.query().map(|query| replace_all(&self.plain, query.as_bytes(), with(Place::Query)));
        let query = query.transpose()?.flatten();
        if path.is_none() && query.is_none() {
            return Ok(None);
        }
        let mut text = path.unwrap_or_else(|| Zeroizing::new(target.path().into()));
        if let Some(old) = target.query() {
            text.push(b'?');
            text.extend_from_slice(query.as_ref().map_or(old.as_bytes(), |query| query));
        }
        let text = PathAndQuery::try_from(&text[..]).map_err(|_| self.misplaced(host, Place::Query))?;
        Ok(Some(text))
    }

    /// `Authorization: Basic …` (RFC 7617) with secrets for placeholders; `None` if there are none in it.
    fn rewrite_basic(&self, value: &HeaderValue, host: &Name) -> Result<Option<HeaderValue>, Refusal> {
        let Some((scheme, encoded)) = value.to_str().ok().and_then(|text| text.trim().split_once(' ')) else {
            return Ok(None);
        };
        if !scheme.eq_ignore_ascii_case("basic") {
            return Ok(None);
        }
        let Ok(pair) = STANDARD.decode(encoded.trim()) else { return Ok(None) };
        let with =
            |secret| self.allow(secret, host, Place::Basic).map(|held| Zeroizing::new(held.value().into()));
        let Some(pair) = replace_all(&self.plain, &pair, with)? else { return Ok(None) };
        let text = Zeroizing::new(format!("{scheme} {}", Zeroizing::new(STANDARD.encode(&pair)).as_str()));
        self.header(text.as_bytes(), host).map(Some)
    }

    /// Takes values out of a header or the trailers of an answer: a server that repeats them is not to give them to the sandbox.
    pub(super) fn conceal(&self, headers: &mut HeaderMap, host: &Name) {
        for value in headers.values_mut() {
            for held in self.secrets.iter().filter(|held| held.secret.is_for(host)) {
                let (plain, in_url) = (Zeroizing::new(held.value().to_vec()), in_url(held.value()));
                let ways = if plain == in_url { vec![plain] } else { vec![plain, in_url] };
                for written in ways {
                    if let Some(clean) = without(value.as_bytes(), &written, held.placeholder.as_bytes())
                        && let Ok(clean) = HeaderValue::from_bytes(&clean)
                    {
                        *value = clean;
                    }
                }
            }
        }
    }
}

/// `text` with `placeholder` wherever it has `value`; `None` where it has not.
fn without(text: &[u8], value: &[u8], placeholder: &[u8]) -> Option<Vec<u8>> {
    if value.len() < LEAST_CONCEALED {
        return None;
    }
    let (mut clean, mut rest) = (Vec::new(), text);
    // Not in what has been put in: a value may be a part of a placeholder.
    while let Some(at) = rest.windows(value.len()).position(|part| part == value) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(placeholder);
        rest = &rest[at + value.len()..];
    }
    (!clean.is_empty()).then(|| [&clean[..], rest].concat())
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
