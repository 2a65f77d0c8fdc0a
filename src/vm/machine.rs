//! What a virtual machine is made of.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{Error, Kernel};

/// The most virtual CPUs either hypervisor accepts (libkrun's own limit).
pub const MAX_CPUS: u8 = 32;
/// Virtio devices of every machine besides disks, shares and the network: console, random numbers, balloon.
const SYSTEM_DEVICES: usize = 3;
/// Disks of every machine: the image and the writable one.
const SYSTEM_DISKS: usize = 2;
/// The least memory a Linux guest with an initramfs starts in, MiB.
pub const MIN_MEMORY_MIB: u32 = 64;

/// Everything a hypervisor needs to start one virtual machine. All descriptors are taken over and closed in this process once
/// the machine's process has them.
#[derive(Debug)]
pub struct Machine {
    /// Name of the sandbox; visible in process lists, so it must not be a secret.
    pub name: String,
    /// Number of virtual CPUs, 1 to 32.
    pub cpus: u8,
    /// Guest memory in MiB, at least 64.
    pub memory_mib: u32,
    /// The guest kernel.
    pub kernel: Kernel,
    /// A file (usually a memfd) that holds the uncompressed `newc` initramfs.
    pub initramfs: OwnedFd,
    /// Disks in order: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<Disk>,
    /// Folders and files of the host that the guest gets over virtio-fs; `None` = no such device.
    pub shares: Option<Shares>,
    /// The network interface; `None` = no such device.
    pub interface: Option<Interface>,
    /// The machine's end of a connected `AF_UNIX` stream socket pair; the guest sees a virtio port named `agent`.
    pub agent: OwnedFd,
    /// Write end of a pipe that receives the bytes of the guest's serial console. The reader must keep draining it: a full pipe
    /// stops the virtual CPU that writes.
    pub console: OwnedFd,
    /// Standard error of the machine's process: the hypervisor's own messages.
    pub diagnostics: OwnedFd,
}

/// A network interface: `eth0` in the guest.
#[derive(Debug)]
pub struct Interface {
    /// The machine's end of a connected `AF_UNIX` stream socket pair, on which ethernet frames travel, each behind its length in
    /// four bytes, big-endian.
    pub socket: OwnedFd,
    /// The guest's hardware address.
    pub mac: [u8; 6],
}

/// Folders and files of the host in one virtio-fs device with the tag [`msb_guest::message::SHARES_TAG`]: entry `0`, `1`, … of
/// its root is the first, second, … of them.
#[derive(Debug)]
pub struct Shares {
    /// What is shared.
    pub entries: Vec<Share>,
    /// User and group as whom the guest sees what belongs to the calling user and group. Whatever the guest makes belongs to
    /// the caller, whoever made it in the guest.
    pub owner: (u32, u32),
}

/// A folder or file of the host.
#[derive(Debug)]
pub struct Share {
    /// It, open for nothing (`O_PATH`) or more.
    pub file: OwnedFd,
    /// Whether the guest may only read. The host's kernel sees to that.
    pub read_only: bool,
}

/// One virtio block device.
#[derive(Debug)]
pub struct Disk {
    /// Where its bytes are.
    pub source: DiskSource,
    /// How they are laid out.
    pub format: DiskFormat,
    /// Whether the guest may only read. VMDK disks are always read-only.
    pub read_only: bool,
    /// The files a VMDK descriptor names: nothing else is handed to the machine's process, so that a descriptor that names
    /// other files is refused.
    pub extents: Vec<PathBuf>,
}

impl Disk {
    /// A raw image at `path`.
    pub fn raw(path: impl Into<PathBuf>, read_only: bool) -> Self {
        Self {
            source: DiskSource::Path(path.into()),
            format: DiskFormat::Raw,
            read_only,
            extents: Vec::new(),
        }
    }

    /// A writable raw image in a file that may be unlinked already.
    pub fn file(file: OwnedFd) -> Self {
        Self {
            source: DiskSource::File(file),
            format: DiskFormat::Raw,
            read_only: false,
            extents: Vec::new(),
        }
    }

    /// A read-only disk described by the VMDK descriptor at `path` over `extents`.
    pub fn vmdk(path: impl Into<PathBuf>, extents: Vec<PathBuf>) -> Self {
        Self { source: DiskSource::Path(path.into()), format: DiskFormat::Vmdk, read_only: true, extents }
    }
}

/// Where a disk's bytes come from.
#[derive(Debug)]
pub enum DiskSource {
    /// A file with a name.
    Path(PathBuf),
    /// An open file, which may have lost its name; must be open for what [`Disk::read_only`] says.
    File(OwnedFd),
}

/// The layout of a disk's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The bytes of the disk, one to one.
    Raw,
    /// A VMDK descriptor with flat extents (and nothing else of VMDK).
    Vmdk,
}

impl Machine {
    /// Refuses sizes no hypervisor here can start, and more devices than this one has `slots` for.
    pub(super) fn check(&self, slots: usize) -> Result<(), Error> {
        let others = SYSTEM_DEVICES
            + SYSTEM_DISKS
            + usize::from(self.shares.is_some())
            + usize::from(self.interface.is_some());
        let (room, asked) = (slots - others, self.disks.len().saturating_sub(SYSTEM_DISKS));
        if asked > room {
            return Err(Error::Volumes { asked, room });
        }
        if self.cpus == 0 || self.cpus > MAX_CPUS {
            return Err(Error::Cpus { asked: self.cpus, max: MAX_CPUS });
        }
        check_memory(self.memory_mib)
    }
}

/// Whether a machine with `mib` MiB of memory can start here.
///
/// # Errors
/// [`Error::Memory`] when it is too little for Linux or more than the host has.
pub fn check_memory(mib: u32) -> Result<(), Error> {
    let host = host_memory_mib();
    if mib < MIN_MEMORY_MIB || host.is_some_and(|host| u64::from(mib) > host) {
        return Err(Error::Memory { asked: mib, min: MIN_MEMORY_MIB, host });
    }
    Ok(())
}

/// Physical memory of the host in MiB, `None` when it cannot be told.
fn host_memory_mib() -> Option<u64> {
    let info = nix::sys::sysinfo::sysinfo().ok()?;
    Some(info.ram_total() >> 20)
}
