//! `msb up`.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::sandbox::{Follow, LogQuery, LogReader, LogStream};
use crate::ui::Labelled;

use super::Outcome;
use super::args::ProjectArgs;
use super::failure::Failure;
use super::fleet::{Fleet, FleetArgs, Launches};
use super::project::no_sandboxfile;
use super::settings::Context;
use super::stop::{GraceArgs, wait};
use super::target::Target;

/// The exit code of what Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Start the sandboxes of the project, and show what they write
///
/// They start in the order of `depends_on`, those that do not depend on each other at the same time; what runs already is left
/// alone. Their logs are shown until all have ended. Ctrl-C stops what was started, in the opposite order; a second one kills it.
/// The exit code is that of the first main process that failed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb up\n  msb up -d && msb ps\n  msb up web        web and what it depends on"
)]
pub(super) struct Args {
    /// Sandboxes to start, with those they depend on [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
    /// Return when all are up and what they wait for has come: `msb down` stops them
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let project = self.project.load()?.ok_or_else(no_sandboxfile)?;
        let fleet = Fleet::new(context, &project, &self.names, &self.fleet)?;
        if fleet.targets().is_empty() {
            return Err(Failure::new(format!("{} has no sandboxes", project.path.display()))
                .hint("add one with `msb add NAME --image IMAGE`"));
        }
        let mut stopped = Vec::new();
        for target in fleet.targets().values() {
            if target.is_up(context)? {
                context.ui.note(format_args!("{} is running already", target.name()));
            } else {
                stopped.push(target.name());
            }
        }
        let launches = fleet.launches(|target| stopped.contains(&target.name()))?;
        if self.detach {
            fleet.start(launches, &|_, _| {})?;
            return Ok(0);
        }
        attached(context, &fleet, launches, &self.grace)
    }
}

/// Starts `launches` and shows the logs of the whole fleet until all have ended or the user has had enough.
fn attached(context: &Context, fleet: &Fleet<'_>, launches: Launches, grace: &GraceArgs) -> Outcome {
    let names: Vec<&str> = fleet.targets().keys().map(String::as_str).collect();
    let view = View {
        context,
        fleet,
        lines: Labelled::new(&names),
        since: Timestamp::now(),
        failed: Mutex::new(None),
    };
    let signals = Signals::new()?;
    let over = Notify::new();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| signals.serve(fleet, grace, &over));
        let followers = Mutex::new(Vec::new());
        let begun = |number: usize, is_ours: bool| {
            let view = &view;
            let follower = scope.spawn(move || view.follow(number, is_ours));
            followers.lock().unwrap_or_else(PoisonError::into_inner).push(follower);
        };
        let mut result = fleet.start(launches, &begun);
        if result.is_err() {
            fleet.leave();
            let stopped = fleet.stop_started(grace.time);
            result = result.and(stopped);
        }
        for follower in followers.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match follower.join() {
                Ok(followed) => result = result.and(followed),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        over.notify_one();
        result
    });
    result?;
    let failed = view.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(failed.unwrap_or(if fleet.is_leaving() { INTERRUPTED } else { 0 }))
}

/// The logs of a fleet.
struct View<'a> {
    context: &'a Context,
    fleet: &'a Fleet<'a>,
    lines: Labelled,
    /// What was written before does not belong here.
    since: Timestamp,
    /// The first exit code that is not 0, of those that ended by themselves.
    failed: Mutex<Option<u8>>,
}

impl View<'_> {
    /// Shows the log of one sandbox until it has ended, or, where it was not started here, the user leaves.
    fn follow(&self, number: usize, is_ours: bool) -> Result<(), Failure> {
        let Some((_, target)) = self.fleet.targets().get_index(number) else { return Ok(()) };
        let has_left = || self.fleet.is_leaving() && !is_ours;
        let shown = self.show(number, target, &|| !has_left() && target.is_up(self.context).unwrap_or(false));
        if let Err(error) = shown {
            // Nobody is left to show anything to.
            if !self.fleet.is_leaving() {
                self.fleet.leave();
                self.fleet.stop_started(std::time::Duration::from_secs(10))?;
            }
            return Err(error.into());
        }
        if has_left() {
            return Ok(());
        }
        let ended = wait(self.context, target)?;
        match (ended.exit_code, ended.message) {
            (Some(code), _) => {
                self.context.ui.message(format_args!("{} ended with exit code {code}", target.name()));
                if code != 0 && !self.fleet.is_leaving() {
                    self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(code);
                }
            }
            (None, Some(message)) => {
                self.context.ui.message(format_args!("{} ended: {message}", target.name()));
            }
            (None, None) => self.context.ui.message(format_args!("{} ended", target.name())),
        }
        Ok(())
    }

    fn show(&self, number: usize, target: &Target, more: &dyn Fn() -> bool) -> std::io::Result<()> {
        let query = LogQuery { since: Some(self.since), ..LogQuery::default() };
        let mut reader = LogReader::open(&target.folder, &query)?;
        reader.read_on(&Follow::While(more), |record| {
            let is_error = record.stream == LogStream::Stderr;
            self.lines.print(number, is_error, record.content, record.whole)
        })?;
        self.lines.end(number)
    }
}

/// The signals by which a user leaves.
struct Signals {
    runtime: Runtime,
    signals: [Signal; 3],
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        drop(entered);
        Ok(Self { runtime, signals })
    }

    /// Stops the fleet on the first signal and kills it on a further one, until it is `over`.
    fn serve(self, fleet: &Fleet<'_>, grace: &GraceArgs, over: &Notify) {
        let Self { runtime, signals: [mut interrupt, mut terminate, mut hangup] } = self;
        let report = |result: Result<(), Failure>| {
            if let Err(error) = result {
                error.report(fleet.context().ui);
            }
        };
        std::thread::scope(|scope| {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        () = over.notified() => return,
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    if fleet.is_leaving() {
                        scope.spawn(|| report(fleet.kill_started()));
                    } else {
                        fleet.leave();
                        fleet.context().ui.message("stopping; press Ctrl-C again to kill");
                        scope.spawn(|| report(fleet.stop_started(grace.time)));
                    }
                }
            });
        });
    }
}
