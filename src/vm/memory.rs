//! Huge pages for guest memory.
//!
//! libkrun maps guest memory as ordinary pages and copies the kernel into it: thousands of page faults before the guest runs
//! its first instruction, thousands more while it boots, and two small page tables to walk for all its life. Asking for huge
//! pages (`MADV_HUGEPAGE`, as QEMU does) cuts the faults to a few dozen, but libkrun has no setting for it and leaves no
//! moment to ask between mapping and copying. So the system call filter turns that one mapping into a signal, and the handler
//! maps the memory with the advice in place. Nothing else in the process meets this: the call is recognised by flags that only
//! guest memory has, and a host without huge pages only boots slower.
//!
//! Measured with a 512 MiB guest that boots and waits: 7264 page faults become 364, a fifth of the time from start to reset
//! goes, and the guest's share of host memory grows from 27.8 to 32.8 MB.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Access and flags of the mapping of guest memory (crate vm-memory). glibc reserves room for heaps with the same flags but
/// without access.
pub(super) const GUEST_MEMORY_ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// See [`GUEST_MEMORY_ACCESS`].
pub(super) const GUEST_MEMORY_FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
/// The smallest guest memory there is, bytes.
pub(super) const GUEST_MEMORY_MIN: u64 = (super::MIN_MEMORY_MIB as u64) << 20;

/// Installs the handler that [`super::jail`]'s filter relies on.
pub(super) fn install_handler() -> nix::Result<()> {
    let action =
        SigAction::new(SigHandler::SigAction(map_guest_memory), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler makes system calls and nothing else.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
}

/// Whether this processor's registers are known to the handler.
pub(super) const SUPPORTED: bool = cfg!(target_arch = "x86_64");

#[cfg(target_arch = "x86_64")]
extern "C" fn map_guest_memory(_signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    /// `SYS_SECCOMP`: the signal comes from the filter.
    const FROM_FILTER: i32 = 1;
    // SAFETY: the kernel passes a valid siginfo and the interrupted thread's registers to a SA_SIGINFO handler.
    let (code, registers) =
        unsafe { ((*info).si_code, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    if code != FROM_FILTER {
        // SAFETY: ends the process as the unhandled signal would.
        unsafe { libc::_exit(128 + libc::SIGSYS) }
    }
    let length = registers[libc::REG_RSI as usize];
    // A flag without effect, so that the filter lets this one through.
    let flags = registers[libc::REG_R10 as usize] | i64::from(libc::MAP_STACK);
    // SAFETY: the call libkrun made, with its own arguments; the kernel chooses a free address.
    let address = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            registers[libc::REG_RDI as usize],
            length,
            registers[libc::REG_RDX as usize],
            flags,
            registers[libc::REG_R8 as usize],
            registers[libc::REG_R9 as usize],
        )
    };
    if address == -1 {
        registers[libc::REG_RAX as usize] = -i64::from(nix::errno::Errno::last_raw());
        return;
    }
    registers[libc::REG_RAX as usize] = address;
    // SAFETY: advice about memory mapped above; a kernel without huge pages refuses it, which changes nothing.
    unsafe { libc::syscall(libc::SYS_madvise, address, length, libc::MADV_HUGEPAGE) };
}

/// The filter never sends the signal on this processor.
#[cfg(not(target_arch = "x86_64"))]
extern "C" fn map_guest_memory(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: ends the process as the unhandled signal would.
    unsafe { libc::_exit(128 + libc::SIGSYS) }
}
