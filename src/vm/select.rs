//! Which hypervisor runs a machine, and why.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::probe::{self, Verdict};
use super::{Accelerator, Error, Hypervisor, Krun, Qemu};

/// What the user asked for with `--vmm`, `MSB_VMM` or the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum VmmChoice {
    /// libkrun where KVM runs guests natively, else QEMU.
    #[default]
    Auto,
    /// libkrun or an error.
    Krun,
    /// QEMU, with KVM where that is usable.
    Qemu,
}

impl VmmChoice {
    /// Every accepted name.
    pub const NAMES: [&'static str; 3] = ["auto", "krun", "qemu"];
}

impl FromStr for VmmChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "krun" => Ok(Self::Krun),
            "qemu" => Ok(Self::Qemu),
            other => Err(Error::UnknownHypervisor(other.into())),
        }
    }
}

/// The hypervisor that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HypervisorKind {
    /// libkrun on KVM.
    Krun,
    /// QEMU on KVM.
    QemuKvm,
    /// QEMU emulating the processor in software: works everywhere, ten times slower and more.
    QemuTcg,
}

/// What a choice depends on besides the user's wish.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The user vouches for KVM (`MSB_KVM_PROBE=skip`).
    pub skip_probe: bool,
    /// `PATH`, for finding QEMU.
    pub path: Option<OsString>,
}

impl Environment {
    /// Reads `MSB_KVM_PROBE` and `PATH`.
    pub fn from_process() -> Self {
        Self {
            skip_probe: std::env::var_os(probe::PROBE_VARIABLE).is_some_and(|value| value == "skip"),
            path: std::env::var_os("PATH"),
        }
    }

    /// The verdict on KVM: the probe's, unless the user vouches for it.
    pub fn kvm(&self) -> Verdict {
        if self.skip_probe { Verdict::Skipped } else { probe::kvm() }
    }

    /// The system's QEMU for this processor, if installed.
    pub fn qemu(&self) -> Option<PathBuf> {
        find_program(Qemu::PROGRAM, self.path.as_ref()?)
    }
}

/// A choice with everything a user may want to know about it.
#[derive(Debug)]
pub struct Selection {
    /// The hypervisor, ready to start machines.
    pub hypervisor: Box<dyn Hypervisor>,
    /// What it is.
    pub kind: HypervisorKind,
    /// Why it was chosen, in words.
    pub reason: String,
    /// One line for standard error when the choice is weaker than what the user may expect.
    pub announce: Option<String>,
}

/// Chooses a hypervisor. `auto` never falls back silently and `krun` never falls back at all.
pub fn select(choice: VmmChoice, environment: &Environment) -> Result<Selection, Error> {
    decide(choice, &environment.kvm(), || environment.qemu())
}

fn decide(
    choice: VmmChoice,
    verdict: &Verdict,
    qemu: impl FnOnce() -> Option<PathBuf>,
) -> Result<Selection, Error> {
    let reason = verdict.reason();
    match (choice, verdict) {
        (VmmChoice::Auto | VmmChoice::Krun, verdict) if verdict.is_usable() => Ok(Selection {
            hypervisor: Box::new(Krun::new()),
            kind: HypervisorKind::Krun,
            reason,
            announce: None,
        }),
        // That KVM is there but closed to this user is a mistake to be mended, not a reason for a machine ten times slower.
        (VmmChoice::Krun, _) | (VmmChoice::Auto, Verdict::NoPermission) => {
            Err(Error::KvmUnusable { reason, hint: verdict.hint() })
        }
        (VmmChoice::Auto, _) => software_emulation(reason.clone(), qemu, reason),
        (VmmChoice::Qemu, verdict) if verdict.is_usable() => {
            let program = qemu_program(qemu, String::new())?;
            // A KVM that needs vouching for may lack registers that `-cpu host` passes on.
            let accelerator = match verdict {
                Verdict::Skipped => Accelerator::ParavirtualKvm,
                _ => Accelerator::Kvm,
            };
            Ok(Selection {
                hypervisor: Box::new(Qemu::new(program, accelerator)),
                kind: HypervisorKind::QemuKvm,
                reason: format!("QEMU was asked for, and {reason}"),
                announce: None,
            })
        }
        (VmmChoice::Qemu, _) => {
            software_emulation(format!("QEMU was asked for, and {reason}"), qemu, String::new())
        }
    }
}

fn software_emulation(
    reason: String,
    qemu: impl FnOnce() -> Option<PathBuf>,
    needed_because: String,
) -> Result<Selection, Error> {
    let program = qemu_program(qemu, needed_because)?;
    let announce = format!("running in software emulation (QEMU), which is much slower: {reason}");
    Ok(Selection {
        hypervisor: Box::new(Qemu::new(program, Accelerator::Tcg)),
        kind: HypervisorKind::QemuTcg,
        reason,
        announce: Some(announce),
    })
}

fn qemu_program(qemu: impl FnOnce() -> Option<PathBuf>, reason: String) -> Result<PathBuf, Error> {
    qemu().ok_or(Error::QemuMissing { program: Qemu::PROGRAM, reason })
}

/// The first executable file called `name` in the absolute folders of `path`. Relative folders are ignored: they would run
/// whatever lies in the current folder.
fn find_program(name: &str, path: &OsString) -> Option<PathBuf> {
    use nix::unistd::{AccessFlags, access};
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate: &PathBuf| is_file(candidate) && access(candidate, AccessFlags::X_OK).is_ok())
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INTERPRETED: Verdict = Verdict::Interpreted { exit_reason: 17, suberror: 1 };

    fn with_qemu(choice: VmmChoice, verdict: &Verdict) -> Result<Selection, Error> {
        decide(choice, verdict, || Some("/usr/bin/qemu".into()))
    }

    #[test]
    fn native_kvm_means_krun_without_a_word() {
        for choice in [VmmChoice::Auto, VmmChoice::Krun] {
            for verdict in [Verdict::Native, Verdict::Skipped] {
                let selection = with_qemu(choice, &verdict).unwrap();
                assert_eq!((selection.kind, selection.announce), (HypervisorKind::Krun, None));
            }
        }
        let selection = with_qemu(VmmChoice::Qemu, &Verdict::Native).unwrap();
        assert_eq!((selection.kind, selection.announce), (HypervisorKind::QemuKvm, None));
    }

    #[test]
    fn auto_announces_software_emulation_with_the_reason() {
        for verdict in [INTERPRETED, Verdict::Missing, Verdict::Busy] {
            let selection = with_qemu(VmmChoice::Auto, &verdict).unwrap();
            assert_eq!(selection.kind, HypervisorKind::QemuTcg);
            assert!(selection.announce.unwrap().contains(&verdict.reason()));
        }
    }

    #[test]
    fn krun_fails_with_the_reason_and_a_hint() {
        for verdict in [INTERPRETED, Verdict::Missing, Verdict::NoPermission, Verdict::Busy] {
            let error = with_qemu(VmmChoice::Krun, &verdict).unwrap_err();
            assert!(error.to_string().contains(&verdict.reason()), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_closed_kvm_is_an_error_that_names_the_group() {
        let error = with_qemu(VmmChoice::Auto, &Verdict::NoPermission).unwrap_err();
        assert!(error.hint().unwrap().contains("usermod -aG kvm"));
    }

    #[test]
    fn without_qemu_the_error_says_how_to_install_it_and_why_it_is_needed() {
        let error = decide(VmmChoice::Auto, &INTERPRETED, || None).unwrap_err();
        assert!(error.to_string().contains("only interprets"), "{error}");
        assert_eq!(error.hint().unwrap(), "install it: apt-get install qemu-system-x86");
    }

    #[test]
    fn names_are_parsed_and_unknown_ones_refused() {
        for name in VmmChoice::NAMES {
            assert!(name.parse::<VmmChoice>().is_ok());
        }
        assert!("kvm".parse::<VmmChoice>().unwrap_err().hint().unwrap().contains("auto"));
    }

    #[test]
    fn programs_are_found_in_absolute_folders_only() {
        assert_eq!(find_program("sh", &"/nowhere:/bin".into()), Some("/bin/sh".into()));
        assert_eq!(find_program("sh", &"bin:.".into()), None);
        assert_eq!(find_program("passwd", &"/etc".into()), None);
    }
}
