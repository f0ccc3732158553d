//! What code leaves behind on the stack: the last block of a hash or of a cipher, what a parser has looked at.

use std::hint::black_box;

/// Deeper than any call that handles a secret goes. Without optimisation frames are several times as large.
const DEPTH_BYTES: usize = if cfg!(debug_assertions) { 128 * 1024 } else { 32 * 1024 };

/// Does something with a secret, and overwrites what that has left on the stack. What it returns must not hold the
/// secret itself, only own the memory in which it lies.
pub fn without_trace<T>(work: impl FnOnce() -> T) -> T {
    let result = apart(work);
    wipe_stack();
    result
}

/// In a frame of its own, which begins where that of [`wipe_stack`] does: the caller's is not overwritten.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Overwrites what calls that have returned have left below their caller's frame: for a thread that is about to wait.
#[inline(never)]
pub fn wipe_stack() {
    black_box(&mut [0_u8; DEPTH_BYTES]);
}
