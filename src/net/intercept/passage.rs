//! Connections that pass as they are: those of other hosts and protocols, and those without encryption until a placeholder goes by.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Shared;
use super::refusal::Refusal;
use super::search::Watcher;

/// Bytes of each direction on their way.
pub(super) const BUFFER: usize = 32 << 10;
/// How long the sandbox may take to read an answer while it still sends.
const LINGER: Duration = Duration::from_secs(2);
/// How long a host that has said all it has to say may take to hear the rest of what the sandbox says.
const LAST_WORDS: Duration = Duration::from_secs(15 * 60);

/// The next bytes from this socket, or half of one; empty at its end. Memory is taken only when they are there: most connections are
/// quiet most of the time.
macro_rules! piece_of {
    ($socket:expr) => {
        async {
            loop {
                $socket.readable().await?;
                let mut piece = Vec::with_capacity(super::passage::BUFFER);
                match $socket.try_read_buf(&mut piece) {
                    Ok(_) => return Ok::<_, std::io::Error>(piece),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    };
}
pub(super) use piece_of;

/// A connection that passes.
pub(super) struct Passage {
    /// The sandbox's side.
    pub(super) sandbox: UnixStream,
    /// The host's.
    pub(super) host: TcpStream,
    /// Who it is, where no placeholder may go there.
    pub(super) whom: Option<String>,
}

impl Passage {
    /// Passes everything on, of which the sandbox has sent `begun` already.
    pub(super) async fn serve(mut self, begun: Vec<u8>, shared: &Arc<Shared>) -> io::Result<()> {
        let answered = AtomicBool::new(false);
        match self.pass(begun, shared, &answered).await {
            Ok(()) => Ok(()),
            Err(Stop::Lost(error)) => {
                // What has broken off is not to look like an orderly end.
                let now = libc::linger { l_onoff: 1, l_linger: 0 };
                let _ = setsockopt(&self.host, sockopt::Linger, &now);
                Err(error)
            }
            Err(Stop::Found(secret)) => {
                let Self { mut sandbox, host, whom } = self;
                drop(host);
                let secret = shared.rules.secrets.get(secret);
                let secret = secret.map_or_else(String::new, |held| held.secret.name.clone());
                let refusal = Refusal::Plain { secret, host: whom.unwrap_or_default() };
                (shared.report)(refusal.clone());
                if answered.load(Ordering::Relaxed) {
                    return Ok(());
                }
                sandbox.write_all(answer(&refusal).as_bytes()).await?;
                linger(sandbox).await
            }
        }
    }

    /// The same, and says why it stopped; `answered` is whether the sandbox has heard something by then.
    async fn pass(
        &mut self,
        begun: Vec<u8>,
        shared: &Arc<Shared>,
        answered: &AtomicBool,
    ) -> Result<(), Stop> {
        let lost = Lost::of(&self.sandbox)?;
        let is_watched = self.whom.is_some();
        let (from_sandbox, mut to_sandbox) = self.sandbox.split();
        let (from_host, mut to_host) = self.host.split();
        let forth = async {
            let mut watcher = Watcher::default();
            let mut piece = begun;
            loop {
                if is_watched && let Some(secret) = watcher.watch(&shared.rules.disguised, &piece) {
                    return Err(Stop::Found(secret));
                }
                to_host.write_all(&piece).await?;
                // While nothing comes nothing is kept.
                drop(piece);
                piece = piece_of!(from_sandbox).await?;
                if piece.is_empty() {
                    return Ok(to_host.shutdown().await?);
                }
            }
        };
        let back = async {
            loop {
                let piece = tokio::select! {
                    piece = piece_of!(from_host) => piece?,
                    lost = lost.wait() => return Err(lost.into()),
                };
                if piece.is_empty() {
                    return Ok(to_sandbox.shutdown().await?);
                }
                answered.store(true, Ordering::Relaxed);
                to_sandbox.write_all(&piece).await?;
            }
        };
        tokio::pin!(forth, back);
        tokio::select! {
            end = &mut forth => match end {
                Ok(()) => back.await,
                stop => stop,
            },
            end = &mut back => match end {
                Ok(()) => timeout(LAST_WORDS, forth).await.map_err(io::Error::from)?,
                stop => stop,
            },
        }
    }
}

/// Why it does not go on.
enum Stop {
    Lost(io::Error),
    Found(usize),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Tells when the sandbox has broken the connection off. Whoever only reads the other side would not hear of it before that says
/// something, and hold both until then.
struct Lost(AsyncFd<OwnedFd>);

impl Lost {
    fn of(sandbox: &UnixStream) -> io::Result<Self> {
        // A second name of the socket, on which nothing is awaited but its end: bytes that come wake nobody.
        let socket = sandbox.as_fd().try_clone_to_owned()?;
        // SAFETY: an owned descriptor stays open, and the same, for as long as it is owned.
        let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::PRIORITY) };
        Ok(Self(watched.map_err(|error| error.into_parts().1)?))
    }

    /// Waits for it, as long as nobody here has ended the way to the sandbox: then the end of the way back would look the same.
    async fn wait(&self) -> io::Error {
        match self.0.ready(Interest::PRIORITY).await {
            Ok(_) => io::ErrorKind::ConnectionReset.into(),
            Err(error) => error,
        }
    }
}

/// As an answer of HTTP/1.1, which most of what is not encrypted is.
fn answer(refusal: &Refusal) -> String {
    let (status, text) = (refusal.status(), refusal.text());
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Lets the sandbox finish what it is saying: a connection that is closed with something unread on it is lost with its answer.
async fn linger(mut sandbox: UnixStream) -> io::Result<()> {
    sandbox.shutdown().await?;
    let mut sink = tokio::io::sink();
    let mut rest = sandbox.take(16 << 20);
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut sink)).await;
    Ok(())
}
