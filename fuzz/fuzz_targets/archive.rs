//! Archives given to `msb load`.
#![no_main]
#[path = "../mended/mod.rs"]
#[allow(dead_code, reason = "each target needs one")]
mod mended;

use libfuzzer_sys::fuzz_target;
use msb::image::{LoadOptions, LoadSource, Silent, Store};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("archive.tar");
    std::fs::write(&path, mended::tar(bytes)).expect("written");
    let store = Store::open(&dir.path().join("store")).expect("opened");
    let options = LoadOptions { max_size: 16 << 20, ..LoadOptions::default() };
    let _ = store.load(&LoadSource::Path(path), &options, &Silent);
});
