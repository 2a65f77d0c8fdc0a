//! Virtual machines: which hypervisor to use, how its process is started and confined, and how its end is understood.
//!
//! A machine always runs in a process of its own, because `krun_start_enter` takes the calling process over and because that
//! process is what hostile guest code reaches first. The child is this very binary (`__vmm`, see [`vmm_main`]); it receives its
//! configuration and every file it may touch through one inherited socket, locks itself in (see [`jail`]) and then becomes
//! libkrun ([`Krun`]) or QEMU ([`Qemu`]).

mod channel;
mod child;
pub mod console;
mod descriptor;
mod error;
pub mod jail;
pub mod kernel;
mod krun;
mod machine;
mod memory;
mod outcome;
pub mod probe;
mod process;
mod qemu;
mod select;
mod share_server;
mod vhost;

pub use child::{VMM_SUBCOMMAND, vmm_main};
pub use error::Error;
pub use kernel::Kernel;
pub use krun::Krun;
pub use machine::{
    Disk, DiskFormat, DiskSource, Interface, MAX_CPUS, MIN_MEMORY_MIB, Machine, Share, Shares, check_memory,
};
pub use outcome::{Failure, LONGEST_SILENCE, Outcome, SILENCE, judge_silence};
pub use process::{Exit, Timings, Vmm};
pub use qemu::{Accelerator, Qemu};
pub use select::{Environment, HypervisorKind, Selection, VmmChoice, select};

/// Something that can run a [`Machine`].
pub trait Hypervisor: std::fmt::Debug + Send + Sync {
    /// The name used on the command line and in messages: `krun` or `qemu`.
    fn name(&self) -> &'static str;

    /// Starts `machine` in a confined process of its own and returns without waiting for the guest.
    ///
    /// The calling thread should be the main thread or one that lives as long as the machine does; the machine is killed when
    /// the calling process ends, however it ends.
    fn spawn(&self, machine: Machine) -> Result<Vmm, Error>;
}
