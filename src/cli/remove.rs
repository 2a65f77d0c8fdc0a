//! `msb remove`.

use crate::manifest::edit;
use crate::sandbox::Storage;

use super::Outcome;
use super::args::ProjectArgs;
use super::settings::Context;

/// Remove sandboxes from the Sandboxfile
///
/// What a sandbox has kept under menv/ stays until you delete it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of sandboxes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let path = self.project.path()?;
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        edit::remove_from_file(&path, &names)?;
        context.ui.done("Removed", format_args!("{} from {}", names.join(", "), path.display()));
        for name in names {
            if let Storage::Kept(dir) = Storage::of_project(&path, name)
                && dir.exists()
            {
                context.ui.note(format_args!("its files are still in {}", dir.display()));
            }
        }
        Ok(0)
    }
}
