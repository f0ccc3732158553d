//! The second process of `dvx dev`: parent of the daemons and of the command.
//!
//! It is in a process group of its own, so that what is sent to the first process's group does not reach it,
//! but in the same session, so that the command can be put into that group and have the terminal.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getppid, setpgid};

use super::broker::{self, State};
use super::channel::{Channel, Order, Report};
use super::children::{self, Change, Ending};
use super::environment::{FOREIGN, Facts};
use super::place::Place;
use super::programs::Programs;
use super::service::{self, Kind, Service};
use crate::cli::KeeperArguments;
use crate::clock::Deadline;
use crate::failure::{Failure, cause};
use crate::signals::{self, Signals};

/// How long each daemon may take until it serves; they need some tens of milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// After what time the broker is asked again whether it has everything: soon, and then less and less often.
const ASK_PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];

/// Statuses of a command that could not be run, as in env(1).
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

struct Keeper {
    arguments: KeeperArguments,
    place: Place,
    programs: Programs,
    channel: Channel,
    signals: Signals,
    /// The first process, which is our parent.
    front: Pid,
    /// Makes the control plane's key and database, and ends.
    init: Option<Pid>,
    services: Vec<Service>,
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
        Ok(Self {
            place: Place::at(arguments.directory.clone()),
            programs: Programs::at(arguments.programs.clone()),
            arguments,
            channel,
            signals,
            front: getppid(),
            init: None,
            services: Vec::new(),
            command: None,
            stopped: false,
        })
    }

    /// All of a session, up to the reason for its end.
    fn session(&mut self) -> Result<Infallible, Stop> {
        while !matches!(self.wait(None)?, Some((Order::Start, _))) {}
        self.initialise()?;
        self.start(Kind::Control)?;
        self.channel.send(&Report::ControlServing, None);
        while !matches!(self.wait(None)?, Some((Order::StartBroker, _))) {}
        let deadline = self.start(Kind::Broker)?;
        let [mut pause, longest] = ASK_PAUSES;
        let url = loop {
            let why = match broker::state(&self.programs, &self.place)? {
                State::Serving { url } => break url,
                State::Waiting { why } => why,
            };
            if deadline.has_passed() {
                return Err(Kind::Broker.not_started(why, &self.place).into());
            }
            self.wait(Some(&Deadline::after(pause)))?;
            pause = longest.min(pause * 2);
        };
        self.channel.send(&Report::Serving(url.clone()), None);
        loop {
            if let Some((Order::Run, stdin)) = self.wait(None)? {
                self.command = Some(self.run_command(&url, stdin)?);
                // While it is being spawned, the news of its end can get lost: see `signals::spawn`.
                self.look_after_children()?;
            }
        }
    }

    fn initialise(&mut self) -> Result<(), Stop> {
        self.init = Some(service::start_init(&self.programs, &self.place)?);
        let deadline = Deadline::after(START_PATIENCE);
        self.look_after_children()?;
        while self.init.is_some() {
            self.check(Kind::Control, &deadline)?;
            self.wait(Some(&deadline))?;
        }
        Ok(())
    }

    /// Starts a daemon and waits until it says that it serves. Gives what is left of its time.
    fn start(&mut self, kind: Kind) -> Result<Deadline, Stop> {
        self.services.push(Service::start(kind, &self.programs, &self.place)?);
        self.look_after_children()?;
        let deadline = Deadline::after(START_PATIENCE);
        while !self.services.iter().any(|service| service.kind() == kind && service.is_ready()) {
            self.check(kind, &deadline)?;
            self.wait(Some(&deadline))?;
        }
        Ok(deadline)
    }

    fn check(&self, kind: Kind, deadline: &Deadline) -> Result<(), Stop> {
        if deadline.has_passed() {
            return Err(kind.not_started("it was not ready within 10 seconds", &self.place).into());
        }
        Ok(())
    }

    /// Waits for something to happen, and deals with all that does not depend on how far the session is.
    fn wait(&mut self, deadline: Option<&Deadline>) -> Result<Option<Step>, Stop> {
        let watched = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut sources = vec![watched(self.channel.as_fd()), watched(self.signals.as_fd())];
        sources.extend(self.services.iter().map(|service| watched(service.as_fd())));
        let patience = deadline.map_or(PollTimeout::NONE, |deadline| {
            PollTimeout::try_from(deadline.remaining()).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut sources, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::io("cannot wait", &error.into()).into()),
        }
        let has_order = sources.first().and_then(PollFd::any).unwrap_or(false);
        self.services.iter_mut().for_each(Service::listen);
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
            Some(step @ (Order::Start | Order::StartBroker | Order::Run, _)) => Ok(Some(step)),
        }
    }

    fn look_after_children(&mut self) -> Result<(), Stop> {
        while let Some(change) = children::next_change() {
            match change {
                Change::Ended(pid, ending) if Some(pid) == self.command => return Err(Stop::Command(ending)),
                Change::Ended(pid, ending) if Some(pid) == self.init => {
                    self.init = None;
                    if ending != Ending::Exited(0) {
                        return Err(Kind::Control.not_started(ending, &self.place).into());
                    }
                }
                Change::Ended(pid, ending) => self.look_after_daemon(pid, ending)?,
                Change::Stopped(pid) if Some(pid) == self.command => self.stop_front(pid),
                Change::Stopped(_) => {}
            }
        }
        Ok(())
    }

    /// A session without one of its daemons is none. Others who end have lost their parent, and then had us.
    fn look_after_daemon(&mut self, ended: Pid, ending: Ending) -> Result<(), Stop> {
        let Some(place) = self.services.iter().position(|service| service.pid() == ended) else {
            return Ok(());
        };
        let kind = self.services.remove(place).kind();
        if self.command.is_some() {
            Err(kind.ended(ending, &self.place).into())
        } else {
            Err(kind.not_started(ending, &self.place).into())
        }
    }

    /// A shell that suspends itself means the job that it is part of, which the shell outside knows by the
    /// first process. Where the terminal stopped both, the shell outside may have told them to go on by now.
    fn stop_front(&mut self, command: Pid) {
        if self.arguments.stops_with_command && getppid() == self.front {
            self.stopped = true;
            if !children::is_stopped(self.front) && children::is_stopped(command) {
                kill(self.front, Signal::SIGSTOP).ok();
            }
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
        for foreign in FOREIGN {
            command.env_remove(foreign);
        }
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        let child = signals::spawn(&mut command).map_err(failed)?;
        Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1)))
    }

    fn environment(&self, url: &str) -> Vec<(OsString, OsString)> {
        let facts = Facts {
            programs: self.programs.directory(),
            directory: self.place.path(),
            token_file: self.place.token_file(),
            broker_url: url,
            control_socket: self.place.control_socket(),
            instance: &self.arguments.instance_url,
        };
        facts.variables(&|name| env::var_os(name))
    }

    /// Ends the command and what it left running, then the daemons, and removes the directory. What cannot be
    /// ended or removed from here, the first process cannot either.
    fn clean_up(&self) {
        let services: Vec<Pid> = self.services.iter().map(Service::pid).collect();
        children::end_all_but(&services);
        children::end_all_but(&[]);
        self.place.remove().ok();
    }
}

fn command_failure(program: &OsString, error: &io::Error) -> Failure {
    let status = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Failure::new(format!("cannot run {}", program.display()), cause(error)).with_exit(status)
}
