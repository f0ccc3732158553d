//! `dvx agent …`

use std::time::Duration;

use clap::{Args, Subcommand};
use dvx_proto::agent::AgentState;
use dvx_proto::operator::Selectors;
use dvx_proto::{AgentName, EnclaveName, SecretName, UnixUser};

use super::{AgentIntegrationCommand, Confirmation, NewSecret};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Add an agent: a Unix user of an enclave
    ///
    /// The broker of the enclave knows the agent by its user. Where several agents share one user, each needs
    /// selectors that exclude the others.
    Create(NewAgent),
    /// List the agents
    List(AgentFilter),
    /// Show one agent
    Get {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
    },
    /// Delete an agent with its secrets; what it did stays in the audit log
    Delete {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Stop serving an agent until it is restored
    ///
    /// In force everywhere when it returns; otherwise it says which enclaves have not confirmed, and exits
    /// with status 5.
    Isolate {
        #[command(flatten)]
        change: ConfirmedChange,
        /// Why: for the audit log, and for whoever finds the agent refused
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Serve an isolated agent again
    Restore {
        #[command(flatten)]
        change: ConfirmedChange,
    },
    /// Stop serving an agent for good; only reprovision brings it back
    ///
    /// In force everywhere when it returns, as isolate.
    Revoke {
        #[command(flatten)]
        change: ConfirmedChange,
        /// Why: for the audit log, and for whoever finds the agent refused
        #[arg(long, value_name = "TEXT", value_parser = reason, default_value = "revoked by an operator")]
        reason: String,
    },
    /// Serve a revoked agent again
    Reprovision {
        #[command(flatten)]
        change: ConfirmedChange,
    },
    /// Secrets of one agent
    #[command(subcommand, arg_required_else_help = true)]
    Secret(AgentSecretCommand),
    /// Links of one agent to providers
    #[command(subcommand, arg_required_else_help = true)]
    Integration(AgentIntegrationCommand),
}

#[derive(Debug, Args)]
pub(crate) struct NewAgent {
    /// The agent's name, unlike that of every other agent
    #[arg(value_name = "NAME")]
    pub(crate) name: AgentName,
    /// Where it runs
    #[arg(long, value_name = "ENCLAVE")]
    pub(crate) enclave: EnclaveName,
    /// The Unix user, by name or number, under which it runs there
    #[arg(long, value_name = "USER")]
    pub(crate) unix_user: UnixUser,
    /// The user on whose behalf it acts
    #[arg(long, value_name = "USER")]
    pub(crate) acts_as: Option<String>,
    /// Selector: a group that the process must have, by number
    #[arg(long, value_name = "GID")]
    pub(crate) gid: Option<u32>,
    /// Selector: the systemd system unit that the process must belong to
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Option<String>,
    /// Selector: the cgroup that the process must be in or below
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<String>,
}

impl NewAgent {
    pub(crate) fn selectors(&self) -> Selectors {
        Selectors { gid: self.gid, unit: self.unit.clone(), cgroup: self.cgroup.clone() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct AgentFilter {
    /// Only those of this enclave
    #[arg(long, value_name = "ENCLAVE")]
    pub(crate) enclave: Option<EnclaveName>,
    /// Only those in this state: active, isolated or revoked
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<AgentState>,
}

/// A change that has to be in force everywhere before the command succeeds.
#[derive(Debug, Args)]
pub(crate) struct ConfirmedChange {
    /// The agent's name
    #[arg(value_name = "AGENT")]
    pub(crate) agent: AgentName,
    /// How long to wait for the brokers, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentSecretCommand {
    /// List the names of an agent's own secrets; values never come back
    List {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
    },
    /// Store a secret of an agent, or replace it
    #[command(after_help = super::secrets::VALUE_HELP)]
    Set {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
        #[command(flatten)]
        secret: NewSecret,
    },
    /// Delete a secret of an agent
    Delete {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
        /// The secret's name
        #[arg(value_name = "NAME")]
        name: SecretName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

fn state(text: &str) -> Result<AgentState, String> {
    let states = [AgentState::Active, AgentState::Isolated, AgentState::Revoked];
    let found = states.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "the states are active, isolated and revoked".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    let most = dvx_proto::operator::MAX_REASON_BYTES;
    match text.len() {
        0 => Err("a reason has to say something".to_owned()),
        length if length > most => Err(format!("a reason has at most {most} bytes")),
        _ => Ok(text.to_owned()),
    }
}

/// No longer than an hour: a script that waits longer waits for something else.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let number = number.filter(|seconds| *seconds <= 3600);
    number.map(Duration::from_secs).ok_or_else(|| "expected a number of seconds from 0 to 3600".to_owned())
}
