//! Where others ask about a running sandbox.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use super::super::control::{Answer, HealthReport, Live, MainProcess};
use super::super::database::{Database, Ended, State, Subject};
use super::super::network::{Recorder, Sink};
use super::super::plan::Definition;
use super::super::running::Running;
use super::super::{Error, boot::Streams};
use super::health;
use crate::agent::{Audience, Connection, Control, Ready};
use crate::manifest::Healthcheck;
use crate::net::gateway::Remote;
use crate::paths::Paths;
use crate::vm::HypervisorKind;

/// What is known of one sandbox while it runs, and what can be done with it.
#[derive(Debug)]
pub struct Desk {
    name: String,
    folder: PathBuf,
    /// Its row; `None` where the database cannot be used, which does not keep an attached run from running.
    row: Option<(i64, Mutex<Database>)>,
    machine: Mutex<Option<Machine>>,
    /// How long the last machine was up.
    lived: Mutex<Duration>,
    healthcheck: Option<Healthcheck>,
    /// What it is, with what was changed while it ran.
    definition: Mutex<Definition>,
    /// Who looks after the health of the machine.
    watching: Mutex<Option<AbortHandle>>,
    /// Rung when anything about the machine has changed.
    pub(super) news: watch::Sender<()>,
    pub(super) stopping: AtomicBool,
    /// A run is over, and whether another one follows is not decided.
    ending: AtomicBool,
    pub(super) stop_bell: Notify,
    /// Why it ends, where that is not its main process's doing.
    reason: Mutex<Option<String>>,
    is_up: watch::Sender<bool>,
    ended: watch::Sender<Option<Ended>>,
    clients: AtomicUsize,
    client_bell: Notify,
    paths: Paths,
    /// Who keeps the record of the machine's network.
    recorder: Mutex<Option<Arc<Recorder>>>,
}

/// The machine of this moment.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) connection: Arc<Connection>,
    ready: Ready,
    since: Instant,
    pub(super) process: Arc<OwnedFd>,
    /// Its gateway, where it has a network.
    pub(super) network: Option<Remote>,
    pub(super) live: Live,
    pub(super) main: Option<Main>,
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
            lived: Mutex::default(),
            healthcheck: subject.definition.healthcheck.clone(),
            definition: Mutex::new(subject.definition.clone()),
            watching: Mutex::new(None),
            news: watch::Sender::new(()),
            stopping: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            stop_bell: Notify::new(),
            reason: Mutex::new(None),
            is_up: watch::Sender::new(false),
            ended: watch::Sender::new(None),
            clients: AtomicUsize::new(0),
            client_bell: Notify::new(),
            paths: paths.clone(),
            recorder: Mutex::default(),
        };
        (desk, problem)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it is, with what was changed while it ran.
    pub(super) fn definition(&self) -> MutexGuard<'_, Definition> {
        self.definition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database is a memory: what cannot be remembered is no reason to end a sandbox.
    pub(super) fn remember(&self, act: impl FnOnce(i64, &Database) -> Result<(), Error>) {
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
    pub(super) fn up(
        self: &Arc<Self>,
        running: &Running,
        streams: Streams,
        main: Option<Main>,
    ) -> Result<(), Error> {
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
            health: self.healthcheck.as_ref().map(|_| HealthReport::default()),
            ports: facts.ports.clone(),
            traffic: None,
            groups: facts.places.clone(),
        };
        let network = running.network().map(|network| {
            let (paths, name, folder) = (self.paths.clone(), self.name.clone(), self.folder.clone());
            network.recorder().write_to(Sink { paths, name, folder });
            *self.recorder.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Arc::clone(network.recorder()));
            network.remote()
        });
        let connection = Arc::clone(running.connection());
        let ready = running.ready_report();
        let watch = self.healthcheck.clone().map(|check| {
            tokio::spawn(health::watch(Arc::clone(self), Arc::clone(&connection), check, live.clone()))
        });
        *self.watching() = watch.map(|task| task.abort_handle());
        let machine = Machine {
            connection,
            ready,
            since: Instant::now(),
            process: Arc::new(process),
            network,
            live,
            main,
        };
        *self.machine() = Some(machine);
        self.ending.store(false, Ordering::Release);
        self.is_up.send_replace(true);
        self.news.send_replace(());
        self.remember(|id, database| database.set_state(id, State::Running));
        self.note("start", json!({ "hypervisor": hypervisor_name(facts.kind) }));
        Ok(())
    }

    /// The machine is about to go: nothing new is begun.
    pub(super) fn down(&self) {
        if let Some(watching) = self.watching().take() {
            watching.abort();
        }
        self.ending.store(true, Ordering::Release);
        if let Some(machine) = self.machine().take() {
            *self.lived.lock().unwrap_or_else(PoisonError::into_inner) = machine.since.elapsed();
        }
        self.news.send_replace(());
    }

    /// How long the machine was up that went down since this was asked last; nothing when none was.
    pub(super) fn take_lived(&self) -> Duration {
        std::mem::take(&mut self.lived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A run has ended, and another one follows.
    pub(super) fn rests(&self, how: &Ended) {
        self.died(how);
        self.ending.store(false, Ordering::Release);
        self.news.send_replace(());
    }

    fn died(&self, how: &Ended) {
        // Its network has gone with it, and has told all it had to.
        if let Some(recorder) = self.recorder.lock().unwrap_or_else(PoisonError::into_inner).take() {
            recorder.close();
        }
        self.remember(|id, database| database.ended(id, how));
        self.note("die", how.details());
    }

    /// The last run has ended.
    pub(super) fn over(&self, how: Ended) {
        self.died(&how);
        self.ended.send_replace(Some(how));
        self.news.send_replace(());
    }

    /// How it ended for good, if it has.
    pub(super) fn has_ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// To hear of whatever changes about the machine.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The machine of this moment, as it is told to those who ask.
    pub(super) fn live(&self) -> Option<Live> {
        self.machine().as_ref().map(|machine| machine.live.clone())
    }

    /// Notes what the health check has found.
    pub(super) fn set_health(&self, report: &HealthReport) {
        let old = match &mut *self.machine() {
            Some(machine) => machine.live.health.replace(report.clone()),
            None => return,
        };
        if old.is_none_or(|old| old.status != report.status) {
            self.note("health", json!({ "status": report.status, "output": report.output }));
            self.news.send_replace(());
        }
    }

    fn watching(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn current(&self) -> Result<Machine, Answer> {
        match &*self.machine() {
            Some(machine) => Ok(machine.clone()),
            None => Err(Answer::Refused(
                "is between two starts; `msb events` shows how the last one ended".into(),
            )),
        }
    }

    /// The machine, if it does not stand still.
    pub(super) fn awake(&self) -> Result<Machine, Answer> {
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
            Ok(machine) => {
                let traffic = machine.network.as_ref().map(Remote::traffic);
                Answer::Status(Box::new(Live { traffic, ..machine.live }))
            }
            Err(refused) => refused,
        }
    }

    /// Whether it goes on.
    pub(super) async fn fate(&self) -> Answer {
        let mut news = self.news();
        loop {
            if let Some(how) = self.has_ended() {
                return Answer::Ended(how);
            }
            if !self.ending.load(Ordering::Acquire) || news.changed().await.is_err() {
                return Answer::Done;
            }
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

    /// Waits for the end.
    pub(super) async fn wait(&self) -> Answer {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => Answer::Ended(how.clone().unwrap_or_default()),
            Err(_) => Answer::Refused("has ended".into()),
        }
    }
}

fn hypervisor_name(kind: HypervisorKind) -> &'static str {
    match kind {
        HypervisorKind::Krun => "krun",
        HypervisorKind::QemuKvm => "qemu (kvm)",
        HypervisorKind::QemuTcg => "qemu (tcg)",
    }
}
