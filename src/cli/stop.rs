//! Ending sandboxes, and making them stand still: `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::manifest::parse_duration;
use crate::net::Network;
use crate::sandbox::{self, Answer, Ended, Invocation, Question, Status};

use super::Outcome;
use super::args::{FileArgs, MachineArgs};
use super::condition::Waits;
use super::failure::Failure;
use super::launch::Launch;
use super::settings::Context;
use super::target::Target;

/// How long a killed supervisor may keep its lock.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Which sandboxes a command is about.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TargetsArgs {
    /// Sandboxes: of the Sandboxfile, made by `create`, or installed
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: FileArgs,
}

impl TargetsArgs {
    pub(super) fn find(&self, context: &Context) -> Result<Vec<Target>, Failure> {
        context.targets(&self.file.project(), &self.names)
    }
}

/// How long a sandbox may take to end.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct GraceArgs {
    /// How long its processes may take after the stop signal before they are killed: 0s kills at once
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(super) time: Duration,
}

/// Stop sandboxes
///
/// The main process gets its image's stop signal (SIGTERM by default); what is left after the grace period is killed. The
/// sandbox's disk is written and its machine powered off. One that is stopped already is none to complain about.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb stop app\n  msb stop --time 1m db\n  msb stop -t 0s app web")]
pub(super) struct StopArgs {
    #[command(flatten)]
    targets: TargetsArgs,
    #[command(flatten)]
    grace: GraceArgs,
}

impl StopArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let targets = self.targets.find(context)?;
        stop_all(context, &targets, self.grace.time)?;
        Ok(0)
    }
}

/// Stops all of them at once and says so; the first failure is reported when all are done.
pub(super) fn stop_all(context: &Context, targets: &[Target], grace: Duration) -> Result<(), Failure> {
    let mut first = Ok(());
    std::thread::scope(|scope| {
        let stopping: Vec<_> = targets
            .iter()
            .map(|target| (target, scope.spawn(move || stop(context, target, grace))))
            .collect();
        for (target, stopping) in stopping {
            match stopping.join() {
                Ok(Ok(true)) => context.ui.done("Stopped", target.name()),
                Ok(Ok(false)) => context.ui.note(format_args!("{} was not running", target.name())),
                Ok(Err(error)) if first.is_ok() => first = Err(error),
                Ok(Err(error)) => drop(error.report(context.ui)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    first
}

/// Stops one; `false` when it was not running.
pub(super) fn stop(context: &Context, target: &Target, grace: Duration) -> Result<bool, Failure> {
    if !target.is_up(context)? {
        return Ok(false);
    }
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    let asked = target.client(context).and_then(|mut client| Ok(client.ask(Question::Stop { grace_ms })?));
    match asked {
        Ok(_) => {}
        // It may have ended by itself meanwhile.
        Err(_) if !target.is_up(context)? => {}
        // A supervisor that answers nothing is not one.
        Err(_) => kill_supervisor(target)?,
    }
    wait_for_end(context, target)?;
    Ok(true)
}

/// Kills whoever holds the sandbox's lock; its machine goes with it.
fn kill_supervisor(target: &Target) -> Result<(), Failure> {
    if let Status::Running(Some(holder)) = sandbox::status(&target.folder)?
        && holder.is_alive()
    {
        let pid = Pid::from_raw(i32::try_from(holder.pid).unwrap_or(0));
        if pid.as_raw() > 1 {
            nix::sys::signal::kill(pid, Signal::SIGKILL).map_err(std::io::Error::from)?;
        }
    }
    Ok(())
}

/// The lock outlives its holder by a moment.
fn wait_for_end(context: &Context, target: &Target) -> Result<(), Failure> {
    let deadline = Instant::now() + KILL_LIMIT;
    while target.is_up(context)? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("sandbox `{}` still runs", target.name()))
                .hint(format!("end it by force with `msb kill {}`", target.name())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for_supervisor(target);
    Ok(())
}

/// A supervisor tells those who wait before it goes itself, and whoever hears that a sandbox has stopped shall find nothing left of it.
pub(super) fn wait_for_supervisor(target: &Target) {
    let deadline = Instant::now() + KILL_LIMIT;
    while target.has_supervisor() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same after the main process of the run that `started` then has ended, unless the sandbox is started again.
pub(super) fn settle(context: &Context, target: &Target, started: Timestamp) {
    let deadline = Instant::now() + KILL_LIMIT;
    while target.has_supervisor() && Instant::now() < deadline {
        let client = || target.client(context);
        match client().and_then(|mut client| Ok(client.status()?)) {
            // Not noticed yet, or it writes its disk.
            Ok(live) if live.started == started => {}
            Ok(_) => return,
            Err(_) => {
                let fate = client().and_then(|mut client| Ok(client.ask(Question::Fate)?));
                if matches!(fate, Ok(Answer::Done)) {
                    return;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Stop sandboxes and start them again in the background
///
/// They start as the Sandboxfile has them now, but reach what they reached before: `msb net set` lasts. `msb net set NAME --reset`
/// and `msb apply` go back to the scope and the rules of the Sandboxfile.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb restart web\n  msb restart --time 0s app")]
pub(super) struct RestartArgs {
    #[command(flatten)]
    targets: TargetsArgs,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl RestartArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        for mut target in self.targets.find(context)? {
            // One that does not run begins with what is written down.
            let before = target.client(context).and_then(|mut client| Ok(client.network()?)).ok();
            stop(context, &target, self.grace.time)?;
            if let Some(before) = before {
                keep_rules(context, &mut target, before);
            }
            let launch = Launch::of_target(context, target.clone(), Default::default(), Default::default())?;
            launch.start(context, Invocation::default(), &self.machine)?;
            context.ui.done("Restarted", target.name());
        }
        Ok(0)
    }
}

/// Has a sandbox go on under the scope and the rules of before, and says so where something else is written down.
fn keep_rules(context: &Context, target: &mut Target, before: Network) {
    let written = &mut target.definition.network;
    if (written.scope, &written.rules) == (before.scope, &before.rules) {
        return;
    }
    (written.scope, written.rules) = (before.scope, before.rules);
    let name = target.name();
    context.ui.note(format!(
        "sandbox `{name}` goes on with a scope and rules that are not those written down; `msb net set {name} --reset` takes those"
    ));
}

/// Send a signal to the main process of sandboxes
///
/// SIGKILL, the default, ends the sandbox in any case, and nothing restarts it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb kill app\n  msb kill -s HUP web")]
pub(super) struct KillArgs {
    #[command(flatten)]
    targets: TargetsArgs,
    /// Signal, as name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

impl KillArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let signal = sandbox::signal_number(&self.signal).ok_or_else(|| {
            Failure::new(format!("`{}` is no signal", self.signal)).hint("write HUP, SIGTERM, 9 or RTMIN+3")
        })?;
        for target in self.targets.find(context)? {
            if signal == libc::SIGKILL {
                kill(context, &target)?;
                context.ui.done("Killed", target.name());
            } else {
                send(context, &target, signal)?;
            }
        }
        Ok(0)
    }
}

/// Sends a signal to the main process of one.
fn send(context: &Context, target: &Target, signal: i32) -> Result<(), Failure> {
    let sent = target.client(context).and_then(|mut client| Ok(client.ask(Question::Kill { signal })?));
    match sent {
        Ok(_) => Ok(()),
        // A supervisor that answers nothing is not one.
        Err(_) if signal == libc::SIGKILL && target.is_running()? => kill_supervisor(target),
        Err(error) => Err(error),
    }
}

/// Kills one and waits until it has gone.
pub(super) fn kill(context: &Context, target: &Target) -> Result<(), Failure> {
    send(context, target, libc::SIGKILL)?;
    wait_for_end(context, target)
}

/// Make sandboxes stand still
///
/// Their processors stop; memory, connections and disks stay as they are.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    targets: TargetsArgs,
}

impl PauseArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        for target in self.targets.find(context)? {
            target.client(context)?.ask(Question::Pause)?;
            context.ui.done("Paused", target.name());
        }
        Ok(0)
    }
}

/// Let paused sandboxes go on
#[derive(Debug, clap::Args)]
pub(super) struct UnpauseArgs {
    #[command(flatten)]
    targets: TargetsArgs,
}

impl UnpauseArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        for target in self.targets.find(context)? {
            target.client(context)?.ask(Question::Unpause)?;
            context.ui.done("Unpaused", target.name());
        }
        Ok(0)
    }
}

/// Wait until sandboxes have ended and print the exit codes of their main processes
///
/// A line per sandbox, in the order given; `-` where it did not end by its main process.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    #[command(flatten)]
    targets: TargetsArgs,
}

impl WaitArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        for target in self.targets.find(context)? {
            let ended = wait(context, &target)?;
            wait_for_supervisor(&target);
            if let Some(message) = &ended.message {
                context.ui.note(format_args!("{}: {message}", target.name()));
            }
            context.ui.data(ended.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()))?;
        }
        Ok(0)
    }
}

/// Waits for the end of a sandbox; of one that does not run, what is known of its last run.
pub(super) fn wait(context: &Context, target: &Target) -> Result<Ended, Failure> {
    Waits::default().end_of(context, target)
}

/// How the last run of a sandbox ended.
pub(super) fn last_run(context: &Context, target: &Target) -> Result<Ended, Failure> {
    let record = context.database()?.in_folder(&target.folder)?;
    match record.filter(|record| record.started.is_some()) {
        Some(record) => Ok(Ended { exit_code: record.exit_code, message: record.message }),
        None => Err(Failure::new(format!("sandbox `{}` has never run", target.name()))),
    }
}
