//! The socket of a running sandbox.

use std::io;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::super::control::{
    Answer, Hello, LIMIT, Question, VERSION, encode, short_path, socket_path, socket_prefix,
};
use super::super::error::Error;
use super::desk::Desk;
use crate::paths::{self, Paths};

/// How long a client may take to ask.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// The open socket; closed and removed when dropped.
#[derive(Debug)]
pub(super) struct Serving {
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl Serving {
    /// Opens the socket of the sandbox at `desk`, whose lock the caller holds. Must be called inside a tokio runtime.
    pub(super) fn start(paths: &Paths, desk: Arc<Desk>) -> Result<Self, Error> {
        let path = socket_path(paths, desk.folder(), std::process::id());
        let failed = |source| Error::State { path: path.clone(), source };
        paths::create_private(&paths.runtime).map_err(failed)?;
        remove_stale(paths, &socket_prefix(desk.folder()));
        let listener = short_path(&path, |path| StdUnixListener::bind(path)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((socket, _)) => {
                        tokio::spawn(converse(Arc::clone(&desk), socket));
                    }
                    // Out of descriptors: those who hold them will let go.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { path, accepting })
    }
}

/// Removes the sockets of earlier supervisors of the sandbox: they are gone, or have let go of its lock and answer nothing new.
/// What cannot be removed is in nobody's way.
fn remove_stale(paths: &Paths, prefix: &str) {
    let entries = std::fs::read_dir(&paths.runtime).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes())) {
        let _ = std::fs::remove_file(entry.path());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
        // Nobody answers there any more, whether the name goes or not.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One client, whose mistakes are its own business.
async fn converse(desk: Arc<Desk>, mut socket: UnixStream) {
    // The folder is private already; this holds where it has been opened up by mistake.
    let ours =
        socket.peer_cred().is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw() || peer.uid() == 0);
    if !ours {
        return;
    }
    let Ok(Ok(hello)) = tokio::time::timeout(QUESTION_LIMIT, read_hello(&mut socket)).await else { return };
    if hello.version != VERSION {
        let other = format!("is supervised by another version of msb ({})", env!("CARGO_PKG_VERSION"));
        return reply(&mut socket, &Answer::Refused(other)).await;
    }
    let answer = match hello.question {
        // Only those who do something in a sandbox use it, not those who look at it or wait for its end.
        Question::Agent { attach } => match join(&desk, socket, attach).await {
            Ok(()) => return,
            Err((returned, answer)) => {
                socket = returned;
                answer
            }
        },
        Question::Status => desk.status(),
        Question::Fate => desk.fate().await,
        Question::Stop { grace_ms } => desk.stop(Duration::from_millis(grace_ms.into())).await,
        Question::Kill { signal } => desk.kill(signal),
        Question::Pause => desk.pause(true),
        Question::Unpause => desk.pause(false),
        Question::Network => desk.network(),
        Question::SetRules { scope, rules, instead_of } => desk.set_rules(scope, rules, instead_of),
        Question::Exec(spec) => desk.exec(*spec).await,
        Question::Health => tokio::select! {
            answer = desk.health() => answer,
            _ = socket.read_u8() => return,
        },
        Question::Wait => tokio::select! {
            answer = desk.wait() => answer,
            // Whoever hangs up is not waited with.
            _ = socket.read_u8() => return,
        },
    };
    reply(&mut socket, &answer).await;
}

/// Turns the connection into the agent protocol and serves it to its end.
async fn join(desk: &Arc<Desk>, mut socket: UnixStream, attach: bool) -> Result<(), (UnixStream, Answer)> {
    let _visit = desk.visit();
    // What a client does wrong ends its connection, and that is all it is told.
    if attach {
        let (main, audience, ready) = match desk.main_process() {
            Ok(main) => main,
            Err(answer) => return Err((socket, answer)),
        };
        let started = match main.control.started().await {
            Ok(Ok(started)) => started,
            _ => return Err((socket, Answer::Refused("has just ended".into()))),
        };
        reply(&mut socket, &Answer::Agent(ready)).await;
        if let Ok(socket) = into_std(socket) {
            let _ = audience.admit(socket, (started, main.control), main.input).await;
        }
    } else {
        let (connection, ready) = match desk.guest() {
            Ok(guest) => guest,
            Err(answer) => return Err((socket, answer)),
        };
        reply(&mut socket, &Answer::Agent(ready)).await;
        if let Ok(socket) = into_std(socket) {
            let _ = connection.lend(socket).await;
        }
    }
    Ok(())
}

fn into_std(socket: UnixStream) -> io::Result<StdUnixStream> {
    socket.into_std()
}

/// A client that has left is no longer interested.
async fn reply(socket: &mut UnixStream, answer: &Answer) {
    if let Ok(bytes) = encode(answer) {
        let _ = socket.write_all(&bytes).await;
    }
}

async fn read_hello(socket: &mut UnixStream) -> io::Result<Hello> {
    let length = socket.read_u32_le().await? as usize;
    if length > LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    socket.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}
