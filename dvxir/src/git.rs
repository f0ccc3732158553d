//! git's credential-helper protocol (gitcredentials(7)), as git really speaks it.

mod answer;
mod helper;
mod lines;

pub(crate) use helper::{Outcome, get, report_refused};
pub(crate) use lines::{Attributes, MAX_INPUT_BYTES, is_complete};
