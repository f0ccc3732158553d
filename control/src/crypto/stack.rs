//! What ciphers leave on the stack.

use std::hint::black_box;

/// Deeper than any cipher goes below its caller.
const DEPTH_BYTES: usize = 16 * 1024;

/// Overwrites what returned calls have left there, such as a block of a value.
#[inline(never)]
pub(super) fn wipe_stack() {
    black_box(&mut [0_u8; DEPTH_BYTES]);
}
