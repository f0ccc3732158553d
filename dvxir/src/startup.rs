//! The program's entry on glibc, without what the standard library does before `main`.
//!
//! The standard library prepares a handler that says "stack overflow" where the system says "segmentation fault".
//! For that it asks glibc where the main thread's stack ends, and glibc finds out by reading `/proc/self/maps` line
//! by line: at every start, a tenth of the time in which a `credentials get` is over. It also opens `/dev/null` in
//! place of standard streams that are closed, and then output that goes nowhere looks like success; here it is an
//! error. What else it prepares, ignoring SIGPIPE, is done where output is written.
#![expect(unsafe_code, reason = "the C library's name for the entry; there is no unsafe operation in here")]

use std::ffi::{c_char, c_int};

/// Called by the C library. The arguments are not read from here: on glibc the standard library has them already
/// (its `.init_array` entry).
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    crate::run().code().into()
}
