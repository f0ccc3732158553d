//! `dvx login`

use std::path::PathBuf;

use clap::Args;
use dvx_proto::ControlAddress;

use super::{Output, absolute};

/// Remember which control plane to use, and who to be there
///
/// Asks for what is not given, the token hidden, and asks the control plane whether it knows the token. Then
/// the three are stored in ~/.config/dvx/ (or $XDG_CONFIG_HOME/dvx/), readable by their owner alone. On a Unix
/// socket of this machine, root and the control plane's own user need no token.
///
/// The variables DVX_CONTROL_URL, DVX_CA_FILE and DVX_OPERATOR_TOKEN come before what is stored. What is stored
/// for one control plane is never used for another.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// The control plane: https://host[:port] or unix:///path
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<ControlAddress>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Read the token from stdin
    #[arg(long)]
    pub(crate) token_stdin: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}
