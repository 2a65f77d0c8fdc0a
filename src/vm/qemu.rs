//! QEMU: the guest runs on KVM, or anywhere in software emulation.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use msb_guest::message::SHARES_TAG;
use serde::{Deserialize, Serialize};

use super::channel::{Backend, DiskContent};
use super::child::{Child, keep_on_exec, rearm_parent_death};
use super::krun::AGENT_PORT;
use super::process::{self, Mark, monotonic_ns};
use super::{Error, Hypervisor, Machine, Vmm, jail, share_server};
use crate::net::gateway::MTU;

/// Requests for shared files that wait at most, as on libkrun.
const SHARES_QUEUE: u32 = 1024;

/// How QEMU runs guest code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accelerator {
    /// KVM that runs guest code natively.
    Kvm,
    /// KVM that suits only guest kernels made for it: the feature registers a host processor has are not all there.
    ParavirtualKvm,
    /// Emulation in software.
    Tcg,
}

/// What the machine's process needs to know about QEMU.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct QemuSettings {
    program: PathBuf,
    accelerator: Accelerator,
}

/// Runs machines on a QEMU of the system.
#[derive(Debug, Clone)]
pub struct Qemu {
    launcher: PathBuf,
    qemu: PathBuf,
    accelerator: Accelerator,
}

impl Qemu {
    /// Name of QEMU's program for this processor.
    pub const PROGRAM: &'static str =
        if cfg!(target_arch = "x86_64") { "qemu-system-x86_64" } else { "qemu-system-aarch64" };

    /// Runs machines on the QEMU at `qemu`, each confined by a process of the running program first, whose `main` must call
    /// [`super::vmm_main`] for [`super::VMM_SUBCOMMAND`].
    pub fn new(qemu: impl Into<PathBuf>, accelerator: Accelerator) -> Self {
        Self::with_launcher("/proc/self/exe", qemu, accelerator)
    }

    /// Like [`Qemu::new`] with another program to confine machines in, for users of the library.
    pub fn with_launcher(
        launcher: impl Into<PathBuf>,
        qemu: impl Into<PathBuf>,
        accelerator: Accelerator,
    ) -> Self {
        Self { launcher: launcher.into(), qemu: qemu.into(), accelerator }
    }
}

impl Hypervisor for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn spawn(&self, machine: Machine) -> Result<Vmm, Error> {
        let settings = QemuSettings { program: self.qemu.clone(), accelerator: self.accelerator };
        process::spawn(&self.launcher, machine, Backend::Qemu(settings), cmdline(self.accelerator))
    }
}

/// The kernel's command line; QEMU adds the places of its devices.
fn cmdline(accelerator: Accelerator) -> String {
    let mut words = vec!["panic=-1", "quiet", "dummy.numdummies=0"];
    if cfg!(target_arch = "x86_64") {
        // The microvm machine has no keyboard controller to reset through: a triple fault it is.
        words.extend(["console=ttyS0", "reboot=t"]);
    } else {
        words.push("console=ttyAMA0");
    }
    match accelerator {
        Accelerator::Kvm => {}
        Accelerator::ParavirtualKvm => words.extend(["no-kvmapf", "no-steal-acc"]),
        // There is no timer to calibrate the emulated counters against: the attempt would not end.
        Accelerator::Tcg => words.extend(["tsc=reliable", "no_timer_check", "lpj=1000000"]),
    }
    words.join(" ")
}

/// Becomes QEMU.
pub(super) fn enter(mut child: Child) -> Result<std::convert::Infallible, Error> {
    let shares = child.take_shares().map(|shares| share_server::start(&mut child, shares)).transpose()?;
    let Backend::Qemu(settings) = &child.config.backend else {
        return Err(Error::Configuration("this is not a QEMU machine".into()));
    };
    let program = c_string(settings.program.as_os_str())?;
    let mut arguments = arguments(&child, settings)?;
    if let Some(socket) = &shares {
        keep_on_exec(socket.as_fd())?;
        arguments.extend(share_arguments(socket.as_fd(), child.config.memory_mib));
    }
    let arguments = arguments.iter().map(|word| c_string(OsStr::new(word))).collect::<Result<Vec<_>, _>>()?;
    child.keep_on_exec()?;
    let devices: &[&str] = match settings.accelerator {
        Accelerator::Tcg => &["/dev/null"],
        Accelerator::Kvm | Accelerator::ParavirtualKvm => &["/dev/null", "/dev/kvm"],
    };
    let (layers, _) = jail::enter(jail::Plan {
        files: child.accesses().collect(),
        devices,
        system: system_files(&settings.program),
        // Memory that is shared with another process is a file as well.
        file_size: child.largest_writable().max(u64::from(child.config.memory_mib) << 20),
        filter: jail::Filter::Qemu,
        shares: None,
        rearm: &|| rearm_parent_death(&child.config).map_err(|_| nix::Error::EPERM),
    })?;
    child.mark(Mark::Layers, layers.to_bits());
    child.mark(Mark::Jailed, monotonic_ns());
    child.mark(Mark::Entered, monotonic_ns());
    let environment: [CString; 0] = [];
    nix::unistd::execve(&program, &arguments, &environment).map_err(Error::child("execve of QEMU"))
}

/// The device for shared folders, whose other end is at `socket`: it works on guest memory, which is a memfd for that.
fn share_arguments(socket: BorrowedFd<'_>, memory_mib: u32) -> Vec<String> {
    let memory = format!("memory-backend-memfd,id=memory,share=on,size={memory_mib}M");
    let socket = format!("socket,id=shares,fd={}", socket.as_raw_fd());
    let device = format!("vhost-user-fs-device,chardev=shares,tag={SHARES_TAG},queue-size={SHARES_QUEUE}");
    let words =
        ["-object", &memory, "-machine", "memory-backend=memory", "-chardev", &socket, "-device", &device];
    words.map(str::to_owned).into()
}

/// What QEMU needs of the system: itself, its libraries and its firmware.
fn system_files(program: &Path) -> Vec<PathBuf> {
    const USUAL: [&str; 8] =
        ["/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/nix/store", "/gnu/store"];
    let mut files: Vec<PathBuf> = USUAL.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    let elsewhere = !files.iter().any(|known| program.starts_with(known));
    if let Some(folder) = program.parent().filter(|folder| elsewhere && folder.parent().is_some()) {
        files.push(folder.into());
    }
    files
}

fn arguments(child: &Child, settings: &QemuSettings) -> Result<Vec<String>, Error> {
    let config = &child.config;
    let mut words: Vec<String> = vec![settings.program.to_string_lossy().into_owned()];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", config.name.clone());
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    let (accelerator, processor) = match settings.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::ParavirtualKvm => ("kvm", "host,-arch-capabilities"),
        Accelerator::Tcg => ("tcg,thread=multi", "max"),
    };
    add("-M", machine_type().into());
    add("-accel", accelerator.into());
    add("-cpu", processor.into());
    add("-smp", config.cpus.to_string());
    add("-m", config.memory_mib.to_string());
    add("-kernel", child.path(config.kernel)?);
    add("-initrd", child.path(config.initramfs)?);
    add("-append", config.cmdline.clone());
    add("-display", "none".into());
    add("-chardev", format!("file,id=console,path={}", child.path(config.console)?));
    add("-serial", "chardev:console".into());
    let agent = child.file(config.agent)?.as_raw_fd();
    add("-chardev", format!("socket,id=agent,fd={agent}"));
    add("-device", "virtio-serial-device".into());
    add("-device", format!("virtserialport,chardev=agent,name={AGENT_PORT}"));
    add("-object", "rng-builtin,id=random".into());
    add("-device", "virtio-rng-device,rng=random".into());
    add("-device", "virtio-balloon-device,free-page-reporting=on".into());
    if let Some(interface) = &config.interface {
        let socket = child.file(interface.socket)?.as_raw_fd();
        let mac: Vec<String> = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        add("-netdev", format!("socket,id=network,fd={socket}"));
        add("-device", format!("virtio-net-device,netdev=network,mac={},host_mtu={MTU}", mac.join(":")));
    }
    for (number, disk) in config.disks.iter().enumerate() {
        let path = child.disk_path(number)?;
        let node = match disk.content {
            DiskContent::Raw(_) => format!(
                "driver=raw,node-name=disk{number},read-only={},discard=unmap,file.driver=file,file.filename={path},\
                 file.discard=unmap,file.locking=off",
                on_off(disk.read_only)
            ),
            DiskContent::Flat(_) => format!(
                "driver=vmdk,node-name=disk{number},read-only=on,file.driver=file,file.filename={path},\
                 file.locking=off"
            ),
        };
        add("-blockdev", node);
        add("-device", format!("virtio-blk-device,drive=disk{number},serial=disk{number}"));
    }
    words.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    Ok(words)
}

/// The smallest machine there is for this processor.
fn machine_type() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "microvm,acpi=off,x-option-roms=off,rtc=off,mem-merge=off,dump-guest-core=off"
    } else {
        "virt,acpi=off,gic-version=max,mem-merge=off,dump-guest-core=off"
    }
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Configuration("a string contains a zero byte".into()))
}
