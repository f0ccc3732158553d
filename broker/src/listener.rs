//! Sockets: how they are made, and how connections are let in.
