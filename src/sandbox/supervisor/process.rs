//! `msb __supervise`: runs one sandbox until it has ended for good.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use msb_guest::wire::{STDERR, STDOUT};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::boot::boot;
use super::super::database::Ended;
use super::super::error::{Error, headline};
use super::super::log::{LogStream, LogWriter};
use super::super::plan::Plan;
use super::super::running::Running;
use super::super::timings::Timings;
use super::desk::{Desk, Main};
use super::order::{Order, Report, back_off};
use super::serve::Serving;
use crate::agent::{Audience, ClockWatch, Output, Process, Stdin};
use crate::net::secret::Secrets;
use crate::paths::Paths;

/// The hidden subcommand that makes this program a supervisor.
pub const SUPERVISE_SUBCOMMAND: &str = "__supervise";

/// How long processes may take to stop when nobody said how long.
const GRACE: Duration = Duration::from_secs(10);
/// A run of this length was a success, whatever came before.
const SETTLED: Duration = Duration::from_secs(10);
/// Chunks of input on their way to the main process.
const IN_FLIGHT: usize = 4;

/// Becomes a supervisor: reads its order from standard input, says on standard output whether the sandbox is up, and stays
/// until the sandbox has ended.
pub fn supervise_main() -> ExitCode {
    let result = take_order().and_then(|(order, secrets, starter)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(supervise(&order, &secrets, Starter(Some(starter))));
        runtime.shutdown_background();
        result.map_err(|error| io::Error::other(headline(&error)))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{} {error}", jiff::Timestamp::now());
            ExitCode::FAILURE
        }
    }
}

fn take_order() -> io::Result<(Order, Secrets, File)> {
    // Neither the caller's terminal nor its group is ours. One that is a leader already has nobody above it.
    let _ = nix::unistd::setsid();
    // What `ps` and those who meet its lock see; otherwise it would be called "exe".
    nix::sys::prctl::set_name(super::NAME)?;
    // Not by way of the standard library's own buffer, which would keep a copy of the values.
    let (order, secrets) = Order::receive(&mut File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let starter = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let null: OwnedFd = File::options().read(true).write(true).open("/dev/null")?.into();
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok((order, secrets, starter))
}

/// Whoever waits for the sandbox to be up.
struct Starter(Option<File>);

impl Starter {
    /// Tells them, once. `false` when they have gone.
    fn tell(&mut self, report: &Report) -> bool {
        match self.0.take() {
            Some(mut pipe) => serde_json::to_vec(report).is_ok_and(|text| pipe.write_all(&text).is_ok()),
            None => true,
        }
    }
}

async fn supervise(order: &Order, secrets: &Secrets, mut starter: Starter) -> Result<(), Error> {
    let begun = begin(order, secrets);
    let (first, desk, log, _serving) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            starter.tell(&Report::failed(&error));
            return Err(error);
        }
    };
    tokio::spawn(stop_on_sigterm(Arc::clone(&desk)));
    tokio::spawn(follow_clock(Arc::clone(&desk)));
    tokio::spawn(stop_when_due(
        Arc::clone(&desk),
        order.definition.max_duration,
        order.definition.idle_timeout,
    ));
    let mut plan = Ok(first);
    let mut restarts = 0;
    loop {
        let result = match plan {
            Ok(plan) => run(order, plan, &desk, &log, &mut starter).await,
            Err(error) => Err(error),
        };
        desk.down();
        let was_up = starter.0.is_none();
        let how = ended(&desk, result, &mut starter);
        // A slow machine takes long to start and to end, which is no sign that what it runs is well.
        if desk.take_lived() > SETTLED {
            restarts = 0;
        }
        let failed = how.exit_code != Some(0);
        let wait = back_off(order, failed, restarts).filter(|_| was_up && !desk.is_stopping());
        let Some(wait) = wait else {
            if order.remove {
                remove(order, &desk);
            }
            desk.over(how);
            break;
        };
        desk.rests(&how);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = desk.asked_to_stop() => {
                desk.over(how);
                break;
            }
        }
        restarts += 1;
        desk.restarting();
        plan = Paths::from_env()
            .map_err(|_| Error::NotRunning { name: desk.name().to_owned() })
            .and_then(|paths| order.plan(&paths, secrets));
        if let Ok(plan) = &mut plan {
            // What was changed while it ran holds after a restart as well.
            plan.network = desk.definition().network.clone();
        }
    }
    let stopped =
        Error::Refused { name: desk.name().to_owned(), reason: "was stopped while it started".into() };
    starter.tell(&Report::failed(&stopped));
    // Those who wait for the end are told before this process goes.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

type Begun = (Plan, Arc<Desk>, Arc<Mutex<LogWriter>>, Serving);

/// Everything that can fail before there is a machine. The lock on the disk comes first: it makes the rest ours.
fn begin(order: &Order, secrets: &Secrets) -> Result<Begun, Error> {
    let paths = Paths::from_env()
        .map_err(|error| Error::System { action: "find msb's folders", source: io::Error::other(error) })?;
    let plan = order.plan(&paths, secrets)?;
    let log = LogWriter::open(&order.folder, order.log);
    let log = log.map_err(|source| Error::State { path: order.folder.clone(), source })?;
    let (desk, problem) = Desk::new(&paths, order.subject());
    if let Some(problem) = problem {
        return Err(problem);
    }
    let desk = Arc::new(desk);
    desk.starting();
    let serving = Serving::start(&paths, Arc::clone(&desk))?;
    Ok((plan, desk, Arc::new(Mutex::new(log)), serving))
}

/// How a run ended; what kept a first one from starting is for the starter as well.
fn ended(desk: &Desk, result: Result<Option<u8>, Error>, starter: &mut Starter) -> Ended {
    match result {
        Ok(exit_code) => Ended { exit_code, message: desk.reason() },
        Err(error) => {
            starter.tell(&Report::failed(&error));
            Ended { exit_code: error.exit_code(), message: Some(headline(&error)) }
        }
    }
}

/// One life of the machine; the main process's exit code where it has one.
async fn run(
    order: &Order,
    plan: Plan,
    desk: &Arc<Desk>,
    log: &Arc<Mutex<LogWriter>>,
    starter: &mut Starter,
) -> Result<Option<u8>, Error> {
    let mut timings = Timings::start();
    let running = tokio::select! {
        running = boot(plan, order.streams, &mut timings) => running?,
        () = desk.asked_to_stop() => return Ok(None),
    };
    let Some(process) = running.process() else {
        desk.up(&running, order.streams, None)?;
        if !starter.tell(&Report::Up(timings)) {
            return Ok(None);
        }
        running.gone(|| desk.is_stopping()).await?;
        return Ok(None);
    };
    run_main(order, (running, process), desk, log, (starter, timings)).await
}

async fn run_main(
    order: &Order,
    (running, process): (Running, Process),
    desk: &Arc<Desk>,
    log: &Arc<Mutex<LogWriter>>,
    (starter, mut timings): (&mut Starter, Timings),
) -> Result<Option<u8>, Error> {
    let Process { stdin, stdout, stderr, control } = process;
    if let Ok(Err(outcome)) = control.started().await {
        return running.finish(Ok(outcome), &mut timings).await.map(|ending| Some(ending.code));
    }
    let audience = Arc::<Audience>::default();
    let (sender, typed) = mpsc::channel(IN_FLIGHT);
    let input = order.streams.stdin.then_some(sender);
    let typing = tokio::spawn(type_into(stdin, typed));
    let showing = [(stdout, LogStream::Stdout, STDOUT), (stderr, LogStream::Stderr, STDERR)]
        .map(|(output, stream, channel)| show(output, (stream, channel), log, &audience));
    let main = Main { control: control.clone(), audience: Some(Arc::clone(&audience)), input };
    desk.up(&running, order.streams, Some(main))?;
    if !starter.tell(&Report::Up(timings.clone())) {
        // Whoever wanted it has gone before it was there.
        return Ok(None);
    }
    let outcome = control.wait().await;
    for output in showing {
        let _ = output.await;
    }
    typing.abort();
    if let Ok(outcome) = &outcome {
        audience.end(outcome);
    }
    desk.down();
    let ending = running.finish(outcome, &mut timings).await?;
    if let Some(note) = ending.note {
        desk.set_reason(&note);
    }
    Ok(Some(ending.code))
}

/// What anybody types.
async fn type_into(mut stdin: Stdin, mut typed: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = typed.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Output into the log and to whoever watches. A log that cannot be written ends nothing.
fn show(
    mut output: Output,
    (stream, channel): (LogStream, u8),
    log: &Arc<Mutex<LogWriter>>,
    audience: &Arc<Audience>,
) -> JoinHandle<()> {
    let (log, audience) = (Arc::clone(log), Arc::clone(audience));
    tokio::spawn(async move {
        let mut failing = false;
        while let Ok(Some(bytes)) = output.read().await {
            let written = log.lock().unwrap_or_else(PoisonError::into_inner).write(stream, &bytes);
            if let Err(error) = &written
                && !failing
            {
                let _ = writeln!(io::stderr(), "{} cannot write the log: {error}", jiff::Timestamp::now());
            }
            failing = written.is_err();
            audience.show(channel, &bytes);
        }
    })
}

async fn stop_on_sigterm(desk: Arc<Desk>) {
    let Ok(mut asked) = signal(SignalKind::terminate()) else { return };
    if asked.recv().await.is_some() {
        desk.stop(GRACE).await;
    }
}

/// Passes on that the host's clock was set, or that the host slept. A kernel that does not tell leaves guests with theirs.
async fn follow_clock(desk: Arc<Desk>) {
    let Ok(watch) = ClockWatch::new() else { return };
    while watch.jumped().await.is_ok() {
        desk.set_clock();
    }
}

/// Ends the sandbox when it has lived long enough, or nobody has wanted anything of it for long enough.
async fn stop_when_due(desk: Arc<Desk>, lifetime: Option<Duration>, idle: Option<Duration>) {
    desk.up_once().await;
    let lived = async {
        match lifetime {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let unused = async {
        match idle {
            Some(limit) => desk.idle_for(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = lived => desk.set_reason("its maximum duration has passed"),
        () = unused => desk.set_reason("nobody has used it for the time of its idle timeout"),
    }
    desk.stop(GRACE).await;
}

fn remove(order: &Order, desk: &Desk) {
    if let Err(error) = std::fs::remove_dir_all(&order.folder) {
        let _ = writeln!(io::stderr(), "cannot remove {}: {error}", order.folder.display());
    }
    desk.forget();
}
