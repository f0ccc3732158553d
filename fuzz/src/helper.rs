//! dvxir's git credential helper.

#[path = "../../dvxir/src/git/answer.rs"]
mod answer;
#[expect(dead_code, reason = "what a person is told")]
#[path = "../../dvxir/src/git/helper.rs"]
mod asking;
#[path = "../../dvxir/src/git/lines.rs"]
#[rustfmt::skip]
mod lines;

pub(crate) use asking::{Outcome, get, report_refused};
pub(crate) use lines::{Attributes, is_complete};
