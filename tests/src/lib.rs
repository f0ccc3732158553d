//! Harness for tests that drive the programs from outside.
