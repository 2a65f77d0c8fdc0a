//! Manifests, indexes and configurations, as registries send them.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::image::{ImageConfig, manifest::Document};

fuzz_target!(|bytes: &[u8]| {
    let _ = Document::parse(bytes);
    let _ = ImageConfig::parse(bytes);
});
