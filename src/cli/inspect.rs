//! `msb inspect`.

use serde::Serialize;

use crate::manifest::Meta;
use crate::sandbox::{Client, Definition, Kind, Live, Record, read_stamp};

use super::Outcome;
use super::args::FileArgs;
use super::settings::Context;
use super::target::Target;

/// Show everything known about sandboxes, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sandboxes: of the Sandboxfile, made by `create`, or installed
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// All about one.
#[derive(Debug, Serialize)]
struct Inspection {
    name: String,
    kind: Kind,
    folder: std::path::PathBuf,
    sandboxfile: Option<std::path::PathBuf>,
    /// What the Sandboxfile says about it for people.
    meta: Option<Meta>,
    /// Its version by the Sandboxfile.
    version: Option<semver::Version>,
    /// What the Sandboxfile says about the whole project for people.
    project_meta: Option<Meta>,
    /// As it would be started now; `last_run.definition` is what it was started as.
    definition: Definition,
    /// The image its disk was made for.
    image_digest: Option<String>,
    disk_bytes: u64,
    /// While it runs.
    live: Option<Live>,
    last_run: Option<Record>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let database = context.database()?;
        let mut all = Vec::new();
        let project = self.file.project().load()?;
        let file = |target: &Target| {
            project.as_ref().map(|project| &project.file).filter(|_| target.kind == Kind::Project)
        };
        let spec = |target: &Target| file(target).and_then(|file| file.sandboxes.get(target.name()));
        for target in context.targets(&self.file.project(), &self.names)? {
            let live = Client::connect(&context.paths, target.name(), &target.folder);
            all.push(Inspection {
                name: target.name().to_owned(),
                kind: target.kind,
                image_digest: read_stamp(&target.folder)?.map(|stamp| stamp.digest),
                disk_bytes: crate::sandbox::disk_usage(&target.folder),
                live: live.ok().and_then(|mut client| client.status().ok()),
                last_run: database.in_folder(&target.folder)?,
                meta: spec(&target).and_then(|spec| spec.meta.clone()),
                version: spec(&target).and_then(|spec| spec.version.clone()),
                project_meta: file(&target).and_then(|file| file.meta.clone()),
                definition: target.definition,
                folder: target.folder,
                sandboxfile: target.sandboxfile,
            });
        }
        context.ui.json(&all)?;
        Ok(0)
    }
}
