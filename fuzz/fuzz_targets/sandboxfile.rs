//! Sandboxfiles and what edits make of them, and files of variables.
#![no_main]
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use msb::manifest::{self, SandboxSpec, edit, env_file};

fuzz_target!(|text: &str| {
    let path = Path::new("Sandboxfile");
    let _ = env_file::parse(text, path);
    if manifest::parse(text, path).is_ok()
        && let Ok(more) = edit::add(text, path, "fuzzed", &SandboxSpec::new("image"))
    {
        let file = manifest::parse(&more, path).expect("an edit gives a Sandboxfile");
        assert!(file.sandboxes.contains_key("fuzzed"));
    }
});
