//! Where others ask about a running sandbox.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};

use super::super::control::{Answer, Live, MainProcess};
use super::super::database::{Database, Ended, State, Subject};
use super::super::running::Running;
use super::super::{Error, boot::Streams};
use super::serve::Serving;
use crate::agent::{Audience, Connection, Control, ExecSpec, Outcome, Process, Ready};
use crate::paths::Paths;
use crate::vm::HypervisorKind;

/// How long after the grace period a machine may take to write its disk before it is killed.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(35);

/// What is known of one sandbox while it runs, and what can be done with it.
#[derive(Debug)]
pub struct Desk {
    name: String,
    folder: PathBuf,
    /// Its row; `None` where the database cannot be used, which does not keep an attached run from running.
    row: Option<(i64, Mutex<Database>)>,
    machine: Mutex<Option<Machine>>,
    stopping: AtomicBool,
    stop_bell: Notify,
    /// Why it ends, where that is not its main process's doing.
    reason: Mutex<Option<String>>,
    is_up: watch::Sender<bool>,
    ended: watch::Sender<Option<Ended>>,
    clients: AtomicUsize,
    client_bell: Notify,
}

/// The machine of this moment.
#[derive(Debug, Clone)]
struct Machine {
    connection: Arc<Connection>,
    ready: Ready,
    process: Arc<OwnedFd>,
    live: Live,
    main: Option<Main>,
}

/// The main process, where others may watch it.
#[derive(Debug, Clone)]
pub(super) struct Main {
    pub(super) control: Control,
    pub(super) audience: Option<Arc<Audience>>,
    pub(super) input: Option<mpsc::Sender<Bytes>>,
}

/// Counts a client for as long as it is there.
#[derive(Debug)]
pub(super) struct Visit(Arc<Desk>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
        self.0.client_bell.notify_one();
    }
}

/// The desk of an attached run, open until this is dropped.
#[derive(Debug)]
pub struct OnDuty {
    desk: Arc<Desk>,
    serving: Option<Serving>,
}

impl OnDuty {
    /// Opens the desk for a run whose streams belong to the caller: others can start processes in it and stop it.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(&mut self, paths: &Paths, running: &Running, streams: Streams) -> Result<(), Error> {
        let main = running.main_control().map(|control| Main { control, audience: None, input: None });
        self.desk.up(running, streams, main)?;
        self.serving = Some(Serving::start(paths, Arc::clone(&self.desk))?);
        Ok(())
    }

    /// Notes that the run begins, and what is wrong with the database, if anything.
    #[must_use]
    pub fn begin(paths: &Paths, subject: Subject<'_>) -> (Self, Option<Error>) {
        let (desk, problem) = Desk::new(paths, subject);
        desk.starting();
        (Self { desk: Arc::new(desk), serving: None }, problem)
    }

    /// Notes how the run ended.
    pub fn ended(self, how: Ended) {
        self.desk.down();
        self.desk.over(how);
    }
}

impl Desk {
    /// The desk of a sandbox, and what is wrong with the database, if anything.
    pub(super) fn new(paths: &Paths, subject: Subject<'_>) -> (Self, Option<Error>) {
        let row = Database::open(paths).and_then(|database| {
            let record = database.put(subject)?;
            Ok((record.id, Mutex::new(database)))
        });
        let (row, problem) = match row {
            Ok(row) => (Some(row), None),
            Err(error) => (None, Some(error)),
        };
        let desk = Self {
            name: subject.definition.name.clone(),
            folder: subject.folder.to_owned(),
            row,
            machine: Mutex::new(None),
            stopping: AtomicBool::new(false),
            stop_bell: Notify::new(),
            reason: Mutex::new(None),
            is_up: watch::Sender::new(false),
            ended: watch::Sender::new(None),
            clients: AtomicUsize::new(0),
            client_bell: Notify::new(),
        };
        (desk, problem)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The database is a memory: what cannot be remembered is no reason to end a sandbox.
    fn remember(&self, act: impl FnOnce(i64, &Database) -> Result<(), Error>) {
        if let Some((id, database)) = &self.row {
            let _ = act(*id, &database.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(super) fn note(&self, event: &str, details: serde_json::Value) {
        self.remember(|_, database| database.note(&self.name, &self.folder, event, details));
    }

    pub(super) fn starting(&self) {
        self.remember(|id, database| database.starting(id, std::process::id()));
    }

    pub(super) fn restarting(&self) {
        self.remember(|id, database| database.restarted(id));
        self.note("restart", json!({}));
    }

    /// Forgets the sandbox, for one that is removed when it ends.
    pub(super) fn forget(&self) {
        self.remember(|id, database| database.remove(id));
        self.note("remove", json!({}));
    }

    /// The machine is up.
    pub(super) fn up(&self, running: &Running, streams: Streams, main: Option<Main>) -> Result<(), Error> {
        let facts = running.facts();
        let failed = |source| Error::System { action: "keep track of the machine", source };
        let (vmm_pid, process) = running.machine().map_err(failed)?;
        let live = Live {
            state: State::Running,
            pid: std::process::id(),
            vmm_pid: Some(vmm_pid),
            hypervisor: hypervisor_name(facts.kind).to_owned(),
            memory_mib: facts.memory_mib,
            cpus: facts.cpus,
            started: Timestamp::now(),
            main: main.as_ref().map(|main| MainProcess {
                tty: streams.terminal.is_some(),
                interactive: main.input.is_some(),
                shared: main.audience.is_some(),
            }),
            user: facts.user.clone(),
            workdir: facts.workdir.clone(),
            shell: facts.shell.clone(),
        };
        let connection = Arc::clone(running.connection());
        let ready = running.ready_report();
        let machine = Machine { connection, ready, process: Arc::new(process), live, main };
        *self.machine() = Some(machine);
        self.is_up.send_replace(true);
        self.remember(|id, database| database.set_state(id, State::Running));
        self.note("start", json!({ "hypervisor": hypervisor_name(facts.kind) }));
        Ok(())
    }

    /// The machine is about to go: nothing new is begun.
    pub(super) fn down(&self) {
        self.machine().take();
    }

    /// A run has ended; another one may follow.
    pub(super) fn died(&self, how: &Ended) {
        self.remember(|id, database| database.ended(id, how));
        self.note("die", json!({ "exitCode": how.exit_code, "message": how.message }));
    }

    /// The last run has ended.
    pub(super) fn over(&self, how: Ended) {
        self.died(&how);
        self.ended.send_replace(Some(how));
    }

    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Result<Machine, Answer> {
        match &*self.machine() {
            Some(machine) => Ok(machine.clone()),
            None => Err(Answer::Refused("is between two starts".into())),
        }
    }

    /// The machine, if it does not stand still.
    fn awake(&self) -> Result<Machine, Answer> {
        let machine = self.current()?;
        match machine.live.state {
            State::Paused => Err(Answer::Refused("is paused; let it go on with `msb unpause`".into())),
            _ => Ok(machine),
        }
    }

    /// Whether somebody has asked the sandbox to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn set_reason(&self, reason: &str) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_owned());
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until somebody asks it to.
    pub(super) async fn asked_to_stop(&self) {
        while !self.is_stopping() {
            self.stop_bell.notified().await;
        }
    }

    /// Waits until its machine is up for the first time.
    pub(super) async fn up_once(&self) {
        // It fails when the desk is gone, and then nobody waits.
        let _ = self.is_up.subscribe().wait_for(|up| *up).await;
    }

    /// Waits until nobody has been here for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let came = self.client_bell.notified();
            if self.clients.load(Ordering::Acquire) > 0 {
                came.await;
            } else if tokio::time::timeout(limit, came).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn visit(self: &Arc<Self>) -> Visit {
        self.clients.fetch_add(1, Ordering::AcqRel);
        self.client_bell.notify_one();
        Visit(Arc::clone(self))
    }

    pub(super) fn status(&self) -> Answer {
        match self.current() {
            Ok(machine) => Answer::Status(Box::new(machine.live)),
            Err(refused) => refused,
        }
    }

    /// The connection to lend to a client.
    pub(super) fn guest(&self) -> Result<(Arc<Connection>, Ready), Answer> {
        self.awake().map(|machine| (machine.connection, machine.ready))
    }

    /// The main process, for one who wants to watch it.
    pub(super) fn main_process(&self) -> Result<(Main, Arc<Audience>, Ready), Answer> {
        let machine = self.awake()?;
        let main = machine.main.ok_or_else(|| Answer::Refused("has no main process to attach to".into()))?;
        let audience = main.audience.clone().ok_or_else(|| {
            Answer::Refused(
                "belongs to the terminal it was started from; run something in it with `msb exec`".into(),
            )
        })?;
        Ok((main, audience, machine.ready))
    }

    /// Asks the sandbox to stop and waits until it has. After `grace` its processes are killed, and some time later its machine.
    pub(super) async fn stop(&self, grace: Duration) -> Answer {
        self.stopping.store(true, Ordering::Release);
        self.stop_bell.notify_waiters();
        self.stop_bell.notify_one();
        self.note("stop", json!({ "graceMs": u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }));
        if let Ok(machine) = self.current() {
            self.signal_machine(&machine, Signal::SIGCONT);
            // One whose connection has ended is on its way already.
            let _ = machine.connection.ask_to_stop(grace);
        }
        let ended = self.wait();
        tokio::pin!(ended);
        match tokio::time::timeout(grace + POWER_OFF_LIMIT, &mut ended).await {
            Ok(answer) => answer,
            Err(_) => {
                if let Ok(machine) = self.current() {
                    self.signal_machine(&machine, Signal::SIGKILL);
                }
                ended.await
            }
        }
    }

    /// Waits for the end.
    pub(super) async fn wait(&self) -> Answer {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => Answer::Ended(how.clone().unwrap_or_default()),
            Err(_) => Answer::Refused("has ended".into()),
        }
    }

    /// Sends a signal to the main process.
    pub(super) fn kill(&self, signal: i32) -> Answer {
        let machine = match self.current() {
            Ok(machine) => machine,
            Err(refused) => return refused,
        };
        self.note("kill", json!({ "signal": signal }));
        if signal == libc::SIGKILL {
            // Nobody who kills wants it to come back.
            self.stopping.store(true, Ordering::Release);
        }
        match &machine.main {
            Some(main) if machine.live.state != State::Paused => match main.control.signal(signal) {
                Ok(()) => Answer::Done,
                Err(error) => Answer::Refused(format!("cannot be signalled: {error}")),
            },
            _ if signal == libc::SIGKILL => {
                self.signal_machine(&machine, Signal::SIGKILL);
                Answer::Done
            }
            Some(_) => Answer::Refused("is paused; let it go on with `msb unpause`".into()),
            None => Answer::Refused("has no main process that could take a signal".into()),
        }
    }

    /// Makes the machine stand still, or go on.
    pub(super) fn pause(&self, still: bool) -> Answer {
        let machine = match self.current() {
            Ok(machine) => machine,
            Err(refused) => return refused,
        };
        let (from, to, signal, event) = if still {
            (State::Running, State::Paused, Signal::SIGSTOP, "pause")
        } else {
            (State::Paused, State::Running, Signal::SIGCONT, "unpause")
        };
        if machine.live.state != from {
            return Answer::Refused(if still { "is paused already" } else { "is not paused" }.into());
        }
        if !self.signal_machine(&machine, signal) {
            return Answer::Refused("has just ended".into());
        }
        if let Some(machine) = &mut *self.machine() {
            machine.live.state = to;
        }
        if !still {
            self.set_clock();
        }
        self.remember(|id, database| database.set_state(id, to));
        self.note(event, json!({}));
        Answer::Done
    }

    /// Tells the guest what time it is, which it does not know after a pause of its own or of the whole host.
    pub(super) fn set_clock(&self) {
        if let Ok(machine) = self.awake() {
            // A guest that is gone needs no clock.
            let _ = machine.connection.set_clock(std::time::SystemTime::now());
        }
    }

    fn signal_machine(&self, machine: &Machine, signal: Signal) -> bool {
        use std::os::fd::AsRawFd as _;
        // SAFETY: takes plain numbers and no information; the descriptor is open.
        let sent = unsafe {
            let none = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, machine.process.as_raw_fd(), signal as i32, none, 0)
        };
        sent == 0
    }

    /// Starts a process that nobody watches. What it writes goes nowhere.
    pub(super) async fn exec(&self, spec: ExecSpec) -> Answer {
        let started = async {
            let (connection, _) = self.guest()?;
            let refused = |error: crate::agent::Error| Answer::Refused(format!("cannot start it: {error}"));
            let spec = ExecSpec { null_stdin: true, tty: None, ..spec };
            let process = connection.exec(&spec).map_err(refused)?;
            let started = process.control.started().await.map_err(refused)?;
            Ok((process, started))
        };
        match started.await {
            Ok((process, Ok(started))) => {
                self.note("exec", json!({ "pid": started.pid }));
                tokio::spawn(discard(process));
                Answer::Started(started.pid)
            }
            Ok((_, Err(outcome))) => {
                let code = outcome.exit_code();
                let message = match outcome {
                    Outcome::Failed(failed) => failed.message,
                    Outcome::Exited(_) => "it ended at once".into(),
                };
                Answer::NotStarted { code, message }
            }
            Err(refused) => refused,
        }
    }
}

/// Keeps a process that nobody watches.
async fn discard(process: Process) {
    let Process { stdin, mut stdout, mut stderr, control } = process;
    let out = async { while let Ok(Some(_)) = stdout.read().await {} };
    let err = async { while let Ok(Some(_)) = stderr.read().await {} };
    tokio::join!(out, err);
    // How it ended, nobody asked.
    let _ = control.wait().await;
    drop(stdin);
}

fn hypervisor_name(kind: HypervisorKind) -> &'static str {
    match kind {
        HypervisorKind::Krun => "krun",
        HypervisorKind::QemuKvm => "qemu (kvm)",
        HypervisorKind::QemuTcg => "qemu (tcg)",
    }
}
