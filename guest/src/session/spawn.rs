//! The one place where a process is made.
//!
//! `clone(CLONE_VM | CLONE_VFORK)`, as `posix_spawn(3)` does it: the child borrows this process's memory and this
//! process sleeps until the child has executed its program. Nothing is copied, which matters where page faults are
//! dear, and an error of the child is simply there in memory when this process goes on. In exchange the child may do
//! nothing but system calls: no allocation, no locks, no panics.

use super::account::Account;
use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Bytes of stack for the child, of which it uses a few hundred.
const STACK: usize = 32 * 1024;

/// Everything the child needs, made ready before.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Files to try, in order.
    pub(super) programs: Vec<CString>,
    /// An open program to execute instead.
    pub(super) open_program: Option<RawFd>,
    /// Descriptors that it gets under their own numbers, beside its standard streams.
    pub(super) inherited: Vec<RawFd>,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: CString,
    /// `None` keeps the identity of this process.
    pub(super) account: Option<&'a Account>,
    /// The `cgroup.procs` of the cgroup to enter.
    pub(super) cgroup: Option<RawFd>,
    pub(super) limits: Vec<(libc::__rlimit_resource_t, libc::rlimit64)>,
    /// Standard input, output, error; none of them below 3.
    pub(super) stdio: [RawFd; 3],
    /// Make standard input the controlling terminal.
    pub(super) controlling_terminal: bool,
}

/// What the child was doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Clone,
    Session,
    Stdio,
    Limits,
    Workdir,
    User,
    Execute,
}

/// A step failed with an error number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SpawnError {
    pub(super) step: Step,
    pub(super) errno: i32,
}

impl SpawnError {
    pub(super) fn io(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// A running child.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: i32,
    /// Readable when the child has ended.
    pub(super) pidfd: OwnedFd,
}

/// What the two sides of the clone share.
struct Shared<'a> {
    plan: &'a Plan<'a>,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    failure: Cell<Option<SpawnError>>,
}

/// Starts the process of `plan` as leader of a session of its own.
pub(super) fn spawn(plan: &Plan<'_>) -> Result<Child, SpawnError> {
    let shared = Shared {
        plan,
        argv: pointers(&plan.argv),
        env: pointers(&plan.env),
        failure: Cell::new(Some(SpawnError { step: Step::Session, errno: libc::EINTR })),
    };
    let mut stack = vec![0u128; STACK / 16];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    let all = nix::sys::signal::SigSet::all();
    let blocked = all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    // SAFETY: `child` runs on its own stack of STACK bytes (the pointer is its 16-byte aligned upper end) and does only
    // system calls on memory that outlives it, because CLONE_VFORK holds this thread until the child has executed or
    // ended. All signals are blocked, so no handler of this process runs on the shared memory.
    let pid = unsafe {
        libc::clone(child, top.cast(), flags, (&raw const shared).cast_mut().cast(), &raw mut pidfd)
    };
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
    if let Ok(mask) = blocked {
        // Restoring the mask this thread had cannot fail.
        let _ = mask.thread_set_mask();
    }
    if pid < 0 {
        return Err(SpawnError { step: Step::Clone, errno });
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match shared.failure.get() {
        None => Ok(Child { pid, pidfd }),
        Some(failure) => {
            // SAFETY: waiting for a child of this process, without taking its status.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Err(failure)
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

extern "C" fn child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a pointer to a `Shared` that lives until this function has ended or executed.
    let shared = unsafe { &*argument.cast::<Shared<'_>>() };
    let errno = |step| SpawnError { step, errno: io::Error::last_os_error().raw_os_error().unwrap_or(0) };
    let failure = match prepare(shared.plan) {
        Err(step) => errno(step),
        Ok(()) => {
            // From here on `None` stays when `execve` succeeds.
            shared.failure.set(None);
            execute(shared)
        }
    };
    shared.failure.set(Some(failure));
    // SAFETY: ends the child at once, without running anything of this process.
    unsafe { libc::_exit(127) }
}

/// Everything before `execve(2)`; the step that failed, with its cause in `errno`.
fn prepare(plan: &Plan<'_>) -> Result<(), Step> {
    let ok = |result: libc::c_long, step| if result < 0 { Err(step) } else { Ok(()) };
    // SAFETY: system calls on values and on memory that `plan` keeps alive. User and groups are set by the bare calls
    // because those of the C library would try to do the same in all threads of the shared process.
    unsafe {
        ok(libc::setsid().into(), Step::Session)?;
        for (target, source) in (0..).zip(plan.stdio) {
            ok(libc::dup2(source, target).into(), Step::Stdio)?;
        }
        for fd in &plan.inherited {
            ok(libc::fcntl(*fd, libc::F_SETFD, 0).into(), Step::Stdio)?;
        }
        if plan.controlling_terminal {
            ok(libc::ioctl(0, libc::TIOCSCTTY, 0).into(), Step::Stdio)?;
        }
        if let Some(cgroup) = plan.cgroup {
            // 0 is the process that writes it.
            ok(libc::syscall(libc::SYS_write, cgroup, c"0".as_ptr(), 1usize), Step::Limits)?;
        }
        for (resource, limit) in &plan.limits {
            ok(libc::setrlimit64(*resource, limit).into(), Step::Limits)?;
        }
        libc::umask(0o022);
        ok(libc::chdir(plan.cwd.as_ptr()).into(), Step::Workdir)?;
        if let Some(account) = plan.account {
            let (gid, uid) = (account.gid, account.uid);
            let groups = &account.groups;
            ok(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()), Step::User)?;
            ok(libc::syscall(libc::SYS_setresgid, gid, gid, gid), Step::User)?;
            ok(libc::syscall(libc::SYS_setresuid, uid, uid, uid), Step::User)?;
        }
        // A program expects to die of these, and an ignored signal would stay ignored across `execve`.
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        ok(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()).into(), Step::Session)
    }
}

/// Tries the programs in turn with the rules of `execvp(3)`; comes back only when none can be executed.
fn execute(shared: &Shared<'_>) -> SpawnError {
    let mut seen = libc::ENOENT;
    if let Some(fd) = shared.plan.open_program {
        let (argv, env) = (shared.argv.as_ptr(), shared.env.as_ptr());
        // SAFETY: as below; the path is empty, as AT_EMPTY_PATH wants it.
        unsafe { libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, env, libc::AT_EMPTY_PATH) };
        return SpawnError {
            step: Step::Execute,
            errno: io::Error::last_os_error().raw_os_error().unwrap_or(0),
        };
    }
    for program in &shared.plan.programs {
        // SAFETY: the arrays end with a null pointer and point to strings that `plan` keeps alive.
        unsafe { libc::execve(program.as_ptr(), shared.argv.as_ptr(), shared.env.as_ptr()) };
        match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => {}
            libc::EACCES => seen = libc::EACCES,
            errno => return SpawnError { step: Step::Execute, errno },
        }
    }
    SpawnError { step: Step::Execute, errno: seen }
}
