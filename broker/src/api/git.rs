//! Credentials for git: found by the origin that git talks to, and held back for a moment when the one that
//! is there is said to have been refused.

use std::borrow::Cow;
use std::sync::Arc;

use dvx_proto::Origin;
use dvx_proto::agent::GitCredentialRequest;

use super::framing::RequestBody;
use super::problem::Refusal;
use super::record::{Record, Served};
use super::{Context, framing};
use crate::keyring::Credential;

/// What git asked for, once it is known to be an origin to which a credential may go.
struct Asked {
    origin: Origin,
    path: Option<String>,
}

impl Context<'_> {
    pub(super) async fn git_credential(
        &mut self,
        body: impl RequestBody,
        record: &mut Record<'_>,
    ) -> Result<Served, Refusal> {
        let body = self.read_body(body).await?;
        let request: GitCredentialRequest = framing::parse(&body)?;
        // An origin that no credential may go to is one that nothing is linked to.
        let origin = Origin::from_protocol_and_host(&request.protocol, &request.host)
            .map_err(|error| Refusal::not_found().with_reason(error.to_string()))?;
        record.subject = Some(Cow::Owned(origin.to_string()));
        let asked = Asked { origin, path: request.path };
        let waited = self.wait_for_newer(&asked).await?;

        let credential = self.permitted(self.linked_to(&asked))?;
        record.subject = Some(Cow::Owned(credential.provider.to_string()));
        let served = self.serve(credential.git_body.to_bytes(), credential.frozen_since);
        let served = served.with_fingerprint(credential.fingerprint);
        Ok(if waited { served.with_reason("after a wait for a newer token") } else { served })
    }

    /// The agent's credential whose instance is at that origin.
    fn linked_to(&self, asked: &Asked) -> Option<&Credential> {
        let covers = |credential: &&Arc<Credential>| {
            credential.instance.as_ref().is_some_and(|url| url.covers(&asked.origin, asked.path.as_deref()))
        };
        self.entry()?.credentials.values().find(covers).map(Arc::as_ref)
    }

    /// Holds the answer back while the only token there is has been refused. True if there was a wait.
    async fn wait_for_newer(&mut self, asked: &Asked) -> Result<bool, Refusal> {
        // Subscribing before looking: a change in between is seen.
        let mut changes = self.api.keyring.subscribe();
        let mut waited = false;
        while let Ok(held) = self.permitted(self.linked_to(asked)) {
            let rejections = &self.api.rejections;
            let until =
                rejections.wait_until(&self.agent.name, &held.provider, held.fingerprint, self.now.mono);
            let Some(until) = until else { break };
            waited = true;
            let changed = tokio::time::timeout(until.since(self.now.mono), changes.changed()).await;
            self.look_again()?;
            if matches!(changed, Ok(Err(_))) {
                // Nobody will publish again: the broker is going down.
                break;
            }
        }
        Ok(waited)
    }
}
