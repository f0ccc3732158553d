//! The system calls that the control plane makes (seccomp(2)). All others end it.
//!
//! The list was measured over a serving control plane and its tests, on SQLite and PostgreSQL, and completed by
//! what std::fs, SQLite, tokio, the allocator, threads and the name service modules of glibc do for the same ends.
//! It is applied last, after everything that needs more.
//!
//! The broker has a list of its own, though much of it is the same: each is what one program needs, and what one of
//! them comes to need is not to be allowed to the other for that.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch,
};

use super::SandboxError;
use crate::config::Seccomp;

/// Calls that are allowed with any arguments, or with those that [`refused`] leaves.
const ALLOWED: &[c_long] = &[
    // Connections.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    // Looking up a host's addresses (glibc's `res_send.c`).
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
    libc::SYS_socketpair,
    // Waiting.
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Descriptors.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // Files.
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // More of what is protected, for keys.
    libc::SYS_memfd_secret,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and signals.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_prctl,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // The process and the machine.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Calls that newer architectures have only in the forms above.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[libc::SYS_renameat];

/// What prctl(2) may still set: names of threads and of memory, and what the next filter sets again.
const PROCESS_OPTIONS: [i32; 4] =
    [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_SET_NO_NEW_PRIVS];

/// What sockets are for: operators, brokers, instances, the database. Nobody is asked over netlink who somebody is.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Lets only these calls through from now on, in all threads.
pub(super) fn restrict(mode: Seccomp) -> Result<(), SandboxError> {
    let otherwise = match mode {
        Seccomp::Kill => SeccompAction::KillProcess,
        Seccomp::Errno => SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Off => return Ok(()),
    };
    // What a library may try and can do without is refused instead.
    let refusal = |errno: i32| match mode {
        Seccomp::Kill | Seccomp::Errno => SeccompAction::Errno(errno.cast_unsigned()),
        Seccomp::Log | Seccomp::Off => SeccompAction::Log,
    };
    let unknown = rules(&[(libc::SYS_clone3, Vec::new())]);
    let allowed: Vec<_> = ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    let filters = [
        // glibc then uses clone(2), of which a filter can see the flags.
        program(unknown, SeccompAction::Allow, refusal(libc::ENOSYS)),
        program(refused()?, SeccompAction::Allow, refusal(libc::EPERM)),
        program(rules(&allowed), otherwise, SeccompAction::Allow),
    ];
    for filter in filters {
        seccompiler::apply_filter_all_threads(&filter?).map_err(SandboxError::Seccomp)?;
    }
    Ok(())
}

fn program(
    rules: BTreeMap<c_long, Vec<Rule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(backend)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(backend)?;
    BpfProgram::try_from(filter).map_err(backend)
}

fn backend(error: seccompiler::BackendError) -> SandboxError {
    SandboxError::Seccomp(error.into())
}

fn rules(calls: &[(c_long, Vec<Rule>)]) -> BTreeMap<c_long, Vec<Rule>> {
    calls.iter().cloned().collect()
}

/// Allowed calls with arguments that the control plane has no use for: sockets of other kinds, listening on more
/// than it does, new processes, and undoing what was given up at the start.
fn refused() -> Result<BTreeMap<c_long, Vec<Rule>>, SandboxError> {
    let differs_from_all = |argument: u8, values: &[i32]| {
        let differs = |value: &i32| {
            Condition::new(argument, Width::Dword, Op::Ne, u64::from(value.cast_unsigned())).map_err(backend)
        };
        let conditions: Vec<_> = values.iter().map(differs).collect::<Result<_, _>>()?;
        Ok::<_, SandboxError>(vec![Rule::new(conditions).map_err(backend)?])
    };
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let no_thread = Condition::new(0, Width::Qword, Op::MaskedEq(thread), 0).map_err(backend)?;
    Ok(rules(&[
        (libc::SYS_socket, differs_from_all(0, &FAMILIES)?),
        (libc::SYS_bind, Vec::new()),
        (libc::SYS_listen, Vec::new()),
        (libc::SYS_socketpair, differs_from_all(0, &[libc::AF_UNIX])?),
        (libc::SYS_clone, vec![Rule::new(vec![no_thread]).map_err(backend)?]),
        (libc::SYS_prctl, differs_from_all(0, &PROCESS_OPTIONS)?),
    ]))
}
