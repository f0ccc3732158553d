//! `dvxir git-credential get|store|erase`

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::clock;
use crate::environment::Environment;
use crate::error::{Exit, Failure, io_cause};
use crate::git::{self, Attributes, MAX_INPUT_BYTES, Outcome, is_complete};
use crate::output;

/// `get` and `erase` reach the broker. `store` has nothing to do, since the broker has the token already.
/// Operations that are not known are ignored (gitcredentials(7)).
pub(super) fn run(operation: &OsStr, environment: &Environment) -> Result<Exit, Failure> {
    match operation.to_str() {
        Some("get") => get(environment),
        Some("erase") => {
            erase(environment);
            Ok(Exit::Success)
        }
        _ => {
            drain();
            Ok(Exit::Success)
        }
    }
}

fn get(environment: &Environment) -> Result<Exit, Failure> {
    let refuse = |why: String| Failure::new(Exit::Other, "git's question is refused", why);
    let question = read_question().map_err(|error| refuse(io_cause(&error.into())))?;
    let asked = Attributes::parse(&question).map_err(|error| refuse(error.to_string()))?;
    let client = Client::new(environment).map_err(|error| error.into_failure("no credential for git"))?;
    match git::get(&client, &asked, clock::now())? {
        Outcome::Nothing => Ok(Exit::Success),
        Outcome::Answer(lines) => output::answer(&lines),
        Outcome::Quit(lines, reason) => {
            let exit = reason.report();
            output::answer(lines).map(|_| exit)
        }
    }
}

/// Quiet and successful whatever happens: git has its error already, and can do nothing about ours.
fn erase(environment: &Environment) {
    let Ok(question) = read_question() else { return };
    let Ok(asked) = Attributes::parse(&question) else { return };
    let Ok(client) = Client::new(environment) else { return };
    git::report_refused(&client, &asked);
}

/// Standard input up to an empty line, its end, or one byte more than a question may have.
fn read_question() -> Result<Zeroizing<Vec<u8>>, Errno> {
    let mut question = Zeroizing::new(vec![0; MAX_INPUT_BYTES + 1]);
    let mut filled = 0;
    while let Some(room) = question.get_mut(filled..).filter(|room| !room.is_empty()) {
        let seen = filled;
        match nix::unistd::read(io::stdin().as_fd(), room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        }
        if is_complete(question.get(..filled).unwrap_or_default(), seen) {
            break;
        }
    }
    question.truncate(filled);
    Ok(question)
}

/// Takes what is written to us, so that the writer is not killed by a closed pipe.
fn drain() {
    let _unused = read_question();
}
