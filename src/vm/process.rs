//! The process of one machine, seen from the process that started it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};

use super::channel::{
    self, Backend, ChildConfig, ChildDisk, ChildInterface, ChildShares, DiskContent, Piece,
};
use super::{Disk, DiskFormat, DiskSource, Error, Machine, Shares, VMM_SUBCOMMAND, descriptor};

/// Time stamps a machine's process leaves behind, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Mark {
    Started,
    Configured,
    Jailed,
    Entered,
    /// Not a time: [`super::jail::Report::to_bits`].
    Layers,
}

/// When a machine's process reached its steps: nanoseconds of `CLOCK_MONOTONIC`, `None` = not yet. Except for `spawned` they
/// come from the machine's process, so treat them as claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// The starting process was about to start it.
    pub spawned: Option<u64>,
    /// It runs our code.
    pub started: Option<u64>,
    /// It has its configuration and files.
    pub configured: Option<u64>,
    /// It has locked itself in.
    pub jailed: Option<u64>,
    /// It is about to enter the hypervisor.
    pub entered: Option<u64>,
}

/// How a machine's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
}

/// A running machine. Dropping it kills the machine.
#[derive(Debug)]
pub struct Vmm {
    child: Child,
    pidfd: OwnedFd,
    /// Held open for as long as the machine may live: its process is killed when this end closes, however that comes about.
    _lifeline: UnixStream,
    marks: File,
    spawned: u64,
}

impl Vmm {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A pidfd, readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// `CLOCK_MONOTONIC` in nanoseconds of the moment before the hypervisor was entered; `None` before that.
    pub fn entered(&self) -> Option<u64> {
        self.mark(Mark::Entered)
    }

    /// All time stamps so far.
    pub fn timings(&self) -> Timings {
        Timings {
            spawned: Some(self.spawned),
            started: self.mark(Mark::Started),
            configured: self.mark(Mark::Configured),
            jailed: self.mark(Mark::Jailed),
            entered: self.mark(Mark::Entered),
        }
    }

    /// Which layers of confinement the process says it has; `None` before it is confined.
    pub fn confinement(&self) -> Option<super::jail::Report> {
        self.mark(Mark::Layers).map(super::jail::Report::from_bits)
    }

    /// A read, not a mapping: the other process could cut the file under a mapping.
    fn mark(&self, mark: Mark) -> Option<u64> {
        let mut raw = [0u8; 8];
        self.marks.read_exact_at(&mut raw, mark as u64 * 8).ok()?;
        Some(u64::from_le_bytes(raw)).filter(|stamp| *stamp != 0)
    }

    /// Ends the machine at once, as pulling the plug does. Harmless when it has ended already.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.child.kill().map_err(Error::Wait)
    }

    /// How the process ended, `None` while it runs.
    pub fn try_wait(&mut self) -> Result<Option<Exit>, Error> {
        let status = self.child.try_wait().map_err(Error::Wait)?;
        Ok(status.map(|status| Exit { status }))
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> Result<Exit, Error> {
        self.child.wait().map(|status| Exit { status }).map_err(Error::Wait)
    }

    /// Waits for the end of the process, at most `limit`; `None` when it still runs then.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<Exit>, Error> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Ok(_) | Err(nix::Error::EINTR) => self.try_wait(),
            Err(errno) => Err(Error::Wait(errno.into())),
        }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exit {
    /// The signal that ended the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// The files of a machine in the order in which they travel.
#[derive(Default)]
struct Files(Vec<OwnedFd>);

impl Files {
    fn add(&mut self, file: impl Into<OwnedFd>) -> channel::FdIndex {
        self.0.push(file.into());
        self.0.len() - 1
    }
}

/// Starts `program` as the process of `machine`.
pub(super) fn spawn(
    program: &Path,
    machine: Machine,
    backend: Backend,
    cmdline: String,
) -> Result<Vmm, Error> {
    machine.check(backend.slots())?;
    let marks = memfd_create(c"msb-marks", MFdFlags::MFD_CLOEXEC).map_err(Error::spawn("memfd_create"))?;
    let marks = File::from(marks);
    let duplicate = |source| Error::Spawn { call: "dup", source };
    let mut files = Files::default();
    let kernel = machine.kernel.as_fd().try_clone_to_owned().map_err(duplicate)?;
    let mut config = ChildConfig {
        backend,
        cpus: machine.cpus,
        memory_mib: machine.memory_mib,
        cmdline,
        kernel: files.add(kernel),
        initramfs: files.add(machine.initramfs),
        agent: files.add(machine.agent),
        console: files.add(machine.console),
        marks: files.add(marks.try_clone().map_err(duplicate)?),
        disks: machine.disks.into_iter().map(|disk| open_disk(disk, &mut files)).collect::<Result<_, _>>()?,
        interface: machine
            .interface
            .map(|interface| ChildInterface { socket: files.add(interface.socket), mac: interface.mac }),
        shares: None,
        parent: nix::unistd::getpid().as_raw(),
        parent_is_main_thread: nix::unistd::gettid() == nix::unistd::getpid(),
        name: printable(&machine.name),
    };
    config.shares = machine.shares.map(|shares| add_shares(shares, &mut files));
    let (lifeline, theirs) =
        UnixStream::pair().map_err(|source| Error::Spawn { call: "socketpair", source })?;
    let borrowed: Vec<_> = files.0.iter().map(AsFd::as_fd).collect();
    channel::send(&lifeline, &config, &borrowed)
        .map_err(|source| Error::Spawn { call: "sendmsg", source })?;
    let spawned = monotonic_ns();
    let child = Command::new(program)
        .arg0(format!("msb-vmm {}", config.name))
        .arg(VMM_SUBCOMMAND)
        .env_clear()
        // libkrun calls its main thread VM:$HOSTNAME.
        .env("HOSTNAME", &config.name)
        .current_dir("/")
        // Ctrl-C and other signals to the caller's job are for the caller to pass on.
        .process_group(0)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(machine.diagnostics)
        .spawn()
        .map_err(|source| Error::Spawn { call: "exec", source })?;
    let pidfd = match pidfd_open(child.id()) {
        Ok(pidfd) => pidfd,
        Err(source) => {
            // The lifeline closes with this function, which ends the child.
            return Err(Error::Spawn { call: "pidfd_open", source });
        }
    };
    Ok(Vmm { child, pidfd, _lifeline: lifeline, marks, spawned })
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes plain numbers; the process is an unreaped child, so that the id is still its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens everything a disk consists of.
fn open_disk(disk: Disk, files: &mut Files) -> Result<ChildDisk, Error> {
    match (disk.format, disk.source) {
        (DiskFormat::Raw, DiskSource::File(file)) => {
            Ok(ChildDisk { read_only: disk.read_only, content: DiskContent::Raw(files.add(file)) })
        }
        (DiskFormat::Raw, DiskSource::Path(path)) => {
            let file = open(&path, !disk.read_only)?;
            Ok(ChildDisk { read_only: disk.read_only, content: DiskContent::Raw(files.add(file)) })
        }
        (DiskFormat::Vmdk, DiskSource::Path(path)) => {
            let pieces = open_extents(&path, &disk.extents, files)?;
            Ok(ChildDisk { read_only: true, content: DiskContent::Flat(pieces) })
        }
        (DiskFormat::Vmdk, DiskSource::File(file)) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let pieces = open_extents(&path, &disk.extents, files)?;
            Ok(ChildDisk { read_only: true, content: DiskContent::Flat(pieces) })
        }
    }
}

/// Must come last: the machine's process gives these files up before it runs the guest.
fn add_shares(shares: Shares, files: &mut Files) -> ChildShares {
    let read_only = shares.entries.iter().map(|share| share.read_only).collect();
    let first = files.0.len();
    files.0.extend(shares.entries.into_iter().map(|share| share.file));
    ChildShares { first, read_only, owner: shares.owner }
}

fn open(path: &Path, write: bool) -> Result<File, Error> {
    let open = File::options().read(true).write(write).open(path);
    open.map_err(|source| Error::OpenDisk { path: path.into(), source })
}

/// Reads the descriptor at `path` and opens the files it names, each once, if they are among `allowed`.
fn open_extents(path: &Path, allowed: &[PathBuf], files: &mut Files) -> Result<Vec<Piece>, Error> {
    use std::io::Read;
    let unusable = |reason| Error::Descriptor { path: path.into(), reason };
    let mut text = String::new();
    open(path, false)?
        .take(descriptor::MAX_DESCRIPTOR)
        .read_to_string(&mut text)
        .map_err(|source| Error::OpenDisk { path: path.into(), source })?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let extents = descriptor::parse(&text, folder).map_err(unusable)?;
    let mut opened: Vec<(PathBuf, channel::FdIndex)> = Vec::new();
    let mut pieces = Vec::with_capacity(extents.len());
    for extent in extents {
        let data = match extent.data {
            None => None,
            Some((name, offset)) => {
                let known = opened.iter().find(|(path, _)| *path == name).map(|(_, index)| *index);
                let index = match known {
                    Some(index) => index,
                    None if !allowed.contains(&name) => {
                        let reason = format!("it names {}, which is not part of the disk", name.display());
                        return Err(unusable(reason));
                    }
                    None => {
                        let index = files.add(open(&name, false)?);
                        opened.push((name, index));
                        index
                    }
                };
                Some((index, offset))
            }
        };
        pieces.push(Piece { sectors: extent.sectors, data });
    }
    Ok(pieces)
}

/// A short form of `name` that is safe in process lists.
fn printable(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let label: String = name.chars().filter(|c| keep(*c)).take(48).collect();
    if label.is_empty() { "sandbox".into() } else { label }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(super) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
