//! `msb cp`.

use std::path::Path;

use crate::agent::ByteString;
use crate::sandbox::copy::{self, Copied, CopyError, CopyOptions};
use crate::ui::human_bytes;

use super::Outcome;
use super::args::{FileArgs, MachineArgs};
use super::failure::Failure;
use super::guest::with_guest;
use super::settings::Context;

/// Copy files between a sandbox and the host
///
/// One of the two is NAME:PATH. A folder goes as a whole, FOLDER/. as its content; an existing folder as target gets the copy in
/// it. `-` is a tar archive on standard input or output. Copies belong to the caller on the host and to root in the sandbox.
/// Works on stopped sandboxes too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb cp app:/var/log/app.log .\n  msb cp src/. app:/work\n  \
    msb cp app:/etc - | tar t\n  tar c data | msb cp - app:/srv")]
pub(super) struct Args {
    /// What to copy: a path, NAME:PATH or `-`
    #[arg(value_name = "SRC")]
    from: String,
    /// Where to: a path, NAME:PATH or `-`
    #[arg(value_name = "DST")]
    to: String,
    #[command(flatten)]
    file: FileArgs,
    /// Keep owner, group, attributes and setuid bits; on the host owners are kept for root only
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symlink leads to when SRC is one
    #[arg(short = 'L', long)]
    follow_link: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End<'a> {
    Host(&'a Path),
    Stream,
    Sandbox(&'a str, &'a str),
}

impl<'a> End<'a> {
    /// As docker reads it: a name before the first colon, unless what is before it has a slash or begins with a dot.
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((name, path)) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {
                Self::Sandbox(name, path)
            }
            _ => Self::Host(Path::new(text)),
        }
    }
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let options = CopyOptions { archive: self.archive, follow: self.follow_link };
        let (from, to) = (End::parse(&self.from), End::parse(&self.to));
        let name = match (&from, &to) {
            (End::Sandbox(..), End::Sandbox(..)) => {
                return Err(Failure::new("one of the two must be on the host")
                    .hint(format!("copy by way of a pipe: msb cp {} - | msb cp - {}", self.from, self.to)));
            }
            (End::Sandbox(name, _), _) | (_, End::Sandbox(name, _)) => *name,
            _ => {
                return Err(Failure::new("neither of the two is in a sandbox")
                    .hint("write NAME:PATH for a path in a sandbox"));
            }
        };
        let target = context.target(&self.file.project(), name)?;
        let quiet = |_| {};
        let copied = with_guest(context, &target, &self.machine, async |guest| {
            let copied = match (from, to) {
                (End::Sandbox(_, from), End::Host(to)) => {
                    copy::to_host(guest, (&ByteString::from(from), to), options, &quiet).await
                }
                (End::Host(from), End::Sandbox(_, to)) => {
                    copy::to_guest(guest, (from, &ByteString::from(to)), options, &quiet).await
                }
                (End::Sandbox(_, from), _) => {
                    copy::to_stream(guest, &ByteString::from(from), tokio::io::stdout(), options).await
                }
                (_, End::Sandbox(_, to)) => {
                    copy::from_stream(guest, tokio::io::stdin(), &ByteString::from(to), options).await
                }
                // One of the two is in a sandbox: that was looked at above.
                _ => Ok(Copied::default()),
            };
            copied.map_err(failure)
        })?;
        if copied.left_out > 0 {
            context.ui.warning(format_args!("left out {} devices, pipes or sockets", copied.left_out));
        }
        context.ui.done("Copied", format_args!("{} as {}", self.from, human_bytes(copied.bytes)));
        Ok(0)
    }
}

fn failure(error: CopyError) -> Failure {
    Failure::new(crate::sandbox::headline(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_docker_reads_them() {
        let host = |path| End::Host(Path::new(path));
        for (text, end) in [
            ("app:/etc", End::Sandbox("app", "/etc")),
            ("app:", End::Sandbox("app", "")),
            ("app:a:b", End::Sandbox("app", "a:b")),
            ("./a:b", host("./a:b")),
            ("/a:b", host("/a:b")),
            ("a/b:c", host("a/b:c")),
            (":a", host(":a")),
            ("-", End::Stream),
            ("plain", host("plain")),
        ] {
            assert_eq!(End::parse(text), end, "{text}");
        }
    }
}
