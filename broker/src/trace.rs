//! What the tokens of callers leave behind on the stack of the thread that serves.
//!
//! To overwrite that takes as long as the twentieth part of a request on a kept connection, and most requests have no
//! token. So it is noted when there may be something, and seen to before the thread waits.

use std::cell::Cell;

thread_local! {
    static MAY_BE: Cell<bool> = const { Cell::new(false) };
}

/// There may be something from now on.
pub(crate) fn note() {
    MAY_BE.set(true);
}

/// Overwrites what there may be: for a thread that is about to wait.
pub(crate) fn wipe() {
    if MAY_BE.take() {
        dvx_proto::wipe_stack();
    }
}

#[cfg(test)]
pub(crate) fn is_noted() -> bool {
    MAY_BE.get()
}
