//! The command line: parse, call the library, print.

mod add;
mod apply;
mod args;
mod background;
mod complete;
mod condition;
mod cp;
mod df;
mod diff;
mod doctor;
mod down;
mod events;
mod exe;
mod exec;
mod failure;
mod fleet;
mod generate;
mod guest;
mod image;
mod init;
mod inspect;
mod install;
mod launch;
mod link;
mod list;
mod load;
mod lock;
mod login;
mod logs;
mod metrics;
mod net;
mod port;
mod project;
mod pull;
mod push;
mod remove;
mod rm;
mod run;
mod save;
mod settings;
mod status;
mod stop;
mod tag;
mod target;
mod uninstall;
mod up;
mod volume;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ui::Ui;

use failure::Failure;
use settings::Context;

pub use complete::completion;
pub use generate::man_page;

/// What a command ends with: the guest's exit code where one ran, else 0.
type Outcome = Result<u8, Failure>;

#[derive(Debug, Parser)]
#[command(
    name = "msb",
    version,
    about = "Run code you do not trust in microVMs that feel like local processes",
    disable_help_subcommand = true,
    arg_required_else_help = true,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Short names: msr = msb run, msx = msb exe, msi = msb install (`msb self link` makes them).\n\n\
        Examples:\n  msx python                        a throw-away Python\n  \
        msb init && msb add app -i python a project with one sandbox\n  \
        msr app                           run it; what it writes stays in ./menv\n  \
        msi alpine slim-linux             a sandbox as a command on PATH"
)]
struct Cli {
    /// Print errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print all commands as a tree
    #[arg(long, exclusive = true)]
    tree: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
// The flags of fifty commands take longer to set up than most of them take to run, so only those of the one that is given are; what the
// list of commands says is here for that.
#[command(defer = true)]
enum Command {
    /// Start a project: a Sandboxfile, and menv/ in .gitignore
    Init(init::Args),
    /// Add sandboxes to the Sandboxfile
    Add(Box<add::Args>),
    /// Remove sandboxes from the Sandboxfile
    Remove(remove::Args),
    /// List the sandboxes of the project, those with names of their own, and the installed ones
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Run a sandbox of the project, or an image as a throw-away sandbox
    #[command(visible_alias = "r")]
    Run(Box<run::RunArgs>),
    /// Open a shell in a sandbox of the project
    Shell(Box<run::ShellArgs>),
    /// Start the sandboxes of the project, and show what they write
    Up(Box<up::Args>),
    /// Stop the sandboxes of the project
    Down(down::Args),
    /// Make what runs be what the Sandboxfile says
    Apply(Box<apply::Args>),
    /// Make a sandbox of an image, with a name of its own
    Create(Box<background::CreateArgs>),
    /// Start sandboxes in the background
    Start(Box<background::StartArgs>),
    /// Run a command in a running sandbox
    Exec(Box<exec::ExecArgs>),
    /// Join the main process of a running sandbox
    Attach(exec::AttachArgs),
    /// Show what the main process of a sandbox has written
    #[command(visible_alias = "log")]
    Logs(logs::Args),
    /// Stop sandboxes
    Stop(stop::StopArgs),
    /// Stop sandboxes and start them again in the background
    Restart(stop::RestartArgs),
    /// Send a signal to the main process of sandboxes
    Kill(stop::KillArgs),
    /// Make sandboxes stand still
    Pause(stop::PauseArgs),
    /// Let paused sandboxes go on
    Unpause(stop::UnpauseArgs),
    /// Wait until sandboxes have ended and print the exit codes of their main processes
    Wait(stop::WaitArgs),
    /// Show running sandboxes, of all projects
    #[command(visible_alias = "ps")]
    Status(status::Args),
    /// Show everything known about sandboxes, as JSON
    Inspect(inspect::Args),
    /// Show where the ports of a running sandbox are published
    Port(port::Args),
    /// Show what has happened to sandboxes
    Events(events::Args),
    /// Copy files between a sandbox and the host
    Cp(cp::Args),
    /// Show what a sandbox has changed of its image
    Diff(diff::Args),
    /// Show processors, memory, disk and network of running sandboxes
    #[command(visible_alias = "stats")]
    Metrics(metrics::MetricsArgs),
    /// Show the processes of running sandboxes, live
    Top(metrics::TopArgs),
    /// Remove sandboxes with everything they have written
    Rm(rm::RmArgs),
    /// Give a sandbox that `msb create` made another name
    Rename(rm::RenameArgs),
    /// Remove what the project's sandboxes have written
    Clean(rm::CleanArgs),
    /// Pin the images of the Sandboxfile to their digests
    Lock(lock::LockArgs),
    /// Pin images to what their names stand for now
    Update(lock::UpdateArgs),
    /// Run an image in a throw-away sandbox that leaves no trace
    #[command(visible_alias = "x")]
    Exe(Box<exe::Args>),
    /// Make an image a command on PATH that keeps what it writes
    #[command(visible_alias = "i")]
    Install(Box<install::Args>),
    /// Remove an installed sandbox: its command and everything it kept
    Uninstall(uninstall::Args),
    /// Download images from registries
    Pull(pull::Args),
    /// Load images from an archive or folder
    Load(load::Args),
    /// Log in to a registry
    Login(login::LoginArgs),
    /// Log out of a registry
    Logout(login::LogoutArgs),
    /// Write images to an archive or folder
    Save(save::Args),
    /// Upload an image to a registry
    Push(push::Args),
    /// Give an image another name
    Tag(tag::Args),
    /// Show what the image cache holds, what is shared, and what can go
    Df(df::Args),
    /// Work with images
    #[command(subcommand, arg_required_else_help = true)]
    Image(image::Command),
    /// Work with named volumes
    #[command(subcommand, arg_required_else_help = true)]
    Volume(volume::Command),
    /// Work with networks
    #[command(subcommand, arg_required_else_help = true)]
    Net(net::Command),
    /// Check what this machine can run, and say what to do about what it cannot
    Doctor(doctor::Args),
    /// Manage msb itself
    #[command(subcommand, name = "self", arg_required_else_help = true)]
    Itself(link::Command),
    /// Print completions for a shell
    Completion(generate::Args),
}

/// Runs the command line `args`, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|arg| arg == crate::vm::VMM_SUBCOMMAND) {
        return crate::vm::vmm_main();
    }
    if args.get(1).is_some_and(|arg| arg == crate::sandbox::SUPERVISE_SUBCOMMAND) {
        return crate::sandbox::supervise_main();
    }
    match complete::answer(&args) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => error.exit(),
    }
    let cli = match Cli::try_parse_from(expand_help(expand_name(args))) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data; the code for wrong usage is 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let ui = Ui::new(cli.quiet);
    let outcome = match cli.command {
        Some(command) => dispatch(command, ui),
        None if cli.tree => generate::tree(ui),
        None => Err(Failure::new("no command given").hint("`msb --help` lists them").code(2)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(ui),
    }
}

fn dispatch(command: Command, ui: Ui) -> Outcome {
    let context = Context::load(ui)?;
    match command {
        Command::Init(args) => args.run(&context),
        Command::Add(args) => args.run(&context),
        Command::Remove(args) => args.run(&context),
        Command::List(args) => args.run(&context),
        Command::Run(args) => args.run(&context),
        Command::Shell(args) => args.run(&context),
        Command::Up(args) => args.run(&context),
        Command::Down(args) => args.run(&context),
        Command::Apply(args) => args.run(&context),
        Command::Create(args) => args.run(&context),
        Command::Start(args) => args.run(&context),
        Command::Exec(args) => args.run(&context),
        Command::Attach(args) => args.run(&context),
        Command::Logs(args) => args.run(&context),
        Command::Stop(args) => args.run(&context),
        Command::Restart(args) => args.run(&context),
        Command::Kill(args) => args.run(&context),
        Command::Pause(args) => args.run(&context),
        Command::Unpause(args) => args.run(&context),
        Command::Wait(args) => args.run(&context),
        Command::Status(args) => args.run(&context),
        Command::Inspect(args) => args.run(&context),
        Command::Port(args) => args.run(&context),
        Command::Events(args) => args.run(&context),
        Command::Cp(args) => args.run(&context),
        Command::Diff(args) => args.run(&context),
        Command::Metrics(args) => args.run(&context),
        Command::Top(args) => args.run(&context),
        Command::Rm(args) => args.run(&context),
        Command::Rename(args) => args.run(&context),
        Command::Clean(args) => args.run(&context),
        Command::Lock(args) => args.run(&context),
        Command::Update(args) => args.run(&context),
        Command::Exe(args) => args.run(&context),
        Command::Install(args) => args.run(&context),
        Command::Uninstall(args) => args.run(&context),
        Command::Pull(args) => args.run(&context),
        Command::Load(args) => args.run(&context),
        Command::Login(args) => args.run(&context),
        Command::Logout(args) => args.run(&context),
        Command::Save(args) => args.run(&context),
        Command::Push(args) => args.run(&context),
        Command::Tag(args) => args.run(&context),
        Command::Df(args) => args.run(&context),
        Command::Image(command) => command.run(&context),
        Command::Volume(command) => command.run(&context),
        Command::Net(command) => command.run(&context),
        Command::Doctor(args) => args.run(&context),
        Command::Itself(command) => command.run(&context),
        Command::Completion(args) => args.run(&context),
    }
}

/// The first digits of a digest, as people compare them.
fn short_digest(digest: &str) -> String {
    digest.split(':').next_back().unwrap_or_default().chars().take(12).collect()
}

/// The names of an image for a table.
fn names_or_none(names: &[String]) -> String {
    if names.is_empty() { "<none>".to_owned() } else { names.join(", ") }
}

/// A time for programs: seconds since 1970.
fn seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The links `msr`, `msx` and `msi` stand for a subcommand each.
fn expand_name(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|name| Path::new(name).file_name()).and_then(OsStr::to_str);
    let verb = match name {
        Some("msr") => "run",
        Some("msx") => "exe",
        Some("msi") => "install",
        _ => return args,
    };
    args.insert(1, verb.into());
    args
}

/// `msb help run` is `msb run --help`.
fn expand_help(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|verb| verb == "help") {
        args.remove(1);
        args.push("--help".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_of_commands_say_what_the_commands_do() {
        fn all(command: &clap::Command) -> Vec<(String, String)> {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let here = (command.get_name().to_owned(), about);
            [here].into_iter().chain(command.get_subcommands().flat_map(all)).collect()
        }
        let mut built = Cli::command();
        built.build();
        assert_eq!(all(&Cli::command()), all(&built));
    }

    #[test]
    fn links_stand_for_their_verbs() {
        let expand = |words: &[&str]| expand_name(words.iter().map(OsString::from).collect());
        assert_eq!(expand(&["/usr/bin/msx", "python"]), ["/usr/bin/msx", "exe", "python"]);
        assert_eq!(expand(&["msb", "run"]), ["msb", "run"]);
    }

    #[test]
    fn help_is_a_word_as_well() {
        let expand = |words: &[&str]| expand_help(expand_name(words.iter().map(OsString::from).collect()));
        assert_eq!(expand(&["msb", "help"]), ["msb", "--help"]);
        assert_eq!(expand(&["msb", "help", "net", "set"]), ["msb", "net", "set", "--help"]);
        assert_eq!(expand(&["msx", "help"]), ["msx", "exe", "help"]);
    }
}
