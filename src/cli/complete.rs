//! What a shell completes: commands and flags from their definition, and the names there are at this moment.
//!
//! The shell's script calls this program back, so that what it offers is always what this version takes.

use std::ffi::{OsStr, OsString};
use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _,
};
use clap_complete::env::{CompleteEnv, Shells};

use super::Cli;
use super::args::ProjectArgs;
use super::settings::Context;
use super::target::Target;
use crate::ui::Ui;

/// By this variable a shell's script says that it wants completions, and for which shell.
const VARIABLE: &str = "MSB_COMPLETE";

/// Gives names to complete.
type Names = fn() -> Vec<CompletionCandidate>;

/// Answers a shell that asks for completions of `args`; `false` when nobody does.
///
/// # Errors
/// The shell is not known, or standard output is closed.
pub(super) fn answer(args: &[OsString]) -> Result<bool, clap::Error> {
    // Looked at first: everything below is for a shell only.
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(false);
    }
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(command).var(VARIABLE).try_complete(args, here.as_deref())
}

/// The script by which `shell` completes `msb`.
#[must_use]
pub fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    if let Some(completer) = shells.completer(&shell.to_string()) {
        // Writing to memory does not fail.
        let _: io::Result<()> = completer.write_registration(VARIABLE, "msb", "msb", "msb", &mut script);
    }
    if shell == Shell::Zsh {
        // Loaded from a folder of functions, it is called for the first completion already.
        script.extend_from_slice(
            b"\nif [ \"$funcstack[1]\" = \"_msb\" ]; then\n    _clap_dynamic_completer_msb \"$@\"\nfi\n",
        );
    }
    String::from_utf8_lossy(&script).into_owned()
}

/// The command line with what its arguments are completed with.
fn command() -> Command {
    let mut whole = Cli::command();
    // With what is set up late otherwise.
    whole.build();
    completed(whole, "")
}

fn completed(command: Command, path: &str) -> Command {
    let here = path.to_owned();
    command.mut_args(|arg| offered(arg, &here)).mut_subcommands(|below| {
        let path = format!("{path} {}", below.get_name());
        completed(below, path.trim_start())
    })
}

fn offered(arg: Arg, command: &str) -> Arg {
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let value = value.unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
    match (value.as_str(), command) {
        ("SRC" | "DST", "cp") => arg.add(ArgValueCompleter::new(ends)),
        _ => match names(&value, command).filter(|_| arg.is_positional()) {
            Some(names) => arg.add(ArgValueCandidates::new(names)),
            None => arg,
        },
    }
}

/// The names that stand for a value called `value` of `command`.
fn names(value: &str, command: &str) -> Option<Names> {
    match (value, command) {
        // These are names that are to be given.
        ("NAME", "add" | "install" | "push" | "tag" | "volume create") => None,
        ("NAME", "uninstall") => Some(installed),
        ("NAME" | "VOLUME", _) if command.starts_with("volume ") => Some(volumes),
        ("NAME" | "OLD", _) => Some(sandboxes),
        ("NAME[~SCRIPT]", _) => Some(runnable),
        ("IMAGE" | "SOURCE", _) => Some(images),
        _ => None,
    }
}

/// A look at what there is. What cannot be read offers nothing: this is no place for errors.
fn context() -> Option<Context> {
    Context::load(Ui::new(true)).ok()
}

fn targets() -> Vec<Target> {
    let Some(context) = context() else { return Vec::new() };
    let project = ProjectArgs { file: None }.load().ok().flatten();
    context.all_targets(project.as_ref()).unwrap_or_default()
}

fn candidate(target: &Target) -> CompletionCandidate {
    CompletionCandidate::new(target.name()).help(Some(target.definition.image.clone().into()))
}

fn sandboxes() -> Vec<CompletionCandidate> {
    targets().iter().map(candidate).collect()
}

/// Sandboxes, their scripts, and images.
fn runnable() -> Vec<CompletionCandidate> {
    let mut all = Vec::new();
    for target in targets() {
        all.push(candidate(&target));
        let scripts = target.definition.scripts.iter().map(|(name, _)| name);
        all.extend(scripts.map(|script| CompletionCandidate::new(format!("{}~{script}", target.name()))));
    }
    all.extend(images());
    all
}

/// One of the two ends of a copy: a path of the host, or a sandbox and a colon.
fn ends(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = PathCompleter::any().complete(current);
    let begun = current.to_string_lossy();
    let named = targets().into_iter().filter(|target| target.name().starts_with(&*begun));
    all.extend(named.map(|target| CompletionCandidate::new(format!("{}:", target.name()))));
    all
}

fn installed() -> Vec<CompletionCandidate> {
    let names = context().and_then(|context| context.installed().names().ok());
    names.unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

fn volumes() -> Vec<CompletionCandidate> {
    let volumes = context().and_then(|context| crate::volume::Store::new(&context.paths).list().ok());
    volumes.unwrap_or_default().into_iter().map(|volume| CompletionCandidate::new(volume.name)).collect()
}

fn images() -> Vec<CompletionCandidate> {
    let Some(context) = context() else { return Vec::new() };
    let images = context.store().and_then(|store| Ok(store.list()?));
    images
        .unwrap_or_default()
        .iter()
        .map(|image| CompletionCandidate::new(context.show(&image.reference)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that take names of sandboxes, and those whose names are something else.
    #[test]
    fn every_command_that_takes_names_offers_some() {
        let mut without = Vec::new();
        for command in command().get_subcommands() {
            for arg in command.get_positionals() {
                let names = arg.get::<ArgValueCandidates>().is_some();
                if !names && arg.get::<ArgValueCompleter>().is_none() {
                    without.push(format!("{} {}", command.get_name(), arg.get_id()));
                }
            }
        }
        let new_names = ["add names", "install alias", "push target", "rename new", "tag name"];
        let programs = ["create args", "exe args", "exec command", "install args", "run args", "shell args"];
        let others = ["completion shell", "login registry", "logout registry", "port port"];
        let mut known = [&new_names[..], &programs, &others].concat();
        known.sort_unstable();
        without.sort_unstable();
        assert_eq!(without, known);
    }
}
