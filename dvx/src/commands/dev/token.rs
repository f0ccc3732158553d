//! Where the session's token comes from.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use dvx_proto::Token;
use zeroize::Zeroizing;

use crate::failure::{Failure, exit};
use crate::prompt::{self, Answer};
use crate::signals::Signals;

/// The variable that GitLab's own tools read.
pub(crate) const VARIABLE: &str = "GITLAB_TOKEN";

/// Stands in where no token was given. No GitLab accepts it, and anyone who sees it knows what it is.
const SAMPLE: &[u8] = b"glpat-sample-not-a-real-token";

type Text = Zeroizing<Vec<u8>>;

/// A token, and whether it is only a sample.
pub(crate) struct Obtained {
    pub(crate) token: Token,
    pub(crate) is_sample: bool,
}

/// Where a token can come from.
pub(crate) struct Sources {
    /// The user says that it comes from there.
    pub(crate) stdin: bool,
    /// The value of [`VARIABLE`].
    pub(crate) variable: Option<OsString>,
    /// There is somebody to ask: stdin is a terminal, and ours.
    pub(crate) person: bool,
}

/// The token from stdin, the environment, a prompt, or the sample, in this order.
pub(crate) fn obtain(sources: Sources, signals: &Signals) -> Result<Obtained, Failure> {
    let typed = |text| ("the token", text);
    let given = match sources.variable.filter(|value| !value.is_empty()) {
        _ if sources.stdin && sources.person => ask(signals)?.map(typed),
        _ if sources.stdin => Some(("the token from stdin", read_stdin()?)),
        Some(value) => Some((VARIABLE, Zeroizing::new(value.into_vec()))),
        None if sources.person => ask(signals)?.map(typed),
        None => None,
    };
    let (source, text, is_sample) = match given {
        Some((source, text)) => (source, text, false),
        None => ("the sample", Zeroizing::new(SAMPLE.to_vec()), true),
    };
    let token = Token::try_from(text).map_err(|error| Failure::new(source, error).with_exit(exit::USAGE))?;
    Ok(Obtained { token, is_sample })
}

/// Asks on the terminal. An empty line asks for the sample.
fn ask(signals: &Signals) -> Result<Option<Text>, Failure> {
    let question = "GitLab token (hidden; empty for a sample): ";
    match prompt::hidden(question, signals) {
        Ok(Answer::Line(line)) if line.is_empty() => Ok(None),
        Ok(Answer::Line(line)) => Ok(Some(line)),
        Ok(Answer::Signal(signal)) => Err(prompt::interrupted("the token", signal)),
        Err(error) => Err(Failure::io("cannot ask for the token", &error)),
    }
}

/// All of stdin, which is more than a token can have only by mistake.
fn read_stdin() -> Result<Text, Failure> {
    let limit = Token::MAX_BYTES + 2;
    // As large as it can get from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(limit + 1));
    let mut stdin = io::stdin().lock().take(limit as u64 + 1);
    stdin.read_to_end(&mut text).map_err(|error| Failure::io("cannot read the token from stdin", &error))?;
    Ok(text)
}
