//! The operator's view over a local socket: health, readiness, metrics and status.
