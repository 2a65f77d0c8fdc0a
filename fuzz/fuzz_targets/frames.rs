//! The agent protocol, as a hostile guest may speak it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb_guest::wire::{Decoder, Side};

fuzz_target!(|bytes: &[u8]| {
    for side in [Side::Host, Side::Guest] {
        let mut decoder = Decoder::new(side, 4096);
        let mut rest = bytes;
        'input: while !rest.is_empty() {
            let space = decoder.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            decoder.filled(count);
            rest = &rest[count..];
            loop {
                match decoder.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'input,
                }
            }
        }
    }
});
