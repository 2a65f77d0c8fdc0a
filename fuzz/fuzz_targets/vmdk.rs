//! Descriptors of disks: whatever a file is called, the descriptor has an extent of it and nothing else.
#![no_main]
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use libfuzzer_sys::fuzz_target;
use msb::image::vmdk;

fuzz_target!(|input: (&[u8], u8)| {
    let (name, pages) = input;
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(OsStr::from_bytes(name).to_string_lossy().replace(['/', '\0'], ""));
    let Ok(file) = std::fs::File::create(&path) else { return };
    file.set_len(u64::from(pages) * 4096).expect("resized");
    if let Ok(text) = vmdk::descriptor(&path, &[]) {
        let sectors = u64::from(pages) * 8;
        let extents: Vec<_> = text.lines().filter(|line| line.starts_with("RW")).collect();
        let expected = format!("RW {sectors} FLAT \"{}\" 0", path.display());
        assert_eq!(extents, if sectors > 0 { vec![expected.as_str()] } else { vec![] });
    }
});
