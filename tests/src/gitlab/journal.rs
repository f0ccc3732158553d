//! What was asked, without any value of a token.

use serde::Serialize;

/// All requests, oldest first.
#[derive(Default)]
pub(super) struct Journal {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    pub(super) at: String,
    pub(super) method: String,
    /// Without the query, where a token could stand.
    pub(super) path: String,
    /// The fingerprint of the token.
    pub(super) token: Option<String>,
    /// Where the token stood: `private-token`, `bearer`, `basic`, or `query`.
    pub(super) place: Option<&'static str>,
    /// Whose token it is, where it is anybody's.
    pub(super) user: Option<String>,
    pub(super) request_id: String,
    /// The status of the answer, whether it arrived or not; null before there is one.
    pub(super) status: Option<u16>,
    /// The fault that struck.
    pub(super) fault: Option<serde_json::Value>,
}

impl Journal {
    /// Adds a request and gives its number.
    pub(super) fn begin(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Notes the answer, unless the journal was cleared meanwhile.
    pub(super) fn answered(&mut self, number: usize, request_id: &str, status: u16) {
        if let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.request_id == request_id) {
            entry.status = Some(status);
        }
    }

    pub(super) fn all(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
