//! How much memory the host has.

/// All memory of the host in MiB.
#[must_use]
pub(super) fn host_mib() -> u64 {
    // SAFETY: sysinfo fills in the zeroed struct it is given.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&raw mut info);
        info
    };
    info.totalram * u64::from(info.mem_unit) >> 20
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_some() {
        assert!(super::host_mib() > 64);
    }
}
