//! What a confined process cannot do, tried in children of the test.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::{Filter, Plan, Report, enter, landlock, namespaces};

const HELD: i32 = 0;
const BROKEN_OUT: i32 = 1;
const NOT_CONFINED: i32 = 2;

/// Runs `action` in a forked child, which tells by its result whether the jail held.
pub(super) fn in_child(action: impl FnOnce() -> Result<bool, super::Error>) -> WaitStatus {
    // SAFETY: the child has one thread, makes system calls and small allocations and ends with `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = match action() {
                Ok(true) => HELD,
                Ok(false) => BROKEN_OUT,
                Err(_) => NOT_CONFINED,
            };
            // SAFETY: ends the child without running the test harness in it.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}

fn plan<'a>(filter: Filter, files: Vec<(BorrowedFd<'a>, bool)>) -> Plan<'a> {
    let system = if filter == Filter::Qemu { vec![PathBuf::from("/usr")] } else { Vec::new() };
    Plan { files, devices: &[], system, file_size: 0, filter, shares: None, rearm: &|| Ok(()) }
}

fn confined(filter: Filter, attempt: impl FnOnce() -> bool) -> WaitStatus {
    in_child(|| enter(plan(filter, Vec::new())).map(|_| attempt()))
}

#[track_caller]
pub(super) fn assert_held(status: WaitStatus) {
    assert!(matches!(status, WaitStatus::Exited(_, HELD)), "{status:?}");
}

#[track_caller]
pub(super) fn assert_killed(what: &str, status: WaitStatus) {
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{what}: {status:?}");
}

fn call(number: i64, arguments: [i64; 3]) -> bool {
    // SAFETY: each call made here either never happens or is given arguments that make it fail harmlessly.
    let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2], 0, 0, 0) };
    result < 0
}

fn refused(result: io::Result<File>) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let refusals = [NotFound, PermissionDenied, ReadOnlyFilesystem];
    result.is_err_and(|error| refusals.contains(&error.kind()))
}

#[test]
fn the_files_of_the_host_are_out_of_reach() {
    for filter in [Filter::Krun, Filter::Qemu] {
        for path in ["/etc/passwd", "/proc/1/status", "/dev/mem", "/root", "/var/log", "/sys"] {
            assert_held(confined(filter, || refused(File::open(path))));
        }
        assert_held(confined(filter, || refused(File::create("/tmp/jail-was-here"))));
        assert_held(confined(filter, || refused(File::create("/usr/jail-was-here"))));
    }
    assert_held(confined(Filter::Qemu, || std::fs::read_dir("/usr").is_ok()));
}

#[test]
fn each_file_layer_holds_alone() {
    if super::report().landlock {
        assert_held(in_child(|| {
            super::limits::forbid_new_privileges()?;
            landlock::restrict(&plan(Filter::Krun, Vec::new()), None)?;
            Ok(refused(File::open("/etc/passwd")))
        }));
    }
    if super::report().mount_namespace {
        assert_held(in_child(|| {
            namespaces::enter(&["/dev/null"], &[], None)?;
            let hidden = ["/etc/passwd", "/proc/self/status", "/tmp", "/dev/tty"];
            let new = File::create("/new").is_err();
            Ok(hidden.iter().all(|path| refused(File::open(path))) && new && File::open("/dev/null").is_ok())
        }));
    }
}

#[test]
fn own_files_open_again_as_they_were_meant() {
    own_files_open_again(&tempfile::tempdir().unwrap());
    // Files in memory answer some questions as a memfd does, of which Landlock knows nothing.
    own_files_open_again(&tempfile::tempdir_in("/dev/shm").unwrap());
}

fn own_files_open_again(folder: &tempfile::TempDir) {
    let make = |name: &str| {
        File::options().read(true).write(true).create_new(true).open(folder.path().join(name)).unwrap()
    };
    let (read, written, other) = (make("read"), make("written"), make("other"));
    std::fs::remove_file(folder.path().join("written")).unwrap();
    let path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let (read_path, written_path, other_path) = (path(&read), path(&written), path(&other));
    let open = |path: &str, write: bool| File::options().read(true).write(write).open(path);
    assert_held(in_child(|| {
        let files = vec![(read.as_fd(), false), (written.as_fd(), true)];
        let (report, _) = enter(plan(Filter::Krun, files))?;
        let allowed = open(&read_path, false).is_ok() && open(&written_path, true).is_ok();
        let denied = open(&read_path, true).is_err() && open(&other_path, false).is_err();
        Ok(allowed && (denied || !report.landlock))
    }));
}

#[test]
fn calls_no_machine_needs_end_the_process() {
    let attempts: [(&str, i64, [i64; 3]); 16] = [
        ("socket(AF_INET)", libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0]),
        ("socket(AF_UNIX)", libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0]),
        ("connect", libc::SYS_connect, [-1, 0, 0]),
        ("execve", libc::SYS_execve, [0, 0, 0]),
        ("execveat", libc::SYS_execveat, [-1, 0, 0]),
        ("fork", libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
        ("kill", libc::SYS_kill, [1, 0, 0]),
        ("tgkill of another process", libc::SYS_tgkill, [1, 1, 0]),
        ("tkill", libc::SYS_tkill, [1, 0, 0]),
        ("fcntl(F_SETOWN)", libc::SYS_fcntl, [0, libc::F_SETOWN.into(), 1]),
        ("mmap(PROT_EXEC)", libc::SYS_mmap, [0, 4096, libc::PROT_EXEC.into()]),
        ("mprotect(PROT_EXEC)", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC.into()]),
        ("prctl(PR_SET_SECCOMP)", libc::SYS_prctl, [libc::PR_SET_SECCOMP.into(), 0, 0]),
        ("ioctl(TIOCSTI)", libc::SYS_ioctl, [0, 0x5412, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0]),
        ("unlinkat", libc::SYS_unlinkat, [-1, 0, 0]),
    ];
    for (what, number, arguments) in attempts {
        assert_killed(what, confined(Filter::Krun, || call(number, arguments)));
    }
}

#[test]
fn ways_out_of_sandboxes_end_either_hypervisor() {
    let calls = [
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("mount", libc::SYS_mount),
        ("fsopen", libc::SYS_fsopen),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ];
    for (what, number) in calls {
        for filter in [Filter::Krun, Filter::Qemu] {
            assert_killed(what, confined(filter, || call(number, [-1, 0, 0])));
        }
    }
}

#[test]
fn qemu_gets_no_sockets_but_local_ones_and_no_way_around_the_filter() {
    let errno = |number, arguments: [i64; 3]| {
        move || call(number, arguments) && nix::Error::last() == nix::Error::ENOSYS
    };
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK] {
        let arguments = [family.into(), libc::SOCK_DGRAM.into(), 0];
        assert_held(confined(Filter::Qemu, errno(libc::SYS_socket, arguments)));
    }
    assert_held(confined(Filter::Qemu, errno(libc::SYS_io_uring_setup, [1, 0, 0])));
}

#[test]
fn privileges_are_gone_for_good() {
    // `capget` is not among the calls libkrun needs: asked under the other filter.
    assert_held(confined(Filter::Qemu, || {
        // SAFETY: takes plain numbers.
        let get = |option: i32| unsafe { libc::prctl(option, 0, 0, 0, 0) };
        let bounding = get(libc::PR_CAPBSET_READ);
        get(libc::PR_GET_NO_NEW_PRIVS) == 1 && get(libc::PR_GET_DUMPABLE) == 0 && bounding == 0
    }));
    assert_held(confined(Filter::Qemu, || {
        let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
        hard == 0
    }));
}

#[test]
fn a_host_that_forbids_namespaces_still_gets_the_other_layers() {
    let status = in_child(|| {
        // Another thread makes the kernel refuse a user namespace, and without privileges it refuses the others too.
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        super::limits::drop_capabilities(false)?;
        let (report, _) = namespaces::enter(&[], &[], None)?;
        drop(hold);
        let _ = thread.join();
        let (landlocked, _) = enter(plan(Filter::Krun, Vec::new()))?;
        Ok(report == Report::default() && landlocked.seccomp)
    });
    assert_held(status);
}
