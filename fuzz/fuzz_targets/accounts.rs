//! `/etc/passwd` and `/etc/group` of an image, and what USER may say.
#![no_main]
use libfuzzer_sys::fuzz_target;
use msb_guest::session::Database;

fuzz_target!(|input: (&[u8], &[u8], &str)| {
    let (passwd, group, user) = input;
    let _ = Database::from_contents(passwd, group).resolve(Some(user));
});
