//! A run from the command line: image, hypervisor, boot, terminal, exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::image::{Image, PullOptions, PullPolicy};
use crate::net::group::Registry;
use crate::sandbox::{
    self, Definition, Drift, Ended, Ending, ImageChange, Invocation, LogWriter, Machine, OnDuty, Phase, Plan,
    Storage, Streams, Timings,
};
use crate::ui::{self, Joint, PullProgress, Ui};
use crate::vm::{self, kernel};
use crate::volume;

use super::Outcome;
use super::args::MachineArgs;
use super::failure::Failure;
use super::settings::Context;
use super::target::Target;

/// Which image a name means.
#[derive(Debug)]
pub(super) enum Images {
    /// The one on this machine, else the registry's.
    Named,
    /// The one that the lock file of this Sandboxfile says.
    Locked(PathBuf, Drift),
}

/// What a command wants to have run, and where.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) definition: Definition,
    pub(super) storage: Storage,
    pub(super) images: Images,
    pub(super) on_change: ImageChange,
    /// Who it is, where it keeps what it writes.
    pub(super) target: Option<Target>,
    /// The main process's streams in the background.
    pub(super) streams: Option<Streams>,
    /// Remove it when it has ended in the background.
    pub(super) remove: bool,
}

impl Context {
    /// The image `name` stands for: the local one, else pulled.
    pub(super) fn image(&self, name: &str) -> Result<Image, Failure> {
        let options = PullOptions { policy: PullPolicy::Missing, ..self.pull_options() };
        Ok(self.store()?.pull(&self.reference(name)?, &options, &PullProgress::new(self.ui))?)
    }

    /// Where nameless disks of throw-away sandboxes are made: beside the images, on a real file system. Images in a cache that
    /// cannot be written can be run all the same.
    pub(super) fn throw_away(&self) -> Storage {
        use nix::errno::Errno;
        use nix::unistd::{AccessFlags, access};
        match access(&self.paths.cache, AccessFlags::W_OK) {
            Err(Errno::EROFS | Errno::EACCES) => Storage::ThrowAway(std::env::temp_dir()),
            _ => Storage::ThrowAway(self.paths.cache.clone()),
        }
    }

    /// Where to look for the guest kernel; `flag` is `--kernel`.
    pub(super) fn kernel_lookup(&self, flag: Option<PathBuf>) -> kernel::Lookup {
        kernel::Lookup {
            flag,
            env: std::env::var_os("MSB_KERNEL").map(PathBuf::from),
            config: self.configured_kernel().cloned(),
            data_dir: Some(self.paths.data.clone()),
            exe: std::env::current_exe().ok(),
        }
    }

    pub(super) fn machine(&self, args: &MachineArgs) -> Result<Machine, Failure> {
        let kernel = kernel::locate(&self.kernel_lookup(args.kernel.clone()))?;
        let selection = vm::select(self.vmm(args)?, &vm::Environment::from_process())?;
        if let Some(text) = &selection.announce {
            self.ui.note(text);
        }
        let (volumes, groups) = (volume::Store::new(&self.paths), Registry::new(&self.paths));
        Ok(Machine { selection, kernel, volumes, groups, authorities: self.authorities() })
    }
}

impl Launch {
    /// Boots, connects the caller's streams, waits. The result is the command's exit code. `tty` is the caller's wish.
    pub(super) fn run(
        self,
        context: &Context,
        invocation: Invocation,
        args: &MachineArgs,
        tty: Option<bool>,
    ) -> Outcome {
        let mut timings = Timings::start();
        self.definition.checked_memory()?;
        self.definition.check_program(&invocation.program)?;
        self.definition.check_volumes()?;
        self.definition.check_imports()?;
        let secrets = self.definition.read_secrets()?;
        let machine = context.machine(args)?;
        let image = self.image(context)?;
        timings.end(Phase::Resolve);
        let tty = tty.or(self.definition.tty).unwrap_or_else(ui::has_terminal);
        let plan = self.definition.plan(image, machine, &invocation, &self.storage, self.on_change)?;
        let plan = plan.with_secrets(secrets);
        timings.end(Phase::Disk);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let attaching = Attaching { tty, told: self.chooses_ports().then_some(context.ui) };
        let ending = match &self.target {
            None => runtime.block_on(attached(plan, attaching, None, &mut timings)),
            Some(target) => {
                runtime.block_on(self.supervised(context, target, plan, (attaching, &mut timings)))
            }
        };
        // Threads that still wait for the caller's input must not hold up the exit.
        runtime.shutdown_background();
        let ending = ending?;
        if let Some(note) = &ending.note {
            context.ui.warning(note);
        }
        if args.timings {
            context.ui.message(timings_line(&timings));
        }
        Ok(ending.code)
    }

    /// Whether some of its ports are published where only the run itself can tell.
    fn chooses_ports(&self) -> bool {
        let network = &self.definition.network;
        network.publish_exposed || network.ports.iter().any(|port| port.host == 0)
    }

    /// As [`attached`], with a desk at which others find the sandbox.
    async fn supervised(
        &self,
        context: &Context,
        target: &Target,
        plan: Plan,
        (attaching, timings): (Attaching, &mut Timings),
    ) -> Result<Ending, sandbox::Error> {
        // What is remembered of the run is written while the machine boots.
        let (paths, owned) = (context.paths.clone(), target.clone());
        let beginning = tokio::task::spawn_blocking(move || OnDuty::begin(&paths, owned.subject()));
        attached(plan, attaching, Some((context, target, beginning)), timings).await
    }

    pub(super) fn image(&self, context: &Context) -> Result<Image, Failure> {
        let name = &self.definition.image;
        match &self.images {
            Images::Named => context.image(name),
            Images::Locked(sandboxfile, drift) => {
                context.with_images(sandboxfile, *drift, |images| images.image(name))
            }
        }
    }
}

/// What it takes to note a run and to be found while it lasts.
type Noted<'a> = (&'a Context, &'a Target, tokio::task::JoinHandle<(OnDuty, Option<sandbox::Error>)>);

/// How the caller takes part in a run.
#[derive(Clone, Copy)]
struct Attaching {
    /// By a terminal.
    tty: bool,
    /// Who is told where ports are published.
    told: Option<Ui>,
}

/// Boots and joins the caller's streams to the command.
async fn attached(
    plan: Plan,
    Attaching { tty, told }: Attaching,
    noted: Option<Noted<'_>>,
    timings: &mut Timings,
) -> Result<Ending, sandbox::Error> {
    let streams = Streams { terminal: tty.then(ui::terminal_size), stdin: true };
    let booted = sandbox::boot(plan, streams, timings).await;
    if let (Ok(running), Some(ui)) = (&booted, told) {
        for port in &running.facts().ports {
            ui.note(format_args!("port {}/{} is published at {}", port.guest, port.transport, port.host));
        }
    }
    let mut joint =
        Joint { tty, input: true, stop_signal: libc::SIGTERM, detach_keys: Vec::new(), log: None };
    let Some((context, target, beginning)) = noted else {
        let running = booted?;
        joint.stop_signal = running.facts().stop_signal;
        return ui::attach(running, joint, timings).await;
    };
    let (mut duty, mut problem) = beginning.await.map_err(|error| sandbox::Error::System {
        action: "note the run",
        source: std::io::Error::other(error),
    })?;
    let result = match booted {
        Err(error) => Err(error),
        Ok(running) => {
            problem = duty.open(&context.paths, &running, streams).err().or(problem);
            joint.stop_signal = running.facts().stop_signal;
            joint.log = LogWriter::open(&target.folder, context.log_limits()).ok();
            ui::attach(running, joint, timings).await
        }
    };
    if let Some(problem) = problem {
        context.ui.warning(format_args!("others cannot find this run: {}", sandbox::headline(&problem)));
    }
    duty.ended(match &result {
        Ok(ending) => Ended { exit_code: Some(ending.code), message: ending.note.clone() },
        Err(error) => Ended { exit_code: error.exit_code(), message: Some(sandbox::headline(error)) },
    });
    result
}

pub(super) fn timings_line(timings: &Timings) -> String {
    let ms = |length: Duration| format!("{:.1}", length.as_secs_f64() * 1e3);
    let total: Duration = timings.phases().iter().map(|(_, length)| *length).sum();
    let phases = timings.phases().iter().map(|(phase, length)| format!("{phase} {}", ms(*length)));
    format!("timings (ms): {}, total {}", phases.collect::<Vec<_>>().join(", "), ms(total))
}

/// The last part of an image's name: what an installed sandbox is called by default.
pub(super) fn short_name(image: &str) -> String {
    let path = image.split('@').next().unwrap_or(image);
    let last = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    last.split(':').next().unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gives_its_last_part_as_name() {
        for (image, name) in [
            ("alpine", "alpine"),
            ("127.0.0.1:5000/a/python:3.11", "python"),
            ("ghcr.io/x/tool@sha256:00", "tool"),
        ] {
            assert_eq!(short_name(image), name);
        }
    }
}
