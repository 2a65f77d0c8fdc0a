//! The sandbox a user means by a name: the nearest Sandboxfile's first, then those made by `create`, then installed ones.

use std::path::{Path, PathBuf};

use crate::manifest;
use crate::sandbox::{
    self, Answer, Client, Database, Definition, Kind, Question, Record, Status, Storage, Subject,
};

use super::args::ProjectArgs;
use super::failure::Failure;
use super::project::Project;
use super::settings::Context;

/// A sandbox that keeps what it writes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) definition: Definition,
    pub(super) folder: PathBuf,
    pub(super) sandboxfile: Option<PathBuf>,
}

impl Target {
    pub(super) fn name(&self) -> &str {
        &self.definition.name
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            kind: self.kind,
            folder: &self.folder,
            sandboxfile: self.sandboxfile.as_deref(),
            definition: &self.definition,
        }
    }

    pub(super) fn storage(&self) -> Storage {
        Storage::Kept(self.folder.clone())
    }

    /// Whoever supervises it.
    pub(super) fn client(&self, context: &Context) -> Result<Client, Failure> {
        match Client::connect(&context.paths, self.name(), &self.folder) {
            Err(error @ sandbox::Error::NotRunning { .. }) => match sandbox::status(&self.folder)? {
                Status::Running(_) => {
                    Err(Failure::from(error).hint("it is just starting or ending; try again"))
                }
                _ => Err(error.into()),
            },
            other => Ok(other?),
        }
    }

    /// Whether it runs, or waits to be started again.
    pub(super) fn is_up(&self, context: &Context) -> Result<bool, Failure> {
        // Between two starts nobody holds the disk, but the supervisor is there.
        let goes_on = || {
            let mut client = Client::connect(&context.paths, self.name(), &self.folder).ok()?;
            client.ask(Question::Fate).ok().filter(|answer| matches!(answer, Answer::Done))
        };
        Ok(self.is_running()? || goes_on().is_some())
    }

    /// Whether the supervisor that was last there still is: a moment longer than its sandbox runs.
    pub(super) fn has_supervisor(&self) -> bool {
        sandbox::supervisor_of(&self.folder).is_some_and(|holder| holder.is_alive())
    }

    /// Whether its disk is in use.
    pub(super) fn is_running(&self) -> Result<bool, Failure> {
        Ok(matches!(sandbox::status(&self.folder)?, Status::Running(_)))
    }

    pub(super) fn of_record(record: Record) -> Self {
        Self {
            kind: record.kind,
            definition: record.definition,
            folder: record.folder,
            sandboxfile: record.sandboxfile,
        }
    }
}

impl Project {
    /// The sandbox `name` of the project.
    pub(super) fn target(&self, name: &str) -> Result<Target, Failure> {
        let definition = self.definition(name)?;
        Ok(Target {
            kind: Kind::Project,
            definition,
            folder: project_folder(&self.path, name),
            sandboxfile: Some(self.path.clone()),
        })
    }
}

/// `menv/NAME` beside the Sandboxfile, by the one name that every way to it leads to.
pub(super) fn project_folder(sandboxfile: &Path, name: &str) -> PathBuf {
    let folder = sandboxfile.parent().unwrap_or(Path::new("/"));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.join("menv").join(name)
}

impl Context {
    /// The state database.
    pub(super) fn database(&self) -> Result<Database, Failure> {
        Ok(Database::open(&self.paths)?)
    }

    /// The sandbox that `name` means.
    pub(super) fn target(&self, project: &ProjectArgs, name: &str) -> Result<Target, Failure> {
        let project = project.load()?;
        if let Some(project) = &project {
            if project.file.sandboxes.contains_key(name) {
                return project.target(name);
            }
            // One that runs although it is no longer in the file can still be stopped.
            if let Some(record) = self.database()?.in_folder(&project_folder(&project.path, name))? {
                return Ok(Target::of_record(record));
            }
        }
        if let Some(record) = self.database()?.named(name)? {
            return Ok(Target::of_record(record));
        }
        let installed = self.installed();
        match installed.get(name) {
            Ok(definition) => {
                let Storage::Kept(folder) = installed.storage(name) else {
                    return Err(self.unknown(&project, name));
                };
                Ok(Target { kind: Kind::Installed, definition, folder, sandboxfile: None })
            }
            Err(sandbox::Error::UnknownInstalled { .. } | sandbox::Error::Name { .. }) => {
                Err(self.unknown(&project, name))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The sandboxes that `names` mean; none named are all of the project.
    pub(super) fn targets(&self, project: &ProjectArgs, names: &[String]) -> Result<Vec<Target>, Failure> {
        super::project::refuse_repeated(names)?;
        names.iter().map(|name| self.target(project, name)).collect()
    }

    /// Every sandbox that can be named here.
    pub(super) fn all_targets(&self, project: Option<&Project>) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        if let Some(project) = project {
            for name in project.file.sandboxes.keys() {
                targets.push(project.target(name)?);
            }
        }
        let records = self.database()?.all()?;
        targets
            .extend(records.into_iter().filter(|record| record.kind == Kind::Named).map(Target::of_record));
        let installed = self.installed();
        for name in installed.names()? {
            if let Storage::Kept(folder) = installed.storage(&name) {
                let definition = installed.get(&name)?;
                targets.push(Target { kind: Kind::Installed, definition, folder, sandboxfile: None });
            }
        }
        Ok(targets)
    }

    fn unknown(&self, project: &Option<Project>, name: &str) -> Failure {
        let failure = Failure::new(format!("there is no sandbox `{name}`"));
        let known = self.all_targets(project.as_ref()).unwrap_or_default();
        let names: Vec<&str> = known.iter().map(Target::name).collect();
        match manifest::nearest(name, names.iter().copied()).first() {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None if names.is_empty() => failure
                .hint(format!("make one with `msb create --name {name} IMAGE`, or add it to a Sandboxfile")),
            None => failure.hint(format!("there are: {}", names.join(", "))),
        }
    }
}
