//! Everything that goes to the terminal: answers to standard output, notes to standard error, and other
//! people's text only after it has been made harmless.

mod table;
mod text;

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::OutputFormat;
use crate::failure::Failure;

pub(crate) use table::{Cell, Table};
pub(crate) use text::{harmless, harmless_json};

/// Writes an answer to standard output. A reader that has seen enough is no failure.
pub(crate) fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    write(text).map(|_| ExitCode::SUCCESS)
}

/// The same; tells whether somebody still reads.
pub(crate) fn write(text: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io("cannot write to standard output", &error)),
    }
}

/// An answer in the form that was asked for.
pub(crate) fn answer<T: Serialize + ?Sized>(
    format: OutputFormat,
    value: &T,
    table: impl FnOnce(&T) -> Table,
) -> Result<ExitCode, Failure> {
    match format {
        OutputFormat::Json => print(json(value)?.as_bytes()),
        OutputFormat::Table => print(table(value).render(colours()).as_bytes()),
    }
}

/// One line of JSON that does nothing to a terminal.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new("cannot write the answer as JSON", error))?;
    Ok(format!("{}\n", harmless_json(&text)))
}

/// A line for the user beside the answer.
pub(crate) fn note(text: &str) {
    // Where standard error is gone there is nobody to tell.
    writeln!(io::stderr().lock(), "dvx: {}", harmless(text)).ok();
}

/// Colours are for a terminal that has them and a person who has not declined (no-color.org).
pub(crate) fn colours() -> bool {
    let declined = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !declined && !dumb
}
