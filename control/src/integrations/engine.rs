//! Carrying an operation on, from the step at which it stands to its end or to something to wait for.

use std::time::Duration;

use dvx_gitlab::{Error, Loss};

use super::fail_points::When;
use super::session::{Blame, Ready};
use super::steps::{Next, Turn};
use super::{IntegrationError, Integrations, Result};
use crate::causes::causes;
use crate::domain::{
    Event, LeaseId, MintedId, Operation, OperationId, OperationKind, OperationState, ProviderToken, Step,
};
use crate::store::{Leased, StoreError};

/// Leases last three times as long.
const RENEWAL: Duration = Duration::from_secs(10);
/// How often a step is tried.
const ATTEMPTS: u32 = 6;
/// How often one is that only a provider's delay can excuse.
const FEW: u32 = 3;
/// GitLab's default where it does not say how long.
const THROTTLED: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Integrations {
    /// Carries an operation on, if it is due and nobody else does. Fails with why it was given up.
    pub(super) async fn carry_on(&self, id: &OperationId) -> Result<()> {
        if self.is_stopping() {
            return Ok(());
        }
        let Some(_place) = self.0.at_work.begin(id) else { return Ok(()) };
        match self.0.store.take_operation(id, self.now()).await? {
            Some((operation, lease)) => self.drive(operation, lease).await,
            None => Ok(()),
        }
    }

    pub(super) async fn drive(&self, operation: Operation, lease: LeaseId) -> Result<()> {
        let _at_work = self.0.work.read().await;
        let _place = self.0.at_work.begin(&operation.id);
        let (id, held) = (operation.id.clone(), lease.clone());
        let mut turn = Turn { operation, lease };
        tokio::select! {
            ended = self.steps(&mut turn) => ended,
            () = self.hold(Leased::Operations, id.as_str(), &held) => Err(IntegrationError::Lost),
        }
    }

    /// Renews a lease; ends when it is lost.
    pub(super) async fn hold(&self, table: Leased, id: &str, lease: &LeaseId) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            if let Ok(false) = self.0.store.renew(table, id, lease, self.now()).await {
                return;
            }
        }
    }

    async fn steps(&self, turn: &mut Turn) -> Result<()> {
        loop {
            // Whoever comes after goes on.
            if self.is_stopping() {
                return Err(IntegrationError::Lost);
            }
            match self.step(turn).await {
                Ok(Next::Step(_)) => turn.operation.attempts = 0,
                Ok(Next::Done) => return Ok(()),
                Ok(Next::Wait(wait, why)) => {
                    let Operation { id, attempts, .. } = &turn.operation;
                    let store = &self.0.store;
                    store.postpone(id, &turn.lease, *attempts, wait, Some(&why), self.now()).await?;
                    return Ok(());
                }
                Err(error @ (IntegrationError::Stopped | IntegrationError::Lost)) => return Err(error),
                Err(error) => return self.failed(turn, error).await,
            }
        }
    }

    async fn step(&self, turn: &mut Turn) -> Result<Next> {
        // These need no provider.
        match turn.operation.step {
            Step::Deliver => return self.deliver(turn).await,
            Step::Retire => return self.retire(turn).await,
            _ => {}
        }
        let operation = &turn.operation;
        let ready = self.ready(&operation.org, &operation.credential_provider, false).await?;
        let next = match turn.operation.step {
            Step::Account => self.account(turn, &ready).await,
            Step::Member => self.member(turn, &ready).await,
            Step::Token => self.token(turn, &ready).await,
            Step::Prove => self.prove(turn, &ready).await,
            Step::Publish => self.publish(turn, &ready).await,
            Step::RotateSelf => self.rotate_self(turn, &ready).await,
            Step::Deliver | Step::Retire => Ok(Next::Done),
        };
        match next {
            Err(error) if turn.operation.step != Step::Prove => match self.blame(&ready, &error).await? {
                Blame::OldToken => Ok(Next::Wait(Duration::ZERO, "the provider's token was replaced".into())),
                Blame::Token | Blame::Other => Err(error),
            },
            next => next,
        }
    }

    /// Tries again later, or gives up.
    async fn failed(&self, turn: &Turn, error: IntegrationError) -> Result<()> {
        let operation = &turn.operation;
        let attempts = operation.attempts.saturating_add(1);
        let text = causes(&error).to_string();
        let pause = Duration::from_secs(1 << operation.attempts.min(6)).min(LONGEST_PAUSE);
        let (counted, wait) = match &error {
            IntegrationError::Provider(Error::RateLimited { retry_after }) => {
                (operation.attempts, retry_after.unwrap_or(THROTTLED))
            }
            IntegrationError::Provider(Error::Unreachable { .. } | Error::TimedOut)
                if operation.kind == OperationKind::Link && nothing_made(operation) =>
            {
                return self.give_up(operation, &turn.lease, error, &text).await;
            }
            // Whoever asked for it waits, and the token that there is stays good.
            IntegrationError::Provider(Error::TimedOut | Error::ResponseLost { loss: Loss::TimedOut })
                if is_wished(operation) =>
            {
                return self.give_up(operation, &turn.lease, error, &text).await;
            }
            IntegrationError::Provider(inner) if inner.is_temporary() && attempts < ATTEMPTS => {
                (attempts, pause)
            }
            IntegrationError::TimedOut(_) if attempts < ATTEMPTS => (attempts, pause),
            IntegrationError::NotProved(_) if attempts < FEW => (attempts, pause),
            // The database comes back, and nothing is lost meanwhile.
            IntegrationError::Store(StoreError::Unavailable(_)) => (operation.attempts, pause),
            _ => return self.give_up(operation, &turn.lease, error, &text).await,
        };
        tracing::warn!(operation = %operation.id, step = operation.step.as_str(), error = text, "tried again later");
        let store = &self.0.store;
        store.postpone(&operation.id, &turn.lease, counted, wait, Some(&text), self.now()).await?;
        Ok(())
    }

    async fn give_up(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        error: IntegrationError,
        text: &str,
    ) -> Result<()> {
        tracing::error!(operation = %operation.id, step = operation.step.as_str(), error = text, "given up");
        let action = match operation.kind {
            OperationKind::Link => "integration.link",
            OperationKind::Rotate => "integration.rotate",
            OperationKind::ProviderRotate => "credential-provider.rotate",
        };
        let mut event = Event::denied(action, Some(operation.provider.to_string()), text);
        event.agent = operation.agent.as_ref().map(|(_, agent)| agent.to_string());
        let failed = OperationState::Failed;
        self.0.store.end(operation, lease, failed, Some(event), Some(&error.problem()), self.now()).await?;
        if operation.kind == OperationKind::Rotate
            && let Some(cause) = operation.notes.cause.as_deref().filter(|cause| *cause != super::DUE)
        {
            self.no_other(operation, cause).await?;
        }
        self.0.wake.notify_one();
        Err(error)
    }

    /// A token is refused, and there will be no other for now.
    async fn no_other(&self, operation: &Operation, cause: &str) -> Result<()> {
        let Some((_, agent)) = &operation.agent else { return Ok(()) };
        let store = &self.0.store;
        let found = match store.integration(&operation.org, agent, &operation.provider).await {
            Ok(found) => found,
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(found) = found {
            let hint = "its credential provider could make no other token";
            store.invalidate(&operation.cause(self.now()), &found, cause, hint).await?;
        }
        Ok(())
    }

    /// Has a provider's token replace itself, once: what is written down before the call says that it may have
    /// been made, and then it is not made again.
    async fn rotate_self(&self, turn: &mut Turn, ready: &Ready) -> Result<Next> {
        let store = &self.0.store;
        let system = turn.operation.cause(self.now());
        if turn.operation.notes.token.is_some() {
            return self.lost_rotation(turn, ready).await;
        }
        let days = ready.provider.rotate_every.map_or(90, |every| (every.as_secs() / 86_400).clamp(2, 300));
        // Replaced at four fifths of its life at the latest, it is to be asked for longer than that.
        let days = u16::try_from(days.saturating_mul(5) / 4 + 1).unwrap_or(300).min(364);
        let expires_at = dvx_gitlab::expiry_date(self.now(), days);
        turn.operation.notes.token = Some(MintedId::generate(self.now()));
        self.note(turn).await?;
        self.0.points.reach("rotate-self", When::Before)?;
        let rotated = match ready.session().rotate_self(expires_at).await {
            // Refused, so the token is what it was.
            Err(Error::ExpiryTooFar { latest: Some(latest) }) if latest < expires_at => {
                ready.session().rotate_self(latest).await
            }
            rotated => rotated,
        };
        self.0.points.reach("rotate-self", When::After)?;
        match rotated {
            Ok(minted) => {
                let token = ProviderToken {
                    value: minted.token,
                    id: Some(minted.info.id),
                    user: minted.info.user_id.unwrap_or(ready.provider.user),
                    expires_at: minted.info.ends_at(),
                    may_rotate: true,
                };
                let next = self.next_rotation(ready.provider.rotate_every, &token);
                let held = Some((&turn.operation, &turn.lease));
                if store.replace_provider_token(&system, &ready.provider, &token, next, held).await? {
                    Ok(Next::Done)
                } else {
                    Err(IntegrationError::Lost)
                }
            }
            Err(error) if error.outcome_is_unknown() || matches!(error, Error::TimedOut) => {
                self.lost_rotation(turn, ready).await
            }
            Err(error) => {
                turn.operation.notes.token = None;
                self.note(turn).await?;
                Err(error.into())
            }
        }
    }

    async fn lost_rotation(&self, turn: &Turn, ready: &Ready) -> Result<Next> {
        let reason = "the answer to the rotation of its token was lost; give it another token, and revoke the one \
                      that nobody has now";
        let cause = turn.operation.cause(self.now());
        self.0.store.deactivate_provider(&cause, &ready.provider, reason, true).await?;
        Err(IntegrationError::Inactive(reason.into()))
    }

    async fn note(&self, turn: &Turn) -> Result<()> {
        let Operation { id, step, notes, .. } = &turn.operation;
        if self.0.store.advance(id, &turn.lease, *step, notes, self.now()).await? {
            Ok(())
        } else {
            Err(IntegrationError::Lost)
        }
    }
}

/// That an operator asked for another token than one that is neither refused nor due to be replaced.
fn is_wished(operation: &Operation) -> bool {
    operation.kind == OperationKind::Rotate && operation.notes.cause.is_none()
}

fn nothing_made(operation: &Operation) -> bool {
    operation.notes.token.is_none() && matches!(operation.step, Step::Account | Step::Token)
}
