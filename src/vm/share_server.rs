//! The process that serves shared folders to a machine on QEMU: libkrun's virtio-fs device behind a vhost-user socket, in a jail of
//! its own. On libkrun the same device runs in the machine's process.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getppid};

use super::child::{Child, SETUP_FAILED};
use super::{Error, jail, vhost};

/// Starts the process and gives the hypervisor's end of its socket. The process ends with this one, whatever this one executes in
/// the meantime.
pub(super) fn start(child: &mut Child, shares: jail::Shares) -> Result<UnixStream, Error> {
    let (ours, theirs) = UnixStream::pair().map_err(|source| Error::Child { call: "socketpair", source })?;
    let parent = nix::unistd::getpid();
    // SAFETY: this process has one thread only.
    match unsafe { fork() }.map_err(Error::child("fork"))? {
        ForkResult::Parent { .. } => Ok(ours),
        ForkResult::Child => {
            drop(ours);
            child.give_up_files();
            let Err(error) = serve(shares, theirs, parent);
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            // Nobody is left to be told when this fails.
            let _ =
                writeln!(std::io::stderr(), "msb-vmm: the shared folders cannot be served: {error}: {cause}");
            // SAFETY: ends the process without running what belongs to its parent.
            unsafe { libc::_exit(SETUP_FAILED.into()) }
        }
    }
}

fn serve(shares: jail::Shares, socket: UnixStream, parent: Pid) -> Result<std::convert::Infallible, Error> {
    let tie = || prctl::set_pdeathsig(Signal::SIGKILL);
    tie().map_err(Error::child("PR_SET_PDEATHSIG"))?;
    if getppid() != parent {
        return Err(Error::Configuration("the process that started this machine is gone".into()));
    }
    let (_, tree) = jail::enter(jail::Plan {
        files: Vec::new(),
        devices: &[],
        system: Vec::new(),
        file_size: 0,
        filter: jail::Filter::Shares,
        shares: Some(shares),
        rearm: &tie,
    })?;
    let tree: OwnedFd = tree.ok_or_else(|| Error::Configuration("nothing is shared".into()))?;
    // The dot makes it the folder and not a link to it.
    let folder = format!("/proc/self/fd/{}/.", tree.as_raw_fd());
    vhost::serve(socket, folder).map_err(|source| Error::Child { call: "vhost-user", source })?;
    // The machine has ended.
    drop(File::from(tree));
    // SAFETY: ends the process without running what belongs to its parent.
    unsafe { libc::_exit(0) }
}
