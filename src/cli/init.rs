//! `msb init`.

use std::path::PathBuf;

use clap::ValueHint;
use clap::builder::PossibleValuesParser;

use crate::manifest;

use super::Outcome;
use super::project::current_dir;
use super::settings::Context;

/// Start a project: a Sandboxfile, and menv/ in .gitignore
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb init\n  msb init --template python\n  msb init --file ../other")]
pub(super) struct Args {
    /// Folder of the project [default: the current one]
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    file: Option<PathBuf>,
    /// What to start from
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(manifest::template_names()))]
    template: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut dir = self.file.map_or_else(current_dir, Ok)?;
        if dir.file_name().is_some_and(|name| name == "Sandboxfile") {
            dir.pop();
        }
        let report = manifest::init(&dir, self.template.as_deref())?;
        context.ui.done("Created", report.sandboxfile.display());
        if self.template.is_none() {
            context.ui.note("add a sandbox with `msb add NAME --image IMAGE`");
        }
        Ok(0)
    }
}
