//! One connection of a sandbox: passed on as it is, or ended and begun again.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::server::ResolvesServerCertUsingSni;
use rustls::{AlertDescription, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::exchange::{Exchange, Upstream};
use super::opening::{Hello, Kind, Opening};
use super::passage::Passage;
use super::refusal::Refusal;
use super::{CONNECTIONS, Shared, Taken, passage};
use crate::net::policy::Name;

/// How long either end may take to agree on TLS.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests of one connection at once.
const STREAMS: u32 = 32;
/// Most bytes of a header, as HTTP/2 counts them: a cookie jar of 16 KiB, as servers take it, fits.
const HEADER: u32 = 24 << 10;
/// Bytes of content that may be under way over HTTP/2, of one request and of a connection: from the sandbox, which is near, from the
/// host, which is far, and from either where many connections are open.
const FROM_SANDBOX: (u32, u32) = (256 << 10, 512 << 10);
const FROM_HOST: (u32, u32) = (1 << 20, 2 << 20);
const AMONG_MANY: (u32, u32) = (64 << 10, 128 << 10);
/// More open connections than this are many.
const FEW: usize = 64;
/// Most fields of a header over HTTP/1.
const FIELDS: usize = 256;

/// The sandbox's side, with what was read of it already in front.
type Sandbox =
    tokio::io::Join<tokio::io::Chain<io::Cursor<Vec<u8>>, OwnedReadHalf>, tokio::net::unix::OwnedWriteHalf>;
type SandboxTls = tokio_rustls::server::TlsStream<Sandbox>;
type HostTls = tokio_rustls::client::TlsStream<TcpStream>;

/// `wide` while few connections are open, so that much is `left` of their number: a window that nobody empties stays full for as long
/// as its connection is open.
fn window(wide: (u32, u32), left: &Semaphore) -> (u32, u32) {
    if left.available_permits() + FEW < CONNECTIONS { AMONG_MANY } else { wide }
}

/// Serves a connection until it ends. What goes wrong on it ends it, as it would without us.
pub(super) async fn serve(taken: Taken, shared: Arc<Shared>) {
    let _ = try_serve(taken, &shared).await;
}

async fn try_serve(taken: Taken, shared: &Arc<Shared>) -> io::Result<()> {
    taken.sandbox.set_nonblocking(true)?;
    let mut sandbox = UnixStream::from_std(taken.sandbox)?;
    let host = StdTcpStream::from(taken.host);
    host.set_nonblocking(true)?;
    let host = TcpStream::from_std(host)?;
    // Requests are not to wait for one another. What is no TCP needs no telling.
    let _ = host.set_nodelay(true);
    let (kind, begun) = open(&mut sandbox, &host).await?;
    let names = taken.names;
    let hello = match kind {
        Kind::Tls(hello) => hello,
        Kind::Other => {
            let whom = names.first().map_or_else(|| taken.remote.ip().to_string(), Name::to_string);
            return Passage { sandbox, host, whom: Some(whom) }.serve(begun, shared).await;
        }
    };
    let (Some(name), Some(protocols)) =
        (hello.name.clone().filter(|name| shared.rules.secrets.are_for(name)), hello.http())
    else {
        return Passage { sandbox, host, whom: None }.serve(begun, shared).await;
    };
    let Ok(_place) = shared.places.acquire().await else { return Ok(()) };
    let (reader, writer) = sandbox.into_split();
    let sandbox = tokio::io::join(io::Cursor::new(begun).chain(reader), writer);
    let meeting = Meeting { name, port: taken.remote.port(), shared: Arc::clone(shared) };
    if !names.contains(&meeting.name) {
        let refusal = Refusal::Pin { host: meeting.name.to_string(), address: taken.remote.ip() };
        drop(host);
        return meeting.refuse(sandbox, &hello, refusal).await;
    }
    match meeting.connect(host, protocols).await {
        Ok(host) => meeting.introduce(sandbox, host).await,
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(reason) => {
                let refusal =
                    Refusal::Unverified { host: meeting.name.to_string(), reason: reason.to_string() };
                meeting.refuse(sandbox, &hello, refusal).await
            }
            None => Err(error),
        },
    }
}

/// Reads what tells the kind of the connection. A host that speaks first speaks no TLS.
async fn open(sandbox: &mut UnixStream, host: &TcpStream) -> io::Result<(Kind, Vec<u8>)> {
    let mut opening = Opening::default();
    loop {
        let piece = tokio::select! {
            biased;
            piece = passage::piece_of!(sandbox) => piece?,
            ready = host.readable() => {
                ready?;
                return Ok((Kind::Other, opening.into_bytes()));
            }
        };
        let kind = if piece.is_empty() { Some(Kind::Other) } else { opening.push(&piece) };
        if let Some(kind) = kind {
            return Ok((kind, opening.into_bytes()));
        }
    }
}

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// The sandbox and a host of its secrets.
pub(super) struct Meeting {
    pub(super) name: Name,
    pub(super) port: u16,
    pub(super) shared: Arc<Shared>,
}

impl Meeting {
    /// TLS with the host, which has to prove who it is.
    async fn connect(&self, host: TcpStream, protocols: Vec<Vec<u8>>) -> io::Result<HostTls> {
        let mut config = self.shared.trust.config()?;
        config.alpn_protocols = protocols;
        let name = ServerName::try_from(self.name.as_str().to_owned()).map_err(io::Error::other)?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, host);
        timeout(PATIENCE, connecting).await?
    }

    /// TLS with the sandbox, in the host's name.
    async fn accept(&self, sandbox: Sandbox, protocol: Option<&[u8]>) -> io::Result<SandboxTls> {
        let key = self.shared.authority.certificate(&self.name).map_err(io::Error::other)?;
        let mut resolver = ResolvesServerCertUsingSni::new();
        resolver.add(self.name.as_str(), (*key).clone()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(sandbox);
        let accepted = timeout(PATIENCE, accepting).await?;
        if let Err(error) = &accepted
            && is_distrust(error)
        {
            (self.shared.report)(Refusal::Distrusted { host: self.name.to_string() });
        }
        accepted
    }

    /// Answers every request with `refusal`.
    async fn refuse(self, sandbox: Sandbox, hello: &Hello, refusal: Refusal) -> io::Result<()> {
        let protocols = hello.http().unwrap_or_default();
        let protocol = protocols.first().map(Vec::as_slice);
        let many = protocol == Some(b"h2");
        let sandbox = self.accept(sandbox, protocol).await?;
        // Nobody to be gone.
        let (_stays, gone) = oneshot::channel();
        self.run(sandbox, Upstream::Refused(refusal), many, gone).await
    }

    /// Has both talk through us by TLS, in the protocol that the host has chosen.
    async fn introduce(self, sandbox: Sandbox, host: HostTls) -> io::Result<()> {
        let protocol = host.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let many = protocol.as_deref() == Some(b"h2");
        let sandbox = self.accept(sandbox, protocol.as_deref()).await?;
        self.talk(sandbox, host, many).await
    }

    /// Has both talk through us in clear, `many` requests at once (HTTP/2) or one after the other.
    pub(super) async fn talk<S, H>(self, sandbox: S, host: H, many: bool) -> io::Result<()>
    where
        S: Stream,
        H: Stream,
    {
        let (leaves, gone) = oneshot::channel();
        let host = TokioIo::new(host);
        let upstream = if many {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.max_header_list_size(HEADER);
            let (request, whole) = window(FROM_HOST, &self.shared.places);
            builder.initial_stream_window_size(request).initial_connection_window_size(whole);
            let (sender, connection) = builder.handshake(host).await.map_err(io::Error::other)?;
            tokio::spawn(async move {
                let _ = connection.await;
                let _ = leaves.send(());
            });
            Upstream::Many(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.preserve_header_case(true).max_headers(FIELDS);
            let (sender, connection) = builder.handshake(host).await.map_err(io::Error::other)?;
            tokio::spawn(async move {
                let _ = connection.with_upgrades().await;
                let _ = leaves.send(());
            });
            Upstream::One(Mutex::new(sender))
        };
        self.run(sandbox, upstream, many, gone).await
    }

    /// Serves the sandbox's requests until it or the host has gone.
    async fn run(
        self,
        sandbox: impl Stream,
        upstream: Upstream,
        many: bool,
        gone: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let Self { name, port, shared } = self;
        let (rules, report) = (Arc::clone(&shared.rules), Arc::clone(&shared.report));
        let exchange = Arc::new(Exchange { rules, host: name, port, upstream, report });
        let service = service_fn(move |request: Request<Incoming>| Arc::clone(&exchange).answer(request));
        let sandbox = TokioIo::new(sandbox);
        if many {
            let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(STREAMS).max_header_list_size(HEADER);
            let (request, whole) = window(FROM_SANDBOX, &shared.places);
            builder.initial_stream_window_size(request).initial_connection_window_size(whole);
            let mut connection = pin!(builder.serve_connection(sandbox, service));
            tokio::select! {
                // An answer that has come is given before its connection is seen to be gone.
                biased;
                ended = connection.as_mut() => return ended.map_err(io::Error::other),
                _ = gone => connection.as_mut().graceful_shutdown(),
            }
            connection.await.map_err(io::Error::other)
        } else {
            let mut builder = server::conn::http1::Builder::new();
            builder.preserve_header_case(true).max_headers(FIELDS).max_buf_size(4 * HEADER as usize);
            let mut connection = pin!(builder.serve_connection(sandbox, service).with_upgrades());
            tokio::select! {
                // An answer that has come is given before its connection is seen to be gone.
                biased;
                ended = connection.as_mut() => return ended.map_err(io::Error::other),
                _ = gone => connection.as_mut().graceful_shutdown(),
            }
            connection.await.map_err(io::Error::other)
        }
    }
}

/// Whether the sandbox's program says that it does not trust our certificate.
fn is_distrust(error: &io::Error) -> bool {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        reason,
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_bounded_over_all_connections() {
        let places = Semaphore::new(CONNECTIONS);
        let mut held = 0;
        while let Ok(place) = places.try_acquire() {
            place.forget();
            for wide in [FROM_SANDBOX, FROM_HOST] {
                held += u64::from(window(wide, &places).1);
            }
        }
        assert!((256 << 20..=512 << 20).contains(&held), "{} MiB", held >> 20);
    }
}
