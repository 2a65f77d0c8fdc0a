//! `msb exec` and `msb attach`.

use std::ffi::OsString;
use std::time::Duration;

use crate::agent::{self, ExecSpec, Terminal};
use crate::manifest::parse_duration;
use crate::sandbox::{Answer, Live, Question};
use crate::ui::{self, Joint, Parted};

use super::Outcome;
use super::args::{FileArgs, ProcessArgs, TtyArgs};
use super::failure::Failure;
use super::project::environment;
use super::settings::Context;
use super::target::Target;

/// The keys that leave a main process alone: Ctrl-P Ctrl-Q, as docker has it.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";
/// The exit code of what ran out of time, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// Run a command in a running sandbox
///
/// User, working directory and environment are the sandbox's unless given. Without a command, its shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb exec app -- ps aux\n  msb exec -it app -- bash\n  \
    msb exec -u nobody -w /tmp app -- id\n  msb exec -d app -- make\n  msb exec --timeout 10s app -- ./check")]
pub(super) struct ExecArgs {
    /// Sandbox
    name: String,
    #[command(flatten)]
    file: FileArgs,
    /// Leave it running: its output is dropped
    #[arg(short, long, conflicts_with_all = ["tty", "interactive", "timeout"])]
    detach: bool,
    /// Pass standard input on, which is the default
    #[arg(short, long, overrides_with = "no_stdin")]
    interactive: bool,
    /// Give the command no standard input
    #[arg(long, overrides_with = "interactive")]
    no_stdin: bool,
    #[command(flatten)]
    tty: TtyArgs,
    #[command(flatten)]
    process: ProcessArgs,
    /// Kill the command after so long, with exit code 124: 10s, 5m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl ExecArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = context.target(&self.file.project(), &self.name)?;
        let live = target.client(context)?.status()?;
        let tty = self.tty.wish().unwrap_or_else(ui::has_terminal) && !self.detach;
        let mut spec = self.spec(&live)?;
        if self.detach {
            return detached(context, &target, spec);
        }
        if tty {
            let size = ui::terminal_size();
            let term = std::env::var("TERM").ok();
            spec.tty = Some(Terminal { rows: size.rows, cols: size.cols, term });
        }
        spec.null_stdin = self.no_stdin;
        let client = target.client(context)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            let connection = match client.join(false) {
                Ok(connection) => connection,
                Err(error) => return Err(Failure::from(error)),
            };
            let process = connection.exec(&spec).map_err(|error| lost(&target, error))?;
            let control = process.control.clone();
            let joint = Joint {
                tty,
                input: !self.no_stdin,
                stop_signal: libc::SIGTERM,
                detach_keys: Vec::new(),
                log: None,
            };
            let talk = ui::join(process, joint);
            let timed_out = async {
                match self.timeout {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(talk);
            tokio::select! {
                parted = &mut talk => parted.map(Some),
                () = timed_out => match control.signal_group(libc::SIGKILL) {
                    Ok(()) => talk.await.map(|_| None),
                    Err(error) => Err(error),
                }
            }
            .map_err(|error| lost(&target, error))
        });
        runtime.shutdown_background();
        match outcome? {
            None => {
                context.ui.warning(format_args!(
                    "the command took longer than {:?} and was killed",
                    self.timeout.unwrap_or_default()
                ));
                Ok(TIMED_OUT)
            }
            Some(Parted::Detached) => Ok(0),
            Some(Parted::Ended(outcome)) => ended(outcome),
        }
    }

    fn spec(&self, live: &Live) -> Result<ExecSpec, Failure> {
        let argv =
            if self.command.is_empty() { vec![live.shell.clone().into()] } else { self.command.clone() };
        let env = environment(&self.process)?;
        Ok(ExecSpec {
            argv: argv.into_iter().map(Into::into).collect(),
            env: env.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            cwd: Some(self.process.workdir.clone().unwrap_or_else(|| live.workdir.clone()).into()),
            user: self.process.user.clone().or_else(|| live.user.clone()),
            ..ExecSpec::default()
        })
    }
}

fn detached(context: &Context, target: &Target, spec: ExecSpec) -> Outcome {
    match target.client(context)?.ask(Question::Exec(Box::new(spec)))? {
        Answer::NotStarted { code, message } => Err(Failure::new(message).code(code)),
        _ => Ok(0),
    }
}

/// The exit code of a process that is over.
fn ended(outcome: agent::Outcome) -> Outcome {
    let code = outcome.exit_code();
    match outcome {
        agent::Outcome::Failed(failed) => Err(Failure::new(failed.message).code(code)),
        agent::Outcome::Exited(_) => Ok(code),
    }
}

/// The connection went before the process did.
fn lost(target: &Target, error: agent::Error) -> Failure {
    match error {
        agent::Error::Closed => {
            Failure::new(format!("sandbox `{}` ended while the command ran", target.name()))
                .hint(format!("`msb logs {0}` and `msb inspect {0}` may tell why", target.name()))
        }
        error => Failure::from(crate::sandbox::Error::from(error)),
    }
}

/// Join the main process of a running sandbox
///
/// Shows what it writes from now on, passes on what is typed and the signals msb gets. The detach keys leave it running; so
/// does the end of standard input. The exit code is the process's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb attach app\n  msb attach --detach-keys ctrl-x app")]
pub(super) struct AttachArgs {
    /// Sandbox
    name: String,
    #[command(flatten)]
    file: FileArgs,
    /// Keys that leave the process alone, on a terminal
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
}

impl AttachArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = context.target(&self.file.project(), &self.name)?;
        attach(context, &target, &self.detach_keys)
    }
}

/// Joins the main process of `target`.
pub(super) fn attach(context: &Context, target: &Target, detach_keys: &str) -> Outcome {
    let keys = parse_keys(detach_keys)?;
    let live = target.client(context)?.status()?;
    let main = live.main;
    let tty = main.is_some_and(|main| main.tty) && ui::has_terminal();
    let client = target.client(context)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let parted = runtime.block_on(async {
        let connection = client.join(true)?;
        let process = connection.main_exec().ok_or(agent::Error::Closed)?;
        if tty {
            process.control.resize(ui::terminal_size())?;
        }
        let input = main.is_some_and(|main| main.interactive);
        let joint = Joint { tty, input, stop_signal: libc::SIGTERM, detach_keys: keys, log: None };
        Ok::<_, crate::sandbox::Error>(ui::join(process, joint).await)
    });
    runtime.shutdown_background();
    match parted? {
        Ok(Parted::Ended(outcome)) => {
            super::stop::settle(context, target, live.started);
            ended(outcome)
        }
        Ok(Parted::Detached) => {
            context.ui.message(format_args!("\nleft {} running", target.name()));
            Ok(0)
        }
        Err(error) => Err(lost(target, error)),
    }
}

/// `ctrl-p,ctrl-q`: single characters and `ctrl-` with a letter or one of `@[\]^_`, as docker writes them.
fn parse_keys(text: &str) -> Result<Vec<u8>, Failure> {
    let key = |word: &str| match (word.as_bytes(), word.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) => Some(*byte),
        (_, Some([byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'@'..=b'_')])) => {
            Some(byte.to_ascii_uppercase() & 0x1f)
        }
        _ => None,
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(key).collect::<Option<_>>().ok_or_else(|| {
        Failure::new(format!("`{text}` are no keys"))
            .hint("write single characters and ctrl-LETTER with commas between them, such as ctrl-p,ctrl-q")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_written_as_docker_has_them() {
        assert_eq!(parse_keys(DETACH_KEYS).unwrap(), [0x10, 0x11]);
        assert_eq!(parse_keys("ctrl-@,a,ctrl-]").unwrap(), [0, b'a', 0x1d]);
        assert_eq!(parse_keys("").unwrap(), [0; 0]);
        for wrong in ["ctrl-", "ab", "ctrl-1", ",", "strg-a"] {
            assert!(parse_keys(wrong).is_err(), "{wrong}");
        }
    }
}
