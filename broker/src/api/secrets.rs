//! Secrets that the agent may read.

use dvx_proto::SecretName;

use super::Context;
use super::problem::Refusal;
use super::record::Served;
use crate::policy::Subject;

impl Context<'_> {
    pub(super) fn list_secrets(&self) -> Result<Served, Refusal> {
        self.permit(Subject::None)?;
        let entry = self.entry().ok_or_else(Refusal::not_found)?;
        Ok(self.serve(entry.secrets_body.clone(), None))
    }

    pub(super) fn secret(&self, name: Option<&SecretName>) -> Result<Served, Refusal> {
        let secret = self.entry().zip(name).and_then(|(entry, name)| entry.secrets.get(name));
        self.permit(secret.map_or(Subject::Absent, |secret| self.held(None, secret.frozen_since)))?;
        let secret = secret.ok_or_else(Refusal::not_found)?;
        let served = self.serve(secret.body.to_bytes(), secret.frozen_since);
        Ok(served.with_fingerprint(secret.fingerprint))
    }
}
