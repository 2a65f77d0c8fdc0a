//! Both ends of an interception: a server with a certificate, and clients on the sandbox's side.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, header, server, upgrade};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::*;
use crate::net::secret::Secret;

pub(super) const HOST: &str = "api.example.com";
pub(super) const SECRET: &str = "KEY@api.example.com";
pub(super) const VALUE: &str = "the value of the secret";

type Error = Box<dyn std::error::Error + Send + Sync>;
type Content = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Said = (StatusCode, HeaderMap, String);

/// Content in pieces.
pub(super) mod futures_body {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::{Body, Frame};

    pub(in super::super) struct Pieces(VecDeque<Bytes>, bool);

    impl Pieces {
        pub(in super::super) fn of(text: &[u8], size: usize) -> Self {
            Self(text.chunks(size).map(Bytes::copy_from_slice).collect(), false)
        }

        pub(in super::super) fn endless() -> Self {
            Self(VecDeque::new(), true)
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let more = if self.1 { Some(Bytes::from_static(&[b'x'; 4096])) } else { self.0.pop_front() };
            Poll::Ready(more.map(|piece| Ok(Frame::data(piece))))
        }
    }
}

/// What the server got.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) target: String,
    pub(super) authorization: String,
    pub(super) length: Option<u64>,
    pub(super) content: String,
    pub(super) host: String,
}

/// An interception with both its ends.
pub(super) struct Ends {
    interceptor: Option<Interceptor>,
    secrets: Secrets,
    /// The sandbox's and the server's own authority.
    sandbox_roots: RootCertStore,
    host_roots: RootCertStore,
    address: SocketAddr,
    names: Vec<Name>,
    seen: Arc<Mutex<Vec<Seen>>>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    roots
}

/// A server's configuration for [`HOST`], and who vouches for it.
fn certified(protocols: &[&str]) -> (ServerConfig, RootCertStore) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (config, roots(&authority.pem()))
}

impl Ends {
    pub(super) async fn new(secrets: &[&str], protocols: &[&str]) -> Self {
        let (config, host_roots) = certified(protocols);
        Self::with(secrets, config, host_roots.clone(), host_roots).await
    }

    /// The server's authority is not among those that are trusted.
    pub(super) async fn unverified(secrets: &[&str]) -> Self {
        let (config, host_roots) = certified(&["h2"]);
        Self::with(secrets, config, host_roots, certified(&[]).1).await
    }

    async fn with(
        written: &[&str],
        config: ServerConfig,
        host_roots: RootCertStore,
        trusted: RootCertStore,
    ) -> Self {
        let written: Vec<Secret> = written.iter().map(|text| text.parse().unwrap()).collect();
        let pairs: Vec<(&Secret, &str)> = written.iter().map(|secret| (secret, VALUE)).collect();
        let secrets = Secrets::of(&pairs);
        let authority = Authority::new(secrets.iter().flat_map(|held| &held.secret.hosts)).unwrap();
        let sandbox_roots = roots(authority.pem());
        let refusals = Arc::<Mutex<Vec<Refusal>>>::default();
        let told = Arc::clone(&refusals);
        let interceptor = Interceptor::start(
            Interception { secrets: secrets.clone(), authority, trust: Trust::in_these(trusted) },
            Arc::new(move |refusal| told.lock().unwrap().push(refusal)),
        )
        .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Seen>>>::default());
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&seen)));
        let names = vec![HOST.parse().unwrap()];
        let interceptor = Some(interceptor);
        Self { interceptor, secrets, sandbox_roots, host_roots, address, names, seen, refusals }
    }

    /// The same, where DNS has given these names for the server's address.
    pub(super) fn with_names(self, names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| name.parse().unwrap()).collect(), ..self }
    }

    pub(super) fn placeholder(&self, index: usize) -> String {
        self.secrets.get(index).unwrap().placeholder.clone()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        self.refusals.lock().unwrap().clone()
    }

    /// Waits for a refusal that nobody is answered with.
    pub(super) async fn refused_at_last(&self, is: impl Fn(&Refusal) -> bool) {
        while !self.refusals().iter().any(&is) {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn end(mut self) {
        self.interceptor = None;
    }

    /// The sandbox's end of a connection to the server.
    async fn connect(&self, address: SocketAddr) -> UnixStream {
        let host = TcpStream::connect(address).await.unwrap().into_std().unwrap();
        let interceptor = self.interceptor.as_ref().unwrap();
        let joined =
            interceptor.take(OwnedFd::from(host), (address.ip(), 443).into(), self.names.clone()).unwrap();
        UnixStream::from_std(StdUnixStream::from(joined)).unwrap()
    }

    /// A client that trusts the sandbox's authority.
    pub(super) async fn client(&self, name: &str, protocols: &[&str]) -> Result<Client, Error> {
        self.client_with(name, protocols, &self.sandbox_roots).await
    }

    /// A client that trusts the server's own authority.
    pub(super) async fn client_of_host(&self, name: &str, protocols: &[&str]) -> Result<Client, Error> {
        self.client_with(name, protocols, &self.host_roots).await
    }

    async fn client_with(
        &self,
        name: &str,
        protocols: &[&str],
        roots: &RootCertStore,
    ) -> Result<Client, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned())?;
        let stream = self.connect(self.address).await;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Client::new(tls).await
    }

    /// A connection without TLS, with both its ends.
    pub(super) async fn plain(&self) -> (UnixStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = self.connect(listener.local_addr().unwrap()).await;
        (client, listener.accept().await.unwrap().0)
    }
}

/// A client of HTTP.
pub(super) struct Client {
    protocol: String,
    sender: Sender,
}

enum Sender {
    One(http1::SendRequest<Content>),
    Many(http2::SendRequest<Content>),
}

impl Client {
    async fn new(tls: TlsStream<UnixStream>) -> Result<Self, Error> {
        let protocol =
            tls.get_ref().1.alpn_protocol().map_or("none", |name| std::str::from_utf8(name).unwrap());
        let protocol = protocol.to_owned();
        let sender = if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
            tokio::spawn(connection);
            Sender::Many(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
            tokio::spawn(connection.with_upgrades());
            Sender::One(sender)
        };
        Ok(Self { protocol, sender })
    }

    pub(super) fn protocol(&self) -> &str {
        &self.protocol
    }

    /// A client of the same connection.
    pub(super) fn another(&self) -> Self {
        let Sender::Many(sender) = &self.sender else { panic!("one at a time") };
        Self { protocol: self.protocol.clone(), sender: Sender::Many(sender.clone()) }
    }

    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Said, Error> {
        self.ask_with(request.map(|content| content.boxed_unsync())).await
    }

    pub(super) async fn ask_with(&mut self, mut request: Request<Content>) -> Result<Said, Error> {
        if let (Sender::One(_), Some(authority)) = (&self.sender, request.uri().authority().cloned()) {
            request.headers_mut().insert(header::HOST, authority.as_str().parse()?);
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
            *request.uri_mut() = target.parse::<Uri>()?;
        }
        let answer = self.send(request).await?;
        let (mut parts, content) = answer.into_parts();
        let content = content.collect().await?;
        parts.headers.extend(content.trailers().cloned().unwrap_or_default());
        if let Some(reason) = parts.extensions.get::<ReasonPhrase>() {
            parts.headers.insert("x-reason", header::HeaderValue::from_bytes(reason.as_bytes())?);
        }
        Ok((parts.status, parts.headers, String::from_utf8(content.to_bytes().into())?))
    }

    /// The request without putting it right.
    pub(super) async fn ask_as_is(&mut self, request: Request<Full<Bytes>>) -> Result<Said, Error> {
        let (parts, content) = self.send(request.map(|content| content.boxed_unsync())).await?.into_parts();
        Ok((parts.status, parts.headers, String::from_utf8(content.collect().await?.to_bytes().into())?))
    }

    /// Agrees on another protocol.
    pub(super) async fn upgrade(&mut self, request: Request<Full<Bytes>>) -> TokioIo<upgrade::Upgraded> {
        let mut request = request.map(|content| content.boxed_unsync());
        request.headers_mut().insert(header::HOST, HOST.parse().unwrap());
        *request.uri_mut() = Uri::from_static("/upgrade");
        let answer = self.send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        TokioIo::new(upgrade::on(answer).await.unwrap())
    }

    async fn send(&mut self, request: Request<Content>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => sender.send_request(request).await,
            Sender::Many(sender) => sender.send_request(request).await,
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let tls = acceptor.accept(stream).await?;
            let many = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            if many {
                let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_header_list_size(1 << 20);
                builder.serve_connection(TokioIo::new(tls), service).await?;
            } else {
                let builder = server::conn::http1::Builder::new();
                builder.serve_connection(TokioIo::new(tls), service).with_upgrades().await?;
            }
            Ok::<(), Error>(())
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Content>, Error> {
    let whole = |text: &str| Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync();
    if request.uri().path() == "/early" {
        // Taken as it comes: a server that closes with something unread loses its answer.
        tokio::spawn(async move { while let Some(Ok(_)) = request.body_mut().frame().await {} });
        return Ok(Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(whole("enough"))?);
    }
    let upgraded = upgrade::on(&mut request);
    let (parts, content) = request.into_parts();
    let authorization = parts.headers.get(header::AUTHORIZATION).cloned();
    let length = content.size_hint().exact();
    let content = String::from_utf8(content.collect().await?.to_bytes().into())?;
    let text = format!("{} bytes", content.len());
    seen.lock().unwrap().push(Seen {
        target: parts.uri.path_and_query().unwrap().to_string(),
        authorization: authorization.as_ref().map_or("", |value| value.to_str().unwrap()).to_owned(),
        length,
        content,
        host: parts.headers.get(header::HOST).map_or("", |value| value.to_str().unwrap()).to_owned(),
    });
    if parts.uri.path() == "/upgrade" {
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded.await?));
            tokio::io::copy(&mut from, &mut to).await?;
            Ok::<(), Error>(())
        });
        let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let answer = answer.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "websocket");
        return Ok(answer.body(whole(""))?);
    }
    let mut answer = Response::builder();
    if let Some(repeated) = &authorization {
        answer = answer.extension(ReasonPhrase::try_from(repeated.as_bytes())?);
    }
    let mut trailers = HeaderMap::new();
    if let Some(repeated) = authorization {
        answer = answer.header("x-repeated", &repeated);
        trailers.insert("x-repeated-last", repeated);
    }
    let content = Full::new(Bytes::from(text)).with_trailers(async { Some(Ok(trailers)) });
    Ok(answer.body(content.boxed_unsync())?)
}
