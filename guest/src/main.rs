//! PID 1 of a sandbox, and its tools. Everything is in the library.

// Without the standard library's own start-up code, which nothing here needs: the program gets smaller by a seventh, and
// SIGPIPE keeps its default, which the kernel never delivers to PID 1.
#![no_main]

use std::ffi::CStr;

/// Called by the C library's start-up code.
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, arguments: *const *const libc::c_char) -> libc::c_int {
    let word = |index| {
        // SAFETY: the C library passes `count` pointers to NUL-terminated strings that live as long as the process.
        unsafe { CStr::from_ptr(*arguments.add(index)) }.to_bytes()
    };
    let words: Vec<&[u8]> = (0..usize::try_from(count).unwrap_or(0)).map(word).collect();
    if std::process::id() != 1 && words.len() > 1 {
        return msb_guest::tool::run(&words).into();
    }
    msb_guest::boot::run();
    1
}
