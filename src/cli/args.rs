//! Flags that several commands share; each has one meaning everywhere.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum, ValueHint};
use jiff::Timestamp;

use crate::manifest::{NAME_RULE, Size, Tmpfs, Volume, is_name, parse_duration};
use crate::vm::VmmChoice;

use super::failure::Failure;
use super::net::NetworkArgs;

/// Which Sandboxfile a command works on.
#[derive(Debug, Clone, Args)]
pub(super) struct ProjectArgs {
    /// Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(super) file: Option<PathBuf>,
}

/// The same, for commands whose `-f` means something else elsewhere too.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct FileArgs {
    /// Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(super) file: Option<PathBuf>,
}

impl FileArgs {
    /// Where to look for the Sandboxfile.
    pub(super) fn project(&self) -> ProjectArgs {
        ProjectArgs { file: self.file.clone() }
    }
}

/// What a sandbox gets of the machine.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct ResourceArgs {
    /// Number of virtual CPUs [default: 1]
    #[arg(long, alias = "cpu", value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) cpus: Option<u8>,
    /// Memory: MiB, or with a unit such as 512M or 2G [default: 1024]
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<Size>,
    /// Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]
    #[arg(long, value_name = "SIZE")]
    pub(super) disk: Option<Size>,
    /// Most processes and threads its commands may have at a time [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pids_limit: Option<u32>,
    /// Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the
    /// end makes it read-only (can be repeated)
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]", value_parser = VolumeParser, value_hint = ValueHint::AnyPath,
        help_heading = "Volumes")]
    pub(super) volume: Vec<Volume>,
    /// Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)
    #[arg(long, value_name = "TARGET[:size=SIZE]", help_heading = "Volumes")]
    pub(super) tmpfs: Vec<Tmpfs>,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
}

/// Reads a [`Volume`], whose paths need not be UTF-8.
#[derive(Debug, Clone)]
struct VolumeParser;

impl TypedValueParser for VolumeParser {
    type Value = Volume;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Volume, clap::Error> {
        Volume::parse(value).map_err(|error| {
            let name = argument.map_or_else(String::new, ToString::to_string);
            let value = value.display();
            let text = format!("invalid value '{value}' for '{name}': {error}\n");
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

/// How the program in the sandbox is started.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct ProcessArgs {
    /// Set an environment variable, or with KEY alone pass on the caller's (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) env: Vec<OsString>,
    /// Read environment variables from a file (can be repeated)
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) env_file: Vec<PathBuf>,
    /// Working directory in the sandbox
    #[arg(long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// User, as name or id, with an optional group: USER[:GROUP]
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
}

/// The program to start instead of the default one.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct ProgramArgs {
    /// Program to run instead of the default one; its arguments come after `--`
    #[arg(short, long, short_alias = 'x', value_name = "PROGRAM")]
    pub(super) exec: Option<OsString>,
    /// Arguments for the program
    #[arg(last = true, value_name = "ARGS")]
    pub(super) args: Vec<OsString>,
}

impl ProgramArgs {
    /// What these run in an image with this entry point, to be written down as a sandbox's command; empty for what the image starts by
    /// itself.
    pub(super) fn command(self, entrypoint: &[String]) -> Result<Vec<String>, Failure> {
        let text = |word: OsString| {
            word.into_string().map_err(|word| Failure::new(format!("`{}` is not UTF-8", word.display())))
        };
        // As with a run in the foreground, arguments alone are for the image's entry point.
        let fixed = if self.exec.is_some() || self.args.is_empty() { &[] } else { entrypoint };
        let words = self.exec.into_iter().chain(self.args).map(text);
        fixed.iter().cloned().map(Ok).chain(words).collect()
    }
}

/// How a run behaves on this machine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub(super) struct MachineArgs {
    /// Hypervisor to use
    #[arg(long, env = "MSB_VMM", value_name = "NAME", hide_env_values = true)]
    pub(super) vmm: Option<VmmArg>,
    /// Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) kernel: Option<PathBuf>,
    /// Print how long each phase took to standard error
    #[arg(long, env = "MSB_TIMINGS", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) timings: bool,
}

/// Whether the program gets a terminal.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct TtyArgs {
    /// Give the program a terminal [default: when standard input and output are one]
    #[arg(short, long, overrides_with = "no_tty")]
    pub(super) tty: bool,
    /// Give the program pipes even on a terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    pub(super) no_tty: bool,
}

impl TtyArgs {
    /// The caller's wish, if any.
    pub(super) fn wish(&self) -> Option<bool> {
        match (self.tty, self.no_tty) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

/// Names of `--vmm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum VmmArg {
    /// libkrun where KVM runs guest code natively, else QEMU
    Auto,
    /// libkrun
    Krun,
    /// QEMU
    Qemu,
}

impl From<VmmArg> for VmmChoice {
    fn from(arg: VmmArg) -> Self {
        match arg {
            VmmArg::Auto => Self::Auto,
            VmmArg::Krun => Self::Krun,
            VmmArg::Qemu => Self::Qemu,
        }
    }
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// `--format` of every command that lists.
#[derive(Debug, Clone, Args)]
pub(super) struct FormatArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: Format,
}

/// A time, or how long ago it was.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = parse_duration(text).ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| {
        "write how long ago it was, such as 10m or 2h, or a time such as 2026-01-31T12:00:00Z".to_owned()
    })
}

/// Reads a name to give to something.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    is_name(text).then(|| text.to_owned()).ok_or_else(|| NAME_RULE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_written_down_is_what_a_run_would_start() {
        let command = |exec: Option<&str>, args: &[&str]| {
            let (exec, args) = (exec.map(OsString::from), args.iter().map(OsString::from).collect());
            ProgramArgs { exec, args }.command(&["tini".to_owned()]).ok().unwrap_or_default()
        };
        assert!(command(None, &[]).is_empty());
        assert_eq!(command(None, &["ls", "-l"]), ["tini", "ls", "-l"]);
        assert_eq!(command(Some("sh"), &["-c", "x"]), ["sh", "-c", "x"]);
    }
    use std::time::Duration;

    #[test]
    fn reads_times() {
        assert_eq!(parse_time("1970-01-01T00:01:00Z"), Ok(Timestamp::UNIX_EPOCH + Duration::from_secs(60)));
        let now = Timestamp::now();
        assert!(parse_time("2h").is_ok_and(|time| time < now - Duration::from_secs(7000)));
        assert!(parse_time("yesterday").is_err());
    }
}
