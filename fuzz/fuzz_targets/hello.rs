//! The first bytes of a sandbox's connection, in pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::net::intercept::{Kind, Opening};

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, size) = input;
    let mut opening = Opening::default();
    for piece in bytes.chunks(usize::from(size).max(1)) {
        if let Some(kind) = opening.push(piece) {
            if let Kind::Tls(hello) = kind {
                let _ = hello.http();
            }
            break;
        }
    }
    assert!(bytes.starts_with(&opening.into_bytes()));
});
