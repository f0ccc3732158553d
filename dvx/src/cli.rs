//! The command line.
#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "what stands beside an argument is its help, read in a terminal"
)]

mod agents;
mod audit;
mod dev;
mod integrations;
mod login;
mod providers;
mod secrets;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dvx_proto::operator::Role;
use dvx_proto::{EnclaveName, OperatorName, quoted};

pub(crate) use agents::{AgentCommand, AgentFilter, AgentSecretCommand, ConfirmedChange, NewAgent};
pub(crate) use audit::{AuditCommand, AuditFilter, AuditFormat, AuditQuery};
pub(crate) use dev::{DevArguments, KEEPER, KeeperArguments};
pub(crate) use integrations::{AgentIntegrationCommand, GitHubCommand, GitLabCommand, GitLabLink, Unlink};
pub(crate) use login::LoginArguments;
pub(crate) use providers::{CredentialProviderCommand, NewCredentialProvider};
pub(crate) use secrets::{HiddenText, NewSecret, SecretCommand};

const ENVIRONMENT: &str = "\
Environment:
  DVX_CONTROL_URL     the control plane: https://host[:port] or unix:///path
  DVX_CA_FILE         certificates to trust besides the system's
  DVX_OPERATOR_TOKEN  what to authenticate with
dvx login stores these; without any, the socket unix:///run/dvx/control.sock is asked.";

/// Credentials for AI agents: the operator's command line.
///
/// Answers go to standard output and nothing else does; when a command fails, standard output is empty and
/// standard error says why.
#[derive(Debug, Parser)]
#[command(
    name = "dvx",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = ENVIRONMENT,
    max_term_width = 100,
    styles = Styles::plain()
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(DevArguments),
    Login(LoginArguments),
    /// Who this caller is to the control plane
    Whoami(Output),
    /// One screen: the control plane, its enclaves, and the agents that need a look
    ///
    /// Agents that are not active or whose credentials end soon come first. This is an overview: it succeeds
    /// whatever it shows.
    Status(Output),
    /// Enclaves: where agents run, each with a broker
    Enclave(Group<EnclaveCommand>),
    /// Operators: who may do what here
    Operator(Group<OperatorCommand>),
    /// Agents, their secrets and integrations
    Agent(Group<AgentCommand>),
    /// Secrets of the whole organisation
    ///
    /// Every agent has them that has none of the same name itself.
    Secret(Group<SecretCommand>),
    /// Credential providers: privileged identities that make one for each agent
    CredentialProvider(Group<CredentialProviderCommand>),
    /// What happened: actions of operators, decisions of brokers
    Audit(AuditCommandLine),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page
    #[command(hide = true)]
    Man {
        /// The page, such as dvx-dev; without it the names of all pages
        page: Option<String>,
    },
}

/// Commands about one kind of thing.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Group<T: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: T,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// As [`Group`], without an output format of its own for all.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct AuditCommandLine {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// How to print the answer
    #[arg(id = "output", short = 'o', long, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Table,
    /// For programs; lists are arrays
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnclaveCommand {
    /// Add an enclave, and print the key that its broker authenticates with
    ///
    /// The key is shown this once. It belongs into the file that api_key_file in the broker's configuration
    /// names.
    Create {
        /// The enclave's name, as in the broker's configuration
        #[arg(value_name = "NAME")]
        name: EnclaveName,
    },
    /// List the enclaves: connected, how many changes behind, last seen
    List,
    /// Delete an enclave with its agents and their secrets; its broker is cut off at once
    Delete {
        /// The enclave's name
        #[arg(value_name = "NAME")]
        name: EnclaveName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Add an operator, and print the token that it authenticates with
    ///
    /// The token is shown this once; dvx login takes it.
    Create {
        /// The operator's name
        #[arg(value_name = "NAME")]
        name: OperatorName,
        /// auditor reads everything but values; operator also writes all but operators and enclaves; admin all
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
    },
    /// List the operators
    List,
    /// Delete an operator; its token is dead at once
    Delete {
        /// The operator's name
        #[arg(value_name = "NAME")]
        name: OperatorName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// Deletions ask a person, and nobody where there is none.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Confirmation {
    /// Do not ask; without a terminal nothing is asked anyway
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
    found.ok_or_else(|| "the roles are auditor, operator and admin".to_owned())
}

/// The absolute form, which still holds in another directory.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| crate::failure::cause(&error))
}

/// The command line, or a complaint about it that repeats no token and no password: one that stands in the wrong
/// place would go from there into the log of a job.
pub(crate) fn parse<A>(arguments: A) -> Result<Cli, clap::Error>
where
    A: IntoIterator<Item: Into<OsString> + Clone>,
{
    Cli::try_parse_from(arguments).map_err(|mut error| {
        for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand] {
            if let Some(ContextValue::String(text)) = error.get(kind) {
                let shown = quoted(text);
                if !shown.starts_with('"') {
                    error.insert(kind, ContextValue::String(shown));
                }
            }
        }
        error
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        super::parse(line.split(' '))
    }

    #[test]
    fn a_complaint_repeats_no_token_and_no_password() {
        const TOKEN: &str = "glpat-0123456789abcdefghij";
        for line in [
            format!("dvx agent integration gitlab link a --instance-url https://u:{TOKEN}@gitlab.example"),
            format!("dvx agent integration gitlab link a --instance-url {TOKEN}"),
            format!("dvx agent integration gitlab link a {TOKEN}"),
            format!("dvx agent integration gitlab {TOKEN}"),
            format!("dvx agent integration gitlab link a --pat={TOKEN} --token={TOKEN}"),
            format!("dvx agent integration gitlab link a --project-id {TOKEN} --credential-provider p"),
        ] {
            let error = parse(&line).unwrap_err().to_string();
            assert!(!error.contains(TOKEN) && error.contains("--help"), "{line}: {error}");
        }
        let error = parse("dvx agent integration gitlab link a --instance-url ftp://x").unwrap_err();
        assert!(error.to_string().contains("'ftp://x'"), "{error}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_needs_the_two_dashes() {
        assert!(parse("dvx dev -- git fetch --all").is_ok());
        assert!(parse("dvx dev git").is_err());
        assert!(parse("dvx dev --instance-url http://gitlab.com").is_err());
        assert!(parse("dvx dev --instance-url http://127.0.0.1:8080/git").is_ok());
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        for good in [
            "dvx enclave create lab-1",
            "dvx enclave list -o json",
            "dvx operator create ann --role auditor",
            "dvx agent create a --enclave lab-1 --unix-user agent1 --acts-as ann --unit a.service",
            "dvx agent secret set a gitlab:token --value x --no-agent-accessible",
            "dvx agent secret set a gitlab:token --from-file -",
            "dvx agent isolate a --reason test",
            "dvx agent integration gitlab link a --pat x --instance-url https://gitlab.example",
            "dvx agent integration gitlab link a --credential-provider p --project-id 7 --access-level developer",
            "dvx agent integration gitlab unlink a --yes",
            "dvx agent integration gitlab rotate a -o json",
            "dvx agent integration github link a",
            "dvx credential-provider create --name n --group-id a/b --provisioning-mode service_account",
            "dvx credential-provider rotate p --token x",
            "dvx audit list --since 2026-01-01 --until 2h",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "dvx",
            "dvx agent",
            "dvx enclave create Lab",
            "dvx enclave delete ../x",
            "dvx operator create ann",
            "dvx operator create ann --role root",
            "dvx agent create a --unix-user u",
            "dvx agent isolate a",
            "dvx agent secret set a b --value x --from-file y",
            "dvx secret set a/b --value x",
            "dvx secret set b --expires-at tomorrow",
            "dvx audit list --since yesterday",
            "dvx agent list --state gone",
            "dvx enclave list -o yaml",
            "dvx agent integration gitlab link a --pat x --credential-provider p",
            "dvx agent integration gitlab link a --pat x --project-id 7",
            "dvx agent integration gitlab link a --credential-provider p --instance-url https://gitlab.example",
            "dvx agent integration gitlab link a --credential-provider p --access-level 31",
            "dvx agent integration gitlab link a --instance-url http://gitlab.example",
            "dvx credential-provider create --name n --group-id 1 --provisioning-mode robot",
            "dvx credential-provider create --name n --group-id 1 --provisioning-mode service_account --rotate-every 5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
