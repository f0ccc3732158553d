//! What is done without anybody asking: carrying on what stopped, removing what is to go, replacing what ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{IntegrationError, Integrations, Result};
use crate::causes::causes;
use crate::domain::{Cause, IntegrationRecord, Notes};
use crate::store::{StoreError, Wanted, Wish};

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// What a step may take when the process is told to end.
const LAST_STEP: Duration = Duration::from_secs(8);
/// So many operations are carried on at once by one process.
const AT_ONCE: usize = 8;
/// A rotation that failed is begun again after this.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// An identity that could not be made again, after this.
const BEREFT: Duration = Duration::from_secs(60);
const PROVIDER: Duration = Duration::from_secs(3600);

impl Integrations {
    /// Works off what is due: operations, removals, rotations. Ends never.
    pub async fn run(&self) {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut removal: Option<JoinHandle<()>> = None;
        loop {
            if let Err(error) = self.schedule().await {
                tracing::warn!(error = causes(&error), "integrations are not looked after");
            }
            if let Err(error) = self.take_up(&permits).await {
                tracing::warn!(error = causes(&error), "operations are not carried on");
            }
            if removal.as_ref().is_none_or(JoinHandle::is_finished) {
                let service = self.clone();
                removal = Some(tokio::spawn(async move {
                    if let Err(error) = service.remove_due().await {
                        tracing::warn!(error = causes(&error), "identities are not removed");
                    }
                }));
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.0.wake.notified() => {}
            }
        }
    }

    /// Ends between two steps if it can, and leaves the rest to whoever comes after: at once, not when leases end.
    pub async fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        if tokio::time::timeout(LAST_STEP, self.0.work.write()).await.is_err() {
            tracing::warn!("a call to a provider takes too long and is cut off");
        }
        if let Err(error) = self.0.store.release_leases().await {
            tracing::warn!(error = causes(&error), "leases are not given back");
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    async fn take_up(&self, permits: &Arc<Semaphore>) -> Result<()> {
        let free = u32::try_from(permits.available_permits()).unwrap_or(0);
        if free == 0 {
            return Ok(());
        }
        for (operation, lease) in
            self.0.store.take_operations(&self.0.at_work.all(), free, self.now()).await?
        {
            let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return Ok(()) };
            let service = self.clone();
            tokio::spawn(async move {
                // Why it was given up stands in the log and the journal.
                drop(service.drive(operation, lease).await);
                drop(permit);
            });
        }
        Ok(())
    }

    /// Notices what is to be done.
    pub(super) async fn schedule(&self) -> Result<()> {
        let now = self.now();
        self.0.store.doom_orphans(now).await?;
        for provider in self.0.store.providers_due(now).await? {
            let pace = format!("provider/{}", provider.id);
            if self.0.store.pace(&pace, &[(PROVIDER, 1)], &|| self.now()).await?.is_none() {
                let cause = Cause::system(provider.org.clone(), String::new(), now);
                let begun =
                    self.0.store.begin_provider_rotation(&cause, &provider.id, &provider.provider).await;
                ignore_busy(begun.map(drop))?;
            }
        }
        for integration in self.0.store.integrations_due(now).await? {
            let again = now.checked_add(AGAIN).unwrap_or(Timestamp::MAX);
            self.0.store.postpone_rotation(&integration.id, again).await?;
            self.begin_for(&integration, Wish::Rotate, super::DUE, now).await?;
        }
        for integration in self.0.store.integrations_bereft(now).await? {
            let pace = format!("again/{}", integration.id);
            if self.0.store.pace(&pace, &[(BEREFT, 1)], &|| self.now()).await?.is_none() {
                self.begin_for(&integration, Wish::Again, "provisioned anew", now).await?;
            }
        }
        Ok(())
    }

    async fn begin_for(
        &self,
        integration: &IntegrationRecord,
        wish: Wish,
        why: &str,
        now: Timestamp,
    ) -> Result<()> {
        let Some(maker) = &integration.identity.credential_provider else { return Ok(()) };
        let cause = Cause::system(integration.org.clone(), String::new(), now);
        let notes = Notes { cause: Some(why.into()), ..Notes::default() };
        let (agent, provider) = (&integration.agent.1, &integration.provider);
        let wanted = Wanted { agent, provider, maker, notes, delay: Duration::ZERO };
        let begun = self.0.store.begin(&cause, wish, wanted).await;
        ignore_busy(begun.map(drop))
    }
}

/// Another replica was faster, or the agent is not what it was.
fn ignore_busy(begun: Result<(), StoreError>) -> Result<()> {
    match begun {
        Ok(()) | Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(IntegrationError::from(error)),
    }
}
