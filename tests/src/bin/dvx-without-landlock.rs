//! Runs a command as on a kernel without Landlock: its calls are unknown (ENOSYS), as landlock(7) says.
//!
//! `dvx-without-landlock COMMAND …`

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

fn main() -> io::Result<()> {
    let calls =
        [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let rules: BTreeMap<_, _> = calls.map(|call| (call, Vec::new())).into();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch).map_err(io::Error::other)?;
    let program = BpfProgram::try_from(filter).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or_else(|| io::Error::other("no command"))?;
    Err(Command::new(program).args(arguments).exec())
}
