//! The sandboxes of a project, started and stopped together, in the order of what they depend on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;

use crate::manifest::Dependencies;
use crate::sandbox::project::{Ending, Steps, with_needed};
use crate::sandbox::{self, Invocation, Streams};
use crate::ui;

use super::args::MachineArgs;
use super::condition::Waits;
use super::failure::Failure;
use super::launch::Launch;
use super::lock::DriftArgs;
use super::project::{Project, refuse_repeated};
use super::run::DiskArgs;
use super::settings::Context;
use super::stop::{kill, stop};
use super::target::Target;

/// How the sandboxes of a project are started.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FleetArgs {
    #[command(flatten)]
    pub(super) machine: MachineArgs,
    #[command(flatten)]
    pub(super) disk: DiskArgs,
    #[command(flatten)]
    pub(super) drift: DriftArgs,
}

/// Some sandboxes of a project and all they need.
pub(super) struct Fleet<'a> {
    context: &'a Context,
    args: &'a FleetArgs,
    targets: IndexMap<String, Target>,
    /// Those that were started here.
    started: Mutex<Vec<Target>>,
    /// For what is needed; nothing more is started when they have been left.
    waits: Waits,
}

/// Sandboxes about to be started, with their images.
pub(super) type Launches = IndexMap<String, Launch>;

impl<'a> Fleet<'a> {
    /// The sandboxes `names` of `project`, all of them where none are named, and all they need.
    pub(super) fn new(
        context: &'a Context,
        project: &Project,
        names: &[String],
        args: &'a FleetArgs,
    ) -> Result<Self, Failure> {
        refuse_repeated(names)?;
        for name in names {
            project.target(name)?;
        }
        let all: IndexMap<String, Dependencies> = project
            .file
            .sandboxes
            .iter()
            .map(|(name, spec)| (name.clone(), spec.depends_on.clone()))
            .collect();
        let wanted = if names.is_empty() { all.keys().cloned().collect() } else { with_needed(&all, names) };
        let targets = wanted.into_iter().map(|name| Ok((name.clone(), project.target(&name)?)));
        Ok(Self {
            context,
            args,
            targets: targets.collect::<Result<_, Failure>>()?,
            started: Mutex::default(),
            waits: Waits::default(),
        })
    }

    pub(super) fn context(&self) -> &'a Context {
        self.context
    }

    /// Its sandboxes by name, in the order of the file.
    pub(super) fn targets(&self) -> &IndexMap<String, Target> {
        &self.targets
    }

    /// Gets ready to start those of its sandboxes that do not run, so that whatever can be wrong is found before anything
    /// starts.
    pub(super) fn launches(&self, is_wanted: impl Fn(&Target) -> bool) -> Result<Launches, Failure> {
        let mut launches = Launches::new();
        for (name, target) in self.targets.iter().filter(|(_, target)| is_wanted(target)) {
            let mut launch =
                Launch::of_target(self.context, target.clone(), self.args.disk, self.args.drift)?;
            launch.definition.checked_memory()?;
            launch.definition.check_volumes()?;
            let image = launch.image(self.context)?;
            launch.check_disk(&image)?;
            let terminal = target.definition.tty.unwrap_or(false).then(ui::terminal_size);
            launch.streams = Some(Streams { terminal, stdin: false });
            launches.insert(name.clone(), launch);
        }
        Ok(launches)
    }

    /// Starts `launches` in order; what is not among them counts as started. `begun` hears of every sandbox of the fleet that
    /// is up, by its number, and whether it was started here.
    pub(super) fn start(
        &self,
        launches: Launches,
        begun: &(dyn Fn(usize, bool) + Sync),
    ) -> Result<(), Failure> {
        let kernel = match launches.is_empty() {
            true => PathBuf::new(),
            false => std::path::absolute(self.context.machine(&self.args.machine)?.kernel.path())?,
        };
        let launches = Mutex::new(launches);
        let endings = Steps::up(&dependencies(self.targets.values())).walk(|name| {
            let launch = launches.lock().unwrap_or_else(PoisonError::into_inner).swap_remove(name);
            self.start_one(name, launch, &kernel)?;
            let is_ours = self.started().iter().any(|target| target.name() == name);
            begun(self.targets.get_index_of(name).unwrap_or_default(), is_ours);
            Ok(())
        });
        let mut first: Result<(), Failure> = Ok(());
        for (name, ending) in endings {
            match ending {
                Ending::Done => {}
                Ending::LeftOut(needed) => {
                    self.context.ui.note(format_args!("{name} was not started, because {needed} was not"));
                }
                Ending::Failed(_) if self.is_leaving() => {}
                Ending::Failed(error) if first.is_ok() => first = Err(error),
                Ending::Failed(error) => drop(error.report(self.context.ui)),
            }
        }
        first
    }

    fn start_one(&self, name: &str, launch: Option<Launch>, kernel: &Path) -> Result<(), Failure> {
        let Some(target) = self.targets.get(name) else { return Ok(()) };
        let Some(launch) = launch else { return Ok(()) };
        for (needed, condition) in &target.definition.depends_on {
            if let Some(needed) = self.targets.get(needed) {
                self.waits.wait(self.context, name, (needed, *condition))?;
            }
        }
        if self.is_leaving() {
            return Err(Failure::new(format!("`{name}` was not started")));
        }
        launch.start_on(self.context, Invocation::default(), &self.args.machine, kernel)?;
        self.context.ui.done("Started", name);
        self.started().push(target.clone());
        if self.is_leaving() {
            // Whoever stops the others has not seen this one.
            stop(self.context, target, Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// From now on nothing more is started.
    pub(super) fn leave(&self) {
        self.waits.leave();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.waits.is_leaving()
    }

    /// Stops what was started here.
    pub(super) fn stop_started(&self, grace: Duration) -> Result<(), Failure> {
        let targets: Vec<Target> = self.started().clone();
        stop_in_order(self.context, &targets, grace)
    }

    /// Kills what was started here and still runs.
    pub(super) fn kill_started(&self) -> Result<(), Failure> {
        let targets: Vec<Target> = self.started().clone();
        for target in &targets {
            if target.is_up(self.context)? {
                kill(self.context, target)?;
            }
        }
        Ok(())
    }

    fn started(&self) -> std::sync::MutexGuard<'_, Vec<Target>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Launch {
    /// Whether its disk was made for `image`, or may be made anew.
    fn check_disk(&self, image: &crate::image::Image) -> Result<(), Failure> {
        let Some(target) = &self.target else { return Ok(()) };
        match sandbox::read_stamp(&target.folder)? {
            Some(old)
                if old.digest != image.digest.to_string()
                    && self.on_change == sandbox::ImageChange::Refuse =>
            {
                let new =
                    sandbox::Stamp { image: self.definition.image.clone(), digest: image.digest.to_string() };
                let name = target.name().to_owned();
                Err(sandbox::Error::ImageChanged { name, old: Box::new(old), new: Box::new(new) }.into())
            }
            _ => Ok(()),
        }
    }
}

/// What each depends on.
fn dependencies<'t>(targets: impl Iterator<Item = &'t Target>) -> IndexMap<String, Dependencies> {
    targets.map(|target| (target.name().to_owned(), target.definition.depends_on.clone())).collect()
}

/// Stops sandboxes of one project, each after those that depend on it; the first failure is reported when all are done.
pub(super) fn stop_in_order(context: &Context, targets: &[Target], grace: Duration) -> Result<(), Failure> {
    let first: Mutex<Result<(), Failure>> = Mutex::new(Ok(()));
    let endings = Steps::down(&dependencies(targets.iter())).walk(|name| {
        let Some(target) = targets.iter().find(|target| target.name() == name) else { return Ok(()) };
        match stop(context, target, grace) {
            Ok(true) => context.ui.done("Stopped", name),
            Ok(false) => {}
            Err(error) => {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                if first.is_ok() {
                    *first = Err(error);
                } else {
                    error.report(context.ui);
                }
            }
        }
        // What it depends on is to stop all the same.
        Ok::<_, std::convert::Infallible>(())
    });
    drop(endings);
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}
