//! The terminal that `dvx dev` was started from, to be handed back as it was.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The controlling terminal, with us in its foreground.
pub(crate) struct Terminal {
    device: File,
    before: Termios,
}

impl Terminal {
    /// `None` where there is no terminal, or where it is somebody else's turn.
    pub(crate) fn ours() -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/tty").ok()?;
        if tcgetpgrp(&device).ok()? != getpgrp() {
            return None;
        }
        let before = tcgetattr(&device).ok()?;
        Some(Self { device, before })
    }

    /// The terminal as a stdin.
    pub(crate) fn to_stdin(&self) -> Option<OwnedFd> {
        self.device.as_fd().try_clone_to_owned().ok()
    }

    /// Takes it back from a shell that was killed before it could: the shell had made itself the foreground
    /// and left the modes of its line editor behind. Whoever else has the foreground keeps it.
    pub(crate) fn take_back(&self) {
        let Ok(foreground) = tcgetpgrp(&self.device) else { return };
        if foreground != getpgrp() && !is_gone(foreground) {
            return;
        }
        // What fails here is a terminal that is gone.
        tcsetpgrp(&self.device, getpgrp()).ok();
        tcsetattr(&self.device, SetArg::TCSADRAIN, &self.before).ok();
    }
}

fn is_gone(group: Pid) -> bool {
    killpg(group, None) == Err(Errno::ESRCH)
}
