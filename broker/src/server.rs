//! From a configuration to a running broker, and down again.
