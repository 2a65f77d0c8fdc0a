//! What serving files takes on top, and what it never does.

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::{Error, Rules, any, failed, masked};

/// Calls of libkrun's virtio-fs server. What names they are given, the process's file tree and the mounts decide.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_fsetxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_lgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_llistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_lremovexattr,
    libc::SYS_copy_file_range,
    libc::SYS_umask,
    // Who the process is, which never changes.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
];

/// The permission bits by which running a file gives its owner's or group's rights.
const SET_ID_BITS: [libc::mode_t; 2] = [libc::S_ISUID, libc::S_ISGID];

/// Calls that open files, and the argument with the flags; the mode follows.
#[cfg(target_arch = "x86_64")]
const OPEN_CALLS: &[(i64, u8)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPEN_CALLS: &[(i64, u8)] = &[(libc::SYS_openat, 2)];

/// Changes of the user or group before a file is made: answered as if they had happened, so that whatever a guest's user
/// makes belongs to the caller.
pub(super) fn pretended() -> Rules {
    any(&[libc::SYS_setresuid, libc::SYS_setresgid])
}

/// What would give a file away, or make one that lends the caller's rights to other users of the host.
pub(super) fn refused(owner: (u32, u32)) -> Result<Rules, Error> {
    let mut rules = Rules::new();
    for (call, mode) in
        [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_mkdirat, 2), (libc::SYS_mknodat, 2)]
    {
        let set_id = SET_ID_BITS.iter().map(|bit| masked(mode, u64::from(*bit), u64::from(*bit)));
        rules.insert(call, set_id.collect::<Result<_, _>>()?);
    }
    let kind = u64::from(libc::S_IFMT);
    for device in [libc::S_IFCHR, libc::S_IFBLK] {
        rules.entry(libc::SYS_mknodat).or_default().push(masked(2, kind, u64::from(device))?);
    }
    let temporary = libc::O_TMPFILE as u64;
    for (call, flags) in OPEN_CALLS {
        let mut open = vec![masked(*flags, temporary, temporary)?];
        for bit in SET_ID_BITS {
            open.push(all([has(libc::O_CREAT as u64, *flags)?, has(u64::from(bit), flags + 1)?])?);
        }
        rules.insert(*call, open);
    }
    let strangers = [(2, owner.0), (3, owner.1)]
        .map(|(argument, own)| all([differs(argument, u32::MAX)?, differs(argument, own)?]));
    rules.insert(libc::SYS_fchownat, strangers.into_iter().collect::<Result<_, _>>()?);
    Ok(rules)
}

fn all(conditions: [SeccompCondition; 2]) -> Result<SeccompRule, Error> {
    SeccompRule::new(conditions.into()).map_err(failed)
}

/// That `argument` has `bits`.
fn has(bits: u64, argument: u8) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), bits)
        .map_err(failed)
}

fn differs(argument: u8, value: u32) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(value))
        .map_err(failed)
}
