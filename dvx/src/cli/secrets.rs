//! `dvx secret …`, and what setting a secret takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dvx_proto::agent::AuthType;
use dvx_proto::{RemoteUrl, SecretName};
use jiff::Timestamp;

use super::Confirmation;
use crate::times;

/// Where values come from, in full.
pub(super) const VALUE_HELP: &str = "\
The value comes from --value, from --from-file, from a hidden prompt on a terminal, or else from stdin.
It is UTF-8 of at most 64 KiB. One newline at the end is dropped from what comes by stdin or a prompt;
a file's content and --value are taken as they are. The value of a secret named <provider>:token is a
token: one newline at its end is always dropped, and an empty one or one with white space is refused.";

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// List the names of the organisation's secrets; values never come back
    List,
    /// Store a secret of the organisation, or replace it
    #[command(after_help = VALUE_HELP)]
    Set {
        #[command(flatten)]
        secret: NewSecret,
    },
    /// Delete a secret of the organisation
    Delete {
        /// The secret's name
        #[arg(value_name = "NAME")]
        name: SecretName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewSecret {
    /// The secret's name; <provider>:token for a token that is used for its agent
    #[arg(value_name = "NAME")]
    pub(crate) name: SecretName,
    /// The value itself; better not: other users of this machine see it in ps, and shells remember it
    #[arg(long, value_name = "VALUE", conflicts_with = "from_file", allow_hyphen_values = true)]
    pub(crate) value: Option<HiddenText>,
    /// Read the value from a file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
    /// Agents do not get the value by its name; a <provider>:token becomes a credential by this
    #[arg(long)]
    pub(crate) no_agent_accessible: bool,
    /// Credentials: who the token is at the provider
    #[arg(long, value_name = "NAME")]
    pub(crate) display_name: Option<String>,
    /// Credentials: pat, service_account or project_access_token
    #[arg(long, value_name = "TYPE", value_parser = auth_type)]
    pub(crate) auth_type: Option<AuthType>,
    /// Credentials: where the token may be sent, https or http to loopback
    #[arg(long, value_name = "URL")]
    pub(crate) instance_url: Option<RemoteUrl>,
    /// Credentials: when the token ends, RFC 3339 or YYYY-MM-DD (its beginning, UTC)
    #[arg(long, value_name = "TIME", value_parser = times::point_in_time)]
    pub(crate) expires_at: Option<Timestamp>,
}

/// A value from the command line. Not to be seen in a Debug.
#[derive(Clone)]
pub(crate) struct HiddenText(zeroize::Zeroizing<String>);

impl HiddenText {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::str::FromStr for HiddenText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned().into()))
    }
}

impl std::fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HiddenText([redacted])")
    }
}

fn auth_type(text: &str) -> Result<AuthType, String> {
    let types = [AuthType::Pat, AuthType::ServiceAccount, AuthType::ProjectAccessToken];
    let found = types.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| "the types are pat, service_account and project_access_token".to_owned())
}
