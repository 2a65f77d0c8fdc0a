//! Process attributes and resource limits.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use super::Error;

/// Descriptors a machine uses at most: some thirty, and three for each disk.
const OPEN_FILES: u64 = 1024;
/// The least file size limit: standard error may be a log file.
const MIN_FILE_SIZE: u64 = 64 << 20;

/// No program started from here, or from what this process becomes, gains privileges.
pub(super) fn forbid_new_privileges() -> Result<(), Error> {
    prctl::set_no_new_privs().map_err(limit("no_new_privs"))
}

/// Sets the limits. `file_size` is the size of the largest file that is written.
pub(super) fn set(file_size: u64) -> Result<(), Error> {
    let limits = [
        ("the core file limit", Resource::RLIMIT_CORE, 0),
        ("the open file limit", Resource::RLIMIT_NOFILE, OPEN_FILES),
        ("the file size limit", Resource::RLIMIT_FSIZE, file_size.max(MIN_FILE_SIZE)),
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
pub(super) fn drop_capabilities() -> Result<(), Error> {
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
    let none = [CapabilitySets::default(); 2];
    // SAFETY: both structures have the layout of version 3 of the interface and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    nix::Error::result(result).map_err(limit(what))?;
    prctl::set_dumpable(false).map_err(limit("not dumpable"))
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

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
