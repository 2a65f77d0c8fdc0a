//! Image references, as users and Sandboxfiles write them.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<msb::image::Reference>() {
        assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
        assert_eq!(reference.short().parse().as_ref(), Ok(&reference));
    }
});
