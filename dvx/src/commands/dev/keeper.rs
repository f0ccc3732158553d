//! The second process of `dvx dev`: parent of the broker and of the command.
//!
//! It is in a process group of its own, so that what is sent to the first process's group does not reach it,
//! but in the same session, so that the command can be put into that group and have the terminal.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getppid, setpgid};

use super::broker::{self, Broker};
use super::channel::{Channel, Order, Report};
use super::children::{self, Change, Ending};
use super::environment::Facts;
use super::place::Place;
use crate::cli::KeeperArguments;
use crate::clock::Deadline;
use crate::failure::{Failure, cause, exit};
use crate::signals::{self, Signals};

/// How long the broker may take until it serves; it needs some tens of milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Statuses of a command that could not be run, as in env(1).
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

struct Keeper {
    arguments: KeeperArguments,
    place: Place,
    channel: Channel,
    signals: Signals,
    /// The first process, which is our parent.
    front: Pid,
    broker: Option<Pid>,
    command: Option<Pid>,
    /// We have stopped the first process because the command had stopped.
    stopped: bool,
}

/// Why a session ends.
enum Stop {
    Command(Ending),
    /// The first process wants it, or is gone.
    Front,
    Signal(Signal),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An order that is for the session's current step to carry out.
type Step = (Order, Option<OwnedFd>);

pub(crate) fn run(arguments: KeeperArguments) -> Result<ExitCode, Failure> {
    let mut keeper = Keeper::new(arguments).map_err(|error| Failure::io("cannot keep a session", &error))?;
    keeper.channel.send(&Report::Watching, None);
    let Err(stop) = keeper.session();
    keeper.clean_up();
    keeper.channel.send(&report(stop), None);
    Ok(ExitCode::SUCCESS)
}

fn report(stop: Stop) -> Report {
    match stop {
        Stop::Command(ending) => Report::Ended { status: ending.status() },
        Stop::Front => Report::Ended { status: 0 },
        Stop::Signal(signal) => Report::Ended { status: Ending::Killed(signal).status() },
        Stop::Failed(failure) => Report::Failed(failure),
    }
}

impl Keeper {
    fn new(arguments: KeeperArguments) -> io::Result<Self> {
        let signals = Signals::take_over()?;
        let channel = Channel::from_stdin()?;
        prctl::set_child_subreaper(true)?;
        prctl::set_dumpable(false)?;
        // Not "dvx": a `killall -9 dvx` leaves somebody who cleans up.
        prctl::set_name(c"dev-keeper")?;
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        let place = Place::at(arguments.directory.clone());
        let front = getppid();
        Ok(Self { arguments, place, channel, signals, front, broker: None, command: None, stopped: false })
    }

    /// All of a session, up to the reason for its end.
    fn session(&mut self) -> Result<Infallible, Stop> {
        while !matches!(self.wait(None, None)?, Some((Order::Start, _))) {}
        let broker = Broker::start(&self.arguments.broker, &self.place)?;
        self.broker = Some(broker.pid());
        self.look_after_children()?;
        let deadline = Deadline::after(START_PATIENCE);
        while !broker.is_ready() {
            if deadline.has_passed() {
                let failure = Failure::new("the broker did not start", "it was not ready within 10 seconds");
                return Err(failure
                    .with_log(broker::log_tail(&self.place))
                    .with_exit(exit::NOT_READY)
                    .into());
            }
            self.wait(Some(broker.as_fd()), Some(&deadline))?;
        }
        let url = broker::url(&self.arguments.broker, &self.place)?;
        self.channel.send(&Report::Serving(url.clone()), None);
        loop {
            if let Some((Order::Run, stdin)) = self.wait(None, None)? {
                self.command = Some(self.run_command(&url, stdin)?);
                // While it is being spawned, the news of its end can get lost: see `signals::spawn`.
                self.look_after_children()?;
            }
        }
    }

    /// Waits for something to happen, and deals with all that does not depend on how far the session is.
    fn wait(
        &mut self,
        also: Option<BorrowedFd<'_>>,
        deadline: Option<&Deadline>,
    ) -> Result<Option<Step>, Stop> {
        let watched = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut sources = vec![watched(self.channel.as_fd()), watched(self.signals.as_fd())];
        sources.extend(also.map(watched));
        let patience = deadline.map_or(PollTimeout::NONE, |deadline| {
            PollTimeout::try_from(deadline.remaining()).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut sources, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::io("cannot wait", &error.into()).into()),
        }
        let has_order = sources.first().and_then(PollFd::any).unwrap_or(false);
        while let Some(arrival) = self.signals.next() {
            match arrival.signal {
                Signal::SIGCHLD => self.look_after_children()?,
                Signal::SIGTERM | Signal::SIGHUP => return Err(Stop::Signal(arrival.signal)),
                _ => {}
            }
        }
        if has_order { self.take_order() } else { Ok(None) }
    }

    fn take_order(&mut self) -> Result<Option<Step>, Stop> {
        match self.channel.receive().ok().flatten() {
            None | Some((Order::End, _)) => Err(Stop::Front),
            Some((Order::Pass(number), _)) => {
                if let (Some(command), Ok(signal)) = (self.command, Signal::try_from(number)) {
                    children::send(command, signal);
                }
                Ok(None)
            }
            Some((Order::Resumed, _)) => {
                if let Some(command) = self.command.filter(|_| self.stopped) {
                    children::send(command, Signal::SIGCONT);
                }
                self.stopped = false;
                Ok(None)
            }
            Some(step @ (Order::Start | Order::Run, _)) => Ok(Some(step)),
        }
    }

    fn look_after_children(&mut self) -> Result<(), Stop> {
        while let Some(change) = children::next_change() {
            match change {
                Change::Ended(pid, ending) if Some(pid) == self.command => return Err(Stop::Command(ending)),
                Change::Ended(pid, ending) if Some(pid) == self.broker => {
                    self.broker = None;
                    return Err(self.broker_ended(ending).into());
                }
                Change::Stopped(pid) if Some(pid) == self.command => self.stop_front(),
                // Somebody who lost its parent, and now has us.
                Change::Ended(..) | Change::Stopped(_) => {}
            }
        }
        Ok(())
    }

    fn broker_ended(&self, ending: Ending) -> Failure {
        if self.command.is_some() {
            broker::ended("the broker has ended", ending, &self.place)
        } else {
            broker::ended("the broker did not start", ending, &self.place).with_exit(exit::NOT_READY)
        }
    }

    /// A shell that suspends itself means the job that it is part of, which the shell outside knows by the
    /// first process.
    fn stop_front(&mut self) {
        if self.arguments.stops_with_command && getppid() == self.front {
            self.stopped = true;
            kill(self.front, Signal::SIGSTOP).ok();
        }
    }

    /// Runs the command where the first process is: in its process group, on its terminal.
    fn run_command(&self, url: &str, stdin: Option<OwnedFd>) -> Result<Pid, Failure> {
        let Some((program, arguments)) = self.arguments.command.split_first() else {
            return Err(Failure::new("no command", "none was given"));
        };
        let failed = |error: io::Error| command_failure(program, &error);
        let group = getpgid(Some(self.front)).map_err(|errno| failed(errno.into()))?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment(url)).process_group(group.as_raw());
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        let child = signals::spawn(&mut command).map_err(failed)?;
        Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1)))
    }

    fn environment(&self, url: &str) -> Vec<(OsString, OsString)> {
        let facts = Facts {
            programs: self.arguments.broker.parent().unwrap_or(self.place.path()),
            directory: self.place.path(),
            token_file: self.place.token_file(),
            broker_url: url,
            instance: &self.arguments.instance_url,
        };
        facts.variables(&|name| env::var_os(name))
    }

    /// Ends the command and what it left running, then the broker, and removes the directory. What cannot be
    /// ended or removed from here, the first process cannot either.
    fn clean_up(&self) {
        children::end_all_but(self.broker.as_slice());
        children::end_all_but(&[]);
        self.place.remove().ok();
    }
}

fn command_failure(program: &OsString, error: &io::Error) -> Failure {
    let status = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Failure::new(format!("cannot run {}", program.display()), cause(error)).with_exit(status)
}
