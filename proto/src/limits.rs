//! Limits that both sides of a wire rely on. Above one is an error, never a truncation.

use std::time::Duration;

/// The largest request body: the agent API carries names and fingerprints, so this is generous.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The largest request head: a token, a host and what common clients add fit several times over.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most header fields of a request, for the same reason.
pub const MAX_HEADERS: usize = 64;

/// The largest secret value, so that an answer still fits into one write.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// How long an agent token lives.
pub const AGENT_TOKEN_TTL: Duration = Duration::from_secs(300);

/// A token this close to its end counts as expired: it would die in its user's hands.
pub const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// How long an answer about a refused token waits for a newer one.
pub const REFRESH_WAIT: Duration = Duration::from_secs(10);

/// A wait that brought nothing is not repeated for the same token within this time.
pub const REFRESH_WAIT_PAUSE: Duration = Duration::from_secs(60);
