//! What a broker has answered on a connection, taken apart strictly.

use dvx_proto::{PROBLEM_MEDIA_TYPE, Problem};

/// One answer.
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    pub(crate) fields: Vec<(String, &'a [u8])>,
}

impl<'a> Reply<'a> {
    /// The only field of a name.
    pub(crate) fn field(&self, name: &str) -> Option<&'a [u8]> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| *value);
        let first = found.next();
        assert!(found.next().is_none() || name == "link", "{name} is there twice");
        first
    }

    /// What holds for every answer of the agent API.
    pub(crate) fn check(&self) {
        let kind = self.field("content-type").expect("every answer has a content type");
        assert_eq!(self.field("cache-control"), Some(&b"no-store"[..]));
        assert_eq!(self.field("x-content-type-options"), Some(&b"nosniff"[..]));
        assert_eq!(self.field("server"), None);
        if self.status < 400 {
            assert!(matches!(self.status, 200 | 202), "status {}", self.status);
            assert_eq!(kind, b"application/json");
            return;
        }
        assert_eq!(kind, PROBLEM_MEDIA_TYPE.as_bytes());
        assert!(
            !matches!(self.status, 429 | 503) || self.field("retry-after").is_some(),
            "when to come back"
        );
        if self.body.is_empty() {
            // To HEAD.
            return;
        }
        let problem: Problem = serde_json::from_slice(self.body).expect("a problem document");
        let code = problem.code().expect("a code that is known");
        assert_eq!((code.status(), problem.status), (self.status, self.status));
        assert_eq!(problem.title, code.title());
        assert!(!problem.detail.is_empty());
    }
}

/// Takes the answers apart. Whatever is not one fails.
pub(crate) fn parse(mut bytes: &[u8]) -> Vec<Reply<'_>> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            other => panic!("not an answer: {other:?}: {}", bytes.escape_ascii()),
        };
        // hyper answers in the version that was asked in.
        assert!(head.version.is_some());
        let status = head.code.expect("a status");
        let fields =
            head.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value)).collect();
        let reply = Reply { status, body: &[], fields };
        bytes = &bytes[length..];
        if status == 100 {
            continue;
        }
        let length = reply.field("content-length").expect("every answer says how long it is");
        let length: usize = str::from_utf8(length).expect("text").parse().expect("a number");
        // Every body of ours begins with a bracket. An answer to HEAD has none, whatever its length says.
        let to_head = length > 0 && (bytes.is_empty() || bytes.starts_with(b"HTTP/1."));
        let (body, rest) = bytes.split_at_checked(if to_head { 0 } else { length }).expect("a whole body");
        replies.push(Reply { body, ..reply });
        bytes = rest;
    }
    replies
}
