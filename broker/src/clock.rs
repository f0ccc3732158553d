//! The only place where clocks are read.
