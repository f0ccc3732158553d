//! Sockets: how they are made, and how connections are let in.

pub(crate) mod bind;
