//! What a guest's kernel writes to its console.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::vm::console::Console;

fuzz_target!(|bytes: &[u8]| {
    let mut console = Console::new();
    for chunk in bytes.chunks(7) {
        console.push(chunk);
    }
    assert!(!console.tail().contains('\u{1b}'));
    let _ = (console.findings(), console.last_lines(3));
});
