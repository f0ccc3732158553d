//! The chained record of every decision.
