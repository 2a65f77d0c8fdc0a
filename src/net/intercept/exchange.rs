//! Requests and answers between a sandbox and one host (RFC 9110, 9112, 9113).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, upgrade};
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Reporter;
use super::body::{BoxError, Outgoing};
use super::refusal::Refusal;
use super::rules::{Encoding, Rules};
use crate::net::policy::Name;

/// Content up to this length is taken as a whole before anything is sent: nothing of a request that is refused leaves, and its new length
/// can be told, as not every server takes chunks.
const WHOLE: u64 = 1 << 20;
/// How long content that is taken as a whole may make no progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a field takes beside its name and its value, as HTTP/2 counts (RFC 9113 §6.5.2).
const FIELD: usize = 32;
/// What concerns one connection and not the request (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 4] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
];

/// The content of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, BoxError>;
/// The content of a request.
pub(super) type Question = Outgoing<Incoming>;

/// The way to the host.
pub(super) enum Upstream {
    /// One request after the other.
    One(Mutex<http1::SendRequest<Question>>),
    /// Many at once.
    Many(http2::SendRequest<Question>),
    /// None, and why.
    Refused(Refusal),
}

/// A connection of the sandbox to a host of its secrets.
pub(super) struct Exchange {
    pub(super) rules: Arc<Rules>,
    pub(super) host: Name,
    pub(super) port: u16,
    pub(super) upstream: Upstream,
    pub(super) report: Reporter,
}

/// Why there is no answer of the host.
enum Failure {
    Refused(Refusal),
    /// The connection is lost, as the sandbox is to see.
    Lost(BoxError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Exchange {
    /// Answers a request: the host does, or it is said why it is not asked.
    ///
    /// # Errors
    /// The connection to the host is lost.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, BoxError> {
        let version = request.version();
        match self.pass_on(request).await {
            Ok(answer) => Ok(answer),
            Err(Failure::Refused(refusal)) => {
                (self.report)(refusal.clone());
                Ok(refused(&refusal, version))
            }
            Err(Failure::Lost(error)) => Err(error),
        }
    }

    async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Response<Answer>, Failure> {
        if let Upstream::Refused(refusal) = &self.upstream {
            return Err(refusal.clone().into());
        }
        let crowded = || Refusal::Crowded { host: self.host.to_string() };
        // Until its answer has begun, when whoever passes it on has none of it any more.
        let _room = self.rules.head_room(head_length(&request)).ok_or_else(crowded)?;
        self.check_authority(&request)?;
        let wants_upgrade = upgrades(request.headers());
        let sandbox = upgrade::on(&mut request);
        let (mut parts, content) = request.into_parts();
        strip(&mut parts.headers, wants_upgrade);
        // Its content is asked for when the host's side is ready for it.
        parts.headers.remove(header::EXPECT);
        self.rules.rewrite_head(&mut parts, &self.host)?;
        let content = self.content(&mut parts.headers, content).await?;
        let refused = content.refused();
        if parts.version != Version::HTTP_2 {
            parts.version = Version::HTTP_11;
            // What only the target has told (RFC 9112 §3.2.2), and has been checked to be this host.
            if !parts.headers.contains_key(header::HOST)
                && let Some(authority) = parts.uri.authority()
                && let Ok(authority) = HeaderValue::from_str(authority.as_str())
            {
                parts.headers.insert(header::HOST, authority);
            }
            parts.uri = origin_form(&parts.uri);
        }
        let sent = self.send(Request::from_parts(parts, content)).await;
        let mut answer = match (refused.get(), sent) {
            (Some(refusal), _) => return Err(refusal.clone().into()),
            (None, Ok(answer)) => answer,
            (None, Err(error)) => return Err(Failure::Lost(error.into())),
        };
        let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            let host = upgrade::on(&mut answer);
            tokio::spawn(join(sandbox, host));
        }
        let (mut parts, content) = answer.into_parts();
        strip(&mut parts.headers, switches);
        // Words of the host's choice, as everything in the header; the usual ones go with the status.
        parts.extensions.remove::<ReasonPhrase>();
        self.rules.conceal(&mut parts.headers, &self.host);
        let report = Arc::clone(&self.report);
        let (rules, host) = (Arc::clone(&self.rules), self.host.clone());
        let content = content.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                rules.conceal(&mut trailers, &host);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        });
        // What breaks off behind the beginning of the answer can only be told to those who watch.
        let content = content.map_err(move |error| {
            if let Some(refusal) = refused.get() {
                report(refusal.clone());
            }
            BoxError::from(error)
        });
        Ok(Response::from_parts(parts, content.boxed_unsync()))
    }

    async fn send(&self, request: Request<Question>) -> hyper::Result<Response<Incoming>> {
        match &self.upstream {
            Upstream::One(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await
            }
            Upstream::Many(sender) => {
                let mut sender = sender.clone();
                sender.ready().await?;
                sender.send_request(request).await
            }
            Upstream::Refused(_) => unreachable!("asked before"),
        }
    }

    /// Whether the request is for the host that the connection is with: a server of many hosts goes by what the request says.
    fn check_authority(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let wrong = |asked: String| Refusal::Authority {
            host: self.host.to_string(),
            asked: asked.chars().filter(|c| !c.is_control()).take(100).collect(),
        };
        if request.method() == Method::CONNECT {
            return Err(wrong("a tunnel".into()));
        }
        let check = |authority: &Authority| {
            let host = authority.host().parse::<Name>();
            let port = authority.port_u16();
            let is_plain =
                !authority.as_str().contains('@') && (port.is_some() || !authority.as_str().ends_with(':'));
            if is_plain && host.as_ref() == Ok(&self.host) && port.is_none_or(|port| port == self.port) {
                Ok(())
            } else {
                Err(wrong(authority.to_string()))
            }
        };
        let mut named = 0;
        if let Some(authority) = request.uri().authority() {
            check(authority)?;
            named += 1;
        }
        let mut fields = request.headers().get_all(header::HOST).iter();
        if let Some(field) = fields.next() {
            let authority = Authority::try_from(field.as_bytes());
            check(&authority.map_err(|_| wrong(String::from_utf8_lossy(field.as_bytes()).into_owned()))?)?;
            named += 1;
        }
        if fields.next().is_some() {
            return Err(wrong("several hosts".into()));
        }
        if named == 0 {
            return Err(wrong("no host".into()));
        }
        Ok(())
    }

    /// The content as it goes on.
    async fn content(&self, headers: &mut HeaderMap, content: Incoming) -> Result<Question, Failure> {
        let (rules, host) = (Arc::clone(&self.rules), self.host.clone());
        if content.is_end_stream() {
            return Ok(Outgoing::watched(content, rules, host));
        }
        let rewrites = rules.rewrite_bodies(&host);
        if rewrites {
            self.check_encoding(headers)?;
        }
        let encoding = Encoding::of(headers);
        let length = content.size_hint().exact().filter(|length| *length <= WHOLE);
        if let Some(room) = length.and_then(|length| rules.room(length)) {
            let stalled = || Refusal::Stalled { host: self.host.to_string() };
            let all = whole(content, PATIENCE).await?.ok_or_else(stalled)?;
            let content = Outgoing::whole(&all, rules, host, encoding)?.in_room(room);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(content.size_hint().lower()));
            return Ok(content);
        }
        if !rewrites {
            return Ok(Outgoing::watched(content, rules, host));
        }
        headers.remove(header::CONTENT_LENGTH);
        Ok(Outgoing::rewritten(content, rules, host, encoding))
    }

    /// What is compressed cannot be looked through.
    fn check_encoding(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        let encoding = encodings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let encoding = encoding.collect::<Vec<_>>().join(", ");
        if matches!(encoding.trim(), "" | "identity") {
            return Ok(());
        }
        let encoding = encoding.chars().filter(|c| !c.is_control()).take(100).collect();
        Err(Refusal::Encoded { host: self.host.to_string(), encoding })
    }
}

/// How many bytes the head of a request takes, about.
fn head_length(request: &Request<Incoming>) -> usize {
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    FIELD + target + fields
}

/// All of the content; `None` where nothing more of it came for so long.
async fn whole<B>(mut content: B, patience: Duration) -> Result<Option<Vec<u8>>, Failure>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let mut all = Vec::new();
    loop {
        let Ok(frame) = timeout(patience, content.frame()).await else { return Ok(None) };
        let Some(frame) = frame else { return Ok(Some(all)) };
        if let Ok(piece) = frame.map_err(|error| Failure::Lost(error.into()))?.into_data() {
            all.extend_from_slice(&piece);
        }
    }
}

/// Joins both sides when they have agreed to speak something else.
async fn join(sandbox: upgrade::OnUpgrade, host: upgrade::OnUpgrade) {
    if let (Ok(sandbox), Ok(host)) = tokio::join!(sandbox, host) {
        // Whoever breaks off is the end of both.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(sandbox), &mut TokioIo::new(host)).await;
    }
}

/// A request's target as servers have it (RFC 9112 §3.2.1).
fn origin_form(uri: &Uri) -> Uri {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    // A part of what was a target is one.
    target.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

/// The words of the `Connection` field.
fn connection_words(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(header::CONNECTION).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(|word| word.trim().to_ascii_lowercase()).collect()
}

/// Whether it is asked for another protocol (RFC 9110 §7.8). HTTP/2 is chosen by TLS.
fn upgrades(headers: &HeaderMap) -> bool {
    let wanted = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    wanted.is_some_and(|wanted| !wanted.to_ascii_lowercase().contains("h2c"))
        && connection_words(headers).iter().any(|word| word == "upgrade")
}

/// Takes out what concerns the connection alone; `upgrades` leaves what another protocol is agreed on with.
fn strip(headers: &mut HeaderMap, upgrades: bool) {
    for word in connection_words(headers) {
        // Nothing else of the message hangs on a word that the sender chooses.
        if !matches!(word.as_str(), "host" | "content-length" | "upgrade" | "te") {
            headers.remove(word);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
}

/// The answer that says why there is none of the host.
pub(super) fn refused(refusal: &Refusal, version: Version) -> Response<Answer> {
    let content = Full::new(Bytes::from(refusal.text())).map_err(|never| match never {});
    let mut answer = Response::new(content.boxed_unsync());
    *answer.status_mut() = refusal.status();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// Content of which nothing comes.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn content_that_does_not_come_is_not_waited_for_without_end() {
        let full = Full::new(Bytes::from_static(b"all"));
        assert!(matches!(whole(full, PATIENCE).await, Ok(Some(all)) if all == b"all"));
        assert!(matches!(whole(Never, Duration::from_millis(1)).await, Ok(None)));
    }
}
