//! Host name, clock, limits and loopback.

use super::{BootError, complain};
use crate::message::{BootDocument, ByteString};
use crate::session::boottime_ns;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::os::fd::AsRawFd;

/// Longest host name the kernel takes.
const HOSTNAME_LIMIT: usize = 64;
/// A clock that is off by less is left alone.
const CLOCK_TOLERANCE_NS: u64 = 1_000_000_000;
/// Open files per process: enough for any server, and the kernel's ceiling for one that asks for more.
const NOFILE: (u64, u64) = (65_536, 1_048_576);

/// The host name that comes nearest to `wanted`: sandboxes are named more freely than hosts.
pub(super) fn hostname(wanted: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '-' };
    let name: String = wanted.chars().take(HOSTNAME_LIMIT).map(plain).collect();
    if name.is_empty() { "sandbox".to_owned() } else { name }
}

/// Memory used within this time is not taken away to make room: the out-of-memory killer acts first. A sandbox has no swap,
/// and one that is short of memory would otherwise evict and read back its own program for minutes.
/// <https://docs.kernel.org/admin-guide/mm/multigen_lru.html#thrashing-prevention>
const MIN_TTL_MS: &[u8] = b"1000";

/// Makes the machine what the document says.
pub(super) fn set_up(document: &BootDocument) -> Result<(), BootError> {
    let call = |call, result: nix::Result<()>| {
        result.map_err(|e| BootError::Call { stage: "machine", call, source: e.into() })
    };
    call("sethostname", nix::unistd::sethostname(hostname(&document.hostname)))?;
    if let Some(made_ns) = document.wall_clock_ns {
        // The document was made before this kernel started, so its running time is added.
        call("clock_settime", set_clock(made_ns.saturating_add(boottime_ns())))?;
    }
    let (soft, hard) = NOFILE;
    call(
        "setrlimit",
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard),
    )?;
    // A kernel without networking has no loopback, and nobody there misses it.
    let _ = loopback_up();
    // A kernel without these lists thrashes longer, and works.
    let _ = std::fs::write("/sys/kernel/mm/lru_gen/min_ttl_ms", MIN_TTL_MS);
    Ok(())
}

/// The environment of every process.
pub(super) fn environment(document: &BootDocument) -> Vec<(ByteString, ByteString)> {
    let mut variables = vec![("HOSTNAME".into(), hostname(&document.hostname).into())];
    variables.extend(document.env.iter().cloned());
    variables
}

/// Follows the host's clock, which jumped or went on while this machine stood still.
pub(super) fn follow_clock(now_ns: u64) {
    if let Err(error) = set_clock(now_ns) {
        complain(&format!("the clock cannot be set: {error}"));
    }
}

/// Sets the clock, unless it is near enough.
fn set_clock(now_ns: u64) -> nix::Result<()> {
    let clock = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let clock_ns = clock.tv_sec().unsigned_abs() * 1_000_000_000 + clock.tv_nsec().unsigned_abs();
    if clock_ns.abs_diff(now_ns) <= CLOCK_TOLERANCE_NS {
        return Ok(());
    }
    let seconds = i64::try_from(now_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let nanoseconds = i64::try_from(now_ns % 1_000_000_000).unwrap_or(0);
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanoseconds))
}

/// The kernel gives the interface its addresses when it comes up.
fn loopback_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an ifreq of zeros is valid: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    nix::errno::Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_cannot_break_the_hosts_file() {
        assert_eq!(hostname("web-1.example_x"), "web-1.example_x");
        assert_eq!(hostname("127.0.0.1:5000/a b\n::1 evil"), "127.0.0.1-5000-a-b---1-evil");
        assert_eq!(hostname("ü"), "-");
        assert_eq!(hostname(""), "sandbox");
        assert_eq!(hostname(&"x".repeat(99)).len(), 64);
    }
}
