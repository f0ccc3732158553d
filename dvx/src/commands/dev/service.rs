//! The session's daemons: started, and awaited.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Pid;

use super::children::Ending;
use super::place::Place;
use super::programs::Programs;
use crate::failure::{Failure, exit};
use crate::signals;

/// How much of its log is shown when it fails.
const LOG_LINES: usize = 10;

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Control,
    Broker,
}

impl Kind {
    /// In messages.
    const fn name(self) -> &'static str {
        match self {
            Self::Control => "the control plane",
            Self::Broker => "the broker",
        }
    }

    /// The beginning of its files' names.
    pub(crate) const fn stem(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Broker => "broker",
        }
    }

    /// The command that makes everything before the daemon serves.
    fn init(programs: &Programs, place: &Place) -> Command {
        let mut command = Command::new(programs.control());
        command.arg("init").arg("--config").arg(place.config(Self::Control));
        command
    }

    fn serve(self, programs: &Programs, place: &Place) -> Command {
        let (program, subcommand) = match self {
            Self::Control => (programs.control(), "serve"),
            Self::Broker => (programs.broker(), "run"),
        };
        let mut command = Command::new(program);
        command.arg(subcommand).arg("--config").arg(place.config(self));
        command
    }

    /// It could not be started.
    fn failed(self, error: &io::Error) -> Failure {
        Failure::io(format!("cannot start {}", self.name()), error).with_exit(exit::NOT_READY)
    }

    /// It has ended although nobody told it to.
    pub(crate) fn ended(self, ending: Ending, place: &Place) -> Failure {
        Failure::new(format!("{} has ended", self.name()), ending).with_log(log_tail(place, self))
    }

    /// It does not serve.
    pub(crate) fn not_started(self, why: impl std::fmt::Display, place: &Place) -> Failure {
        Failure::new(format!("{} did not start", self.name()), why)
            .with_log(log_tail(place, self))
            .with_exit(exit::NOT_READY)
    }
}

/// Makes the control plane's key and database. Nobody needs the first admin's token: the kernel tells who we are.
pub(crate) fn start_init(programs: &Programs, place: &Place) -> Result<Pid, Failure> {
    let mut command = Kind::init(programs, place);
    spawn(Kind::Control, &mut command, place).map_err(|error| Kind::Control.failed(&error))
}

/// A daemon that has been started.
pub(crate) struct Service {
    kind: Kind,
    pid: Pid,
    notifications: UnixDatagram,
    is_ready: bool,
}

impl Service {
    pub(crate) fn start(kind: Kind, programs: &Programs, place: &Place) -> Result<Self, Failure> {
        let failed = |error: io::Error| kind.failed(&error);
        let socket = place.notify_socket(kind);
        let notifications = UnixDatagram::bind(&socket).map_err(failed)?;
        notifications.set_nonblocking(true).map_err(failed)?;
        let mut command = kind.serve(programs, place);
        command.env("NOTIFY_SOCKET", socket);
        let pid = spawn(kind, &mut command, place).map_err(failed)?;
        place.write_pid(kind, pid).map_err(failed)?;
        Ok(Self { kind, pid, notifications, is_ready: false })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Takes what it has told (sd_notify(3)). All of it, and as long as it runs: once some messages wait, the
    /// next one holds the daemon up.
    pub(crate) fn listen(&mut self) {
        let mut message = [0; 4096];
        while let Ok(length) = self.notifications.recv(&mut message) {
            let text = message.get(..length).unwrap_or_default();
            self.is_ready |= text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
        }
    }

    /// Whether it has told that it serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

/// Starts it in a process group of its own, which the terminal's Ctrl-C does not reach.
fn spawn(kind: Kind, command: &mut Command, place: &Place) -> io::Result<Pid> {
    for foreign in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(foreign);
    }
    let log = open_log(&place.log(kind))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let child = signals::spawn(command)?;
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1)))
}

/// The end of a daemon's log.
pub(crate) fn log_tail(place: &Place, kind: Kind) -> Vec<String> {
    let log = fs::read(place.log(kind)).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).map(|line| printable(line)).collect()
}

/// A line that cannot do anything to the terminal it is shown on, or fill it.
fn printable(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_control()).take(500).collect()
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_shown_without_escapes() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_path_buf());
        assert!(log_tail(&place, Kind::Broker).is_empty());
        let lines: Vec<String> = (0..20).map(|number| format!("line \u{1b}[31m{number}")).collect();
        fs::write(place.log(Kind::Broker), lines.join("\n")).unwrap();
        let tail = log_tail(&place, Kind::Broker);
        assert_eq!(tail.len(), LOG_LINES);
        assert_eq!(tail.last().unwrap(), "line [31m19");
    }

    #[test]
    fn readiness_is_a_line_of_a_notification() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let notifications = UnixDatagram::bind(&path).unwrap();
        notifications.set_nonblocking(true).unwrap();
        let mut service =
            Service { kind: Kind::Broker, pid: Pid::from_raw(1), notifications, is_ready: false };
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=READY=1", &path).unwrap();
        service.listen();
        assert!(!service.is_ready());
        sender.send_to(b"STATUS=serving\nREADY=1\n", &path).unwrap();
        service.listen();
        assert!(service.is_ready());
    }
}
