//! `msb login` and `msb logout`.

use std::io::{IsTerminal as _, Read as _};

use crate::image::{CredentialFiles, Host, LoggedIn, Login};
use crate::ui;

use super::Outcome;
use super::failure::Failure;
use super::settings::Context;

/// Longest password read.
const MAX_PASSWORD: u64 = 64 << 10;

/// Log in to a registry
///
/// The registry is asked whether it accepts user name and password before they are kept, in docker's config.json or by the credential
/// helper it names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb login\n  msb login ghcr.io -u me\n  \
    pass show registry | msb login registry.example.com:5000 -u me --password-stdin")]
pub(super) struct LoginArgs {
    /// Registry, HOST or HOST:PORT [default: default-registry of config.toml, else Docker Hub]
    registry: Option<Host>,
    /// User name [default: asked for]
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Read the password, or an access token, from standard input [default: asked for]
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Log out of a registry
///
/// Forgets what `msb login`, docker or podman stored for it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb logout\n  msb logout ghcr.io")]
pub(super) struct LogoutArgs {
    /// Registry, HOST or HOST:PORT [default: default-registry of config.toml, else Docker Hub]
    registry: Option<Host>,
}

impl LoginArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let host = self.registry.unwrap_or_else(|| context.registries().default_registry().clone());
        let user = match self.username {
            Some(user) => user,
            None => ask(|| ui::ask(&format!("User name for {host}: ")), "-u USER and --password-stdin")?,
        };
        let password = match self.password_stdin {
            true => password_from_input()?,
            false => ask(|| ui::ask_secret(&format!("Password of {user}: ")), "--password-stdin")?,
        };
        if user.is_empty() || password.is_empty() {
            return Err(Failure::new("user name and password must not be empty"));
        }
        if user.contains(':') {
            return Err(Failure::new("a user name must not contain a colon"));
        }
        let login = Login { host: host.clone(), user: user.clone(), password };
        let LoggedIn { keeper, checked } = login.run(context.registries(), &CredentialFiles::default())?;
        if !checked {
            context
                .ui
                .note(format!("{host} asks for no password, so it is not known whether this one is right"));
        }
        context.ui.done("Logged in", format!("to {host} as {user}; kept in {keeper}"));
        Ok(0)
    }
}

impl LogoutArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let host = self.registry.unwrap_or_else(|| context.registries().default_registry().clone());
        match CredentialFiles::default().log_out(&host)?.as_slice() {
            [] => context.ui.note(format!("nothing was stored for {host}")),
            keepers => {
                context.ui.done("Logged out", format!("of {host}; removed from {}", keepers.join(", ")))
            }
        }
        Ok(0)
    }
}

/// Asks the user, if there is one; `instead` is what else can be done.
fn ask(question: impl FnOnce() -> std::io::Result<String>, instead: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        let failure = Failure::new("there is no terminal to ask for user name and password on");
        return Err(failure.hint(format!("use {instead}")));
    }
    match question() {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            Err(Failure::new("interrupted").code(128 + 2))
        }
        answer => Ok(answer?),
    }
}

/// Standard input without the newline that `echo` and editors put at its end.
fn password_from_input() -> Result<String, Failure> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(MAX_PASSWORD + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_PASSWORD {
        return Err(Failure::new("standard input is longer than a password can be"));
    }
    let text = String::from_utf8(text).map_err(|_| Failure::new("the password is not valid UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
