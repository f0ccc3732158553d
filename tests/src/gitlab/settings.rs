//! What differs between instances of GitLab.

use serde::{Deserialize, Serialize};

/// How the instance is built, licensed and administered. The defaults are GitLab.com with a paid plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Where the instance lies below its host: empty, or such as `/gitlab`.
    pub(super) path_prefix: String,
    /// What new personal access tokens begin with.
    pub(super) token_prefix: String,
    pub(super) token_format: TokenFormat,
    pub(super) edition: Edition,
    /// Self-managed: "allow top-level group Owners to create service accounts".
    pub(super) owners_may_create_service_accounts: bool,
    /// At most this many service accounts; Free has 100.
    pub(super) service_account_cap: Option<usize>,
    /// Whether the cap counts the instance (self-managed) or the top-level group with all below (GitLab.com).
    pub(super) cap_per_instance: bool,
    /// How many service accounts a user may create in a minute.
    pub(super) service_accounts_per_minute: u32,
    pub(super) expiry_enforced: bool,
    /// 365, or 400 with `buffered_token_expiration_limit`.
    pub(super) max_lifetime_days: i64,
    /// Whether the plan has project and group access tokens.
    pub(super) resource_tokens: bool,
    /// How long a deleted user lingers, on the simulator's clock.
    pub(super) delete_after_seconds: i64,
    pub(super) impersonation: bool,
    /// Whether administrators' tokens need the scope `admin_mode` to have an effect.
    pub(super) admin_mode: bool,
    /// Whether people may rotate tokens with the classic scopes.
    pub(super) legacy_rotation: bool,
    /// The limit of Rack::Attack per user or address.
    pub(super) api_per_minute: Option<u32>,
    /// How many refused git authentications from an address in a minute lead to a ban.
    pub(super) git_ban_after: Option<u32>,
    /// Whether the limit of an action says `Retry-After`; older releases do not.
    pub(super) limit_says_retry_after: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path_prefix: String::new(),
            token_prefix: "glpat-".into(),
            token_format: TokenFormat::Routable,
            edition: Edition::Enterprise,
            owners_may_create_service_accounts: true,
            service_account_cap: None,
            cap_per_instance: false,
            service_accounts_per_minute: 10,
            expiry_enforced: true,
            max_lifetime_days: 365,
            resource_tokens: true,
            delete_after_seconds: 1,
            impersonation: true,
            admin_mode: false,
            legacy_rotation: true,
            api_per_minute: None,
            git_ban_after: Some(300),
            limit_says_retry_after: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenFormat {
    Classic,
    Routable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Edition {
    Community,
    Enterprise,
}
