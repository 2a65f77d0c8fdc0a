//! What this machine's KVM can do, found out by running a guest of six bytes in about a millisecond.
//!
//! Some nested hypervisors offer a `/dev/kvm` that opens and creates machines but only interprets what guest kernels do. They
//! run simple instructions and give up (`KVM_EXIT_INTERNAL_ERROR`) at others; an ordinary kernel dies there after ten seconds.
//! `popcnt` is among the instructions interpreters do not know, and every processor with KVM has it.

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use nix::errno::Errno;

/// Set to `skip` to say that the guest kernel suits this KVM, whatever the probe would find.
pub const PROBE_VARIABLE: &str = "MSB_KVM_PROBE";

/// What KVM is good for here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Guest code runs natively.
    Native,
    /// The probe was not made because the user vouches for KVM (`MSB_KVM_PROBE=skip`).
    Skipped,
    /// KVM only interprets guest kernels.
    Interpreted {
        /// The exit reason of the guest (17 = `KVM_EXIT_INTERNAL_ERROR`).
        exit_reason: u32,
        /// With an internal error, what kind (1 = emulation failed).
        suberror: u32,
    },
    /// There is no `/dev/kvm`.
    Missing,
    /// `/dev/kvm` is there but not for this user.
    NoPermission,
    /// Another hypervisor holds the processor's virtualization, or machines cannot be created for now.
    Busy,
    /// A call failed in a way that has no name.
    Failed {
        /// The call.
        call: &'static str,
        /// Its errno.
        errno: i32,
    },
}

impl Verdict {
    /// Whether libkrun, and QEMU with KVM, can run a guest.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Native | Self::Skipped)
    }

    /// The verdict in words that fit after "because" and into `msb doctor`.
    pub fn reason(&self) -> String {
        match self {
            Self::Native => "KVM runs guest code natively".into(),
            Self::Skipped => format!("{PROBE_VARIABLE}=skip vouches for KVM"),
            Self::Interpreted { exit_reason, suberror } => format!(
                "this machine's KVM only interprets guest kernels (probe: exit {exit_reason}, suberror {suberror})"
            ),
            Self::Missing => "there is no /dev/kvm on this machine".into(),
            Self::NoPermission => "this user may not open /dev/kvm".into(),
            Self::Busy => "KVM is busy with another hypervisor".into(),
            Self::Failed { call, errno } => {
                format!("KVM does not work here ({call}: {})", Errno::from_raw(*errno).desc())
            }
        }
    }

    /// What the user can do to make KVM usable.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPermission => {
                "join the group of /dev/kvm and log in again: sudo usermod -aG kvm \"$USER\"".into()
            }
            Self::Missing => {
                "load the module (modprobe kvm_intel or kvm_amd) and enable virtualization in the \
                              firmware, or use --vmm qemu"
                    .into()
            }
            Self::Interpreted { .. } => {
                format!("use --vmm qemu; or, with a guest kernel made for this KVM, {PROBE_VARIABLE}=skip")
            }
            Self::Busy => "stop the other hypervisor, or use --vmm qemu".into(),
            Self::Failed { .. } => "use --vmm qemu".into(),
            Self::Native | Self::Skipped => return None,
        })
    }
}

/// Probes KVM. Takes about a millisecond; remembers nothing.
pub fn kvm() -> Verdict {
    probe(c"/dev/kvm").unwrap_or_else(|verdict| verdict)
}

fn probe(device: &std::ffi::CStr) -> Result<Verdict, Verdict> {
    let kvm = Kvm::new_with_path(device).map_err(|error| match Errno::from_raw(error.errno()) {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => Verdict::Missing,
        Errno::EACCES | Errno::EPERM => Verdict::NoPermission,
        Errno::EBUSY => Verdict::Busy,
        _ => Verdict::Failed { call: "open", errno: error.errno() },
    })?;
    let vm = kvm.create_vm().map_err(|error| match Errno::from_raw(error.errno()) {
        Errno::EBUSY => Verdict::Busy,
        _ => Verdict::Failed { call: "KVM_CREATE_VM", errno: error.errno() },
    })?;
    run_guest(&vm)
}

/// Elsewhere than on x86 no KVM that interprets is known: that a machine can be created is enough.
#[cfg(not(target_arch = "x86_64"))]
fn run_guest(_vm: &kvm_ioctls::VmFd) -> Result<Verdict, Verdict> {
    Ok(Verdict::Native)
}

#[cfg(target_arch = "x86_64")]
fn run_guest(vm: &kvm_ioctls::VmFd) -> Result<Verdict, Verdict> {
    /// `popcnt %ecx, %eax; hlt` in real mode.
    const GUEST: [u8; 5] = [0xf3, 0x0f, 0xb8, 0xc1, 0xf4];
    const GUEST_ADDRESS: u64 = 0x1000;

    let failed = |call| move |error: kvm_ioctls::Error| Verdict::Failed { call, errno: error.errno() };
    let memory =
        GuestPage::new(&GUEST).map_err(|errno| Verdict::Failed { call: "mmap", errno: errno as i32 })?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: GUEST_ADDRESS,
        memory_size: GuestPage::SIZE as u64,
        userspace_addr: memory.0.as_ptr() as u64,
    };
    // SAFETY: the page stays mapped until `memory` is dropped, after the last use of `vm`'s virtual CPU below.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
    let mut cpu = vm.create_vcpu(0).map_err(failed("KVM_CREATE_VCPU"))?;
    let mut segments = cpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    cpu.set_sregs(&segments).map_err(failed("KVM_SET_SREGS"))?;
    let mut registers = cpu.get_regs().map_err(failed("KVM_GET_REGS"))?;
    registers.rip = GUEST_ADDRESS;
    registers.rflags = 2;
    registers.rsp = GUEST_ADDRESS + 0x800;
    cpu.set_regs(&registers).map_err(failed("KVM_SET_REGS"))?;
    run_cpu(&mut cpu)
}

#[cfg(target_arch = "x86_64")]
fn run_cpu(cpu: &mut VcpuFd) -> Result<Verdict, Verdict> {
    /// A signal may arrive during the run; a storm of them must not hang the probe.
    const ATTEMPTS: usize = 16;
    for _ in 0..ATTEMPTS {
        match cpu.run() {
            Ok(VcpuExit::Hlt) => return Ok(Verdict::Native),
            Ok(_) => break,
            Err(error) if matches!(Errno::from_raw(error.errno()), Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(Verdict::Failed { call: "KVM_RUN", errno: error.errno() }),
        }
    }
    let run = cpu.get_kvm_run();
    // SAFETY: every variant of the union is plain old data, and with any other exit reason the number is only not shown.
    let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
    let suberror = if run.exit_reason == kvm_bindings::KVM_EXIT_INTERNAL_ERROR { suberror } else { 0 };
    Ok(Verdict::Interpreted { exit_reason: run.exit_reason, suberror })
}

/// A page of anonymous memory, unmapped on drop.
#[cfg(target_arch = "x86_64")]
struct GuestPage(std::ptr::NonNull<libc::c_void>);

#[cfg(target_arch = "x86_64")]
impl GuestPage {
    const SIZE: usize = 4096;

    fn new(content: &[u8]) -> nix::Result<Self> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
        let size = std::num::NonZeroUsize::new(Self::SIZE).ok_or(Errno::EINVAL)?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let page = unsafe {
            mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)?
        };
        let length = content.len().min(Self::SIZE);
        // SAFETY: the page is writable, ours alone and at least `length` bytes long.
        unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), page.as_ptr().cast::<u8>(), length) };
        Ok(Self(page))
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for GuestPage {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped.
        let _ = unsafe { nix::sys::mman::munmap(self.0, Self::SIZE) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_that_is_absent_or_no_kvm_is_told_apart() {
        assert_eq!(probe(c"/dev/no-such-device"), Err(Verdict::Missing));
        assert!(matches!(probe(c"/dev/null"), Err(Verdict::Failed { call: "KVM_CREATE_VM", .. })));
    }

    #[test]
    fn the_probe_of_this_machine_is_quick_and_repeatable() {
        let start = std::time::Instant::now();
        let first = kvm();
        assert!(start.elapsed().as_millis() < 500);
        assert_eq!(kvm(), first);
        assert!(!first.reason().is_empty());
        assert_eq!(first.hint().is_some(), !first.is_usable());
    }
}
