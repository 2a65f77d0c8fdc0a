//! A layer's tar stream, through the EROFS writer and the merge.
#![no_main]
#[path = "../mended/mod.rs"]
#[allow(dead_code, reason = "each target needs one")]
mod mended;

use libfuzzer_sys::fuzz_target;
use msb::image::{layer, merge};

fuzz_target!(|tar: &[u8]| {
    let mut blob = tempfile::NamedTempFile::new().expect("temporary file");
    if layer::ingest(&mended::tar(tar)[..], blob.as_file_mut()).is_ok() {
        let mut meta = tempfile::tempfile().expect("temporary file");
        let _ = merge::merge(&[blob.path()], &mut meta);
    }
});
