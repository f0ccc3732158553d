//! What the standard library does before `main`, made cheaper.
#![expect(unsafe_code, reason = "a symbol of the C library's name; nothing here has an unsafe operation")]

use std::ffi::{c_int, c_ulong, c_void};

/// `ENOSYS` (errno(3)): not available.
const NOT_AVAILABLE: c_int = 38;

/// Stands in front of glibc's function of this name, which the standard library calls at every start to learn
/// where the main thread's stack ends, so that it can say "stack overflow" where the system says "segmentation
/// fault". glibc finds out by reading `/proc/self/maps` line by line, and that takes a tenth of the time in
/// which a `credentials get` is over. Any error is a valid answer (pthread_getattr_np(3)): the standard library
/// then does without that message, and the kernel's guard page ends an overflow all the same.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_thread: c_ulong, _attributes: *mut c_void) -> c_int {
    NOT_AVAILABLE
}
