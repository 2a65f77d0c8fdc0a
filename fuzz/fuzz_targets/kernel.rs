//! Files given as guest kernel.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::vm::Kernel;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), bytes).expect("written");
    let _ = Kernel::open(file.path(), "fuzzing");
});
