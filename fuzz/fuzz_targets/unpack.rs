//! A tar stream from a guest, unpacked on the host: nothing may appear beside the folder, nor under another name.
#![no_main]
#[path = "../mended/mod.rs"]
#[allow(dead_code, reason = "each target needs one")]
mod mended;

use libfuzzer_sys::fuzz_target;
use msb_guest::archive::{Owner, UnpackOptions, unpack};
use std::fs::{self, File};
use std::os::fd::AsFd;

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (replace, named, tar) = input;
    let around = tempfile::tempdir().expect("temporary folder");
    let folder = around.path().join("folder");
    fs::create_dir_all(folder.join("a/b")).expect("folder");
    std::os::unix::fs::symlink("..", folder.join("a/up")).expect("link");
    let into = File::open(&folder).expect("folder");
    let only = named.then(|| b"a".to_vec());
    let options = UnpackOptions { owner: Owner::Caller, privileged: false, replace, only };
    let _ = unpack(&mended::tar(tar)[..], into.as_fd(), &options);
    assert_eq!(fs::read_dir(around.path()).expect("folder").count(), 1);
    if named {
        assert!(fs::read_dir(&folder).expect("folder").flatten().all(|entry| entry.file_name() == "a"));
    }
});
