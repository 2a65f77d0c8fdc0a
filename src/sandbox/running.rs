//! A booted sandbox with its command, until it has ended.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::artifacts::Export;
use super::diagnosis::Watch;
use super::error::Stage;
use super::network::{Joined, Place, Published};
use super::timings::{Phase, Timings, now};
use crate::agent::{self, Connection, Control, Outcome, Process, Ready};
use crate::image::Image;
use crate::vm::probe::{self, Verdict};
use crate::vm::{self, HypervisorKind, Vmm};

/// How long a guest whose command has ended may take to write its disk and power off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing at all need be heard of a guest that KVM runs natively, even on a busy machine.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// How long a VMM may live on after it has closed the agent's socket.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A sandbox whose machine is up. Dropping it ends the virtual machine at once.
#[derive(Debug)]
pub struct Running {
    connection: Arc<Connection>,
    vmm: Vmm,
    watch: Watch,
    /// Keep the image in the store, the lock of a kept disk and the network until the virtual machine is gone.
    held: (Image, File, Option<Joined>),
    facts: Facts,
    exports: Vec<Export>,
    ready: Ready,
}

/// What a sandbox was started with.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Nothing of it is kept.
    pub throw_away: bool,
    /// What runs its machine.
    pub kind: HypervisorKind,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Its virtual CPUs.
    pub cpus: u8,
    /// The signal that asks its main process to stop, as its image has it.
    pub stop_signal: i32,
    /// User of processes that name none.
    pub user: Option<String>,
    /// Working directory of processes that name none.
    pub workdir: String,
    /// The shell.
    pub shell: String,
    /// Its published ports.
    pub ports: Vec<Published>,
    /// Where it is in its groups.
    pub places: Vec<Place>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The exit code a shell would show.
    pub code: u8,
    /// Something the user should know about it.
    pub note: Option<String>,
}

impl Running {
    pub(super) fn new(
        connection: Connection,
        vmm: Vmm,
        watch: Watch,
        held: (Image, File, Option<Joined>),
        (facts, exports): (Facts, Vec<Export>),
    ) -> Self {
        let ready = Ready { version: 0, timings: agent::Timings::default() };
        Self { connection: Arc::new(connection), vmm, watch, held, facts, exports, ready }
    }

    /// Waits for the guest, and reckons when it got how far.
    pub(super) async fn ready(&mut self, limit: Duration, timings: &mut Timings) -> Result<(), Error> {
        let ready = tokio::select! {
            ready = self.connection.ready() => ready,
            error = self.unsuited_kernel() => return Err(error),
            () = tokio::time::sleep(limit) => {
                return Err(Error::BootTimeout { waited: limit, details: self.watch.last_words() });
            }
        };
        match ready {
            Ok(ready) => {
                self.ready = ready;
                self.note_phases(ready, timings);
                Ok(())
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// A KVM that only interprets an ordinary kernel gives up on it after many seconds. When nothing is heard of a
    /// guest, the probe that was skipped on request tells sooner.
    async fn unsuited_kernel(&self) -> Error {
        tokio::time::sleep(SILENCE_LIMIT).await;
        let on_kvm = matches!(self.facts.kind, HypervisorKind::Krun | HypervisorKind::QemuKvm);
        if on_kvm && self.watch.is_silent() && matches!(probe::kvm(), Verdict::Interpreted { .. }) {
            let failure = vm::Failure::KvmInternalError;
            return Error::VmEnded { failure, kind: self.facts.kind, details: String::new() };
        }
        std::future::pending().await
    }

    fn note_phases(&self, ready: Ready, timings: &mut Timings) {
        let guest = ready.timings;
        let ready_at = now();
        if let Some(started) = self.vmm.timings().started {
            timings.end_at(Phase::Spawn, Duration::from_nanos(started));
        }
        // The guest's clock starts with its kernel, so counting back from now finds the first guest instruction.
        timings.end_at(Phase::Vmm, ready_at.saturating_sub(Duration::from_nanos(guest.mounted_ns)));
        timings.end_after(Phase::Kernel, Duration::from_nanos(guest.init_ns));
        timings.end_at(Phase::Agent, ready_at);
    }

    /// What it was started with.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its network, if it has one.
    pub(super) fn network(&self) -> Option<&Joined> {
        self.held.2.as_ref()
    }

    /// What the guest said when it was up.
    pub(super) fn ready_report(&self) -> Ready {
        self.ready
    }

    /// The connection to its guest.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The process of its machine: its id, and a descriptor that means it and no later one.
    ///
    /// # Errors
    /// The system's answer.
    pub fn machine(&self) -> io::Result<(u32, OwnedFd)> {
        Ok((self.vmm.pid(), self.vmm.pidfd().try_clone_to_owned()?))
    }

    /// Steers the command.
    #[must_use]
    pub fn main_control(&self) -> Option<Control> {
        self.connection.main_control()
    }

    /// The command with its streams, once.
    pub fn process(&self) -> Option<Process> {
        self.connection.main_exec()
    }

    /// Ends the run after its command has ended with `outcome` and its output has been taken: an orderly power-off
    /// where a disk is kept, the plug pulled where nothing is.
    ///
    /// # Errors
    /// Why the command could not start, or why the virtual machine ended before it.
    pub async fn finish(
        mut self,
        outcome: Result<Outcome, agent::Error>,
        timings: &mut Timings,
    ) -> Result<Ending, Error> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Err(self.explain(error).await),
        };
        timings.end(Phase::Exec);
        let exported = self.export(&outcome).await;
        if !self.facts.throw_away {
            self.power_off().await?;
        }
        self.vmm.kill()?;
        self.vmm.wait()?;
        timings.end(Phase::Exit);
        exported?;
        let code = outcome.exit_code();
        match outcome {
            Outcome::Failed(failed) => Err(Error::NotStarted { code, message: failed.message }),
            Outcome::Exited(exit) => Ok(Ending { code, note: exit.oom_killed.then(|| self.out_of_memory()) }),
        }
    }

    /// Takes what is exported out of the guest when its command has ended well, and lets it power off then.
    async fn export(&self, outcome: &Outcome) -> Result<(), Error> {
        if self.exports.is_empty() {
            return Ok(());
        }
        // Whoever stops a sandbox does not wait for its work.
        let mut result = Ok(());
        if outcome.exit_code() == 0 && !self.connection.was_asked_to_stop() {
            for export in &self.exports {
                result = result.and(export.take(&self.connection).await);
            }
        }
        // One that is gone has powered off.
        let _ = self.connection.ask_to_stop(Duration::ZERO);
        result
    }

    /// Waits for the end of a machine that has no command, and that was `asked` to power off or not.
    ///
    /// # Errors
    /// Why the virtual machine ended when nobody had asked it to.
    pub async fn gone(mut self, asked: impl Fn() -> bool) -> Result<(), Error> {
        let error = self.connection.closed().await;
        if !asked() || !matches!(error, agent::Error::Closed) {
            return Err(self.explain(error).await);
        }
        self.power_off().await?;
        self.vmm.kill()?;
        self.vmm.wait()?;
        Ok(())
    }

    /// Gives the guest time to write its disk.
    async fn power_off(&mut self) -> Result<(), Error> {
        if tokio::time::timeout(POWER_OFF_LIMIT, self.connection.closed()).await.is_ok() {
            self.vmm.wait_timeout(END_LIMIT)?;
        }
        Ok(())
    }

    fn out_of_memory(&self) -> String {
        let killed = self.watch.findings().oom_kills.pop();
        let name = killed.map_or_else(|| "the command".to_owned(), |kill| format!("`{}`", kill.name));
        let memory = self.facts.memory_mib;
        format!("{name} was killed: the sandbox ran out of memory ({memory} MiB); give it more with --memory")
    }

    /// Why the conversation with the guest ended, from what the VMM and the guest's console left behind.
    async fn explain(&mut self, error: agent::Error) -> Error {
        if !matches!(error, agent::Error::Closed) {
            return error.into();
        }
        let exit = match self.vmm.wait_timeout(END_LIMIT) {
            Ok(Some(exit)) => exit,
            Ok(None) => return error.into(),
            Err(error) => return error.into(),
        };
        self.watch.drain().await;
        let stage = if self.ready.version == 0 { Stage::Kernel } else { Stage::Command };
        self.watch.explain(exit, stage, &self.facts)
    }
}
