//! libkrun: the guest runs on KVM, in a process that links the hypervisor.

use std::ffi::{CString, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;

use msb_guest::message::SHARES_TAG;

use super::channel::{Backend, DiskContent};
use super::child::{Child, rearm_parent_death};
use super::process::{self, Mark, monotonic_ns};
use super::{Error, Hypervisor, Machine, Vmm, jail, memory};

/// Name of the virtio port the guest's agent talks through.
pub(super) const AGENT_PORT: &str = "agent";

/// libkrun opens it by this name.
const KVM: &str = "/dev/kvm";

/// `krun_set_kernel`: an ELF file on x86, a raw Image on arm64.
const KERNEL_FORMAT: u32 = if cfg!(target_arch = "x86_64") { 1 } else { 0 };
/// `krun_add_disk3`: formats and "flush means fsync".
const DISK_RAW: u32 = 0;
const DISK_VMDK: u32 = 2;
const SYNC_FULL: u32 = 2;
/// `krun_add_virtiofs4`: the "simplified" semantics, which on Linux mean no more than that the guest asks for sizes and times
/// whenever it needs them, instead of every five seconds: the host may change files too.
const ATTRIBUTES_UNCACHED: u32 = 1;
/// `krun_add_net_unixstream`: virtio-net's `CSUM` and `GUEST_CSUM`, without which Linux takes none of the next; and
/// `GUEST_TSO4` and `GUEST_TSO6`, with which it has room for frames of any length.
const INTERFACE_FEATURES: u32 = 1 << 0 | 1 << 1 | 1 << 7 | 1 << 8;
/// `krun_init_log`: standard error, errors only, no colours, environment ignored.
const LOG_STDERR: c_int = 2;
const LOG_ERRORS: u32 = 1;
const LOG_PLAIN: u32 = 2;
const LOG_IGNORE_ENVIRONMENT: u32 = 1;

/// Runs machines on libkrun, which needs a KVM that runs guest code natively.
#[derive(Debug, Clone)]
pub struct Krun {
    program: PathBuf,
}

impl Krun {
    /// Machines run in processes of the running program, whose `main` must call [`super::vmm_main`] for
    /// [`super::VMM_SUBCOMMAND`].
    pub fn new() -> Self {
        Self::with_program("/proc/self/exe")
    }

    /// Like [`Krun::new`] with another program to run machines in, for users of the library.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Default for Krun {
    fn default() -> Self {
        Self::new()
    }
}

impl Hypervisor for Krun {
    fn name(&self) -> &'static str {
        "krun"
    }

    fn spawn(&self, machine: Machine) -> Result<Vmm, Error> {
        process::spawn(&self.program, machine, Backend::Krun, cmdline())
    }
}

/// The kernel's command line; libkrun adds the places of its devices.
fn cmdline() -> String {
    let mut words = vec![
        // A panic ends the machine at once instead of halting it; its message is on the console by then.
        "panic=-1",
        "quiet",
        // The guest's only interface is its loopback.
        "dummy.numdummies=0",
        // Memory shared with KVM for what a sandbox has no use for; libkrun's own default has the first.
        "no-kvmapf",
        "no-steal-acc",
    ];
    if cfg!(target_arch = "x86_64") {
        // The keyboard controller's reset line is the only reset libkrun knows.
        words.extend(["reboot=k", "console=ttyS0"]);
    } else {
        words.push("console=ttyAMA0");
    }
    // A KVM that is vouched for may be one that hides XSAVES and not XSAVEC: the guest's kernel would then stop saving
    // AVX registers, and memory copies would go wrong.
    if super::Environment::from_process().skip_probe {
        words.push("clearcpuid=xsavec");
    }
    words.join(" ")
}

/// Becomes libkrun.
pub(super) fn enter(mut child: Child) -> Result<std::convert::Infallible, Error> {
    // libkrun panics when this fails, which says less.
    let kvm = std::fs::File::options().read(true).write(true).open(KVM);
    drop(kvm.map_err(|source| Error::Child { call: "open of /dev/kvm", source })?);
    memory::install_handler().map_err(Error::child("sigaction"))?;
    let shares = child.take_shares();
    let (layers, shares) = jail::enter(jail::Plan {
        files: child.accesses().collect(),
        devices: &[KVM],
        system: Vec::new(),
        file_size: child.largest_writable(),
        filter: jail::Filter::Krun,
        shares,
        rearm: &|| rearm_parent_death(&child.config).map_err(|_| nix::Error::EPERM),
    })?;
    child.mark(Mark::Layers, layers.to_bits());
    child.mark(Mark::Jailed, monotonic_ns());
    let context = Context::new()?;
    context.configure(&child)?;
    if let Some(tree) = shares {
        context.add_shares(tree)?;
    }
    child.mark(Mark::Entered, monotonic_ns());
    context.start()
}

/// A libkrun configuration context.
struct Context(u32);

impl Context {
    fn new() -> Result<Self, Error> {
        // SAFETY: standard error is open; the log is initialized once in this process.
        let result =
            unsafe { krun::krun_init_log(LOG_STDERR, LOG_ERRORS, LOG_PLAIN, LOG_IGNORE_ENVIRONMENT) };
        check("krun_init_log", result)?;
        let context = check("krun_create_ctx", krun::krun_create_ctx())?;
        Ok(Self(context.unsigned_abs()))
    }

    fn configure(&self, child: &Child) -> Result<(), Error> {
        let config = &child.config;
        let id = self.0;
        check("krun_set_vm_config", krun::krun_set_vm_config(id, config.cpus, config.memory_mib))?;
        check("krun_disable_implicit_console", krun::krun_disable_implicit_console(id))?;
        check("krun_disable_implicit_vsock", krun::krun_disable_implicit_vsock(id))?;
        check("krun_disable_implicit_init", krun::krun_disable_implicit_init(id))?;
        let kernel = text(child.path(config.kernel)?)?;
        let initramfs = text(child.path(config.initramfs)?)?;
        let cmdline = text(config.cmdline.clone())?;
        // SAFETY: three strings that live through the call, which copies them.
        let result = unsafe {
            krun::krun_set_kernel(id, kernel.as_ptr(), KERNEL_FORMAT, initramfs.as_ptr(), cmdline.as_ptr())
        };
        check("krun_set_kernel", result)?;
        let console = child.file(config.console)?.as_raw_fd();
        // SAFETY: `console` is open; libkrun takes it over, and this process never closes it: it ends by exiting.
        let result = unsafe { krun::krun_add_serial_console_default(id, -1, console) };
        check("krun_add_serial_console_default", result)?;
        self.add_agent_port(child)?;
        for disk in 0..config.disks.len() {
            self.add_disk(child, disk)?;
        }
        if let Some(interface) = &config.interface {
            self.add_interface(child.file(interface.socket)?, &interface.mac)?;
        }
        Ok(())
    }

    fn add_agent_port(&self, child: &Child) -> Result<(), Error> {
        // SAFETY: no pointers are passed.
        let result = unsafe { krun::krun_add_virtio_console_multiport(self.0) };
        let console = check("krun_add_virtio_console_multiport", result)?.unsigned_abs();
        let agent = child.file(child.config.agent)?.as_raw_fd();
        let name = text(AGENT_PORT.into())?;
        // SAFETY: the name lives through the call; libkrun duplicates the descriptor.
        let result =
            unsafe { krun::krun_add_console_port_inout(self.0, console, name.as_ptr(), agent, agent) };
        check("krun_add_console_port_inout", result).map(drop)
    }

    fn add_disk(&self, child: &Child, disk: usize) -> Result<(), Error> {
        let described = &child.config.disks[disk];
        let (format, read_only) = match described.content {
            DiskContent::Raw(_) => (DISK_RAW, described.read_only),
            DiskContent::Flat(_) => (DISK_VMDK, true),
        };
        let id = text(format!("disk{disk}"))?;
        let path = text(child.disk_path(disk)?)?;
        // SAFETY: two strings that live through the call, which copies them.
        let result = unsafe {
            krun::krun_add_disk3(self.0, id.as_ptr(), path.as_ptr(), format, read_only, false, SYNC_FULL)
        };
        check("krun_add_disk3", result).map(drop)
    }

    /// The guest leaves checksums to this device, which has no place for them in a frame: the gateway does not look at them.
    fn add_interface(&self, socket: BorrowedFd<'_>, mac: &[u8; 6]) -> Result<(), Error> {
        let (none, features) = (std::ptr::null(), INTERFACE_FEATURES);
        // SAFETY: six bytes that live through the call, which copies them. libkrun takes the descriptor over, and this process
        // never closes it: it ends by exiting.
        let result = unsafe {
            krun::krun_add_net_unixstream(self.0, none, socket.as_raw_fd(), mac.as_ptr(), features, 0)
        };
        check("krun_add_net_unixstream", result).map(drop)
    }

    /// Serves the folder `tree`, which nothing but its descriptor leads to.
    fn add_shares(&self, tree: OwnedFd) -> Result<(), Error> {
        let tag = text(SHARES_TAG.into())?;
        // The dot makes it the folder and not a link to it. The descriptor stays open for good.
        let path = text(format!("/proc/self/fd/{}/.", tree.into_raw_fd()))?;
        // SAFETY: two strings that live through the call, which copies them.
        let result = unsafe {
            krun::krun_add_virtiofs4(self.0, tag.as_ptr(), path.as_ptr(), 0, false, ATTRIBUTES_UNCACHED)
        };
        check("krun_add_virtiofs4", result).map(drop)
    }

    /// Hands the process over. libkrun ends it with `_exit` when the guest resets; it returns only on failure.
    fn start(self) -> Result<std::convert::Infallible, Error> {
        let call = "krun_start_enter";
        match check(call, krun::krun_start_enter(self.0)) {
            Err(error) => Err(error),
            Ok(_) => Err(Error::Krun { call, source: std::io::Error::other("it returned") }),
        }
    }
}

/// libkrun returns a negative errno on failure.
fn check(call: &'static str, result: i32) -> Result<i32, Error> {
    if result < 0 {
        let source = std::io::Error::from_raw_os_error(-result);
        return Err(Error::Krun { call, source });
    }
    Ok(result)
}

fn text(text: String) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Configuration("a string contains a zero byte".into()))
}
