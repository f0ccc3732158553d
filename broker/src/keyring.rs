//! The credentials as of now.
