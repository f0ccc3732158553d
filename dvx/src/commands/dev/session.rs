//! The first process of `dvx dev`: has the terminal and the user's signals, and speaks to the user.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use dvx_proto::{RemoteUrl, Token};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::runtime;
use tokio::time::timeout;

use super::channel::{Channel, Order, Report};
use super::children::{self, Ending};
use super::place::Place;
use super::programs::Programs;
use super::terminal::Terminal;
use super::{setup, token};
use crate::cli::KEEPER;
use crate::clock::Deadline;
use crate::failure::Failure;
use crate::output::note;
use crate::signals::{Arrival, Signals};

/// How long the keeper may take to clean up before that becomes our task.
const CLEANING_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked for signals and the keeper while the control plane is asked.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long the command may take to end by itself when it was interrupted.
const COMMAND_PATIENCE: Duration = Duration::from_secs(2);

/// What a session is to be.
pub(crate) struct Plan {
    pub(crate) programs: Programs,
    pub(crate) place: Place,
    pub(crate) instance: RemoteUrl,
    pub(crate) command: Vec<OsString>,
    /// The command is the user's shell.
    pub(crate) is_shell: bool,
    /// And a person sits in front of it.
    pub(crate) is_interactive: bool,
    /// The token came from there.
    pub(crate) stdin_is_used_up: bool,
}

pub(crate) struct Session {
    plan: Plan,
    signals: Signals,
    terminal: Option<Terminal>,
    channel: Channel,
    keeper: Pid,
    /// Children that we had when we were started, by way of exec: none of ours.
    strangers: Vec<Pid>,
    is_running: bool,
    /// The command was told to end by this signal, and until when it may do so by itself. A shell, for one,
    /// waits for what it runs, which the signal has not reached.
    asked_to_end: Option<(Signal, Deadline)>,
    /// Somebody wants us to end by this signal.
    leaving: Option<(Signal, Deadline)>,
}

impl Session {
    /// Starts the keeper. Nothing that would have to be cleaned up exists yet.
    pub(crate) fn start(plan: Plan, signals: Signals, terminal: Option<Terminal>) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io("cannot start a session", &error);
        prctl::set_child_subreaper(true).map_err(|errno| failed(errno.into()))?;
        let strangers = children::children();
        let (channel, theirs) = Channel::pair().map_err(failed)?;
        // This very program, even where its file has been replaced in the meantime. It inherits the blocked
        // signals, so that none ends it before it is ready for them.
        let mut keeper = Command::new("/proc/self/exe");
        keeper.arg0(KEEPER).arg("--directory").arg(plan.place.path());
        keeper
            .arg("--programs")
            .arg(plan.programs.directory())
            .arg("--instance-url")
            .arg(plan.instance.to_string());
        if terminal.is_some() {
            keeper.arg("--stops-with-command");
        }
        keeper.arg("--").args(&plan.command).env_remove(token::VARIABLE).stdin(Stdio::from(theirs));
        let child = keeper.spawn().map_err(failed)?;
        let keeper = Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1));
        Ok(Self {
            plan,
            signals,
            terminal,
            channel,
            keeper,
            strangers,
            is_running: false,
            asked_to_end: None,
            leaving: None,
        })
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self, token: &Token) -> Result<ExitCode, Failure> {
        let result = self.lead(token);
        self.clean_up();
        match (result, self.leaving) {
            (_, Some((signal, _))) => Ok(ExitCode::from(Ending::Killed(signal).status())),
            (Ok(status), None) => Ok(ExitCode::from(status)),
            (Err(failure), None) => Err(failure),
        }
    }

    fn lead(&mut self, token: &Token) -> Result<u8, Failure> {
        loop {
            match self.next_report()? {
                Report::Watching => {
                    let created = self.plan.place.create();
                    let what = || format!("cannot make {}", self.plan.place.path().display());
                    created.map_err(|error| Failure::io(what(), &error))?;
                    self.channel.send(&Order::Start, None);
                }
                Report::ControlServing => self.set_up(token)?,
                Report::Serving(url) => self.run_command(&url)?,
                Report::Ended { status } => return Ok(status),
                Report::Failed(failure) => return Err(failure),
            }
        }
    }

    /// Tells the control plane everything, and goes on with the broker. Whatever else happens meanwhile is
    /// dealt with, and what ends the session ends this.
    fn set_up(&mut self, token: &Token) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io("cannot set the session up", &error);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (place, instance) = (self.plan.place.clone(), self.plan.instance.clone());
        let mut task = pin!(setup::run(&place, token, &instance));
        loop {
            match runtime.block_on(async { timeout(LOOK_PAUSE, task.as_mut()).await }) {
                Ok(result) => {
                    result?;
                    self.channel.send(&Order::StartBroker, None);
                    return Ok(());
                }
                // The keeper has something to say, or is gone; or we are to leave.
                Err(_) if self.wait_at_most(PollTimeout::ZERO)? || self.leaving.is_some() => return Ok(()),
                Err(_) => {}
            }
        }
    }

    fn run_command(&mut self, url: &str) -> Result<(), Failure> {
        if self.plan.is_shell {
            self.greet(url);
        }
        let stdin =
            self.stdin().map_err(|error| Failure::io("cannot open a stdin for the command", &error))?;
        self.channel.send(&Order::Run, Some(stdin.as_fd()));
        self.is_running = true;
        Ok(())
    }

    /// Ours, unless the token has used it up: then the terminal for a shell, or nothing.
    fn stdin(&self) -> io::Result<OwnedFd> {
        if !self.plan.stdin_is_used_up {
            return io::stdin().as_fd().try_clone_to_owned();
        }
        match self.terminal.as_ref().filter(|_| self.plan.is_shell).and_then(Terminal::to_stdin) {
            Some(terminal) => Ok(terminal),
            None => Ok(File::open("/dev/null")?.into()),
        }
    }

    fn greet(&self, url: &str) {
        note(&format!("agent me of enclave dev, for {}; broker at {url}", self.plan.instance));
        note("everything is gone when this shell ends; try");
        note("  dvxir credentials list");
        note("  dvxir credentials get gitlab");
        note("  dvx agent isolate me --reason test; dvx status; dvx agent restore me");
        note(
            "  curl -H \"Authorization: Bearer $(cat $DVX_TOKEN_FILE)\" $DVX_BROKER_URL/v1/agent/credentials",
        );
    }

    /// What the keeper tells next. Signals are dealt with while we wait.
    fn next_report(&mut self) -> Result<Report, Failure> {
        let gone = || Failure::new("the session has ended", "its keeper is gone");
        loop {
            if self.wait()? {
                let report =
                    self.channel.receive().map_err(|error| Failure::io("cannot hear the keeper", &error))?;
                return report.map(|(report, _)| report).ok_or_else(gone);
            }
            if self.leaving.is_some_and(|(_, deadline)| deadline.has_passed()) {
                return Err(gone());
            }
            if let Some((signal, _)) = self.asked_to_end.filter(|(_, deadline)| deadline.has_passed()) {
                self.leave(signal);
            }
        }
    }

    /// Waits for a report, a signal, or the end of our patience. Tells whether there is a report.
    fn wait(&mut self) -> Result<bool, Failure> {
        let patience = self.leaving.or(self.asked_to_end).map_or(PollTimeout::NONE, |(_, deadline)| {
            PollTimeout::try_from(deadline.remaining()).unwrap_or(PollTimeout::MAX)
        });
        self.wait_at_most(patience)
    }

    fn wait_at_most(&mut self, patience: PollTimeout) -> Result<bool, Failure> {
        let mut sources =
            [self.channel.as_fd(), self.signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut sources, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::io("cannot wait", &error.into())),
        }
        let has_report = sources.first().and_then(PollFd::any).unwrap_or(false);
        while let Some(arrival) = self.signals.next() {
            self.react(arrival);
        }
        Ok(has_report)
    }

    fn react(&mut self, arrival: Arrival) {
        match arrival.signal {
            Signal::SIGCONT => self.channel.send(&Order::Resumed, None),
            Signal::SIGTERM | Signal::SIGHUP => self.leave(arrival.signal),
            Signal::SIGINT | Signal::SIGQUIT if !self.is_running => self.leave(arrival.signal),
            // A shell makes up its own mind about Ctrl-C. Other commands got it from the terminal as we did,
            // because they are in our process group, but not what was sent to this process alone.
            Signal::SIGINT | Signal::SIGQUIT if !self.plan.is_interactive && !arrival.from_terminal => {
                self.channel.send(&Order::Pass(arrival.signal as i32), None);
                self.asked_to_end.get_or_insert((arrival.signal, Deadline::after(COMMAND_PATIENCE)));
            }
            _ => {}
        }
    }

    fn leave(&mut self, signal: Signal) {
        if self.leaving.is_none() {
            self.channel.send(&Order::End, None);
            self.leaving = Some((signal, Deadline::after(CLEANING_PATIENCE)));
        }
    }

    /// Makes sure that nothing is left, whether the keeper is still there to do it or not.
    fn clean_up(&mut self) {
        self.channel.send(&Order::End, None);
        self.await_keeper();
        if !children::end_all_but(&self.strangers) {
            note("warning: some processes of this session could not be ended");
        }
        if let Err(error) = self.plan.place.remove() {
            let place = self.plan.place.path().display();
            note(&format!("warning: cannot remove {place}: {}", crate::failure::cause(&error)));
        }
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
        }
    }

    /// Waits until the keeper has closed its end, which it does by ending.
    fn await_keeper(&mut self) {
        let deadline =
            self.leaving.map_or_else(|| Deadline::after(CLEANING_PATIENCE), |(_, deadline)| deadline);
        loop {
            let mut source = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(deadline.remaining()).unwrap_or(PollTimeout::ZERO);
            let is_open = match poll(&mut source, patience) {
                Ok(0) => false,
                Ok(_) => matches!(self.channel.receive::<Report>(), Ok(Some(_)) | Err(_)),
                Err(errno) => errno == Errno::EINTR,
            };
            if !is_open {
                break;
            }
        }
        // It is our child and has not been waited for, so nobody else has its pid.
        children::send(self.keeper, Signal::SIGKILL);
    }
}
