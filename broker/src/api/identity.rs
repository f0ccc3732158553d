//! `discover`, `whoami` and agent tokens.

use std::time::Duration;

use bytes::Bytes;
use dvx_proto::Code;
use dvx_proto::agent::{AgentState, Discovery, SERVICE, Transport, Whoami};

use super::answer::{json, rendered};
use super::framing::RequestBody;
use super::problem::Refusal;
use super::record::Served;
use super::{Context, rate_limited};
use crate::identity::IssueError;
use crate::policy::{AgentRule, Subject};

/// The answer to `discover`, which never changes while the broker runs.
pub(super) fn discovery(transports: Vec<Transport>) -> Bytes {
    let discovery = Discovery {
        service: SERVICE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: vec!["v1".to_owned()],
        transports,
    };
    serde_json::to_vec(&discovery).unwrap_or_default().into()
}

impl Context<'_> {
    /// Not a secret, and served to an agent that is out of service: how else would it know?
    pub(super) fn whoami(&self) -> Served {
        Served::new(json(&Whoami {
            agent: self.agent.name.clone(),
            enclave: self.api.enclave.clone(),
            uid: self.agent.uid,
            transport: self.peer.transport,
            state: self.entry().map_or(AgentState::Active, |entry| entry.state),
        }))
    }

    /// The body may say what it likes: the agent is named by its connection.
    pub(super) async fn issue_token(&mut self, body: impl RequestBody) -> Result<Served, Refusal> {
        self.read_body(body).await?;
        self.permit(Subject::None)?;
        let AgentRule { name, uid, .. } = self.agent;
        let issued = self.api.issuer.issue_on_request(name, *uid, self.now.wall).map_err(|error| {
            let refusal = match error {
                IssueError::TooMany => rate_limited(Duration::ZERO),
                IssueError::Failed => Refusal::new(Code::UpstreamUnavailable, "no token could be made"),
            };
            refusal.with_reason(error.to_string())
        })?;
        self.api.metrics.count_token();
        let body = format!(r#"{{"token":"{}","expires_at":"{}"}}"#, issued.token.as_str(), issued.expires_at);
        Ok(Served::new(rendered(body.into())))
    }
}
