//! Asking a person.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{Failure, exit};
use crate::signals::Signals;

/// What came of a question.
pub(crate) enum Answer {
    /// A line, without its end.
    Line(Zeroizing<Vec<u8>>),
    /// The user would rather leave.
    Signal(Signal),
}

/// Longer lines do not come from a terminal (termios(3): the canonical mode's limit).
const MAX_LINE_BYTES: usize = 4096;

/// Asks for something that is not to be seen, where nothing else watches signals.
pub(crate) fn secret(question: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::io(format!("cannot ask for {what}"), &error);
    let signals = Signals::take_over().map_err(failed)?;
    let answer = hidden(question, &signals);
    signals.release().map_err(failed)?;
    match answer.map_err(failed)? {
        Answer::Line(line) => Ok(line),
        Answer::Signal(signal) => Err(interrupted(what, signal)),
    }
}

/// The failure of a question that was answered by a signal.
pub(crate) fn interrupted(what: &str, signal: Signal) -> Failure {
    let status = u8::try_from(signal as i32).unwrap_or(0).saturating_add(exit::SIGNALLED);
    let what = what.strip_prefix("the ").unwrap_or(what);
    Failure::new(format!("no {what}"), format!("interrupted by {}", signal.as_str())).with_exit(status)
}

/// Asks for something that may be seen. Empty where there is nobody.
pub(crate) fn visible(question: &str) -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    let mut line = String::new();
    BufReader::new(terminal.take(MAX_LINE_BYTES as u64)).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks whether to go on, where somebody sits in front of a terminal; goes on where nobody does.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes || !io::stdin().is_terminal() {
        return Ok(());
    }
    let answer = visible(&format!("{question} [y/N] "));
    let answer = answer.map_err(|error| Failure::io("cannot ask", &error).with_hint("--yes does not ask"))?;
    if matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new("nothing was deleted", "not confirmed"))
}

/// Asks on the terminal, which does not show what is typed and is left as it was found.
pub(crate) fn hidden(question: &str, signals: &Signals) -> io::Result<Answer> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    // First: whoever sees the question may type at once, or a program does.
    let hidden = Hidden::new(&terminal)?;
    (&terminal).write_all(question.as_bytes())?;
    let answer = read_line(&terminal, signals);
    drop(hidden);
    if !matches!(answer, Ok(Answer::Line(_))) {
        (&terminal).write_all(b"\n")?;
    }
    answer
}

fn read_line(mut terminal: &File, signals: &Signals) -> io::Result<Answer> {
    let mut line = Zeroizing::new(vec![0; MAX_LINE_BYTES]);
    loop {
        let watched = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut sources = [watched(terminal.as_fd()), watched(signals.as_fd())];
        poll(&mut sources, PollTimeout::NONE)?;
        let typed = sources.first().and_then(PollFd::any).unwrap_or(false);
        while let Some(arrival) = signals.next() {
            if !matches!(arrival.signal, Signal::SIGCHLD | Signal::SIGCONT) {
                return Ok(Answer::Signal(arrival.signal));
            }
        }
        if typed {
            let length = terminal.read(&mut line)?;
            line.truncate(length);
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            return Ok(Answer::Line(line));
        }
    }
}

/// A terminal that does not show what is typed, but for the end of the line.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        hidden.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before).ok();
    }
}
