//! The hypervisor as a parameter of the tests: which can run here, and with which kernel.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::environment::{TestEnv, vm_variables};

/// A hypervisor of `msb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hypervisor {
    /// libkrun, on KVM.
    Krun,
    /// QEMU, by software emulation, so that it runs everywhere.
    Qemu,
}

/// How a hypervisor is made to work on this machine.
#[derive(Debug, Clone)]
pub struct Availability {
    /// The guest kernel to use.
    pub kernel: PathBuf,
    /// Whether `MSB_KVM_PROBE=skip` is needed, because the kernel is one that suits this machine's KVM.
    pub skip_probe: bool,
}

impl Hypervisor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Krun, Self::Qemu];

    /// Its name, as in `--vmm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Krun => "krun",
            Self::Qemu => "qemu",
        }
    }

    /// How long a command that boots a machine may take under it, on a busy machine.
    #[must_use]
    pub fn limit(self) -> Duration {
        match self {
            Self::Krun => Duration::from_secs(60),
            Self::Qemu => Duration::from_secs(180),
        }
    }

    /// Whether it can run here, found out once per run by really starting a machine.
    ///
    /// # Errors
    /// The reason it cannot, for the summary of the run.
    pub fn availability(self) -> Result<&'static Availability, &'static str> {
        static KRUN: OnceLock<Result<Availability, String>> = OnceLock::new();
        static QEMU: OnceLock<Result<Availability, String>> = OnceLock::new();
        let found = match self {
            Self::Krun => KRUN.get_or_init(find_krun),
            Self::Qemu => QEMU.get_or_init(find_qemu),
        };
        found.as_ref().map_err(String::as_str)
    }

    /// Whether `MSB_REQUIRE_VMM` (a list such as `krun,qemu`) turns its absence into a failure.
    #[must_use]
    pub fn required(self) -> bool {
        let list = std::env::var("MSB_REQUIRE_VMM").unwrap_or_default();
        list.split(',').any(|name| name.trim() == self.name())
    }
}

fn find_qemu() -> Result<Availability, String> {
    let machine = Availability { kernel: kernel("MSB_TEST_KERNEL", "kernel")?, skip_probe: false };
    try_boot(Hypervisor::Qemu, machine)
}

/// First with the normal kernel, as a user would. Where the probe says that this KVM does not run it natively, with the one made for it.
fn find_krun() -> Result<Availability, String> {
    let machine = Availability { kernel: kernel("MSB_TEST_KERNEL", "kernel")?, skip_probe: false };
    let refused = match try_boot(Hypervisor::Krun, machine) {
        Ok(machine) => return Ok(machine),
        Err(reason) => reason,
    };
    let special =
        kernel("MSB_TEST_KERNEL_PV", "test-kernel").map_err(|missing| format!("{refused}; {missing}"))?;
    try_boot(Hypervisor::Krun, Availability { kernel: special, skip_probe: true })
}

fn kernel(variable: &str, target: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let path = path.ok_or_else(|| {
        format!("{variable} is not set (`make test` sets it to what `make {target}` built)")
    })?;
    if path.is_file() { Ok(path) } else { Err(format!("{variable}={} is no file", path.display())) }
}

fn try_boot(hypervisor: Hypervisor, machine: Availability) -> Result<Availability, String> {
    let env = TestEnv::with_images();
    let mut command = env.msb(["exe", "--image", &env.image("busybox"), "--", "echo", "booted"]);
    for (name, value) in vm_variables(hypervisor, &machine) {
        command = command.env(name, value);
    }
    // KVM works at once or not at all; emulation is slow on a busy machine.
    let limit = Duration::from_secs(if hypervisor == Hypervisor::Krun { 20 } else { 120 });
    let Ok(finished) = command.limit(limit).try_run() else {
        return Err(format!("a machine did not start within {} s", limit.as_secs()));
    };
    if finished.exit_code() == Some(0) && finished.stdout == b"booted\n" {
        return Ok(machine);
    }
    let errors = finished.err();
    let said = errors.lines().find_map(|line| line.strip_prefix("error: "));
    Err(format!("a machine did not start: {}", said.unwrap_or("it did not say why")))
}
