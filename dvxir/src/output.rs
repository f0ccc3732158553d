//! Everything that goes to the terminal: answers to standard output in one piece, other people's text only
//! after it has been made harmless.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use crate::error::{Exit, Failure, io_cause};

/// The longest text of somebody else's that is shown in a message.
const MAX_SHOWN_CHARS: usize = 600;

/// What stands between two columns.
const COLUMN_GAP: &str = "    ";

/// Writes an answer to standard output, past any buffer in which a copy would stay. A reader that has gone
/// away is not a failure: it has what it wanted.
pub(crate) fn answer(bytes: &[u8]) -> Result<Exit, Failure> {
    match write_all(io::stdout().as_fd(), bytes) {
        Ok(()) | Err(Errno::EPIPE) => Ok(Exit::Success),
        Err(error) => {
            Err(Failure::new(Exit::Other, "cannot write to standard output", io_cause(&error.into())))
        }
    }
}

/// The last thing that a run does, so the signal may stay blocked.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    // A reader that has gone away is an error of write(2), and not the end of the process.
    SigSet::from(Signal::SIGPIPE).thread_block()?;
    while !bytes.is_empty() {
        match nix::unistd::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody else who holds the same pipe made it non-blocking.
            Err(Errno::EAGAIN) => {
                poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says something to the person at the terminal, with a hint on a second line where there is one.
pub(crate) fn note(text: &str, hint: Option<&str>) {
    let mut lines = format!("dvxir: {}\n", harmless(text));
    if let Some(hint) = hint {
        lines.push_str("hint: ");
        lines.push_str(&harmless(hint));
        lines.push('\n');
    }
    // Where standard error is gone there is nobody to tell.
    let _nobody = write_all(io::stderr().as_fd(), lines.as_bytes());
}

/// Rows with their columns aligned and no header. Empty without rows.
pub(crate) fn table<const N: usize>(rows: &[[Cow<'_, str>; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { COLUMN_GAP };
            // Writing to a String cannot fail.
            let _infallible = write!(line, "{gap}{cell:width$}");
        }
        text.push_str(line.trim_end_matches(' '));
        text.push('\n');
    }
    text
}

/// Text of somebody else's, fit for a terminal and for one line: control characters and those that turn the
/// direction of writing (CVE-2021-42574) are spelled out, and a very long text is cut.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (count, character) in text.chars().enumerate() {
        if count == MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        match character {
            '\t' | '\n' | '\r' => shown.push(' '),
            _ if acts_on_terminals(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// JSON that means the same and does nothing to a terminal. Control characters below a space cannot stand
/// in JSON; the others that act on terminals occur in strings only, where an escape says the same.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    let bad = |character: char| acts_on_terminals(character) && !character.is_ascii_whitespace();
    if !json.contains(bad) {
        return json.into();
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if bad(character) {
            let _infallible = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

fn acts_on_terminals(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let rows = [
            ["gitlab".into(), "pat".into(), "my-user".into()],
            ["x".into(), "service_account".into(), "".into()],
        ];
        assert_eq!(table(&rows), "gitlab    pat                my-user\nx         service_account\n");
        assert_eq!(table(&[["gitlab".into(), "pat".into(), "my-user".into()]]), "gitlab    pat    my-user\n");
        assert_eq!(table::<3>(&[]), "");
    }

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        assert_eq!(harmless("a\u{1b}[31m\u{9b}0m\nb\u{202e}"), r"a\u{1b}[31m\u{9b}0m b\u{202e}");
        assert_eq!(harmless("grüße"), "grüße");
        assert_eq!(harmless(&"x".repeat(5000)).chars().count(), MAX_SHOWN_CHARS + 1);
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "[\n {\"a\":\"x\u{9b}y\u{7f}\u{202e}\"}]";
        let shown = harmless_json(json);
        assert_eq!(shown, "[\n {\"a\":\"x\\u009by\\u007f\\u202e\"}]");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(json), value(&shown));
    }
}
