//! From an [`ExecSpec`] to a running process, or to the reason why not.

use super::Setup;
use super::account::{Account, Database};
use super::environment::{Environment, arguments};
use super::spawn::{Child, Plan, SpawnError, Step, spawn};
use super::terminal::Terminal;
use super::toolbox::Toolbox;
use crate::message::{ByteString, ExecSpec, Failed, FailureKind, Resource, ResourceLimit};
use nix::fcntl::OFlag;
use nix::unistd::{fchown, pipe2};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Interpreter of scripts without a `#!` line.
const SHELL: &CStr = c"/bin/sh";

/// A running process and this end of its standard streams.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    /// `None` with a terminal.
    pub(super) stderr: Option<OwnedFd>,
    pub(super) terminal: Option<Terminal>,
}

/// The process's end of its standard streams, and ours.
struct Stdio {
    theirs: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    terminal: Option<Terminal>,
}

/// Starts the process that `spec` describes.
pub(super) fn launch(spec: &ExecSpec, setup: &Setup) -> Result<Launched, Failed> {
    let unprivileged = spec.user.is_none() && !nix::unistd::geteuid().is_root();
    let account =
        Database::read().resolve(spec.user.as_deref()).map_err(|e| fail(FailureKind::BadUser, e))?;
    let environment = Environment::new(&setup.env, spec, &account);
    let program = program(spec, &environment, setup.tools.as_ref())?;
    let cwd = spec.cwd.as_ref().map_or(b"/".as_slice(), ByteString::as_bytes);
    let cwd = if cwd.is_empty() { b"/" } else { cwd };
    let cwd = CString::new(cwd).map_err(|_| fail(FailureKind::BadWorkdir, "it contains a NUL byte"))?;
    let stdio = stdio(spec, &account).map_err(|e| other(format!("cannot make its standard streams: {e}")))?;
    let [stdin, stdout, stderr] = descriptors(&stdio)?;
    let mut plan = Plan {
        programs: program.files,
        open_program: program.open,
        inherited: program.inherited,
        argv: program.argv,
        env: environment.strings().map_err(other)?,
        cwd,
        account: (!unprivileged).then_some(&account),
        cgroup: setup.commands.as_ref().filter(|_| spec.tool.is_none()).map(AsRawFd::as_raw_fd),
        limits: spec.rlimits.iter().map(limit).collect(),
        stdio: [stdin, stdout, stderr],
        controlling_terminal: stdio.terminal.is_some(),
    };
    let mut result = spawn(&plan);
    if is_exec_format(&result)
        && let Some(script) = shell_script(&plan)
    {
        plan.argv.splice(0..1, [SHELL.to_owned(), script]);
        plan.programs = vec![SHELL.to_owned()];
        result = spawn(&plan);
    }
    let child = result.map_err(|e| explain(e, spec, &plan))?;
    let Stdio { stdin, stdout, stderr, terminal, .. } = stdio;
    Ok(Launched { child, stdin, stdout, stderr, terminal })
}

/// What to execute.
pub(super) struct Program {
    pub(super) files: Vec<CString>,
    pub(super) open: Option<RawFd>,
    pub(super) inherited: Vec<RawFd>,
    pub(super) argv: Vec<CString>,
}

fn program(spec: &ExecSpec, environment: &Environment, tools: Option<&Toolbox>) -> Result<Program, Failed> {
    match (&spec.tool, spec.argv.first()) {
        (None, first) => {
            let argv = arguments(&spec.argv).map_err(other)?;
            let first = first.map_or(b"".as_slice(), ByteString::as_bytes);
            let files = environment.candidates(first).map_err(other)?;
            Ok(Program { files, open: None, inherited: Vec::new(), argv })
        }
        (Some(_), Some(_)) => Err(other("both a program and a tool are given")),
        (Some(tool), None) => {
            let tools = tools.ok_or_else(|| other("there are no tools here"))?;
            tools.program(tool).map_err(|message| fail(FailureKind::NotFound, message))
        }
    }
}

fn descriptors(stdio: &Stdio) -> Result<[RawFd; 3], Failed> {
    let fds: Vec<RawFd> = stdio.theirs.iter().map(AsRawFd::as_raw_fd).collect();
    match fds.as_slice() {
        [tty] => Ok([*tty; 3]),
        [stdin, stdout, stderr] => Ok([*stdin, *stdout, *stderr]),
        _ => Err(other("its standard streams are incomplete")),
    }
}

fn stdio(spec: &ExecSpec, account: &Account) -> io::Result<Stdio> {
    if let Some(tty) = &spec.tty {
        let terminal = Terminal::open(tty, account.uid)?;
        let stdin = (!spec.null_stdin).then(|| terminal.master.try_clone()).transpose()?;
        let stdout = terminal.master.try_clone()?;
        let theirs = vec![terminal.slave.try_clone()?];
        return Ok(Stdio { theirs, stdin, stdout, stderr: None, terminal: Some(terminal) });
    }
    let (stdin, their_stdin) = if spec.null_stdin {
        (None, OwnedFd::from(File::open("/dev/null")?))
    } else {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(write), read)
    };
    let (stdout, their_stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, their_stderr) = pipe2(OFlag::O_CLOEXEC)?;
    for ours in stdin.iter().chain([&stdout, &stderr]) {
        nix::fcntl::fcntl(ours, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let theirs = vec![their_stdin, their_stdout, their_stderr];
    if account.uid != 0 && nix::unistd::geteuid().is_root() {
        // So that the user may open /dev/stdout, which leads to the pipe again.
        for fd in &theirs[usize::from(spec.null_stdin)..] {
            fchown(fd, Some(account.uid.into()), Some(account.gid.into()))?;
        }
    }
    Ok(Stdio { theirs, stdin, stdout, stderr: Some(stderr), terminal: None })
}

fn limit(limit: &ResourceLimit) -> (libc::__rlimit_resource_t, libc::rlimit64) {
    let resource = match limit.resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    };
    let value = |v: Option<u64>| v.unwrap_or(libc::RLIM64_INFINITY);
    (resource, libc::rlimit64 { rlim_cur: value(limit.soft), rlim_max: value(limit.hard) })
}

fn is_exec_format(result: &Result<Child, SpawnError>) -> bool {
    matches!(result, Err(SpawnError { step: Step::Execute, errno: libc::ENOEXEC }))
}

/// The first existing candidate, when it looks like text: shells run such a file as a script.
fn shell_script(plan: &Plan<'_>) -> Option<CString> {
    let program = existing(plan)?;
    let head = head(&locate(plan, program));
    (!head.contains(&0) && !head.starts_with(b"\x7f")).then(|| program.clone())
}

/// The first bytes of a program, empty when it cannot be read.
fn head(program: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if program.is_file()
        && let Ok(file) = File::open(program)
        && file.take(128).read_to_end(&mut head).is_err()
    {
        head.clear();
    }
    head
}

fn path(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

/// Where the process finds `program`, seen from here.
fn locate(plan: &Plan<'_>, program: &CStr) -> PathBuf {
    path(&plan.cwd).join(path(program))
}

/// The first candidate that exists.
fn existing<'a>(plan: &'a Plan<'_>) -> Option<&'a CString> {
    plan.programs.iter().find(|p| locate(plan, p).exists())
}

fn fail(kind: FailureKind, message: impl ToString) -> Failed {
    Failed { kind, message: message.to_string().chars().take(4096).collect() }
}

fn other(message: impl ToString) -> Failed {
    fail(FailureKind::Other, message)
}

/// What a failed spawn means to the caller.
fn explain(error: SpawnError, spec: &ExecSpec, plan: &Plan<'_>) -> Failed {
    let program =
        spec.argv.first().map_or("the tool".into(), |word| String::from_utf8_lossy(word.as_bytes()));
    let cause = error.io();
    match (error.step, error.errno) {
        (Step::Workdir, _) => {
            let cwd = path(&plan.cwd).display();
            fail(FailureKind::BadWorkdir, format!("working directory {cwd}: {cause}"))
        }
        (Step::User, _) => fail(FailureKind::BadUser, format!("cannot become the user: {cause}")),
        (Step::Limits, _) => other(format!("cannot set resource limits: {cause}")),
        (Step::Clone, _) => other(format!("cannot make a process: {cause}")),
        (Step::Session | Step::Stdio, _) => other(format!("cannot set up the process: {cause}")),
        (Step::Execute, libc::ENOENT) => not_found(&program, plan),
        (Step::Execute, libc::ENOEXEC) => fail(FailureKind::NotExecutable, bad_format(&program, plan)),
        (Step::Execute, libc::E2BIG) => fail(
            FailureKind::NotExecutable,
            format!("{program}: arguments and environment are too long together: {cause}"),
        ),
        (Step::Execute, _) => fail(FailureKind::NotExecutable, format!("{program}: {cause}")),
    }
}

fn not_found(program: &str, plan: &Plan<'_>) -> Failed {
    let message = match existing(plan) {
        Some(file) => format!(
            "{}: it exists, but the interpreter or dynamic loader that it names does not",
            path(file).display()
        ),
        None if program.contains('/') => format!("{program}: no such file"),
        None => format!("{program}: command not found in PATH"),
    };
    fail(FailureKind::NotFound, message)
}

fn bad_format(program: &str, plan: &Plan<'_>) -> String {
    let head = existing(plan).map(|p| head(&locate(plan, p))).unwrap_or_default();
    // Bytes 18 and 19 of an ELF file name its machine; these are the ones images are built for.
    let machine = match (head.starts_with(b"\x7fELF"), head.get(18..20)) {
        (true, Some([0x03, _])) => "32-bit x86",
        (true, Some([0x28, _])) => "32-bit ARM",
        (true, Some([0x3e, _])) => "x86_64",
        (true, Some([0xb7, _])) => "aarch64",
        (true, Some([0xf3, _])) => "RISC-V",
        (true, _) => "another machine",
        (false, _) => return format!("{program}: neither a program nor a script"),
    };
    format!("{program}: the program is for {machine}, the sandbox is {}", std::env::consts::ARCH)
}
