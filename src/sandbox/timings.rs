//! Where the time of a run goes.

use std::fmt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One stretch of a run, in the order they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Reading the Sandboxfile, finding image, kernel and hypervisor.
    Resolve,
    /// Making or opening the writable disk.
    Disk,
    /// Starting the VMM process, until it runs our code.
    Spawn,
    /// The VMM sets up its jail and the machine, until it enters the guest.
    Vmm,
    /// The guest kernel, until PID 1 starts.
    Kernel,
    /// PID 1: mounts and preparations, until the command can start.
    Agent,
    /// The command itself.
    Exec,
    /// Orderly power-off, until the VMM is gone.
    Exit,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Disk => "disk",
            Self::Spawn => "spawn",
            Self::Vmm => "vmm",
            Self::Kernel => "kernel",
            Self::Agent => "agent",
            Self::Exec => "exec",
            Self::Exit => "exit",
        })
    }
}

/// The points in time of one run, on the host's monotonic clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Timings {
    last: Duration,
    phases: Vec<(Phase, Duration)>,
}

impl Default for Timings {
    fn default() -> Self {
        Self::start()
    }
}

impl Timings {
    /// Starts the first phase now.
    #[must_use]
    pub fn start() -> Self {
        Self { last: now(), phases: Vec::with_capacity(8) }
    }

    /// Ends `phase` now.
    pub fn end(&mut self, phase: Phase) {
        self.end_at(phase, now());
    }

    /// Ends `phase` at `at`, nanoseconds of `CLOCK_MONOTONIC`; a time before the last one counts as that.
    pub fn end_at(&mut self, phase: Phase, at: Duration) {
        let at = at.max(self.last);
        self.phases.push((phase, at - self.last));
        self.last = at;
    }

    /// Ends `phase` after it has taken `length`, or now if that is sooner.
    pub fn end_after(&mut self, phase: Phase, length: Duration) {
        self.end_at(phase, (self.last + length).min(now()));
    }

    /// The phases so far with their lengths.
    #[must_use]
    pub fn phases(&self) -> &[(Phase, Duration)] {
        &self.phases
    }
}

/// The host's monotonic clock.
#[must_use]
pub(crate) fn now() -> Duration {
    // CLOCK_MONOTONIC always exists on Linux.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_never_run_backwards() {
        let mut timings = Timings::start();
        timings.end(Phase::Resolve);
        timings.end_at(Phase::Disk, Duration::ZERO);
        timings.end_after(Phase::Spawn, Duration::from_secs(3600));
        assert_eq!(
            timings.phases().iter().map(|(phase, _)| *phase).collect::<Vec<_>>(),
            [Phase::Resolve, Phase::Disk, Phase::Spawn]
        );
        assert_eq!(timings.phases()[1].1, Duration::ZERO);
        assert!(timings.phases()[2].1 < Duration::from_secs(60));
    }
}
