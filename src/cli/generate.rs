//! Completions and manual page, made from the definition of the command line.

use std::io;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::complete::completion;
use super::settings::Context;
use super::{Cli, Outcome};
use crate::ui::Ui;

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

/// `msb --tree`: every command with what it does.
pub(super) fn tree(ui: Ui) -> Outcome {
    let mut lines = Vec::new();
    branch(&Cli::command(), "", &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, about): &(String, String)| format!("{name:width$}   {about}").trim_end().to_owned();
    ui.data(lines.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    Ok(0)
}

fn branch(command: &clap::Command, indent: &str, lines: &mut Vec<(String, String)>) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    lines.push((command.get_name().to_owned(), about));
    let commands: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    for (number, below) in commands.iter().enumerate() {
        let last = number + 1 == commands.len();
        let start = lines.len();
        branch(below, &format!("{indent}{}", if last { "    " } else { "│   " }), lines);
        if let Some((name, _)) = lines.get_mut(start) {
            *name = format!("{indent}{}{name}", if last { "└── " } else { "├── " });
        }
    }
}
