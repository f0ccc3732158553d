//! The broker's answers as bytes. Whoever listens on the broker's address might send anything: sizes are
//! bounded, the end of a body is where its length says, and everything else is malformed.

use std::borrow::Cow;
use std::ops::Range;

use dvx_proto::limits::MAX_SECRET_BYTES;
use dvx_proto::{PROBLEM_MEDIA_TYPE, Problem};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::ClientError;

/// The largest head: listings carry one `Link` field for each credential.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What every answer begins with.
const VERSION: &[u8] = b"HTTP/1.1 ";

/// What ends a head.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The largest body: the largest secret with every byte spelled `\u00XX`, and room for its name.
const MAX_BODY_BYTES: usize = 6 * MAX_SECRET_BYTES + 4096;

/// The largest answer.
pub(super) const MAX_ANSWER_BYTES: usize = MAX_HEAD_BYTES + MAX_BODY_BYTES;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InvalidAnswer {
    #[error("it does not speak HTTP/1.1")]
    NotHttp,
    #[error("the head of its answer is larger than {MAX_HEAD_BYTES} bytes")]
    HeadTooLarge,
    #[error("its answer does not say once how long it is")]
    Length,
    #[error("its answer is larger than {MAX_BODY_BYTES} bytes")]
    BodyTooLarge,
    #[error("its answer is not the JSON that was asked for")]
    Json,
}

/// How far an answer has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Complete(Head),
    /// This many bytes in all before looking again makes sense.
    Needs(usize),
}

/// What matters of an answer's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    status: u16,
    body: Range<usize>,
    is_problem: bool,
    links: Vec<String>,
    revision: Option<u64>,
    age_seconds: Option<u64>,
    retry_after_seconds: Option<u64>,
}

/// A complete answer.
pub(crate) struct Answer {
    head: Head,
    bytes: Zeroizing<Vec<u8>>,
}

/// Looks at what has arrived so far.
///
/// The head is taken apart by hand: the usual parser first asks the processor what it can do, which in a
/// virtual machine takes longer than all the rest of a `credentials get` together.
pub(super) fn parse(text: &[u8]) -> Result<Progress, InvalidAnswer> {
    let Some(head_length) = end_of_head(text) else {
        return match text.len() {
            // Whoever does not begin like this is not worth waiting for.
            length if !text.starts_with(VERSION.get(..length.min(VERSION.len())).unwrap_or_default()) => {
                Err(InvalidAnswer::NotHttp)
            }
            length if length >= MAX_HEAD_BYTES => Err(InvalidAnswer::HeadTooLarge),
            length => Ok(Progress::Needs(length + 1)),
        };
    };
    if head_length > MAX_HEAD_BYTES {
        return Err(InvalidAnswer::HeadTooLarge);
    }
    let head = text.get(..head_length).and_then(|head| head.strip_suffix(END_OF_HEAD));
    let (mut head, length) = Head::parse(head.unwrap_or_default())?;
    let end = head_length + length;
    if text.len() < end {
        return Ok(Progress::Needs(end));
    }
    head.body = head_length..end;
    Ok(Progress::Complete(head))
}

/// The length of the head with the empty line that ends it.
fn end_of_head(text: &[u8]) -> Option<usize> {
    let at = text.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    Some(at + END_OF_HEAD.len())
}

impl Head {
    /// Reads a head without the empty line at its end. Returns the body's length too.
    fn parse(head: &[u8]) -> Result<(Self, usize), InvalidAnswer> {
        // Field values of ours are ASCII; so is everything that a terminal may be shown.
        let text = str::from_utf8(head).map_err(|_| InvalidAnswer::NotHttp)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(status).ok_or(InvalidAnswer::NotHttp)?;
        let mut head = Self { status, ..Self::default() };
        let mut length = None;
        for line in lines {
            // No folded lines, no space before the colon (RFC 9112, 5.1 and 5.2), no stray line ends.
            let (name, value) = line.split_once(':').ok_or(InvalidAnswer::NotHttp)?;
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !plain || value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
                return Err(InvalidAnswer::NotHttp);
            }
            head.take_field(name, value.trim_matches([' ', '\t']), &mut length)?;
        }
        let length = match length {
            Some(length) => length,
            None if status == 204 => 0,
            None => return Err(InvalidAnswer::Length),
        };
        match usize::try_from(length) {
            Ok(length) if length <= MAX_BODY_BYTES => Ok((head, length)),
            _ => Err(InvalidAnswer::BodyTooLarge),
        }
    }

    /// Keeps what is needed of a field.
    fn take_field(&mut self, name: &str, value: &str, length: &mut Option<u64>) -> Result<(), InvalidAnswer> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            let given = number(value).ok_or(InvalidAnswer::Length)?;
            if length.replace(given).is_some() {
                return Err(InvalidAnswer::Length);
            }
        } else if is("transfer-encoding") {
            return Err(InvalidAnswer::Length);
        } else if is("content-type") {
            self.is_problem = value.starts_with(PROBLEM_MEDIA_TYPE);
        } else if is("link") {
            self.links.push(value.to_owned());
        } else if is("dvx-revision") {
            self.revision = number(value);
        } else if is("dvx-age") {
            self.age_seconds = number(value);
        } else if is("retry-after") {
            self.retry_after_seconds = number(value);
        }
        Ok(())
    }
}

/// The status of a status line: `HTTP/1.1 200` and perhaps a reason.
fn status(line: &str) -> Option<u16> {
    let rest = line.as_bytes().strip_prefix(VERSION)?;
    let (code, reason) = rest.split_at_checked(3)?;
    let ends = reason.first().is_none_or(|byte| *byte == b' ');
    if !ends || reason.contains(&b'\n') || reason.contains(&b'\r') {
        return None;
    }
    number(str::from_utf8(code).ok()?).and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 200)
}

/// Digits and nothing else: `+1` and ` 1` are ways to make two readers disagree.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

impl Answer {
    pub(super) fn new(head: Head, bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { head, bytes }
    }

    /// The body as it came.
    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.get(self.head.body.clone()).unwrap_or_default()
    }

    /// The body as JSON.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, InvalidAnswer> {
        // What serde says might repeat a part of the value.
        serde_json::from_slice(self.body()).map_err(|_| InvalidAnswer::Json)
    }

    /// The `Link` fields, each as it came.
    pub(crate) fn links(&self) -> &[String] {
        &self.head.links
    }

    /// The revision of the upstream's data that the answer was made from.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.head.revision
    }

    /// How long ago the upstream last confirmed that data.
    pub(crate) fn age_seconds(&self) -> Option<u64> {
        self.head.age_seconds
    }

    /// Success stays; everything else is an error that says what the broker said.
    pub(super) fn into_result(self) -> Result<Self, ClientError> {
        let status = self.head.status;
        if (200..300).contains(&status) {
            return Ok(self);
        }
        let problem = if self.head.is_problem { self.json::<Problem>().ok() } else { None };
        let text = |text: Cow<'static, str>| Some(text.into_owned()).filter(|text| !text.is_empty());
        let (code, detail, hint) = match problem {
            Some(problem) => {
                (problem.code(), text(problem.detail).or(text(problem.title)), problem.hint.and_then(text))
            }
            None => (None, None, None),
        };
        let retry_after_seconds = self.head.retry_after_seconds;
        Err(ClientError::Problem { status, code, detail, hint, retry_after_seconds })
    }
}

#[cfg(test)]
mod tests;
