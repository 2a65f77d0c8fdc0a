//! Connections that are not encrypted: passed on as they are, until a placeholder goes by.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::Shared;
use super::refusal::Refusal;
use super::search::Watcher;

const BUFFER: usize = 64 << 10;
/// How long the sandbox may take to read an answer while it still sends.
const LINGER: Duration = Duration::from_secs(2);

/// Passes everything on between the sandbox, which has sent `begun` already, and `whom`.
pub(super) async fn pass(
    mut sandbox: UnixStream,
    mut host: TcpStream,
    (begun, whom): (Vec<u8>, String),
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let answered = AtomicBool::new(false);
    let stopped = {
        let (mut from_sandbox, mut to_sandbox) = sandbox.split();
        let (mut from_host, mut to_host) = host.split();
        let forth = async {
            let mut watcher = Watcher::default();
            let mut piece = begun;
            loop {
                if let Some(secret) = watcher.watch(&shared.rules.disguised, &piece) {
                    return Err(Stop::Found(secret));
                }
                to_host.write_all(&piece).await?;
                piece.resize(BUFFER, 0);
                let read = from_sandbox.read(&mut piece).await?;
                if read == 0 {
                    return Ok(to_host.shutdown().await?);
                }
                piece.truncate(read);
            }
        };
        let back = async {
            let mut piece = vec![0; BUFFER];
            loop {
                let read = from_host.read(&mut piece).await?;
                if read == 0 {
                    return Ok(to_sandbox.shutdown().await?);
                }
                answered.store(true, Ordering::Relaxed);
                to_sandbox.write_all(&piece[..read]).await?;
            }
        };
        tokio::try_join!(forth, back)
    };
    match stopped {
        Ok(_) => Ok(()),
        Err(Stop::Lost(error)) => Err(error),
        Err(Stop::Found(secret)) => {
            drop(host);
            let secret =
                shared.rules.secrets.get(secret).map_or_else(String::new, |held| held.secret.name.clone());
            let refusal = Refusal::Plain { secret, host: whom };
            (shared.report)(refusal.clone());
            if answered.load(Ordering::Relaxed) {
                return Ok(());
            }
            sandbox.write_all(answer(&refusal).as_bytes()).await?;
            linger(sandbox).await
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
