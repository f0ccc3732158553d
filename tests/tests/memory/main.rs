//! What can be read of the memory of the programs: nothing of a secret, whatever was done with it.
//!
//! Each program is driven through every path that touches a secret, and after each of them all of its memory that
//! root can read is searched. `docs/memory.md` has what was found.

mod broker;
mod clients;
mod control;
mod document;
mod kernel;
mod plants;
mod report;
