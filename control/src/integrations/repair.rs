//! A provider has refused a token: asking it why, once however many report it, and mending what can be mended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dvx_gitlab::{Error, Need};
use dvx_proto::Fingerprint;
use dvx_proto::enclave::Verdict;
use jiff::Timestamp;

use super::session::{limited, token};
use super::{IntegrationError, Integrations, Result};
use crate::causes::causes;
use crate::clock;
use crate::domain::{
    Ailment, Cause, IntegrationRecord, MintedKind, Notes, OrgId, Origin, SecretId, StoredSecret,
};
use crate::store::{Conflict, StoreError, Wanted, Wish};

/// How long a question to the provider may take.
const PROBE: Duration = Duration::from_secs(20);
/// An answer holds for so long.
const APART: Duration = Duration::from_secs(3);
/// How often a credential may get another token.
const MINTS: [(Duration, u32); 2] = [(APART, 1), (Duration::from_secs(60), 10)];
/// How often it is tried to begin with another token. The database takes its time over each.
const ATTEMPTS: u32 = 3;
/// Enough for everything that is refused at once.
const MAX_ENTRIES: usize = 10_000;

/// What was found out about credentials just now.
#[derive(Default)]
pub(super) struct Probes(Mutex<HashMap<SecretId, Arc<tokio::sync::Mutex<Option<Finding>>>>>);

/// About which token, when, and what.
#[derive(Clone, Copy)]
struct Finding {
    fingerprint: Fingerprint,
    at: Timestamp,
    verdict: Verdict,
}

impl Finding {
    fn holds(&self, fingerprint: Fingerprint, now: Timestamp) -> bool {
        self.fingerprint == fingerprint && self.at <= now && clock::since(now, self.at) < APART
    }
}

impl Probes {
    fn of(&self, id: &SecretId) -> Arc<tokio::sync::Mutex<Option<Finding>>> {
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.len() >= MAX_ENTRIES {
            probes.retain(|_, probe| Arc::strong_count(probe) > 1);
        }
        Arc::clone(probes.entry(id.clone()).or_default())
    }
}

impl Integrations {
    pub(super) async fn look_into(
        &self,
        org: &OrgId,
        id: &SecretId,
        fingerprint: Fingerprint,
    ) -> Result<Verdict> {
        let probe = self.0.probes.of(id);
        let mut finding = probe.lock().await;
        if let Some(found) = finding.filter(|found| found.holds(fingerprint, self.now())) {
            return Ok(found.verdict);
        }
        let verdict = self.examine(org, id, fingerprint).await?;
        *finding = Some(Finding { fingerprint, at: self.now(), verdict });
        Ok(verdict)
    }

    async fn examine(&self, org: &OrgId, id: &SecretId, fingerprint: Fingerprint) -> Result<Verdict> {
        let store = &self.0.store;
        let Some(integration) = store.integration_of(org, id).await? else { return Ok(Verdict::Unknown) };
        let name = crate::store::token_name(&integration.provider)?;
        let Some(stored) = store.stored_secret(org, Some(&integration.agent.0), &name).await? else {
            return Ok(Verdict::Unknown);
        };
        let Ok(secret) = store.open_secret(&stored, self.now()).await? else { return Ok(Verdict::Unknown) };
        // There is a newer one already.
        if Fingerprint::of(secret.expose_secret()) != fingerprint {
            return Ok(Verdict::Unknown);
        }
        if !store.begin_check(id, APART, self.now()).await? {
            // Another replica asks.
            return Ok(Verdict::Unknown);
        }
        match self.ailment(&integration, &stored, &secret).await? {
            Found::Good => Ok(Verdict::Good),
            Found::NoAnswer => Ok(Verdict::Unknown),
            Found::Bad(ailment) => self.mend_at_last(&integration, ailment).await,
        }
    }

    /// Asks the provider with the token itself.
    async fn ailment(
        &self,
        integration: &IntegrationRecord,
        stored: &StoredSecret,
        secret: &dvx_proto::Secret,
    ) -> Result<Found> {
        let Some(url) = &stored.metadata.instance_url else { return Ok(Found::NoAnswer) };
        let token = token(secret)?;
        if integration.provider.as_str() == "github" {
            let Ok(github) = dvx_gitlab::GitHub::new(self.0.transport.clone(), url) else {
                return Ok(Found::NoAnswer);
            };
            return Ok(found(limited(PROBE, github.user(&token)).await.map(|_| true)));
        }
        if integration.provider.as_str() != "gitlab" {
            return Ok(Found::NoAnswer);
        }
        let gitlab = self.gitlab(url);
        let told = limited(PROBE, gitlab.with_token(&token).token_self()).await;
        let found = found(told.map(|info| info.scopes.is_empty() || info.scopes.suffice_for(Need::Read)));
        match found {
            Found::Bad(Ailment::Revoked) if self.was_rotated_elsewhere(integration).await => {
                Ok(Found::Bad(Ailment::RotatedElsewhere))
            }
            found => Ok(found),
        }
    }

    /// Whether there is a live token of the same name: one that replaces itself keeps it. In doubt there is not.
    async fn was_rotated_elsewhere(&self, integration: &IntegrationRecord) -> bool {
        let look = async {
            let provider = integration.identity.credential_provider.as_ref()?;
            let used = self.0.store.used_token(&integration.agent.0, provider).await.ok()??;
            let ready = self.ready(&integration.org, provider, false).await.ok()?;
            let tokens = match used.kind {
                MintedKind::ProjectToken => ready.session().project_tokens(used.project?).await.ok()?,
                MintedKind::AccountToken => {
                    let group = ready.provider.group;
                    ready.session().service_account_tokens(group, used.account?).await.ok()?
                }
                MintedKind::Account => return None,
            };
            Some(tokens.iter().any(|token| token.name == used.name && token.active))
        };
        tokio::time::timeout(PROBE, look).await.ok().flatten().unwrap_or(false)
    }

    /// The provider is not asked again for a while: what it said is not lost to a database that is busy.
    async fn mend_at_last(&self, integration: &IntegrationRecord, ailment: Ailment) -> Result<Verdict> {
        for _ in 1..ATTEMPTS {
            match self.mend(integration, ailment).await {
                Err(IntegrationError::Store(StoreError::Unavailable(error))) => {
                    tracing::warn!(error = causes(&error), "a refused token cannot be mended yet");
                }
                done => return done,
            }
        }
        self.mend(integration, ailment).await
    }

    async fn mend(&self, integration: &IntegrationRecord, ailment: Ailment) -> Result<Verdict> {
        let now = self.now();
        let cause = Cause::system(integration.org.clone(), String::new(), now);
        let mendable =
            integration.origin == Origin::Minted && !matches!(ailment, Ailment::Blocked | Ailment::Scope);
        tracing::warn!(agent = %integration.agent.1, cause = ailment.as_str(), mendable, "a token is refused");
        let Some(provider) = integration.identity.credential_provider.as_ref().filter(|_| mendable) else {
            let hint = match integration.origin {
                Origin::Minted => "see to its user at the provider",
                Origin::Pat | Origin::Manual => "unlink the agent and link it with another token",
            };
            self.0.store.invalidate(&cause, integration, ailment.as_str(), hint).await?;
            return Ok(Verdict::Dead);
        };
        let delay = self.0.store.pace(&format!("repair/{}", integration.id), &MINTS, &|| self.now()).await?;
        let notes = Notes { cause: Some(ailment.as_str().into()), ..Notes::default() };
        let (agent, maker) = (&integration.agent.1, provider);
        let wanted =
            Wanted { agent, provider: &integration.provider, maker, notes, delay: delay.unwrap_or_default() };
        let begun = self.0.store.begin(&cause, Wish::Rotate, wanted).await;
        match begun {
            Ok(id) => {
                if delay.is_none() {
                    self.spawn(id);
                }
            }
            // It gets another one already.
            Err(StoreError::Conflict(Conflict::UnderWay(_))) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Verdict::Dead)
    }
}

/// What the provider said.
enum Found {
    Good,
    NoAnswer,
    Bad(Ailment),
}

fn found(told: Result<bool>) -> Found {
    match told {
        Ok(true) => Found::Good,
        Ok(false) => Found::Bad(Ailment::Scope),
        Err(IntegrationError::Provider(error)) => match error {
            Error::Expired => Found::Bad(Ailment::Expired),
            Error::Revoked => Found::Bad(Ailment::Revoked),
            Error::InvalidToken => Found::Bad(Ailment::Unknown),
            Error::Blocked { .. } => Found::Bad(Ailment::Blocked),
            Error::InsufficientScope { .. } => Found::Bad(Ailment::Scope),
            _ => Found::NoAnswer,
        },
        Err(_) => Found::NoAnswer,
    }
}
