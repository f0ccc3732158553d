//! `dvx credential-provider …`

use std::time::Duration;

use clap::{Args, Subcommand};
use dvx_proto::operator::ProvisioningMode;
use dvx_proto::{ProviderName, RemoteUrl};

use super::Confirmation;
use super::integrations::TOKEN_HELP;
use super::secrets::HiddenText;

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialProviderCommand {
    /// List the credential providers; their tokens never come back
    List,
    /// Add a credential provider, after GitLab has said that its token owns the group
    ///
    /// Unless --rotate-every is off, its token is replaced by one that nobody has seen at once, and then again
    /// and again: the one that was given is dead from then on.
    #[command(after_help = TOKEN_HELP)]
    Create(NewCredentialProvider),
    /// Give a credential provider another token, after the same checks; agents keep theirs
    #[command(after_help = TOKEN_HELP)]
    Rotate {
        /// The credential provider, by id or name
        #[arg(value_name = "ID")]
        id: String,
        /// The token itself; better not: other users of this machine see it in ps, and shells remember it
        #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
        token: Option<HiddenText>,
    },
    /// Delete a credential provider that no agent uses
    Delete {
        /// The credential provider, by id or name
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// List the identities that could not be removed at their provider yet; that is tried again by itself
    Debts,
}

#[derive(Debug, Args)]
pub(crate) struct NewCredentialProvider {
    /// Whose identities it makes: gitlab
    #[arg(long, value_name = "PROVIDER", default_value = "gitlab")]
    pub(crate) provider: ProviderName,
    /// Its name, unlike that of every other credential provider
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Where, if not https://gitlab.com
    #[arg(long, value_name = "URL")]
    pub(crate) instance_url: Option<RemoteUrl>,
    /// The token itself; better not: other users of this machine see it in ps, and shells remember it
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub(crate) token: Option<HiddenText>,
    /// The group, by its number or full path, of which the token's user is an Owner
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_id: String,
    /// What an agent gets: service_account, one of the group's; project_access_token, one of a project's
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) provisioning_mode: ProvisioningMode,
    /// How often its own token is replaced, such as 30d or 12h; off for never
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = rotation)]
    pub(crate) rotate_every: Rotation,
}

/// How often a provider's own token is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    Never,
    Every(Duration),
}

impl Rotation {
    pub(crate) fn seconds(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Every(time) => Some(time.as_secs()),
        }
    }
}

fn mode(text: &str) -> Result<ProvisioningMode, String> {
    let found = ProvisioningMode::ALL.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| "the modes are service_account and project_access_token".to_owned())
}

/// An hour at least: a token that is replaced more often is one that is always about to be replaced.
fn rotation(text: &str) -> Result<Rotation, String> {
    if text == "off" {
        return Ok(Rotation::Never);
    }
    let hours =
        |digits: &str, each: u64| digits.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
    let hours = match (text.strip_suffix('d'), text.strip_suffix('h')) {
        (Some(days), _) => hours(days, 24),
        (None, Some(number)) => hours(number, 1),
        (None, None) => None,
    };
    let hours = hours.filter(|hours| (1..=365 * 24).contains(hours));
    hours
        .map(|hours| Rotation::Every(Duration::from_secs(hours * 60 * 60)))
        .ok_or_else(|| "expected off, or 1h to 365d".to_owned())
}
