//! Volumes and tmpfs, as Sandboxfiles and command lines have them.
#![no_main]
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use msb::manifest::{Tmpfs, Volume};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(volume) = Volume::parse(OsStr::from_bytes(bytes)) {
        assert_eq!(Volume::parse(&volume.to_os_string()).as_ref(), Ok(&volume));
        assert!(volume.target.starts_with('/') && !volume.target.split('/').any(|part| part == ".."));
    }
    if let Some(Ok(tmpfs)) = std::str::from_utf8(bytes).ok().map(str::parse::<Tmpfs>) {
        assert_eq!(tmpfs.to_string().parse().as_ref(), Ok(&tmpfs));
    }
});
