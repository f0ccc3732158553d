//! What the process gives up before it serves.
