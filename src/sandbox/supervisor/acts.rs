//! What can be done with a running sandbox: stop, kill, pause, start a process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::super::control::Answer;
use super::super::database::State;
use super::desk::{Desk, Machine};
use crate::agent::{ExecSpec, Outcome, Process};
use crate::net::policy::{Rule, Scope};

/// How long after the grace period a machine may take to write its disk before it is killed.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(35);

impl Desk {
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
        self.news.send_replace(());
        self.remember(|id, database| database.set_state(id, to));
        self.note(event, json!({}));
        Answer::Done
    }

    /// Its network as it is now.
    pub(super) fn network(&self) -> Answer {
        Answer::Network(Box::new(self.definition().network.clone()))
    }

    /// Has this scope and these rules decide from now on, after a restart of the machine as well, if `instead_of` decide until now.
    pub(super) fn set_rules(
        &self,
        scope: Scope,
        rules: Vec<Rule>,
        instead_of: Option<(Scope, Vec<Rule>)>,
    ) -> Answer {
        let machine = match self.current() {
            Ok(machine) => machine,
            Err(refused) => return refused,
        };
        let Some(gateway) = &machine.network else {
            let why = "has no network: it was started with the scope `none` and nothing that is allowed or published";
            return Answer::Refused(why.into());
        };
        let details = json!({ "scope": scope, "rules": rules });
        // Held until it is written down: of two changes at once the later one is the one that stays.
        let mut definition = self.definition();
        if instead_of.is_some_and(|(scope, rules)| {
            (scope, &rules) != (definition.network.scope, &definition.network.rules)
        }) {
            return Answer::Changed;
        }
        gateway.set_rules(scope, rules.clone());
        (definition.network.scope, definition.network.rules) = (scope, rules);
        self.remember(|id, database| database.set_definition(id, &definition));
        drop(definition);
        self.note("net-policy", details);
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
