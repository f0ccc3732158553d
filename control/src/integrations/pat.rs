//! Linking an agent with a person's token.

use dvx_proto::{AgentName, ProviderName, RemoteUrl, Token};

use super::{IntegrationError, Integrations, Linked, Result};
use crate::domain::Cause;

impl Integrations {
    /// Links an agent with a token, after the provider said that it is good.
    pub async fn link_pat(
        &self,
        _cause: &Cause,
        _agent: &AgentName,
        _provider: &ProviderName,
        _token: Token,
        _instance_url: Option<RemoteUrl>,
    ) -> Result<Linked> {
        Err(IntegrationError::NoProvider)
    }
}
