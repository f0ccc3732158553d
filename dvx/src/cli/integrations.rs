//! `dvx agent integration …`

use clap::{Args, Subcommand};
use dvx_proto::{AgentName, RemoteUrl};

use super::Confirmation;
use super::secrets::HiddenText;

/// Where tokens come from, in full.
pub(super) const TOKEN_HELP: &str = "\
A token comes from its flag, from a hidden prompt on a terminal, or else from stdin, of which one newline at
the end is dropped. An empty one, or one with white space inside, is refused. No environment variable is read.";

#[derive(Debug, Subcommand)]
pub(crate) enum AgentIntegrationCommand {
    /// List the providers that an agent is linked to
    List {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
    },
    /// An agent's identity at GitLab
    #[command(subcommand, arg_required_else_help = true)]
    Gitlab(GitLabCommand),
    /// An agent's identity at GitHub
    #[command(subcommand, arg_required_else_help = true)]
    Github(GitHubCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum GitLabCommand {
    /// Link an agent, with a token of somebody's or with an identity that a credential provider makes
    ///
    /// A token is stored after GitLab has said that it is good, and what it may do. With a credential provider
    /// the agent gets an identity of its own, whose token is replaced by itself before it ends.
    #[command(after_help = TOKEN_HELP)]
    Link(GitLabLink),
    /// Unlink an agent: the token is gone here and at the brokers, then an identity that was made for it at GitLab
    ///
    /// GitLab need not be reachable for that: what cannot be removed there is tried again in the background, and
    /// dvx credential-provider debts lists it. A token of somebody's stays valid until its owner revokes it.
    Unlink(Unlink),
    /// Give an agent a new token now, if a credential provider made the one it has
    ///
    /// The one before stays valid for at least a minute.
    Rotate {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GitHubCommand {
    /// Link an agent with a token of somebody's, after GitHub has said that it is good
    #[command(after_help = TOKEN_HELP)]
    Link {
        /// The agent's name
        #[arg(value_name = "AGENT")]
        agent: AgentName,
        /// The token itself; better not: other users of this machine see it in ps, and shells remember it
        #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
        pat: Option<HiddenText>,
        /// Where the token is from, if not https://github.com
        #[arg(long, value_name = "URL")]
        instance_url: Option<RemoteUrl>,
    },
    /// Unlink an agent: the token is gone here and at the brokers; its owner has to revoke it at GitHub
    Unlink(Unlink),
}

#[derive(Debug, Args)]
pub(crate) struct GitLabLink {
    /// The agent's name
    #[arg(value_name = "AGENT")]
    pub(crate) agent: AgentName,
    /// The token itself; better not: other users of this machine see it in ps, and shells remember it
    #[arg(long, value_name = "TOKEN", conflicts_with = "credential_provider", allow_hyphen_values = true)]
    pub(crate) pat: Option<HiddenText>,
    /// Where the token is from, if not https://gitlab.com; a credential provider knows where it is
    #[arg(long, value_name = "URL", conflicts_with = "credential_provider")]
    pub(crate) instance_url: Option<RemoteUrl>,
    /// The credential provider, by id or name, that makes an identity for the agent
    #[arg(long, value_name = "ID")]
    pub(crate) credential_provider: Option<String>,
    /// The project, by number, where the provider makes project access tokens; not given where it does not
    #[arg(long, value_name = "N", requires = "credential_provider", conflicts_with = "pat")]
    pub(crate) project_id: Option<u64>,
    /// The identity's role: guest, planner, reporter, developer, maintainer or owner, or its number
    #[arg(
        long,
        value_name = "LEVEL",
        requires = "credential_provider",
        conflicts_with = "pat",
        value_parser = access_level
    )]
    pub(crate) access_level: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct Unlink {
    /// The agent's name
    #[arg(value_name = "AGENT")]
    pub(crate) agent: AgentName,
    #[command(flatten)]
    pub(crate) confirmation: Confirmation,
}

/// GitLab's roles that a member can have.
const LEVELS: [(&str, u8); 6] =
    [("guest", 10), ("planner", 15), ("reporter", 20), ("developer", 30), ("maintainer", 40), ("owner", 50)];

fn access_level(text: &str) -> Result<u8, String> {
    let number: Option<u8> = text.parse().ok();
    let found = LEVELS.into_iter().find(|(name, level)| *name == text || Some(*level) == number);
    found.map(|(_, level)| level).ok_or_else(|| {
        let levels = LEVELS.map(|(name, level)| format!("{name} ({level})"));
        format!("the roles are {}", levels.join(", "))
    })
}
