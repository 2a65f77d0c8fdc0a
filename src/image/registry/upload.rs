//! The push half of the distribution specification: blobs are looked for, mounted from a sibling repository or
//! uploaded in one stream; the manifest comes last.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::client::Registry;
use super::error::RegistryError;
use super::notice::Notify;
use super::words::printable;
use crate::image::digest::Digest;

/// Chunks on their way from the store to the socket.
const WINDOW: usize = 8;

/// An upload the registry waits for.
pub(crate) struct Upload(Url);

/// A request body of known length that another thread feeds.
struct Fed {
    chunks: mpsc::Receiver<Bytes>,
    left: u64,
}

/// A body of `size` bytes and the end to feed it by. Dropping the sender early spoils the request.
pub(crate) fn fed_body(size: u64) -> (mpsc::Sender<Bytes>, Body) {
    let (sender, chunks) = mpsc::channel(WINDOW);
    (sender, Body::wrap(Fed { chunks, left: size }))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.chunks.poll_recv(context).map(|chunk| match chunk {
            Some(chunk) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                Some(Ok(Frame::data(chunk)))
            }
            None if self.left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Registry {
    /// Whether the repository has the blob.
    pub(crate) async fn has_blob(&self, digest: &Digest, notify: Notify<'_>) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        match self.send(&|| self.http().head(&url), notify).await {
            Ok(_) => Ok(true),
            Err(RegistryError::Status { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins to bring in a blob. `None` when the registry could take it from the repository `mount` names.
    pub(crate) async fn begin_upload(
        &self,
        digest: &Digest,
        mount: Option<&str>,
        notify: Notify<'_>,
    ) -> Result<Option<Upload>, RegistryError> {
        let mut url = self.parse(&self.url("blobs/uploads/"))?;
        if let Some(repository) = mount {
            let digest = digest.to_string();
            url.query_pairs_mut().append_pair("mount", &digest).append_pair("from", repository);
        }
        let post = || self.http().post(url.clone()).header(CONTENT_LENGTH, 0);
        let response = self.send(&post, notify).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            _ => self.location(&response).map(Some),
        }
    }

    /// Sends all of a blob. It is not repeated when it fails: that takes a new upload.
    pub(crate) async fn send_blob(
        &self,
        upload: Upload,
        body: Body,
        notify: Notify<'_>,
    ) -> Result<Upload, RegistryError> {
        let request = self.http().patch(upload.0.clone()).header(CONTENT_TYPE, "application/octet-stream");
        let response = self.send_once(&upload.0, request.body(body), notify).await?;
        self.location(&response)
    }

    /// Ends an upload; the registry checks the digest too.
    pub(crate) async fn finish_upload(
        &self,
        upload: Upload,
        digest: &Digest,
        notify: Notify<'_>,
    ) -> Result<(), RegistryError> {
        let mut url = upload.0;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = || self.http().put(url.clone()).header(CONTENT_LENGTH, 0);
        let answer = match self.is_own(&url) {
            true => self.send(&put, notify).await,
            false => self.send_once(&url, put(), notify).await,
        };
        answer.map(drop)
    }

    /// Stores a manifest whose blobs are all there under a tag or digest. Returns the digest the registry says it has.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        text: &[u8],
        notify: Notify<'_>,
    ) -> Result<Option<Digest>, RegistryError> {
        let (url, text) = (self.url(&format!("manifests/{name}")), Bytes::copy_from_slice(text));
        let put = || self.http().put(&url).header(CONTENT_TYPE, media_type).body(text.clone());
        let response = self.send(&put, notify).await?;
        let stated = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(stated.and_then(|text| text.parse().ok()))
    }

    /// Where an upload goes on; a registry may say so relative to where it was asked.
    fn location(&self, response: &Response) -> Result<Upload, RegistryError> {
        let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let url = match text {
            "" => None,
            text => response.url().join(text).ok(),
        };
        match url {
            Some(url) if url.scheme() == "https" || (url.scheme() == "http" && !self.is_https()) => {
                Ok(Upload(url))
            }
            _ => Err(self.protocol(format!("it sends us to `{}` for an upload", printable(text, 200)))),
        }
    }

    fn parse(&self, url: &str) -> Result<Url, RegistryError> {
        Url::parse(url).map_err(|error| self.protocol(error.to_string()))
    }
}
