//! PID 1 of a sandbox. Everything is in the library.

// Without the standard library's own start-up code, which nothing here needs: the program gets smaller by a seventh, and
// SIGPIPE keeps its default, which the kernel never delivers to PID 1.
#![no_main]

/// Called by the C library's start-up code.
#[unsafe(no_mangle)]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    msb_guest::boot::run();
    1
}
