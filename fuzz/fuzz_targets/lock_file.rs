//! Lock files, and what `config.toml` says about registries.
#![no_main]
use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use msb::image::{Host, HostSettings};
use msb::manifest::Pins;

fuzz_target!(|text: &str| {
    let _ = toml::from_str::<BTreeMap<Host, HostSettings>>(text);
    if let Ok(pins) = Pins::parse(text, Path::new("Sandboxfile.lock")) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("Sandboxfile.lock");
        Pins::change(&path, |written| *written = pins.clone()).expect("written");
        assert_eq!(Pins::load(&path).expect("what was written is read"), pins);
    }
});
