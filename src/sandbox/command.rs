//! Which program a run starts: the caller's wish, then the Sandboxfile, then the image.

use std::ffi::OsString;

use msb_guest::message::FILES_DIR;
use serde::{Deserialize, Serialize};

/// The folder of scripts below [`FILES_DIR`].
const SCRIPT_DIR: &str = "scripts";
/// The shell where neither Sandboxfile nor image names one.
const DEFAULT_SHELL: &str = "/bin/sh";
/// The script that runs when none is named.
pub(super) const START: &str = "start";

/// What the caller asks to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Program {
    /// What sandbox or image start by themselves.
    #[default]
    Default,
    /// A script of the Sandboxfile, by name.
    Script(String),
    /// This program instead of the image's entry point.
    Exec(OsString),
    /// The sandbox's shell.
    Shell,
    /// Nothing: the sandbox is up until it is stopped.
    Nothing,
}

/// A program with its arguments, as asked by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Invocation {
    /// Which program.
    pub program: Program,
    /// Its arguments; for [`Program::Default`] they replace the default arguments, as docker has it.
    pub args: Vec<OsString>,
}

/// What a definition says about programs.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices<'a> {
    pub(super) shell: Option<&'a str>,
    pub(super) scripts: Vec<(&'a str, &'a str)>,
    /// Program and arguments of the Sandboxfile's `command` or `exec`, or of an installed sandbox.
    pub(super) command: &'a [String],
    pub(super) entrypoint: &'a [String],
    pub(super) cmd: &'a [String],
}

/// A file below [`FILES_DIR`] that the agent makes before it starts the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScriptFile {
    pub(super) path: String,
    pub(super) contents: String,
}

/// A resolved command line, empty for none, and the script it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) argv: Vec<OsString>,
    pub(super) script: Option<ScriptFile>,
}

impl Choices<'_> {
    /// Turns the caller's wish into a command line. A script that does not exist is an empty one; whether it exists
    /// is for [`super::Definition::check_program`] to say.
    pub(super) fn resolve(&self, invocation: &Invocation) -> Resolved {
        let args = &invocation.args;
        let script =
            |name: &str| self.scripts.iter().find(|(script, _)| *script == name).map(|(_, body)| *body);
        match &invocation.program {
            Program::Exec(program) => plain([program.clone()], args),
            Program::Shell => plain([self.shell().into()], args),
            Program::Nothing => plain([], &[]),
            Program::Script(name) => self.script(name, script(name).unwrap_or_default(), args),
            Program::Default => match script(START) {
                Some(body) => self.script(START, body, args),
                None => self.default_program(args),
            },
        }
    }

    fn default_program(&self, args: &[OsString]) -> Resolved {
        let or_default = |default: &[String]| match args {
            [] => default.iter().map(OsString::from).collect(),
            _ => args.to_vec(),
        };
        let fixed: &[String] = if self.command.is_empty() { self.entrypoint } else { &self.command[..1] };
        let rest = or_default(self.command.get(1..).unwrap_or(self.cmd));
        let resolved = plain(fixed.iter().map(OsString::from), &rest);
        if resolved.argv.is_empty() { plain([self.shell().into()], &[]) } else { resolved }
    }

    fn script(&self, name: &str, body: &str, args: &[OsString]) -> Resolved {
        let contents =
            if body.starts_with("#!") { body.to_owned() } else { format!("#!{}\n{body}", self.shell()) };
        let path = format!("{SCRIPT_DIR}/{name}");
        let program = format!("{FILES_DIR}/{path}").into();
        Resolved { script: Some(ScriptFile { path, contents }), ..plain([program], args) }
    }

    pub(super) fn shell(&self) -> &str {
        self.shell.unwrap_or(DEFAULT_SHELL)
    }
}

fn plain(program: impl IntoIterator<Item = OsString>, args: &[OsString]) -> Resolved {
    Resolved { argv: program.into_iter().chain(args.iter().cloned()).collect(), script: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Resolves for an image with ENTRYPOINT `tini --` and CMD `serve -v`.
    fn resolve(command: &[&str], scripts: &[(&str, &str)], program: Program, args: &[&str]) -> Resolved {
        let (entrypoint, cmd, command) =
            (strings(&["tini", "--"]), strings(&["serve", "-v"]), strings(command));
        let choices = Choices {
            scripts: scripts.to_vec(),
            command: &command,
            entrypoint: &entrypoint,
            cmd: &cmd,
            ..Choices::default()
        };
        choices.resolve(&Invocation { program, args: args.iter().map(OsString::from).collect() })
    }

    fn argv(command: &[&str], program: Program, args: &[&str]) -> Vec<OsString> {
        resolve(command, &[], program, args).argv
    }

    #[test]
    fn the_image_decides_unless_told_otherwise() {
        assert_eq!(argv(&[], Program::Default, &[]), ["tini", "--", "serve", "-v"]);
        assert_eq!(argv(&[], Program::Default, &["ls", "-l"]), ["tini", "--", "ls", "-l"]);
        assert_eq!(argv(&["run", "it"], Program::Default, &[]), ["run", "it"]);
        assert_eq!(argv(&["run", "it"], Program::Default, &["now"]), ["run", "now"]);
        assert_eq!(argv(&["run"], Program::Default, &[]), ["run"]);
        assert_eq!(argv(&["run"], Program::Exec("sh".into()), &["-c", "x"]), ["sh", "-c", "x"]);
        assert_eq!(argv(&[], Program::Shell, &["-l"]), ["/bin/sh", "-l"]);
    }

    #[test]
    fn an_image_without_a_command_gets_a_shell() {
        assert_eq!(Choices::default().resolve(&Invocation::default()).argv, ["/bin/sh"]);
    }

    #[test]
    fn scripts_are_files_that_name_their_interpreter() {
        let scripts = [("start", "echo hi"), ("py", "#!/usr/bin/python3\nprint()")];
        let start = resolve(&["ignored"], &scripts, Program::Default, &["a"]);
        assert_eq!(start.argv, ["/.msb/scripts/start", "a"]);
        let body = |resolved: Resolved| resolved.script.map(|script| script.contents);
        assert_eq!(body(start).as_deref(), Some("#!/bin/sh\necho hi"));
        let python = resolve(&[], &scripts, Program::Script("py".into()), &[]);
        assert_eq!(body(python).as_deref(), Some("#!/usr/bin/python3\nprint()"));
    }
}
