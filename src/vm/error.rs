//! Errors of [`crate::vm`].

use std::io;
use std::path::PathBuf;

/// Why a virtual machine could not be chosen, described or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More named volumes than the machine has room for.
    #[error("this hypervisor has room for {room} named volumes in such a sandbox, not {asked}")]
    Volumes {
        /// What was asked for.
        asked: usize,
        /// The most that is possible.
        room: usize,
    },
    /// The number of CPUs is outside what hypervisors accept.
    #[error("a sandbox has 1 to {max} CPUs, not {asked}")]
    Cpus {
        /// What was asked for.
        asked: u8,
        /// The most that is possible.
        max: u8,
    },
    /// The amount of memory is too small for Linux or larger than the host's.
    #[error("{asked} MiB of memory is not possible: at least {min} MiB{}", host_limit(*.host))]
    Memory {
        /// MiB asked for.
        asked: u32,
        /// The least MiB a guest starts with.
        min: u32,
        /// MiB the host has, if known.
        host: Option<u64>,
    },
    /// A disk, or a file a disk is made of, cannot be opened.
    #[error("cannot open the disk {path}")]
    OpenDisk {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A VMDK descriptor is damaged or uses what is not supported here.
    #[error("the disk descriptor {path} is not usable: {reason}")]
    Descriptor {
        /// The descriptor.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No kernel was found anywhere.
    #[error("no guest kernel found; looked for {}", list(.searched))]
    KernelMissing {
        /// Every place that was looked at, in order.
        searched: Vec<PathBuf>,
    },
    /// The kernel that was named cannot be read.
    #[error("cannot read the guest kernel {path} ({origin})")]
    KernelUnreadable {
        /// The file.
        path: PathBuf,
        /// Who named it: a flag, an environment variable, …
        origin: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The file that was named is not a kernel that can be booted here.
    #[error("{path} ({origin}) is not a bootable guest kernel: {reason}")]
    KernelUnusable {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: &'static str,
        /// What it is instead.
        reason: String,
    },
    /// `--vmm krun` where KVM does not run guest kernels.
    #[error("libkrun cannot run here: {reason}")]
    KvmUnusable {
        /// The verdict of the probe, in words.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// QEMU is needed but not installed.
    #[error("{program} is not installed{}", because(.reason))]
    QemuMissing {
        /// The program that was looked for on `PATH`.
        program: &'static str,
        /// Why QEMU is needed; empty when the user asked for it.
        reason: String,
    },
    /// An unknown hypervisor name.
    #[error("unknown hypervisor '{0}'")]
    UnknownHypervisor(String),
    /// The process of the machine could not be started.
    #[error("cannot start the machine's process: {call}")]
    Spawn {
        /// The call that failed.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The machine's process could not be watched or ended.
    #[error("cannot wait for the machine's process")]
    Wait(#[source] io::Error),
    /// In the machine's process: the configuration did not arrive or is not understood.
    #[error("the machine's configuration is not usable: {0}")]
    Configuration(String),
    /// In the machine's process: it could not be confined.
    #[error("cannot confine the machine's process")]
    Jail(#[from] super::jail::Error),
    /// In the machine's process: a call to the system failed.
    #[error("{call} failed in the machine's process")]
    Child {
        /// The call.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// In the machine's process: libkrun refused a setting.
    #[error("libkrun: {call} failed")]
    Krun {
        /// The libkrun function.
        call: &'static str,
        /// The errno it returned.
        source: io::Error,
    },
}

impl Error {
    /// What the user can do about it, for a line of its own below the message.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::KernelMissing { .. } => {
                "run `make kernel` in a checkout of msb, or point MSB_KERNEL at an uncompressed vmlinux"
                    .into()
            }
            Self::KernelUnusable { .. } | Self::KernelUnreadable { .. } => {
                "msb boots an uncompressed ELF kernel (vmlinux); `make kernel` builds one".into()
            }
            Self::Volumes { .. } => "keep several folders in one volume, or share folders of the host".into(),
            Self::QemuMissing { .. } => "install it: apt-get install qemu-system-x86".into(),
            Self::UnknownHypervisor(_) => "use one of: auto, krun, qemu".into(),
            Self::KvmUnusable { hint, .. } => return hint.clone(),
            _ => return None,
        })
    }

    /// A failed call of the machine's process with `errno` as the cause.
    pub(super) fn child(call: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self::Child { call, source: errno.into() }
    }

    /// A failed call on the way to starting the machine's process.
    pub(super) fn spawn(call: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self::Spawn { call, source: errno.into() }
    }
}

fn host_limit(host: Option<u64>) -> String {
    host.map_or(String::new(), |mib| format!(", at most the {mib} MiB of this host"))
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(", and it is needed because {reason}") }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
