//! The host's end against the guest's real session, which runs as a thread on the other end of a socket pair.
#![allow(clippy::unwrap_used)]

mod flow;
mod hostile;
mod process;
mod relay;
mod terminal;
mod tools;

use super::*;
use msb_guest::session::{
    Children, End, Heard, Layers, Link, OomWatch, Session, SessionError, Setup, Toolbox,
};
use msb_guest::wire::{Kind, MAIN_STREAM};
use std::fs::File;
use std::future::Future;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the guest set its clock to.
static CLOCK: AtomicU64 = AtomicU64::new(0);

const LIMIT: Duration = Duration::from_secs(60);

/// A guest without a machine.
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    session: JoinHandle<Result<End, SessionError>>,
}

pub(crate) fn document(exec: Option<ExecSpec>) -> BootDocument {
    BootDocument {
        network: None,
        versions: VERSIONS,
        hostname: "test".into(),
        root: Root::default(),
        env: vec![("BASE".into(), "base".into())],
        files: Vec::new(),
        mounts: Vec::new(),
        trust: None,
        power_off_with_exec: exec.is_some(),
        exec,
        pids_limit: None,
        wall_clock_ns: None,
    }
}

/// What PID 1 does between the boot document and the power-off, less the machine.
fn serve(socket: UnixStream, layers: Option<Layers>) -> Result<End, SessionError> {
    socket.set_nonblocking(true).unwrap();
    let mut link = Link::new(socket.into());
    let boot: BootDocument = loop {
        if matches!(link.receive().unwrap(), Heard::NotConnected | Heard::Gone) {
            return Ok(End::HostGone);
        }
        if let Some(frame) = link.decoder.next_frame()? {
            assert_eq!(frame.kind, Kind::Boot);
            break serde_json::from_slice(frame.payload).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let setup = Setup {
        env: boot.env,
        children: Children::Own,
        oom: OomWatch::from_now(),
        tools: Some(Toolbox { program: File::open(env!("MSB_GUEST_PROGRAM")).unwrap().into(), layers }),
        commands: None,
        set_clock: Some(|now_ns| CLOCK.store(now_ns, Ordering::SeqCst)),
        end_with_main: boot.power_off_with_exec,
    };
    link.put_message(Kind::Ready, 0, &Ready { version: 1, timings: Timings::default() })?;
    let mut session = Session::new(link, setup);
    if let Some(spec) = &boot.exec {
        session.open(MAIN_STREAM, spec)?;
    }
    let end = session.run()?;
    if end == End::MainEnded {
        session.await_release(LIMIT)?;
    }
    Ok(end)
}

fn start(document: &BootDocument) -> Guest {
    start_over(document, None)
}

/// A guest whose root has these layers.
fn start_over(document: &BootDocument, layers: Option<Layers>) -> Guest {
    let (host, guest) = UnixStream::pair().unwrap();
    let session = std::thread::spawn(move || serve(guest, layers));
    Guest { connection: Connection::start(host, document).unwrap(), session }
}

/// A guest that waits for processes to start.
pub(crate) fn idle() -> Guest {
    start(&document(None))
}

/// Runs a test on a current-thread runtime, with a time limit.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("the test takes too long") })
}

fn argv(words: &[&str]) -> ExecSpec {
    ExecSpec { argv: words.iter().map(|w| (*w).into()).collect(), ..ExecSpec::default() }
}

fn sh(script: &str) -> ExecSpec {
    argv(&["/bin/sh", "-c", script])
}

fn status(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::Exited(exit) => exit.status,
        Outcome::Failed(failed) => panic!("{failed:?}"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Runs a command without input to its end: outcome, standard output, standard error.
async fn all_of(connection: &Connection, spec: ExecSpec) -> (Outcome, String, String) {
    let mut process = connection.exec(&spec).unwrap();
    process.stdin.eof();
    let (out, err) = tokio::join!(process.stdout.read_to_end(), process.stderr.read_to_end());
    (process.control.wait().await.unwrap(), text(out.unwrap()), text(err.unwrap()))
}

/// Reads until `wanted` was seen.
async fn read_until(output: &mut Output, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let bytes = output.read().await.unwrap();
        seen +=
            &String::from_utf8_lossy(&bytes.unwrap_or_else(|| panic!("ends before {wanted:?}: {seen:?}")));
    }
    seen
}
