//! The content of a request on its way.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

use super::refusal::Refusal;
use super::rules::{Encoding, Rules};
use super::search::{Replacer, Watcher, replace_all};
use crate::net::policy::Name;
use crate::net::secret::Place;

/// An error of whatever kind, as hyper takes it.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The content of a request to `host`: watched, or with secrets put in, as it goes by. It never has more of it than one piece.
#[derive(Debug)]
pub(super) struct Outgoing<B> {
    inner: Option<B>,
    rules: Arc<Rules>,
    host: Name,
    mode: Mode,
    /// Where it is said why it broke off.
    refused: Arc<OnceLock<Refusal>>,
    trailers: Option<HeaderMap>,
    /// What it takes of the memory for whole content.
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Mode {
    Watch(Watcher),
    Replace(Replacer, Encoding),
    /// All of it, ready to go.
    Whole(Option<Bytes>),
}

impl<B> Outgoing<B> {
    /// Breaks off at the first placeholder.
    pub(super) fn watched(inner: B, rules: Arc<Rules>, host: Name) -> Self {
        Self::new(Some(inner), rules, host, Mode::Watch(Watcher::default()))
    }

    /// Puts secrets in. Its length changes.
    pub(super) fn rewritten(inner: B, rules: Arc<Rules>, host: Name, encoding: Encoding) -> Self {
        Self::new(Some(inner), rules, host, Mode::Replace(Replacer::default(), encoding))
    }

    /// Puts secrets into all of it at once.
    ///
    /// # Errors
    /// One may not be in it.
    pub(super) fn whole(
        content: &[u8],
        rules: Arc<Rules>,
        host: Name,
        encoding: Encoding,
    ) -> Result<Self, Refusal> {
        let with = |secret| rules.allow(secret, &host, Place::Body).map(|held| encoding.write(held.value()));
        let rewritten = replace_all(&rules.plain, content, with)?;
        let content = Bytes::copy_from_slice(rewritten.as_ref().map_or(content, |rewritten| rewritten));
        Ok(Self::new(None, rules, host, Mode::Whole(Some(content))))
    }

    fn new(inner: Option<B>, rules: Arc<Rules>, host: Name, mode: Mode) -> Self {
        Self { inner, rules, host, mode, refused: Arc::default(), trailers: None, _room: None }
    }

    /// The same, which takes up this room until it has gone.
    pub(super) fn in_room(self, room: OwnedSemaphorePermit) -> Self {
        Self { _room: Some(room), ..self }
    }

    /// Where it will be said why it broke off.
    pub(super) fn refused(&self) -> Arc<OnceLock<Refusal>> {
        Arc::clone(&self.refused)
    }

    /// What `piece` becomes.
    fn pass(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        let (rules, host) = (&self.rules, &self.host);
        match &mut self.mode {
            Mode::Watch(watcher) => match watcher.watch(&rules.plain, &piece) {
                Some(secret) => rules.allow(secret, host, Place::Body).map(|_| piece),
                None => Ok(piece),
            },
            Mode::Replace(replacer, encoding) => {
                let with = |secret| -> Result<Zeroizing<Vec<u8>>, Refusal> {
                    rules.allow(secret, host, Place::Body).map(|held| encoding.write(held.value()))
                };
                let rewritten = replacer.replace(&rules.plain, &piece, with)?;
                Ok(Bytes::copy_from_slice(&rewritten))
            }
            Mode::Whole(_) => Ok(piece),
        }
    }

    /// What has waited for more.
    fn rest(&mut self) -> Option<Bytes> {
        let rest: Bytes = match &mut self.mode {
            Mode::Watch(_) => return None,
            Mode::Replace(replacer, _) => replacer.finish().into(),
            Mode::Whole(content) => content.take()?,
        };
        (!rest.is_empty()).then_some(rest)
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while let Some(inner) = &mut this.inner {
            match ready!(Pin::new(inner).poll_frame(cx)) {
                None => this.inner = None,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => match this.pass(piece) {
                        // All of it waits for what follows.
                        Ok(piece) if piece.is_empty() => {}
                        Ok(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                        Err(refusal) => {
                            this.inner = None;
                            let _ = this.refused.set(refusal.clone());
                            return Poll::Ready(Some(Err(refusal.into())));
                        }
                    },
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.inner = None;
                    }
                },
            }
        }
        if let Some(rest) = this.rest() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let held = match &self.mode {
            Mode::Whole(content) => content.as_ref().is_some_and(|content| !content.is_empty()),
            Mode::Watch(_) => false,
            Mode::Replace(replacer, _) => !replacer.is_empty(),
        };
        !held && self.trailers.is_none() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.mode, &self.inner) {
            (Mode::Whole(content), _) => SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64),
            (Mode::Watch(_), Some(inner)) => inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::net::secret::{Secret, Secrets};

    fn rules() -> (Arc<Rules>, String) {
        let secret: Secret = "KEY@api.example:in=body".parse().unwrap();
        let rules = Rules::new(Secrets::of(&[(&secret, "va\"lue")]));
        let placeholder = rules.secrets.get(0).unwrap().placeholder.clone();
        (Arc::new(rules), placeholder)
    }

    async fn collected(body: Outgoing<Full<Bytes>>) -> Result<Bytes, BoxError> {
        Ok(body.collect().await?.to_bytes())
    }

    fn full(text: &str) -> Full<Bytes> {
        Full::new(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[tokio::test]
    async fn content_gets_the_value_and_says_its_length_only_when_it_is_known() {
        let (rules, key) = rules();
        let host: Name = "api.example".parse().unwrap();
        let text = format!("{{\"k\": \"{key}\"}}");
        let streamed = Outgoing::rewritten(full(&text), Arc::clone(&rules), host.clone(), Encoding::Json);
        assert_eq!(streamed.size_hint().exact(), None);
        assert!(!streamed.is_end_stream());
        assert_eq!(collected(streamed).await.unwrap(), r#"{"k": "va\"lue"}"#);
        let whole =
            Outgoing::whole(text.as_bytes(), Arc::clone(&rules), host.clone(), Encoding::Raw).unwrap();
        assert_eq!(whole.size_hint().exact(), Some(15));
        assert_eq!(collected(whole).await.unwrap(), r#"{"k": "va"lue"}"#);
        let empty = Outgoing::whole(b"", rules, host, Encoding::Raw).unwrap();
        assert!(Outgoing::<Full<Bytes>>::is_end_stream(&empty));
    }

    #[tokio::test]
    async fn content_for_somebody_else_breaks_off() {
        let (rules, key) = rules();
        let host: Name = "other.example".parse().unwrap();
        let body = Outgoing::watched(full(&format!("x{key}")), Arc::clone(&rules), host.clone());
        assert_eq!(body.size_hint().exact(), Some(36));
        let refused = body.refused();
        collected(body).await.unwrap_err();
        assert!(matches!(refused.get(), Some(Refusal::OtherHost { .. })));
        let clean = Outgoing::watched(full(&key[..30]), rules, host);
        assert_eq!(collected(clean).await.unwrap(), key[..30]);
    }
}
