//! `dvx dev`, and the second process of it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};
use dvx_proto::RemoteUrl;

/// Try everything on this machine: a control plane and a broker of your own, and a shell in which you are an agent
///
/// Starts a control plane and a broker with one agent, `me`, that is the user who runs this, and opens $SHELL (or
/// runs CMD) in which dvxir, git and curl get that agent's token from the broker, and dvx is the control plane's
/// admin. Needs no privileges. All processes and files are gone within five seconds of its end, however it ends.
///
/// The token comes from GITLAB_TOKEN, from stdin with --token-stdin, or from a hidden prompt on a terminal;
/// otherwise a sample takes its place that no GitLab accepts. It is stored as it is, without asking GitLab.
#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// Read the token from stdin
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// The GitLab instance that the token is for: https, or http to loopback
    #[arg(long, value_name = "URL", default_value = "https://gitlab.com")]
    pub(crate) instance_url: RemoteUrl,
    /// The command to run instead of $SHELL, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// The name by which this program is run as the second process of `dvx dev`.
pub(crate) const KEEPER: &str = "dvx-dev-keeper";

/// The second process of `dvx dev`. Not for people: it speaks with the first over its stdin.
#[derive(Debug, Parser)]
#[command(name = KEEPER)]
pub(crate) struct KeeperArguments {
    #[arg(long)]
    pub(crate) directory: PathBuf,
    /// The directory with our other programs
    #[arg(long)]
    pub(crate) programs: PathBuf,
    #[arg(long)]
    pub(crate) instance_url: RemoteUrl,
    /// The first process has a terminal, so a command that stops means that it is to stop as well
    #[arg(long)]
    pub(crate) stops_with_command: bool,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}
