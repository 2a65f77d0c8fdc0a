//! The process of a machine, from its start to the moment it becomes the hypervisor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::channel::{self, Backend, ChildConfig, ChildShares, DiskContent, FdIndex};
use super::process::{Mark, monotonic_ns};
use super::{Error, descriptor, jail, krun, qemu};

/// The hidden subcommand that makes this program the process of a machine.
pub const VMM_SUBCOMMAND: &str = "__vmm";

/// Exit code of a machine's process that could not become a hypervisor (`EX_SOFTWARE`); libkrun uses 0 and 1, QEMU 0, 1 and 2.
pub(super) const SETUP_FAILED: u8 = 70;

/// `fcntl` command that chooses the signal of `O_ASYNC`; the same number on every processor.
const F_SETSIG: i32 = 10;

/// The first descriptor that is not a standard stream.
const FIRST_FD: u32 = 3;

/// What a machine's process has to work with.
pub(super) struct Child {
    pub(super) config: ChildConfig,
    files: Vec<OwnedFd>,
    shares: Option<jail::Shares>,
    /// Keeps the socket whose end ends this process.
    lifeline: Option<UnixStream>,
    /// Descriptors made for VMDK disks, by disk.
    descriptors: Vec<Option<OwnedFd>>,
}

/// Becomes the process of a machine: reads the configuration from standard input, locks itself in and enters the hypervisor.
/// Returns only when that fails; the reason is on standard error then.
pub fn vmm_main() -> ExitCode {
    let error = match run() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut message = format!("msb-vmm: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(source) = cause {
        message.push_str(&format!(": {source}"));
        cause = source.source();
    }
    // Nobody is left to be told when this fails.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(SETUP_FAILED)
}

fn run() -> Result<std::convert::Infallible, Error> {
    let started = monotonic_ns();
    close_all_but_standard_streams()?;
    let lifeline = take_lifeline()?;
    let (config, mut files) = channel::receive(&lifeline)?;
    watch_parent(&lifeline, &config)?;
    let shares = config.shares.as_ref().map(|shares| take_shares(shares, &mut files)).transpose()?;
    let mut child = Child { config, files, shares, lifeline: Some(lifeline), descriptors: Vec::new() };
    child.mark(Mark::Started, started);
    child.write_descriptors()?;
    child.mark(Mark::Configured, monotonic_ns());
    match child.config.backend {
        Backend::Krun => krun::enter(child),
        Backend::Qemu(_) => qemu::enter(child),
    }
}

/// Takes the shared folders and files out of the list, so that nothing else gets hold of them.
fn take_shares(shares: &ChildShares, files: &mut Vec<OwnedFd>) -> Result<jail::Shares, Error> {
    let count = shares.read_only.len();
    if shares.first.checked_add(count) != Some(files.len()) {
        return Err(Error::Configuration(format!("{count} shares are not the last of the files")));
    }
    let entries = files.drain(shares.first..).zip(shares.read_only.iter().copied()).collect();
    Ok(jail::Shares { entries, owner: shares.owner })
}

/// Whatever the starting process left open by mistake ends here.
fn close_all_but_standard_streams() -> Result<(), Error> {
    // SAFETY: no descriptor above the standard streams is in use yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST_FD, u32::MAX, 0) };
    nix::Error::result(result).map(drop).map_err(Error::child("close_range"))
}

/// Moves the socket on standard input out of the way of code that may read standard input.
fn take_lifeline() -> Result<UnixStream, Error> {
    let open_null = |source| Error::Child { call: "open of /dev/null", source };
    // SAFETY: standard input is open and owned by nothing else in this process.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    let lifeline = stdin.try_clone_to_owned().map_err(|source| Error::Child { call: "dup", source })?;
    let null = File::open("/dev/null").map_err(open_null)?;
    // SAFETY: replaces standard input by a descriptor that stays open; `lifeline` is a copy of what was there.
    let result = unsafe { libc::dup2(null.as_raw_fd(), 0) };
    nix::Error::result(result).map_err(Error::child("dup2"))?;
    Ok(UnixStream::from(lifeline))
}

/// Arranges for this process to be killed when the starting process ends.
///
/// The end of a process closes its end of the socket, and the kernel then sends the signal asked for here: no thread has to
/// watch, and nothing this process runs later can be too busy for it. The parent-death signal does the same but belongs to the
/// parent's thread, so that it is used only when that is the main thread.
pub(super) fn watch_parent(lifeline: &UnixStream, config: &ChildConfig) -> Result<(), Error> {
    let fd = lifeline.as_raw_fd();
    let calls = [
        ("F_SETSIG", F_SETSIG, libc::SIGKILL),
        ("F_SETOWN", libc::F_SETOWN, nix::unistd::getpid().as_raw()),
        ("O_ASYNC", libc::F_SETFL, libc::O_ASYNC),
    ];
    for (call, command, argument) in calls {
        // SAFETY: these commands take an integer and touch no memory.
        let result = unsafe { libc::fcntl(fd, command, argument) };
        nix::Error::result(result).map_err(Error::child(call))?;
    }
    rearm_parent_death(config)?;
    // The parent may have ended before the signal was armed.
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).map_err(Error::child("poll"))?;
    if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
        return Err(Error::Configuration("the process that started this machine is gone".into()));
    }
    Ok(())
}

/// Arms the parent-death signal; a change of credentials disarms it.
pub(super) fn rearm_parent_death(config: &ChildConfig) -> Result<(), Error> {
    if config.parent_is_main_thread {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(Error::child("PR_SET_PDEATHSIG"))?;
    }
    Ok(())
}

impl Child {
    /// What is shared with the guest, once.
    pub(super) fn take_shares(&mut self) -> Option<jail::Shares> {
        self.shares.take()
    }

    /// Closes everything: a process that is forked off here has other work to do.
    pub(super) fn give_up_files(&mut self) {
        self.files.clear();
        self.descriptors.clear();
        self.lifeline = None;
    }

    /// The descriptor at `index`.
    pub(super) fn file(&self, index: FdIndex) -> Result<BorrowedFd<'_>, Error> {
        let missing = || Error::Configuration(format!("file {index} is missing"));
        self.files.get(index).map(AsFd::as_fd).ok_or_else(missing)
    }

    /// A path under which the descriptor at `index` can be opened again in this process.
    pub(super) fn path(&self, index: FdIndex) -> Result<String, Error> {
        self.file(index).map(proc_path)
    }

    /// The path of disk number `disk`: its file, or the descriptor made for it.
    pub(super) fn disk_path(&self, disk: usize) -> Result<String, Error> {
        match (self.config.disks.get(disk).map(|disk| &disk.content), self.descriptors.get(disk)) {
            (Some(DiskContent::Raw(index)), _) => self.path(*index),
            (_, Some(Some(descriptor))) => Ok(proc_path(descriptor.as_fd())),
            _ => Err(Error::Configuration(format!("disk {disk} is missing"))),
        }
    }

    /// Notes that a step was reached. Only `--timings` would miss it.
    pub(super) fn mark(&self, mark: Mark, at: u64) {
        let Ok(file) = self
            .file(self.config.marks)
            .and_then(|fd| fd.try_clone_to_owned().map_err(|source| Error::Child { call: "dup", source }))
        else {
            return;
        };
        let _ = File::from(file).write_all_at(&at.to_le_bytes(), mark as u64 * 8);
    }

    /// Every file with whether it is to be written, for the jail.
    pub(super) fn accesses(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let written =
            self.config.disks.iter().filter(|disk| !disk.read_only).filter_map(|disk| {
                if let DiskContent::Raw(index) = disk.content { Some(index) } else { None }
            });
        let mut written: Vec<FdIndex> = written.collect();
        written.push(self.config.console);
        let files =
            self.files.iter().enumerate().map(move |(index, fd)| (fd.as_fd(), written.contains(&index)));
        files.chain(self.descriptors.iter().flatten().map(|fd| (fd.as_fd(), false)))
    }

    /// The size in bytes of the largest disk that may be written.
    pub(super) fn largest_writable(&self) -> u64 {
        let size = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).map_or(0, |stat| stat.st_size as u64);
        self.accesses().filter(|(_, write)| *write).map(|(fd, _)| size(fd)).max().unwrap_or(0)
    }

    /// Makes the descriptors of VMDK disks, whose extents are descriptors of this process.
    fn write_descriptors(&mut self) -> Result<(), Error> {
        let mut made = Vec::with_capacity(self.config.disks.len());
        for disk in &self.config.disks {
            let DiskContent::Flat(pieces) = &disk.content else {
                made.push(None);
                continue;
            };
            let names = pieces.iter().map(|piece| match piece.data {
                Some((index, offset)) => Ok((piece.sectors, Some((self.path(index)?, offset)))),
                None => Ok((piece.sectors, None)),
            });
            let names = names.collect::<Result<Vec<_>, Error>>()?;
            let text = descriptor::format(names.iter().map(|(sectors, data)| {
                (*sectors, data.as_ref().map(|(name, offset)| (name.as_str(), *offset)))
            }));
            made.push(Some(memory_file(text.as_bytes())?));
        }
        self.descriptors = made;
        Ok(())
    }

    /// Lets a program that is executed next keep the files.
    pub(super) fn keep_on_exec(&self) -> Result<(), Error> {
        let lifeline = self.lifeline.as_ref().map(AsFd::as_fd);
        self.accesses().map(|(fd, _)| fd).chain(lifeline).try_for_each(keep_on_exec)
    }
}

/// Lets a program that is executed next keep `fd`.
pub(super) fn keep_on_exec(fd: BorrowedFd<'_>) -> Result<(), Error> {
    let none = FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    fcntl(fd, none).map(drop).map_err(Error::child("F_SETFD"))
}

/// A memfd with `content`.
fn memory_file(content: &[u8]) -> Result<OwnedFd, Error> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fd = memfd_create(c"msb-disk", MFdFlags::MFD_CLOEXEC).map_err(Error::child("memfd_create"))?;
    let mut file = File::from(fd);
    file.write_all(content).map_err(|source| Error::Child { call: "write", source })?;
    Ok(file.into())
}

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
