//! Completions and manual page, made from the definition of the command line.

use std::io;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::settings::Context;
use super::{Cli, Outcome};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  msb completion bash > ~/.local/share/bash-completion/completions/msb")]
pub(super) struct Args {
    /// Shell to complete in
    shell: Shell,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        context.ui.data(completion(self.shell).trim_end())?;
        Ok(0)
    }
}

/// The completions for `shell`.
#[must_use]
pub fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "msb", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of `msb` and its commands, in troff.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn man_page() -> io::Result<String> {
    let mut page = Vec::new();
    let mut cli = Cli::command();
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(&mut page)?;
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let man = clap_mangen::Man::new(command.clone().disable_help_flag(true));
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}
