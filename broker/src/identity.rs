//! Agent tokens: short-lived proof of who an agent is.
