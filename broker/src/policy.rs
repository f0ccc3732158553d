//! Who may have what: pure decisions over what the kernel proved and what the upstream said.
//!
//! [`Rules`] turns the facts about a peer into an agent, [`decide`] turns an agent's request into an answer.
//! Neither does I/O, reads a clock or keeps state, so both can be read as a table.

mod decision;
mod rules;
mod selector;

pub(crate) use decision::{Decision, Denial, Situation, Subject, decide};
pub(crate) use rules::{AgentRule, NoMatch, RuleError, Rules};
pub(crate) use selector::{CgroupPath, UnitName};
