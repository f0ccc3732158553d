//! Descriptors that the runtime waits for.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor that does not block known to the runtime, within which this must be called.
#[expect(
    deprecated,
    reason = "its other form is unsafe for the sake of types that exchange their descriptor; ours are std's"
)]
pub(crate) fn watch<T: AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}
