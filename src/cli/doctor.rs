//! `msb doctor`.

use std::path::Path;

use console::Style;
use serde::Serialize;

use crate::ui::{Ui, human_bytes};
use crate::vm::{self, HypervisorKind, VmmChoice, jail, kernel};

use super::Outcome;
use super::args::{Format, FormatArgs, MachineArgs};
use super::settings::Context;

/// Free space below which pulls are likely to fail.
const LOW_SPACE: u64 = 2 << 30;

/// Check what this machine can run, and say what to do about what it cannot
///
/// Exits with 1 if no sandbox can run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Works, but not as well as it could.
    Warning,
    /// No sandbox can run because of it.
    Error,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { name, status, detail: detail.into(), hint: None }
    }

    fn hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let environment = vm::Environment::from_process();
        let checks = [
            versions(),
            kvm(&environment),
            hypervisor(context.vmm(&self.machine)?, &environment),
            qemu(&environment),
            guest_kernel(&context.kernel_lookup(self.machine.kernel.clone())),
            confinement(),
            disk_space(&context.paths.cache),
        ];
        match self.format.format {
            Format::Json => context.ui.json(&checks)?,
            Format::Table => print(context.ui, &checks)?,
        }
        Ok(u8::from(checks.iter().any(|check| check.status == Status::Error)))
    }
}

fn print(ui: Ui, checks: &[Check]) -> std::io::Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let (mark, style) = match check.status {
            Status::Ok => ("ok", Style::new().green()),
            Status::Warning => ("warning", Style::new().yellow()),
            Status::Error => ("error", Style::new().red()),
        };
        ui.data(format_args!("{:<7}  {:<width$}  {}", style.apply_to(mark), check.name, check.detail))?;
        if let Some(hint) = &check.hint {
            ui.data(format_args!("{:<7}  {:<width$}  → {hint}", "", ""))?;
        }
    }
    Ok(())
}

fn versions() -> Check {
    let os = nix::sys::utsname::uname().map_or_else(
        |_| "unknown host".to_owned(),
        |name| format!("{} {}", name.sysname().display(), name.release().display()),
    );
    let version = env!("CARGO_PKG_VERSION");
    Check::new("msb", Status::Ok, format!("{version} on {os}, {}", std::env::consts::ARCH))
}

fn kvm(environment: &vm::Environment) -> Check {
    let verdict = environment.kvm();
    let status = if verdict.is_usable() { Status::Ok } else { Status::Warning };
    Check::new("KVM", status, verdict.reason()).hint(verdict.hint())
}

fn hypervisor(choice: VmmChoice, environment: &vm::Environment) -> Check {
    match vm::select(choice, environment) {
        Ok(selection) => {
            let status = if selection.announce.is_some() { Status::Warning } else { Status::Ok };
            let detail = format!("{}: {}", kind_name(selection.kind), selection.reason);
            Check::new("hypervisor", status, detail)
        }
        Err(error) => Check::new("hypervisor", Status::Error, error.to_string()).hint(error.hint()),
    }
}

fn kind_name(kind: HypervisorKind) -> &'static str {
    match kind {
        HypervisorKind::Krun => "libkrun on KVM",
        HypervisorKind::QemuKvm => "QEMU on KVM",
        HypervisorKind::QemuTcg => "QEMU emulating the processor in software",
    }
}

fn qemu(environment: &vm::Environment) -> Check {
    match environment.qemu() {
        Some(path) => Check::new("QEMU", Status::Ok, path.display().to_string()),
        None => Check::new("QEMU", Status::Ok, "not installed; needed only where KVM is not usable"),
    }
}

fn guest_kernel(lookup: &kernel::Lookup) -> Check {
    match kernel::locate(lookup) {
        Ok(kernel) => Check::new(
            "guest kernel",
            Status::Ok,
            format!("{} ({})", kernel.path().display(), kernel.origin()),
        ),
        Err(error) => Check::new("guest kernel", Status::Error, error.to_string()).hint(error.hint()),
    }
}

fn confinement() -> Check {
    let report = jail::report();
    let missing = report.missing();
    if missing.is_empty() {
        return Check::new("confinement", Status::Ok, "namespaces, Landlock and seccomp are available");
    }
    let hint = if report.mount_namespace {
        "sandboxes run, with fewer layers around the virtual machine monitor"
    } else {
        "sandboxes run, with fewer layers around the virtual machine monitor, and cannot share folders of this machine"
    };
    Check::new("confinement", Status::Warning, format!("not available here: {}", missing.join(", ")))
        .hint(Some(hint.into()))
}

fn disk_space(cache: &Path) -> Check {
    let existing = cache.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(space) => {
            let free = space.blocks_available() * space.fragment_size();
            let status = if free < LOW_SPACE { Status::Warning } else { Status::Ok };
            Check::new("disk", status, format!("{} free for {}", human_bytes(free), cache.display()))
        }
        Err(errno) => Check::new("disk", Status::Warning, format!("{}: {errno}", existing.display())),
    }
}
