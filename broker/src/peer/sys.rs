//! The kernel interfaces that no crate wraps safely. Nothing else in this module's parent is unsafe.
#![allow(unsafe_code, reason = "three system calls without a safe wrapper in nix or rustix")]

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

use super::Groups;

/// What `PIDFD_GET_INFO` tells (`struct pidfd_info` in the kernel's `uapi/linux/pidfd.h`).
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessInfo {
    /// The process, in our pid namespace.
    pub(super) pid: u32,
    /// Its real user, in our user namespace. A process that has been reaped has none.
    pub(super) real_uid: Option<u32>,
    /// Its cgroup v2.
    pub(super) cgroup: Option<u64>,
}

/// The supplementary groups that a Unix socket's peer had when it connected (`SO_PEERGROUPS`, socket(7)).
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> Result<Groups, Errno> {
    /// More than nearly every user has; those with more cost a second call.
    const USUAL: usize = 64;
    let mut list = [0; USUAL];
    match option(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, &mut list) {
        Ok(bytes) => Ok(list.get(..bytes / size_of::<u32>()).unwrap_or_default().into()),
        Err((Errno::ERANGE, bytes)) => {
            let mut list = vec![0; bytes / size_of::<u32>()];
            let bytes = option(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, &mut list)
                .map_err(|(errno, _)| errno)?;
            Ok(list.get(..bytes / size_of::<u32>()).unwrap_or_default().into())
        }
        Err((errno, _)) => Err(errno),
    }
}

/// The state of a TCP socket of ours: the first byte of `TCP_INFO` (`struct tcp_info` in `uapi/linux/tcp.h`).
pub(super) fn tcp_state(socket: BorrowedFd<'_>) -> Result<u8, Errno> {
    // No state is 0: a kernel that tells nothing tells of no connection.
    let mut start = [0_u8; 4];
    option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut start).map_err(|(errno, _)| errno)?;
    let [state, ..] = start;
    Ok(state)
}

/// What is known about a process by its pidfd (`PIDFD_GET_INFO`, Linux 6.13).
pub(super) fn process_info(pidfd: BorrowedFd<'_>) -> Result<ProcessInfo, Errno> {
    let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: the structure consists of integers only, for which zero is a value.
    let info = unsafe { info.assume_init_mut() };
    info.mask = u64::from(libc::PIDFD_INFO_PID | libc::PIDFD_INFO_CREDS | libc::PIDFD_INFO_CGROUPID);
    // SAFETY: the descriptor is open while it is borrowed, and the request carries the size of the structure,
    // beyond which the kernel does not write.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut *info) };
    Errno::result(result)?;
    Ok(ProcessInfo::told(info))
}

impl ProcessInfo {
    /// The mask says which fields the kernel filled in; the others are zero, which as a user would be root.
    fn told(info: &libc::pidfd_info) -> Self {
        let told = |bit: u32| info.mask & u64::from(bit) != 0;
        Self {
            pid: info.tgid,
            real_uid: told(libc::PIDFD_INFO_CREDS).then_some(info.ruid),
            cgroup: told(libc::PIDFD_INFO_CGROUPID).then_some(info.cgroupid),
        }
    }
}

/// Values that may hold any bytes.
trait Plain {}
impl Plain for u8 {}
impl Plain for u32 {}

/// Reads a socket option; the result is its length in bytes. The kernel says on some errors how long the
/// value would have been.
fn option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [T],
) -> Result<usize, (Errno, usize)> {
    let mut length = libc::socklen_t::try_from(size_of_val(value)).map_err(|_| (Errno::EINVAL, 0))?;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `length` bytes to the
    // start of `value`, which has that many and may hold any; and `length` outlives the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    let length = usize::try_from(length).unwrap_or(0);
    match Errno::result(result) {
        Ok(_) => Ok(length.min(size_of_val(value))),
        Err(errno) => Err((errno, length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_tell_of_a_process_is_unknown_and_not_zero() {
        let (creds, cgroup) = (libc::PIDFD_INFO_CREDS, libc::PIDFD_INFO_CGROUPID);
        for (mask, real_uid, number) in [
            (libc::PIDFD_INFO_PID, None, None),
            (libc::PIDFD_INFO_PID | creds, Some(1001), None),
            (libc::PIDFD_INFO_PID | cgroup, None, Some(77)),
            (cgroup, None, Some(77)),
            (creds, Some(1001), None),
            (creds | cgroup, Some(1001), Some(77)),
        ] {
            // SAFETY: the structure consists of integers only, for which zero is a value.
            let mut info: libc::pidfd_info = unsafe { MaybeUninit::zeroed().assume_init() };
            (info.mask, info.tgid, info.ruid, info.cgroupid) = (u64::from(mask), 12, 1001, 77);
            let told = ProcessInfo::told(&info);
            assert_eq!((told.pid, told.real_uid, told.cgroup), (12, real_uid, number), "{mask:#x}");
        }
    }
}
