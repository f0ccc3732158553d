//! The command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use dvx_proto::{ProviderName, SecretName};

use crate::error::Failure;

/// The name under which git finds a helper that is configured as `dvxir`.
const GIT_HELPER_NAME: &[u8] = b"git-credential-dvxir";

const EXAMPLES: &str = "\
Examples:
  dvxir credentials list
  dvxir credentials get gitlab | glab auth login --stdin
  dvxir exec -- glab mr list
  dvxir exec --env CI_TOKEN=gitlab -- make release
  eval \"$(dvxir init)\" && git clone https://gitlab.com/group/project.git";

/// Credentials for agents: asks the enclave's broker for what this agent may use.
///
/// The broker knows its callers by their Unix user, so there is nothing to log in to. Answers go to standard
/// output and nothing else does; when a command fails, standard output is empty and standard error says why.
#[derive(Debug, Parser)]
#[command(name = "dvxir", version, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tokens of linked providers
    #[command(subcommand, arg_required_else_help = true)]
    Credentials(Credentials),
    /// Values that were stored for this agent
    #[command(subcommand, arg_required_else_help = true)]
    Secrets(Secrets),
    /// Git's credential helper; git runs it
    ///
    /// Speaks git's credential-helper protocol on standard input and output, also when it is called as
    /// git-credential-dvxir. dvxir init sets it up.
    GitCredential {
        /// get, store or erase; others are ignored, as git wants it
        #[arg(value_name = "get|store|erase")]
        operation: OsString,
    },
    /// Set up this agent's account: token link, git, environment
    ///
    /// Links ~/.dvx/token to the agent's token, makes dvxir git's helper for the linked instances, and prints
    /// lines for a shell to take over: eval "$(dvxir init)"
    Init,
    /// Run a command with tokens in its environment
    ///
    /// The command replaces dvxir. The tokens are in its environment only.
    #[command(override_usage = "dvxir exec [--env NAME=PROVIDER]... -- <CMD>...")]
    Exec {
        /// Put this provider's token into this variable; may be given several times [default: GITLAB_TOKEN=gitlab]
        #[arg(long = "env", value_name = "NAME=PROVIDER")]
        assignments: Vec<Assignment>,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Who this caller is to the broker
    Whoami {
        #[command(flatten)]
        format: Format,
    },
    /// Whether the broker is up, and how fresh what it serves is
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page in troff
    #[command(hide = true)]
    Man {
        /// The page
        #[arg(value_enum, default_value_t = ManPage::Dvxir)]
        page: ManPage,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Credentials {
    /// List the linked providers: provider, kind of token, name at the provider
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Print a provider's token as it is, without a newline
    Get {
        /// The provider, such as gitlab
        provider: ProviderName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// List the names of this agent's secrets
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Print a secret's value as it is, without a newline
    Get {
        /// The secret
        name: SecretName,
    },
}

/// How a listing is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Format {
    /// Output format: columns, or what the broker said
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManPage {
    Dvxir,
    GitCredentialDvxir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

// As text: pages.rs renders the files from the definition in here when the project is tested.
impl ManPage {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Dvxir => include_str!("../man/dvxir.1"),
            Self::GitCredentialDvxir => include_str!("../man/git-credential-dvxir.1"),
        }
    }
}

impl Shell {
    pub(crate) const fn completions(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../completions/dvxir.bash"),
            Self::Zsh => include_str!("../completions/_dvxir"),
            Self::Fish => include_str!("../completions/dvxir.fish"),
        }
    }
}

/// `NAME=provider`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) variable: String,
    pub(crate) provider: ProviderName,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (variable, provider) = text.split_once('=').ok_or("expected NAME=PROVIDER")?;
        let plain = variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || variable.is_empty() || variable.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(format!("{variable:?} is not a variable's name; expected [A-Za-z_][A-Za-z0-9_]*"));
        }
        let provider = provider.parse().map_err(|error: dvx_proto::InvalidName| error.to_string())?;
        Ok(Self { variable: variable.to_owned(), provider })
    }
}

/// The command that the arguments name. Ends the process where they ask for help, or cannot be meant.
pub(crate) fn command(arguments: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let arguments = as_helper(arguments.collect());
    match usual_command(&arguments) {
        Some(command) => Ok(command),
        None => parsed(arguments),
    }
}

#[cold]
#[inline(never)]
fn parsed(arguments: Vec<OsString>) -> Result<Command, Failure> {
    let cli = Cli::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    cli.command.checked()
}

/// The whole command line.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// Called as `git-credential-dvxir`, the program is `dvxir git-credential`.
fn as_helper(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let path = arguments.first().map_or(&[][..], |path| path.as_bytes());
    if path.ends_with(GIT_HELPER_NAME) && path.rsplit(|byte| *byte == b'/').next() == Some(GIT_HELPER_NAME) {
        arguments.splice(..1, ["dvxir".into(), "git-credential".into()]);
    }
    arguments
}

/// The commands that run thousands of times a day, read without setting up the argument parser. Whatever
/// is not exactly one of them goes to the parser, which also has the messages.
fn usual_command(arguments: &[OsString]) -> Option<Command> {
    match arguments {
        [_, group, verb, name] if group == "credentials" && verb == "get" => {
            Some(Command::Credentials(Credentials::Get { provider: name.to_str()?.parse().ok()? }))
        }
        [_, group, verb, name] if group == "secrets" && verb == "get" => {
            Some(Command::Secrets(Secrets::Get { name: name.to_str()?.parse().ok()? }))
        }
        [_, group, operation] if group == "git-credential" => {
            let known = ["get", "store", "erase"].iter().any(|known| operation == known);
            known.then(|| Command::GitCredential { operation: operation.clone() })
        }
        _ => None,
    }
}

impl Command {
    /// What the parser cannot check by itself.
    fn checked(self) -> Result<Self, Failure> {
        if let Self::Exec { assignments, .. } = &self {
            for (at, assignment) in assignments.iter().enumerate() {
                if assignments.iter().take(at).any(|earlier| earlier.variable == assignment.variable) {
                    let message = format!("--env gives {} twice", assignment.variable);
                    definition().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
                }
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn the_short_cut_and_the_parser_agree() {
        for line in [
            "dvxir credentials get gitlab",
            "dvxir secrets get DATABASE_URL",
            "dvxir git-credential get",
            "dvxir git-credential erase",
        ] {
            let quick = usual_command(&arguments(line)).unwrap();
            let parsed = Cli::try_parse_from(arguments(line)).unwrap().command;
            assert_eq!(format!("{quick:?}"), format!("{parsed:?}"), "{line}");
        }
        for line in
            ["dvxir credentials get --help", "dvxir credentials get GitLab", "dvxir git-credential other"]
        {
            assert!(usual_command(&arguments(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn called_as_git_s_helper_it_is_one() {
        let parsed = |line: &str| Cli::try_parse_from(as_helper(arguments(line))).unwrap().command;
        for line in ["/usr/bin/git-credential-dvxir get", "git-credential-dvxir get"] {
            assert!(
                matches!(parsed(line), Command::GitCredential { operation } if operation == "get"),
                "{line}"
            );
        }
    }

    #[test]
    fn exec_takes_a_command_s_own_options() {
        for line in [
            "dvxir exec -- make -j4 --env",
            "dvxir exec make -j4 --env",
            "dvxir exec --env A=b -- make -j4 --env",
        ] {
            let parsed = Cli::try_parse_from(arguments(line)).unwrap().command;
            assert!(
                matches!(&parsed, Command::Exec { command, .. } if *command == ["make", "-j4", "--env"]),
                "{parsed:?}"
            );
        }
        assert!(Cli::try_parse_from(arguments("dvxir exec")).is_err());
    }

    #[test]
    fn assignments_name_a_variable_and_a_provider() {
        assert_eq!(
            "CI_TOKEN=gitlab".parse(),
            Ok(Assignment { variable: "CI_TOKEN".to_owned(), provider: "gitlab".parse().unwrap() })
        );
        for bad in ["", "A", "=gitlab", "1A=gitlab", "A B=gitlab", "A=GitLab", "A=", "Ä=gitlab"] {
            assert!(bad.parse::<Assignment>().is_err(), "{bad}");
        }
    }
}
