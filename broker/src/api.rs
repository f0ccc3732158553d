//! The agent API: requests in, decisions made, answers out.
