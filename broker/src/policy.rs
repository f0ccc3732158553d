//! Which agent a peer is, and what it may have.
