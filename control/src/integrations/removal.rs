//! Removing what was made: tokens at once, service accounts some time after they were told to go.
//!
//! Everything is found by its name, which no two things share. So what was made while the answer was lost goes as
//! well, and so does a token that replaced one of ours by itself, since that keeps the name.

use std::time::Duration;

use dvx_gitlab::{Error, GroupId, Missing, ProjectId, TokenInfo, UserId};
use jiff::SignedDuration;

use super::fail_points::When;
use super::session::{Ready, STEP_LIMIT, limited};
use super::{IntegrationError, Integrations, Result};
use crate::causes::causes;
use crate::domain::{AgentId, LeaseId, Minted, MintedKind, MintedState};
use crate::store::Leased;

/// A request that is still under way has its effect within this; what is not there then, never will be.
const SETTLED: SignedDuration = SignedDuration::from_secs(60);
/// For so long removals are tried often.
const EAGER: SignedDuration = SignedDuration::from_mins(5);
const RARELY: Duration = Duration::from_secs(3600);
/// Between two looks whether an account is gone.
const LOOK: Duration = Duration::from_secs(2);
/// After so many looks it is told to go again, and somebody should know.
const PATIENCE: u32 = 10;

/// How a removal went.
enum Removal {
    Gone,
    /// It was told to go.
    Going,
    /// It is not there, and may still come.
    Unseen,
}

impl Integrations {
    /// Removes what is due. How much that was.
    pub(super) async fn remove_due(&self) -> Result<usize> {
        let taken = self.0.store.take_doomed(16, self.now()).await?;
        self.remove_all(taken).await
    }

    /// Removes what there is of an agent, due or not. A service account may take another round.
    pub(super) async fn remove_of(&self, agent: &AgentId) -> Result<()> {
        for _ in 0..2 {
            let taken = self.0.store.take_doomed_of(agent, self.now()).await?;
            self.remove_all(taken).await?;
        }
        Ok(())
    }

    async fn remove_all(&self, taken: Vec<(Minted, LeaseId)>) -> Result<usize> {
        let count = taken.len();
        let mut tasks = tokio::task::JoinSet::new();
        for (minted, lease) in taken {
            let service = self.clone();
            tasks.spawn(async move {
                let _at_work = service.0.work.read().await;
                tokio::select! {
                    ended = service.remove(&minted, &lease) => ended,
                    () = service.hold(Leased::Minted, minted.id.as_str(), &lease) => Ok(()),
                }
            });
        }
        let mut outcome = Ok(count);
        while let Some(ended) = tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                outcome = Err(error);
            }
        }
        outcome
    }

    async fn remove(&self, minted: &Minted, lease: &LeaseId) -> Result<()> {
        let removed = self.try_remove(minted).await;
        let now = self.now();
        let since = minted.doomed_at.map_or(SignedDuration::ZERO, |doomed| doomed.duration_until(now));
        let tries = minted.attempts.saturating_add(1);
        let (state, wait, error) = match removed {
            Err(IntegrationError::Stopped) => return Err(IntegrationError::Stopped),
            Ok(Removal::Gone) => (MintedState::Gone, Duration::ZERO, None),
            Ok(Removal::Unseen) if since >= SETTLED => (MintedState::Gone, Duration::ZERO, None),
            Ok(Removal::Unseen) => (MintedState::Going, Duration::from_secs(20), None),
            Ok(Removal::Going) => {
                let error = (tries > PATIENCE).then(|| "GitLab has not deleted it yet".to_owned());
                let wait = if tries > PATIENCE { pause(tries - PATIENCE, since) } else { LOOK };
                (MintedState::Going, wait, error)
            }
            Err(IntegrationError::Provider(Error::RateLimited { retry_after })) => {
                let wait = retry_after.unwrap_or(Duration::from_secs(60));
                (minted.state, wait, Some("too many requests".to_owned()))
            }
            Err(error) => (minted.state, pause(tries, since), Some(causes(&error).to_string())),
        };
        if let Some(error) = &error {
            tracing::warn!(
                agent = minted.agent_name,
                kind = minted.kind.words(),
                name = minted.name,
                error,
                tries,
                "not removed at the provider yet"
            );
        }
        self.0.store.settle(minted, lease, state, wait, error.as_deref(), now).await?;
        Ok(())
    }

    async fn try_remove(&self, minted: &Minted) -> Result<Removal> {
        let ready = self.ready(&minted.org, &minted.credential_provider, true).await?;
        let removed = match minted.kind {
            MintedKind::Account => self.remove_account(minted, &ready).await,
            MintedKind::AccountToken => match minted.account {
                Some(account) => self.remove_account_token(minted, &ready, account).await,
                None => Ok(Removal::Gone),
            },
            MintedKind::ProjectToken => match minted.project {
                Some(project) => self.remove_project_token(minted, &ready, project).await,
                None => Ok(Removal::Gone),
            },
        };
        if let Err(error) = &removed {
            self.blame(&ready, error).await?;
        }
        removed
    }

    async fn remove_account(&self, minted: &Minted, ready: &Ready) -> Result<Removal> {
        let group: GroupId = ready.provider.group;
        let found = limited(STEP_LIMIT, ready.session().find_service_account(group, &minted.name)).await?;
        let Some(found) = found else {
            return Ok(if minted.external.is_some() { Removal::Gone } else { Removal::Unseen });
        };
        // One of the same name that another row is about.
        if minted.external.is_none() && self.0.store.account_is_known(minted, found.id).await? {
            return Ok(Removal::Gone);
        }
        let again = minted.attempts > 0 && minted.attempts.is_multiple_of(PATIENCE);
        if minted.state == MintedState::Doomed || again {
            self.0.points.reach("remove", When::Before)?;
            let deleted = ready.session().delete_service_account(group, found.id).await;
            self.0.points.reach("remove", When::After)?;
            deleted?;
            self.0.points.reach("confirm", When::Before)?;
            let session = ready.session();
            let left = limited(STEP_LIMIT, session.find_service_account(group, &minted.name)).await?;
            self.0.points.reach("confirm", When::After)?;
            if left.is_none() {
                return Ok(Removal::Gone);
            }
        }
        Ok(Removal::Going)
    }

    async fn remove_account_token(&self, minted: &Minted, ready: &Ready, account: UserId) -> Result<Removal> {
        let group = ready.provider.group;
        let listed = limited(STEP_LIMIT, ready.session().service_account_tokens(group, account)).await;
        let tokens = match listed {
            Ok(tokens) => tokens,
            Err(IntegrationError::Provider(Error::NotFound { what: Missing::User })) => {
                return Ok(Removal::Gone);
            }
            // GitLab has the list since 17.11. Before that the token ends by itself, or with its account.
            Err(IntegrationError::Provider(Error::NotFound { what: Missing::Other })) => {
                return Ok(Removal::Gone);
            }
            Err(error) => return Err(error),
        };
        for token in live(&tokens, &minted.name) {
            self.0.points.reach("remove", When::Before)?;
            let revoked = ready.session().revoke_service_account_token(group, account, token.id).await;
            self.0.points.reach("remove", When::After)?;
            revoked?;
        }
        Ok(gone_or_unseen(minted, &tokens))
    }

    async fn remove_project_token(
        &self,
        minted: &Minted,
        ready: &Ready,
        project: ProjectId,
    ) -> Result<Removal> {
        let listed = limited(STEP_LIMIT, ready.session().project_tokens(project)).await;
        let tokens = match listed {
            Ok(tokens) => tokens,
            // With the project went its tokens.
            Err(IntegrationError::Provider(Error::NotFound { what: Missing::Project })) => {
                return Ok(Removal::Gone);
            }
            Err(error) => return Err(error),
        };
        for token in live(&tokens, &minted.name) {
            self.0.points.reach("remove", When::Before)?;
            let revoked = ready.session().revoke_project_token(project, token.id).await;
            self.0.points.reach("remove", When::After)?;
            revoked?;
        }
        Ok(gone_or_unseen(minted, &tokens))
    }
}

fn live<'a>(tokens: &'a [TokenInfo], name: &'a str) -> impl Iterator<Item = &'a TokenInfo> {
    tokens.iter().filter(move |token| token.name == name && !token.revoked)
}

fn gone_or_unseen(minted: &Minted, tokens: &[TokenInfo]) -> Removal {
    let seen = minted.external.is_some() || tokens.iter().any(|token| token.name == minted.name);
    if seen { Removal::Gone } else { Removal::Unseen }
}

/// First within 10 seconds, then at most a minute apart for five minutes, then rarely.
fn pause(tries: u32, since: SignedDuration) -> Duration {
    if since >= EAGER {
        return RARELY;
    }
    Duration::from_secs(5 << tries.saturating_sub(1).min(3)).min(Duration::from_secs(60))
}
