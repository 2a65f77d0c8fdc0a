//! What the end of a machine's process means.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::child::SETUP_FAILED;
use super::console::{self, Findings};
use super::probe::{self, Verdict};
use super::{Exit, HypervisorKind};

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest reset or powered off: the way an orderly machine ends. A machine whose agent had not said goodbye by then
    /// crashed hard enough to reset the processor.
    GuestReset,
    /// Anything else.
    Failed(Failure),
}

/// Why a machine ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest kernel panicked.
    #[error("the guest kernel panicked: {0}")]
    GuestPanic(String),
    /// The guest kernel does not suit this machine's KVM.
    #[error("KVM gave up on the guest kernel (KVM internal error)")]
    KvmInternalError,
    /// Nothing was heard from the guest's agent.
    #[error("the guest did not start within {0} s")]
    Silent(u64),
    /// Somebody killed the machine's process: the user, or the kernel of the host because memory ran out.
    #[error("the machine's process was killed from outside (SIGKILL)")]
    Killed,
    /// The machine's process made a system call it must never make.
    #[error("the machine's process was stopped by its system call filter (SIGSYS)")]
    ForbiddenCall,
    /// The machine's process crashed.
    #[error("the machine's process was ended by {}", signal_name(*.0))]
    Signal(i32),
    /// The machine's process could not start the hypervisor.
    #[error("the machine could not be started{}", detail(.0))]
    Setup(Vec<String>),
    /// The hypervisor gave up.
    #[error("the hypervisor ended with code {code}{}", detail(.lines))]
    Hypervisor {
        /// Its exit code.
        code: i32,
        /// The last lines of its standard error.
        lines: Vec<String>,
    },
}

/// How long a guest may be silent before [`judge_silence`] should be asked about it. On hardware an agent speaks within 0.1 s.
pub const SILENCE: Duration = Duration::from_secs(12);
/// How long a guest may be silent at all: software emulation on a busy machine takes its time.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(120);

/// What it means that a guest's agent has not spoken for `waited` since its machine was started: `None` = go on waiting.
///
/// A KVM that only interprets guest kernels gives up on an ordinary one after some ten seconds of processor time, on a busy
/// machine much later (and QEMU only stops then, without ending). A probe tells at once.
pub fn judge_silence(kind: HypervisorKind, waited: Duration) -> Option<Failure> {
    judge(kind, waited, probe::kvm)
}

fn judge(kind: HypervisorKind, waited: Duration, probe: impl FnOnce() -> Verdict) -> Option<Failure> {
    if waited >= LONGEST_SILENCE {
        return Some(Failure::Silent(waited.as_secs()));
    }
    let on_kvm = matches!(kind, HypervisorKind::Krun | HypervisorKind::QemuKvm);
    let suspicious = on_kvm && waited >= SILENCE;
    (suspicious && matches!(probe(), Verdict::Interpreted { .. })).then_some(Failure::KvmInternalError)
}

/// Lines of standard error that are shown.
const SHOWN_LINES: usize = 5;
/// libkrun's message for `KVM_EXIT_INTERNAL_ERROR`.
const KRUN_INTERNAL_ERROR: &str = "KVM_EXIT_INTERNAL_ERROR";
/// QEMU's message for the same.
const QEMU_INTERNAL_ERROR: &str = "KVM internal error";

impl Outcome {
    /// Explains the end of a machine's process from its exit status, the tail of its standard error and what the guest's
    /// console showed.
    pub fn explain(exit: Exit, diagnostics: &[u8], console: &Findings) -> Self {
        let text = console::printable(diagnostics);
        if let Some(reason) = &console.panic {
            return Self::Failed(Failure::GuestPanic(reason.clone()));
        }
        // QEMU stops instead of ending and is killed then: the message counts whatever the status.
        if text.contains(KRUN_INTERNAL_ERROR) || text.contains(QEMU_INTERNAL_ERROR) {
            return Self::Failed(Failure::KvmInternalError);
        }
        if let Some(signal) = exit.signal() {
            return Self::Failed(match signal {
                libc::SIGKILL => Failure::Killed,
                libc::SIGSYS => Failure::ForbiddenCall,
                signal => Failure::Signal(signal),
            });
        }
        let lines = console::last_lines(&text, SHOWN_LINES);
        match exit.status.code() {
            Some(0) => Self::GuestReset,
            Some(code) if code == i32::from(SETUP_FAILED) => Self::Failed(Failure::Setup(lines)),
            code => Self::Failed(Failure::Hypervisor { code: code.unwrap_or(-1), lines }),
        }
    }
}

impl Failure {
    /// What the user can do about it on the hypervisor `kind`.
    pub fn hint(&self, kind: HypervisorKind) -> Option<String> {
        match self {
            Self::KvmInternalError => Some(match kind {
                HypervisorKind::Krun | HypervisorKind::QemuKvm => {
                    "this machine's KVM only interprets ordinary guest kernels: unset MSB_KVM_PROBE to let msb choose \
                     software emulation, or boot a kernel made for this KVM (MSB_KERNEL)"
                        .into()
                }
                HypervisorKind::QemuTcg => "this should not happen in software emulation; please report it".into(),
            }),
            Self::Killed => Some(
                "if nobody did that, the host ran out of memory: see dmesg, or give the sandbox less memory".into(),
            ),
            Self::ForbiddenCall => {
                Some("either the guest attacked the hypervisor, or msb lacks a rule for this system: please report it".into())
            }
            _ => None,
        }
    }
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

fn detail(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn explain(status: i32, diagnostics: &str) -> Outcome {
        let exit = Exit { status: ExitStatus::from_raw(status) };
        Outcome::explain(exit, diagnostics.as_bytes(), &Findings::default())
    }

    #[test]
    fn every_end_has_a_name() {
        assert_eq!(explain(0, "a warning\n"), Outcome::GuestReset);
        assert_eq!(explain(9, ""), Outcome::Failed(Failure::Killed));
        assert_eq!(explain(31, ""), Outcome::Failed(Failure::ForbiddenCall));
        assert_eq!(explain(11, ""), Outcome::Failed(Failure::Signal(11)));
        assert_eq!(
            explain(1 << 8, "[2026-01-01T00:00:00Z ERROR vmm] Received KVM_EXIT_INTERNAL_ERROR signal\n"),
            Outcome::Failed(Failure::KvmInternalError)
        );
        let lines = vec!["msb-vmm: cannot confine the machine's process".to_owned()];
        assert_eq!(explain(70 << 8, &format!("{}\n", lines[0])), Outcome::Failed(Failure::Setup(lines)));
        let Outcome::Failed(failure) = explain(1 << 8, "a\nb\n") else { unreachable!() };
        assert_eq!(failure.to_string(), "the hypervisor ended with code 1: a; b");
    }

    #[test]
    fn silence_is_a_failure_when_kvm_interprets_or_it_lasts_too_long() {
        let interprets = || Verdict::Interpreted { exit_reason: 17, suberror: 1 };
        let second = Duration::from_secs(1);
        assert_eq!(judge(HypervisorKind::Krun, SILENCE, interprets), Some(Failure::KvmInternalError));
        assert_eq!(judge(HypervisorKind::QemuKvm, SILENCE, interprets), Some(Failure::KvmInternalError));
        assert_eq!(judge(HypervisorKind::Krun, SILENCE - second, interprets), None);
        assert_eq!(judge(HypervisorKind::Krun, SILENCE, || Verdict::Native), None);
        assert_eq!(judge(HypervisorKind::QemuTcg, SILENCE, interprets), None);
        assert_eq!(judge(HypervisorKind::QemuTcg, LONGEST_SILENCE, interprets), Some(Failure::Silent(120)));
    }

    #[test]
    fn a_guest_panic_explains_an_orderly_exit() {
        let exit = Exit { status: ExitStatus::from_raw(0) };
        let console = Findings { panic: Some("oops".into()), ..Findings::default() };
        let outcome = Outcome::explain(exit, b"", &console);
        assert_eq!(outcome, Outcome::Failed(Failure::GuestPanic("oops".into())));
    }
}
