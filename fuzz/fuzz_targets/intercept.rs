//! A sandbox and a host of its secrets that say anything, by HTTP/1, HTTP/2 and neither: no value reaches whom it is not for.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb::net::intercept::fuzzing::{betrayal, converse, read};

fuzz_target!(|bytes: &[u8]| {
    let Some((speech, said)) = read(bytes) else { return };
    let heard = converse(speech, &said);
    assert_eq!(betrayal(speech, &said, &heard), None);
});
