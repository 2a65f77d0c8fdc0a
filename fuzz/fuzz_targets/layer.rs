//! A layer's tar stream, through the EROFS writer and the merge.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::image::{layer, merge};

fuzz_target!(|tar: &[u8]| {
    let mut blob = tempfile::NamedTempFile::new().expect("temporary file");
    if layer::ingest(tar, blob.as_file_mut()).is_ok() {
        let mut meta = tempfile::tempfile().expect("temporary file");
        let _ = merge::merge(&[blob.path()], &mut meta);
    }
});
