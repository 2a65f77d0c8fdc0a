//! A run from the command line: image, hypervisor, boot, terminal, exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::image::{Image, PullOptions, PullPolicy};
use crate::sandbox::{self, Definition, Drift, ImageChange, Invocation, Machine, Phase, Storage, Timings};
use crate::ui::{self, PullProgress};
use crate::vm::{self, kernel};

use super::Outcome;
use super::args::MachineArgs;
use super::failure::Failure;
use super::settings::Context;

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
}

impl Context {
    /// The image `name` stands for: the local one, else pulled.
    pub(super) fn image(&self, name: &str) -> Result<Image, Failure> {
        let options = PullOptions { policy: PullPolicy::Missing, ..self.pull_options() };
        Ok(self.store()?.pull(&self.reference(name)?, &options, &PullProgress::new(self.ui))?)
    }

    /// Where nameless disks of throw-away sandboxes are made: beside the images, on a real file system.
    pub(super) fn throw_away(&self) -> Storage {
        Storage::ThrowAway(self.paths.cache.clone())
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

    fn machine(&self, args: &MachineArgs) -> Result<Machine, Failure> {
        let kernel = kernel::locate(&self.kernel_lookup(args.kernel.clone()))?;
        let selection = vm::select(self.vmm(args)?, &vm::Environment::from_process())?;
        if let Some(text) = &selection.announce {
            self.ui.note(text);
        }
        Ok(Machine { selection, kernel })
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
        let machine = context.machine(args)?;
        let image = self.image(context)?;
        timings.end(Phase::Resolve);
        let tty = tty.or(self.definition.tty).unwrap_or_else(ui::has_terminal);
        let plan = self.definition.plan(image, machine, &invocation, &self.storage, self.on_change)?;
        timings.end(Phase::Disk);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ending = runtime.block_on(async {
            let running = sandbox::boot(plan, tty.then(ui::terminal_size), &mut timings).await?;
            ui::attach(running, tty, &mut timings).await
        });
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

    fn image(&self, context: &Context) -> Result<Image, Failure> {
        let name = &self.definition.image;
        match &self.images {
            Images::Named => context.image(name),
            Images::Locked(sandboxfile, drift) => {
                context.with_images(sandboxfile, *drift, |images| images.image(name))
            }
        }
    }
}

fn timings_line(timings: &Timings) -> String {
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
