//! Process attributes and resource limits.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use super::Error;

/// Descriptors a machine uses at most: some thirty, and three for each disk.
const OPEN_FILES: u64 = 1024;
/// Descriptors for a shared tree: the guest's kernel holds one for every file it remembers. Further up the host's own limits end.
const OPEN_SHARED_FILES: u64 = 1_000_000;
/// The least file size limit: standard error may be a log file.
const MIN_FILE_SIZE: u64 = 64 << 20;

/// No program started from here, or from what this process becomes, gains privileges.
pub(super) fn forbid_new_privileges() -> Result<(), Error> {
    prctl::set_no_new_privs().map_err(limit("no_new_privs"))
}

/// Sets the limits. `file_size` is the size of the largest file that is written.
pub(super) fn set(file_size: u64) -> Result<(), Error> {
    apply(OPEN_FILES, file_size.max(MIN_FILE_SIZE))
}

/// Sets the limits of a process that serves files: they may be as many and as large as the caller's own.
pub(super) fn set_for_shares() -> Result<(), Error> {
    apply(OPEN_SHARED_FILES, u64::MAX)
}

fn apply(open_files: u64, file_size: u64) -> Result<(), Error> {
    let limits = [
        ("the core file limit", Resource::RLIMIT_CORE, 0),
        ("the open file limit", Resource::RLIMIT_NOFILE, open_files),
        ("the file size limit", Resource::RLIMIT_FSIZE, file_size),
    ];
    for (what, resource, value) in limits {
        // A hard limit that is lower already stays.
        let (_, hard) = nix::sys::resource::getrlimit(resource).map_err(limit(what))?;
        let value = value.min(hard);
        setrlimit(resource, value, value).map_err(limit(what))?;
    }
    Ok(())
}

/// Drops every capability for good and makes the process opaque to others of the same user.
///
/// `claim_ids` leaves the two for changing users and groups, in name only: the filter answers every such change with success and
/// never lets one happen. libkrun asks whether it has them before it lets anybody but root make files in a share.
pub(super) fn drop_capabilities(claim_ids: bool) -> Result<(), Error> {
    let what = "the capabilities";
    // The bounding set can be dropped only by those who have it; without capabilities there is nothing to drop.
    for capability in 0..64 {
        // SAFETY: takes plain numbers; unknown capabilities are refused with an errno.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    // SAFETY: takes plain numbers.
    let ambient = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    nix::Error::result(ambient).map_err(limit(what))?;
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [CapabilitySets::default(); 2];
    if claim_ids {
        let claimed = 1 << CAP_SETGID | 1 << CAP_SETUID;
        sets[0] = CapabilitySets { effective: claimed, permitted: claimed, inheritable: 0 };
    }
    // SAFETY: both structures have the layout of version 3 of the interface and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    nix::Error::result(result).map_err(limit(what))?;
    prctl::set_dumpable(false).map_err(limit("not dumpable"))
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Half of the capability sets: version 3 passes two of these.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn limit(what: &'static str) -> impl FnOnce(nix::Error) -> Error {
    move |source| Error::Limit { what, source }
}
