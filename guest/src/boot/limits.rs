//! How much of the machine its commands may use.

use super::BootError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where the kernel's cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The one of all commands, beside which this agent and its tools are.
const COMMANDS: &str = "commands";

/// Makes the cgroup of the commands, in which there may be `pids` processes and threads at a time. A process enters it by writing
/// to the file that is given back. Root in the sandbox can leave it: it keeps mistakes small, and the machine's memory and CPUs
/// are what nothing in it gets beyond.
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html#pid>
pub(super) fn commands(pids: u32) -> Result<OwnedFd, BootError> {
    let cgroups = Path::new(CGROUPS);
    let folder = cgroups.join(COMMANDS);
    step(&cgroups.join("cgroup.subtree_control"), |path| std::fs::write(path, "+pids"))?;
    step(&folder, |path| match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    })?;
    step(&folder.join("pids.max"), |path| std::fs::write(path, pids.to_string()))?;
    let open = |path: &Path| OpenOptions::new().write(true).open(path);
    step(&folder.join("cgroup.procs"), open).map(<File as Into<OwnedFd>>::into)
}

fn step<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, BootError> {
    act(path).map_err(|source| BootError::Path { stage: "limits", path: path.to_owned(), source })
}
