//! The session's broker: started, awaited, asked where it listens.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Pid;
use serde::Deserialize;

use super::children::Ending;
use super::place::Place;
use crate::failure::{Failure, exit};
use crate::signals;

/// How much of its log is shown when it fails.
const LOG_LINES: usize = 10;

/// A broker that has been started.
pub(crate) struct Broker {
    pid: Pid,
    notifications: UnixDatagram,
}

/// The part of `dvx-broker status -o json` that matters here.
#[derive(Deserialize)]
struct Status {
    listen: Listen,
}

#[derive(Deserialize)]
struct Listen {
    tcp: Option<String>,
}

impl Broker {
    /// Starts it in a process group of its own, which the terminal's Ctrl-C does not reach.
    pub(crate) fn start(program: &Path, place: &Place) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::io("cannot start the broker", &error).with_exit(exit::NOT_READY);
        let notifications = UnixDatagram::bind(place.notify_socket()).map_err(failed)?;
        notifications.set_nonblocking(true).map_err(failed)?;
        let log = open_log(&place.log()).map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(place.config());
        command.env("NOTIFY_SOCKET", place.notify_socket());
        for foreign in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(foreign);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).process_group(0);
        let child = signals::spawn(&mut command).map_err(failed)?;
        place.write_pid(child.id()).map_err(failed)?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1));
        Ok(Self { pid, notifications })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has told that it serves (sd_notify(3)).
    pub(crate) fn is_ready(&self) -> bool {
        let mut message = [0; 4096];
        while let Ok(length) = self.notifications.recv(&mut message) {
            let text = message.get(..length).unwrap_or_default();
            if text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return true;
            }
        }
        false
    }
}

impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

/// The URL of the listener on loopback, whose port the broker chose itself.
pub(crate) fn url(program: &Path, place: &Place) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new("cannot ask the broker for its address", why)
            .with_log(log_tail(place))
            .with_exit(exit::NOT_READY)
    };
    let mut command = Command::new(program);
    command.args(["status", "-o", "json", "--socket"]).arg(place.admin_socket());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = signals::spawn(&mut command).map_err(|error| failed(crate::failure::cause(&error)))?;
    let output = child.wait_with_output().map_err(|error| failed(crate::failure::cause(&error)))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let status: Status = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let address = status.listen.tcp.ok_or_else(|| failed("it does not listen on loopback".to_owned()))?;
    Ok(format!("http://{address}"))
}

/// The broker has ended although nobody told it to.
pub(crate) fn ended(what: &str, ending: Ending, place: &Place) -> Failure {
    Failure::new(what, ending).with_log(log_tail(place))
}

/// The end of the broker's log.
pub(crate) fn log_tail(place: &Place) -> Vec<String> {
    let log = fs::read(place.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).map(|line| printable(line)).collect()
}

/// A line that cannot do anything to the terminal it is shown on, or fill it.
fn printable(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_control()).take(500).collect()
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_shown_without_escapes() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_path_buf());
        assert!(log_tail(&place).is_empty());
        let lines: Vec<String> = (0..20).map(|number| format!("line \u{1b}[31m{number}")).collect();
        fs::write(place.log(), lines.join("\n")).unwrap();
        let tail = log_tail(&place);
        assert_eq!(tail.len(), LOG_LINES);
        assert_eq!(tail.last().unwrap(), "line [31m19");
    }

    #[test]
    fn readiness_is_a_line_of_a_notification() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let notifications = UnixDatagram::bind(&path).unwrap();
        notifications.set_nonblocking(true).unwrap();
        let broker = Broker { pid: Pid::from_raw(1), notifications };
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=READY=1", &path).unwrap();
        assert!(!broker.is_ready());
        sender.send_to(b"STATUS=serving\nREADY=1\n", &path).unwrap();
        assert!(broker.is_ready());
    }
}
