//! Which layers of confinement this host allows.

use std::io::Read;
use std::os::unix::net::UnixStream;

/// Layers of confinement: in force for one machine, or possible on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// A user namespace of its own.
    pub user_namespace: bool,
    /// A file tree of its own with nothing but what the machine needs.
    pub mount_namespace: bool,
    /// Network, IPC, host name and cgroup namespaces of its own.
    pub other_namespaces: bool,
    /// Landlock rules.
    pub landlock: bool,
    /// A system call filter.
    pub seccomp: bool,
}

/// Marks bits that were written at all: a machine without any layer is not a machine that has not been confined yet.
const WRITTEN: u64 = 1 << 63;

impl Report {
    /// Whether every layer is there.
    pub fn is_complete(&self) -> bool {
        self.missing().is_empty()
    }

    /// The layers that are not there, in words.
    pub fn missing(&self) -> Vec<&'static str> {
        let layers = [
            (self.user_namespace, "user namespace"),
            (self.mount_namespace, "private file tree"),
            (self.other_namespaces, "network and IPC namespaces"),
            (self.landlock, "Landlock"),
            (self.seccomp, "seccomp"),
        ];
        layers.into_iter().filter(|(there, _)| !there).map(|(_, name)| name).collect()
    }

    pub(crate) fn to_bits(self) -> u64 {
        let layers =
            [self.user_namespace, self.mount_namespace, self.other_namespaces, self.landlock, self.seccomp];
        layers.into_iter().enumerate().fold(WRITTEN, |bits, (at, there)| bits | u64::from(there) << at)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        let layer = |at: u32| bits >> at & 1 == 1;
        Self {
            user_namespace: layer(0),
            mount_namespace: layer(1),
            other_namespaces: layer(2),
            landlock: layer(3),
            seccomp: layer(4),
        }
    }
}

/// Finds out which layers this host allows by confining a child process. Takes a few milliseconds.
pub fn report() -> Report {
    let Ok((mut ours, theirs)) = UnixStream::pair() else { return Report::default() };
    // SAFETY: the child only makes system calls and small allocations before `_exit`, and glibc keeps its allocator usable in
    // the child of a process with threads.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Child) => {
            let bits = try_everything().to_bits().to_le_bytes();
            use std::io::Write;
            let _ = (&theirs).write_all(&bits);
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            drop(theirs);
            let mut bits = [0u8; 8];
            let read = ours.read_exact(&mut bits);
            let _ = nix::sys::wait::waitpid(child, None);
            read.map_or(Report::default(), |()| Report::from_bits(u64::from_le_bytes(bits)))
        }
        Err(_) => Report::default(),
    }
}

fn try_everything() -> Report {
    let plan = super::Plan {
        files: Vec::new(),
        devices: &[],
        system: Vec::new(),
        file_size: 0,
        filter: super::Filter::Qemu,
        shares: None,
        rearm: &|| Ok(()),
    };
    super::enter(plan).map(|(report, _)| report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_back_and_none_is_not_nothing() {
        for number in 0..32u64 {
            let report = Report::from_bits(number);
            assert_ne!(report.to_bits(), 0);
            assert_eq!(Report::from_bits(report.to_bits()), report);
            assert_eq!(report.missing().len(), 5 - number.count_ones() as usize);
        }
    }

    #[test]
    fn the_system_call_filter_works_on_every_host() {
        assert!(report().seccomp);
    }
}
