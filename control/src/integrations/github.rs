//! Checking a token of GitHub.
