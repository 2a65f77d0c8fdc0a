//! System call filters.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::Error;
use crate::vm::memory;

mod served;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Which system calls a machine's process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// What libkrun uses to build and run a machine; anything else kills the process.
    Krun,
    /// Everything but what no hypervisor needs. QEMU narrows this further.
    Qemu,
    /// What libkrun's virtio-fs device uses alone, without a machine; anything else kills the process.
    Shares,
}

/// A filter ready for the kernel. The programs apply together, and the strictest answer counts.
#[derive(Debug)]
pub(super) struct Compiled(Vec<BpfProgram>);

impl Filter {
    /// Turns the filter into programs for the kernel. `owner` is there when files are served, and what they belong to.
    pub(super) fn compile(self, owner: Option<(u32, u32)>) -> Result<Compiled, Error> {
        let allow_only = |rules| program(rules, SeccompAction::KillProcess, SeccompAction::Allow);
        let programs = match self {
            Self::Krun | Self::Shares => {
                let mut rules = krun_rules()?;
                if owner.is_some() {
                    rules.extend(any(served::CALLS));
                }
                if self == Self::Shares {
                    rules.remove(&libc::SYS_ioctl);
                }
                vec![
                    program(guest_memory()?, SeccompAction::Allow, SeccompAction::Trap)?,
                    program(refused_politely(), SeccompAction::Allow, not_there())?,
                    allow_only(rules)?,
                ]
            }
            Self::Qemu => vec![
                program(refused_politely_to_qemu()?, SeccompAction::Allow, not_there())?,
                program(never_needed()?, SeccompAction::Allow, SeccompAction::KillProcess)?,
            ],
        };
        let mut all = match owner {
            None => Vec::new(),
            Some(owner) => {
                let refuse = SeccompAction::Errno(libc::EPERM as u32);
                vec![
                    program(served::refused(owner)?, SeccompAction::Allow, refuse)?,
                    program(served::pretended(), SeccompAction::Allow, SeccompAction::Errno(0))?,
                ]
            }
        };
        // Last the list of what is allowed: installing a filter is not on it.
        all.extend(programs);
        Ok(Compiled(all))
    }
}

impl Compiled {
    /// Installs the filter for this process. It can be narrowed later but never widened.
    pub(super) fn install(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter(program)).map_err(failed)
    }
}

fn program(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).map_err(failed)?;
    BpfProgram::try_from(filter).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Seccomp(error.to_string())
}

/// The answer of a kernel that lacks a call: programs fall back to another one.
fn not_there() -> SeccompAction {
    SeccompAction::Errno(libc::ENOSYS as u32)
}

fn any(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// True when argument `index`, cut to `mask`, is `value`.
fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompRule, Error> {
    condition(index, SeccompCmpOp::MaskedEq(mask), value)
}

fn equals(index: u8, value: u64) -> Result<SeccompRule, Error> {
    condition(index, SeccompCmpOp::Eq, value)
}

fn condition(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).map_err(failed)?;
    SeccompRule::new(vec![condition]).map_err(failed)
}

/// `clone3` hides its flags from filters; glibc falls back to `clone`, whose flags are checked.
///
/// libkrun asks for a larger buffer of the network's socket, which whoever made the socket has seen to.
fn refused_politely() -> Rules {
    any(&[libc::SYS_clone3, libc::SYS_setsockopt])
}

/// Calls of libkrun and of Rust's and glibc's thread, memory and I/O code, traced while machines boot, work on their disks,
/// print, are reset, panic and fail, plus the variants other versions of glibc use for the same things.
const KRUN_CALLS: &[i64] = &[
    // Memory and threads; mapping, protection and cloning are restricted below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_clone3,
    libc::SYS_membarrier,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Files: names lead nowhere but to the machine's own (namespaces, Landlock).
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    // Connections it was given.
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_setsockopt,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Randomness for the guest.
    libc::SYS_getrandom,
];

/// The same for calls only x86 has.
#[cfg(target_arch = "x86_64")]
const KRUN_OLD_CALLS: &[i64] =
    &[libc::SYS_open, libc::SYS_readlink, libc::SYS_stat, libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const KRUN_OLD_CALLS: &[i64] = &[];

const FCNTL_COMMANDS: &[i32] =
    &[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

fn krun_rules() -> Result<Rules, Error> {
    const KVM_IOCTLS: u64 = 0xae00;
    const IOCTL_TYPE: u64 = 0xff00;
    /// `BLKGETSIZE64`.
    const BLOCK_SIZE: u64 = 0x8008_1272;
    let executable = libc::PROT_EXEC as u64;
    let thread = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
    let mut rules = any(KRUN_CALLS);
    rules.extend(any(KRUN_OLD_CALLS));
    // No memory ever becomes executable again.
    rules.insert(libc::SYS_mmap, vec![masked(2, executable, 0)?]);
    rules.insert(libc::SYS_mprotect, vec![masked(2, executable, 0)?]);
    // Threads, not processes.
    rules.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![equals(0, own)?]);
    // Not `F_SETOWN`, which sends signals to any process of the same user.
    rules.insert(
        libc::SYS_fcntl,
        FCNTL_COMMANDS.iter().map(|command| equals(1, *command as u64)).collect::<Result<_, _>>()?,
    );
    rules.insert(
        libc::SYS_prctl,
        vec![equals(0, libc::PR_SET_NAME as u64)?, equals(0, u64::from(PR_SET_VMA))?],
    );
    rules.insert(
        libc::SYS_ioctl,
        vec![
            masked(1, IOCTL_TYPE, KVM_IOCTLS)?,
            equals(1, libc::TCGETS)?,
            equals(1, libc::FIONBIO)?,
            equals(1, libc::FIOCLEX)?,
            equals(1, BLOCK_SIZE)?,
            equals(1, libc::BLKSSZGET)?,
        ],
    );
    Ok(rules)
}

/// The mapping of guest memory, which [`memory`] takes care of.
fn guest_memory() -> Result<Rules, Error> {
    if !memory::SUPPORTED {
        return Ok(Rules::new());
    }
    let size = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Ge, memory::GUEST_MEMORY_MIN);
    let is = |index, value: i32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64).map_err(failed)
    };
    let access = is(2, memory::GUEST_MEMORY_ACCESS)?;
    let flags = is(3, memory::GUEST_MEMORY_FLAGS)?;
    let rule = SeccompRule::new(vec![size.map_err(failed)?, access, flags]).map_err(failed)?;
    Ok(Rules::from([(libc::SYS_mmap, vec![rule])]))
}

/// Naming of anonymous memory, done by newer versions of glibc.
const PR_SET_VMA: u32 = 0x5356_4d41;

/// Calls that no hypervisor needs and that have been ways out of sandboxes. `execve` is not among them: QEMU is executed under
/// this filter and then gives up `execve` itself.
fn never_needed() -> Result<Rules, Error> {
    #[allow(unused_mut)]
    let mut calls = vec![
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        libc::SYS_bpf,
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_request_key,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_syslog,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_personality,
        libc::SYS_lookup_dcookie,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_uselib]);
    Ok(any(&calls))
}

/// Calls that QEMU or its libraries try and can do without.
fn refused_politely_to_qemu() -> Result<Rules, Error> {
    let mut rules = any(&[
        // A way around filters.
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_fanotify_init,
        libc::SYS_clone3,
    ]);
    let local = condition(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    rules.insert(libc::SYS_socket, vec![local]);
    Ok(rules)
}
