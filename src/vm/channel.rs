//! How a machine's process receives its configuration: one message over an inherited socket, with every file as a descriptor.
//!
//! Descriptors travel as `SCM_RIGHTS`, so nothing in the starting process ever loses its close-on-exec flag (no other child
//! started at the same moment can inherit them), and paths mean nothing in the machine's process.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use super::Error;
use super::qemu::QemuSettings;

/// Descriptors per message; the kernel's limit is 253.
const FDS_PER_MESSAGE: usize = 200;
/// More files than any image has layers.
const MAX_FDS: usize = 4096;
/// Larger than any configuration with [`MAX_FDS`] extents.
const MAX_CONFIG: usize = 1 << 20;

/// Position of a descriptor in the list that came along.
pub(super) type FdIndex = usize;

/// What the machine's process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildConfig {
    pub(super) backend: Backend,
    pub(super) name: String,
    pub(super) cpus: u8,
    pub(super) memory_mib: u32,
    pub(super) cmdline: String,
    pub(super) kernel: FdIndex,
    pub(super) initramfs: FdIndex,
    pub(super) agent: FdIndex,
    pub(super) console: FdIndex,
    /// A memfd for the time stamps of [`super::Timings`].
    pub(super) marks: FdIndex,
    pub(super) disks: Vec<ChildDisk>,
    pub(super) interface: Option<ChildInterface>,
    /// The last of the files.
    pub(super) shares: Option<ChildShares>,
    /// Process that must stay alive.
    pub(super) parent: i32,
    /// Whether that process's main thread did the spawning, so that the parent-death signal can be trusted.
    pub(super) parent_is_main_thread: bool,
}

/// Which hypervisor the child becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Backend {
    Krun,
    Qemu(QemuSettings),
}

impl Backend {
    /// Virtio devices a machine has room for: libkrun gives each an interrupt of its own, QEMU's smallest machine has so many
    /// places.
    pub(super) fn slots(&self) -> usize {
        match self {
            Self::Krun if cfg!(target_arch = "x86_64") => 11,
            Self::Qemu(_) if cfg!(target_arch = "x86_64") => 8,
            Self::Krun | Self::Qemu(_) => 32,
        }
    }
}

/// The network interface of [`ChildConfig`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildInterface {
    pub(super) socket: FdIndex,
    pub(super) mac: [u8; 6],
}

/// One disk of [`ChildConfig`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildDisk {
    pub(super) read_only: bool,
    pub(super) content: DiskContent,
}

/// The shared folders and files of [`ChildConfig`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildShares {
    /// The first of them; the others follow.
    pub(super) first: FdIndex,
    /// Which are read-only.
    pub(super) read_only: Vec<bool>,
    pub(super) owner: (u32, u32),
}

/// Where the bytes of a disk are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DiskContent {
    Raw(FdIndex),
    /// Pieces in order, to be written as a VMDK descriptor over `/proc/self/fd`.
    Flat(Vec<Piece>),
}

/// A run of sectors of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    /// Length in 512-byte sectors.
    pub(super) sectors: u64,
    /// File and first sector in it; `None` = zeroes.
    pub(super) data: Option<(FdIndex, u64)>,
}

/// Sends `config` and `fds`. May be done before the receiver exists.
pub(super) fn send(socket: &UnixStream, config: &ChildConfig, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let json = serde_json::to_vec(config)?;
    let mut header = [0u8; 8];
    header[..4].copy_from_slice(&(json.len() as u32).to_le_bytes());
    header[4..].copy_from_slice(&(fds.len() as u32).to_le_bytes());
    (&*socket).write_all(&header)?;
    for chunk in fds.chunks(FDS_PER_MESSAGE) {
        let raw: Vec<RawFd> = chunk.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        sendmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &[IoSlice::new(b"f")],
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
    }
    (&*socket).write_all(&json)
}

/// Receives what [`send`] sent.
pub(super) fn receive(socket: &UnixStream) -> Result<(ChildConfig, Vec<OwnedFd>), Error> {
    let read = |source| Error::Child { call: "read of the configuration", source };
    let mut header = [0u8; 8];
    (&*socket).read_exact(&mut header).map_err(read)?;
    let [l0, l1, l2, l3, f0, f1, f2, f3] = header;
    let json_len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let fd_count = u32::from_le_bytes([f0, f1, f2, f3]) as usize;
    if json_len > MAX_CONFIG || fd_count > MAX_FDS {
        return Err(Error::Configuration(format!("{json_len} bytes and {fd_count} files are too much")));
    }
    let mut fds = Vec::with_capacity(fd_count);
    while fds.len() < fd_count {
        let before = fds.len();
        receive_fds(socket, &mut fds).map_err(Error::child("recvmsg"))?;
        if fds.len() == before {
            return Err(Error::Configuration(format!("{before} of {fd_count} files arrived")));
        }
    }
    let mut json = vec![0u8; json_len];
    (&*socket).read_exact(&mut json).map_err(read)?;
    let config = serde_json::from_slice(&json).map_err(|error| Error::Configuration(error.to_string()))?;
    Ok((config, fds))
}

fn receive_fds(socket: &UnixStream, into: &mut Vec<OwnedFd>) -> nix::Result<()> {
    let mut byte = [0u8; 1];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; FDS_PER_MESSAGE]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just installed these descriptors for us; nothing else owns them.
            into.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(())
}
