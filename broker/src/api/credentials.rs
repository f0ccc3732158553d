//! Credentials: the list, one of them, and the report that one was refused.

use std::sync::Arc;

use bytes::Bytes;
use dvx_proto::ProviderName;
use dvx_proto::agent::Rejection;
use hyper::StatusCode;
use hyper::header::LINK;

use super::framing::RequestBody;
use super::problem::Refusal;
use super::record::Served;
use super::{Context, framing};
use crate::keyring::Credential;
use crate::policy::Subject;

impl Context<'_> {
    pub(super) fn list_credentials(&self) -> Result<Served, Refusal> {
        self.permit(Subject::None)?;
        let entry = self.entry().ok_or_else(Refusal::not_found)?;
        let mut served = self.serve(entry.credentials_body.clone(), None);
        for link in &entry.credentials_links {
            served.answer.headers_mut().append(LINK, link.clone());
        }
        Ok(served)
    }

    pub(super) fn credential(&self, provider: Option<&ProviderName>) -> Result<Served, Refusal> {
        let credential = self.permitted(self.linked(provider))?;
        let served = self.serve(credential.body.to_bytes(), credential.frozen_since);
        Ok(served.with_fingerprint(credential.fingerprint))
    }

    pub(super) async fn rejected(
        &mut self,
        provider: Option<&ProviderName>,
        body: impl RequestBody,
    ) -> Result<Served, Refusal> {
        let body = self.read_body(body).await?;
        let report: Rejection = framing::parse(&body)?;
        let credential = self.permitted(self.linked(provider))?;
        let held = credential.fingerprint == report.fingerprint;
        let (agent, provider) = (&self.agent.name, &credential.provider);
        if held && self.api.rejections.report(agent, provider, report.fingerprint, self.now.mono) {
            self.api.upstream.recheck(agent, provider, report.fingerprint);
        }
        let reason = if held { "held, the upstream is asked" } else { "not held any more" };
        let mut served = self.serve(Bytes::new(), credential.frozen_since);
        *served.answer.status_mut() = StatusCode::ACCEPTED;
        Ok(served.with_fingerprint(report.fingerprint).with_reason(reason))
    }

    /// The agent's credential for a provider, before anything is decided about it.
    pub(super) fn linked(&self, provider: Option<&ProviderName>) -> Option<&Credential> {
        self.entry()?.credentials.get(provider?).map(Arc::as_ref)
    }

    /// The same, once the policy has agreed.
    pub(super) fn permitted<'c>(
        &self,
        credential: Option<&'c Credential>,
    ) -> Result<&'c Credential, Refusal> {
        let subject =
            credential.map_or(Subject::Absent, |held| self.held(held.expires_at, held.frozen_since));
        self.permit(subject)?;
        credential.ok_or_else(Refusal::not_found)
    }
}
