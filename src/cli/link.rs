//! `msb self`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::Outcome;
use super::failure::Failure;
use super::settings::Context;

const LINKS: [&str; 3] = ["msr", "msx", "msi"];

/// Commands on msb itself.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make the links msr, msx and msi
    Link {
        /// Folder for the links [default: the folder msb is in]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let Self::Link { dir } = self;
        let program = own_program()?;
        let own_dir = program.parent().unwrap_or(Path::new("/")).to_owned();
        let dir = dir.unwrap_or_else(|| own_dir.clone());
        // Beside the program a relative link survives a move of the folder.
        let target = if dir == own_dir { PathBuf::from("msb") } else { program };
        for name in LINKS {
            link(&target, &dir.join(name))?;
        }
        context.ui.done("Linked", format_args!("{} in {}", LINKS.join(", "), dir.display()));
        Ok(0)
    }
}

/// The path of this program, as launchers and links should name it.
pub(super) fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(format!("cannot tell where msb is: {error}")))
}

fn link(target: &Path, link: &Path) -> Result<(), Failure> {
    match std::fs::read_link(link) {
        Ok(current) if current == target => return Ok(()),
        Ok(current) if current.file_name() == Some("msb".as_ref()) => {
            std::fs::remove_file(link).map_err(|error| failed(link, &error))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        _ => {
            return Err(Failure::new(format!("{} exists and is not ours", link.display()))
                .hint("name another folder with --dir"));
        }
    }
    std::os::unix::fs::symlink(target, link).map_err(|error| failed(link, &error))
}

fn failed(link: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot make {}: {error}", link.display())).hint("name another folder with --dir")
}
