//! The steps that make an identity: an account, its role, a token, and the proof that it works.

use std::time::Duration;

use dvx_gitlab::{
    AccessLevel, Error, GroupId, MintedToken, Missing, NewToken, ProjectId, Scopes, UserId, expiry_date,
};
use jiff::Timestamp;
use jiff::civil::Date;

use super::fail_points::When;
use super::names::username;
use super::session::{Ready, STEP_LIMIT, limited, token};
use super::steps::{Next, SCOPES, Turn};
use super::{IntegrationError, Integrations, Result};
use crate::domain::{Minted, MintedId, MintedKind, MintedState, Mode, Step};
use crate::store::{Intention, Made};

/// How long they are made for.
const DAYS: u16 = 30;
/// GitLab's limit on new service accounts, for each user that makes them.
const ACCOUNTS: [(Duration, u32); 1] = [(Duration::from_secs(61), 10)];

impl Integrations {
    pub(super) async fn account(&self, turn: &mut Turn, ready: &Ready) -> Result<Next> {
        let noted = self.noted(turn.operation.notes.account.as_ref()).await?;
        let (minted, known_before) = match noted {
            Some(minted) if minted.external.is_some() => return self.go(turn, Step::Member).await,
            Some(minted) => (minted, true),
            None => (self.intend_account(turn).await?, false),
        };
        let group = ready.provider.group;
        if known_before {
            let session = ready.session();
            let found = session.find_service_account(group, &minted.name);
            if let Some(found) = limited(STEP_LIMIT, found).await? {
                return self.have_account(turn, &minted, found.id).await;
            }
        }
        let limiter = format!("service-account/{}/{}", ready.provider.instance_url, ready.provider.user);
        if let Some(wait) = self.0.store.pace(&limiter, &ACCOUNTS, &|| self.now()).await? {
            let why = "GitLab makes at most 10 service accounts a minute";
            return Ok(Next::Wait(wait, why.into()));
        }
        self.0.points.reach("account", When::Before)?;
        let (_, agent) = turn.agent()?;
        let name = format!("dvx agent {agent}");
        let created = ready.session().create_service_account(group, &minted.name, &name).await;
        self.0.points.reach("account", When::After)?;
        match created {
            Ok(account) => self.have_account(turn, &minted, account.id).await,
            Err(Error::Conflict { .. }) => self.name_is_taken(turn, ready, &minted).await,
            Err(error) => {
                if !error.outcome_is_unknown() {
                    turn.operation.notes.account = None;
                    self.not_made(turn, &minted).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Either it was made after all, or the one before is still being deleted.
    async fn name_is_taken(&self, turn: &mut Turn, ready: &Ready, minted: &Minted) -> Result<Next> {
        let session = ready.session();
        let found = session.find_service_account(ready.provider.group, &minted.name);
        if let Some(found) = limited(STEP_LIMIT, found).await?
            && !self.0.store.account_is_known(minted, found.id).await?
        {
            return self.have_account(turn, minted, found.id).await;
        }
        let (id, agent) = turn.agent()?;
        let name = username(id, agent, Some(&minted.id));
        if name == minted.name {
            return Err(IntegrationError::NotProved("its name is taken"));
        }
        if !self.0.store.rename_intention(&turn.operation.id, &turn.lease, &minted.id, &name).await? {
            return Err(IntegrationError::Lost);
        }
        Ok(Next::Step(Step::Account))
    }

    async fn have_account(&self, turn: &mut Turn, minted: &Minted, user: UserId) -> Result<Next> {
        let made = Made { external: user.0, expires_at: None, token: None };
        self.record(turn, &minted.id, made, Step::Member).await
    }

    async fn intend_account(&self, turn: &mut Turn) -> Result<Minted> {
        let now = self.now();
        let id = MintedId::generate(now);
        let (agent, name) = turn.agent()?;
        let mut username_of = username(agent, name, None);
        if self.0.store.name_is_used(&turn.operation.org, &username_of).await? {
            username_of = username(agent, name, Some(&id));
        }
        turn.operation.notes.account = Some(id.clone());
        let intention = Intention { id: &id, kind: MintedKind::Account, name: &username_of, account: None };
        self.intend(turn, intention, None).await
    }

    pub(super) async fn member(&self, turn: &mut Turn, ready: &Ready) -> Result<Next> {
        let Some(user) = self.account_user(turn).await? else { return self.go(turn, Step::Account).await };
        self.0.points.reach("member", When::Before)?;
        let added = ready.session().add_member(ready.provider.group, user, turn.level()).await;
        self.0.points.reach("member", When::After)?;
        added?;
        self.go(turn, Step::Token).await
    }

    pub(super) async fn token(&self, turn: &mut Turn, ready: &Ready) -> Result<Next> {
        let earlier = self.noted(turn.operation.notes.token.as_ref()).await?;
        if earlier.as_ref().is_some_and(|token| token.state == MintedState::Made && token.envelope.is_some())
        {
            return self.go(turn, Step::Prove).await;
        }
        let owner = match ready.provider.mode {
            Mode::ServiceAccount => match self.account_user(turn).await? {
                Some(user) => Owner::Account(ready.provider.group, user),
                None => return self.go(turn, Step::Account).await,
            },
            Mode::ProjectAccessToken => {
                let project = turn.operation.notes.project.ok_or(IntegrationError::ProjectNeeded)?;
                Owner::Project(ProjectId(project), turn.level())
            }
        };
        let minted = self.intend_token(turn, &owner, earlier.as_ref()).await?;
        self.0.points.reach("token", When::Before)?;
        let made = self.mint(ready, &owner, &minted.name).await;
        self.0.points.reach("token", When::After)?;
        match made {
            Ok(MintedToken { info, token }) => {
                let made = Made { external: info.id.0, expires_at: info.ends_at(), token: Some(&token) };
                self.record(turn, &minted.id, made, Step::Prove).await
            }
            // Somebody has deleted the account: there is to be another one.
            Err(IntegrationError::Provider(Error::NotFound { what: Missing::User }))
                if turn.operation.notes.account.is_some() =>
            {
                turn.operation.notes.account = None;
                self.go(turn, Step::Account).await
            }
            Err(error) => {
                if matches!(&error, IntegrationError::Provider(error) if !error.outcome_is_unknown()) {
                    turn.operation.notes.token = None;
                    self.not_made(turn, &minted).await?;
                }
                Err(error)
            }
        }
    }

    async fn mint(&self, ready: &Ready, owner: &Owner, name: &str) -> Result<MintedToken> {
        let now = self.now();
        let mut expires_at = expiry_date(now, DAYS);
        loop {
            let new = NewToken { name: name.into(), scopes: SCOPES.into_iter().collect(), expires_at };
            let made = match owner {
                Owner::Account(group, user) => {
                    ready.session().create_service_account_token(*group, *user, &new).await
                }
                Owner::Project(project, level) => {
                    ready.session().create_project_token(*project, &new, *level).await
                }
            };
            match made {
                Err(Error::ExpiryTooFar { latest: Some(latest) })
                    if latest < expires_at && latest > date(now) =>
                {
                    expires_at = latest;
                }
                made => return Ok(made?),
            }
        }
    }

    /// A token of which nobody knows what became is not looked for here: it is to go, by its name.
    async fn intend_token(&self, turn: &mut Turn, owner: &Owner, earlier: Option<&Minted>) -> Result<Minted> {
        let id = MintedId::generate(self.now());
        let (kind, account) = match owner {
            Owner::Account(_, user) => (MintedKind::AccountToken, Some(*user)),
            Owner::Project(..) => (MintedKind::ProjectToken, None),
        };
        turn.operation.notes.token = Some(id.clone());
        let name = format!("dvx-{id}");
        let intention = Intention { id: &id, kind, name: &name, account };
        self.intend(turn, intention, earlier.map(|earlier| &earlier.id)).await
    }

    pub(super) async fn prove(&self, turn: &mut Turn, ready: &Ready) -> Result<Next> {
        let Some(minted) = self.noted(turn.operation.notes.token.as_ref()).await? else {
            return self.go(turn, Step::Token).await;
        };
        let Ok(secret) = self.0.store.open_minted(&minted).await? else {
            return Err(IntegrationError::Unreadable);
        };
        let token = token(&secret)?;
        self.0.points.reach("prove", When::Before)?;
        let info = self.gitlab(&ready.provider.instance_url).with_token(&token).token_self().await;
        self.0.points.reach("prove", When::After)?;
        let info = info.map_err(|error| match error.is_temporary() {
            true => error.into(),
            false => IntegrationError::NotProved("the instance does not take it"),
        })?;
        let needed: Scopes = SCOPES.into_iter().collect();
        let has = |scope: &str| info.scopes.iter().any(|found| found == scope);
        if Some(info.id) != minted.token_id() || !info.active {
            return Err(IntegrationError::NotProved("the instance says that it is another one"));
        }
        if !needed.iter().all(has) {
            return Err(IntegrationError::NotProved("it lacks a scope"));
        }
        if info.ends_at() != minted.expires_at {
            return Err(IntegrationError::NotProved("it ends at another time"));
        }
        self.go(turn, Step::Publish).await
    }

    async fn intend(
        &self,
        turn: &Turn,
        intention: Intention<'_>,
        instead: Option<&MintedId>,
    ) -> Result<Minted> {
        let id = intention.id.clone();
        let store = &self.0.store;
        if !store.intend(&turn.operation, &turn.lease, intention, instead, self.now()).await? {
            return Err(IntegrationError::Lost);
        }
        store.minted(&id).await?.ok_or(IntegrationError::Lost)
    }
}

/// Whose a token is to be.
enum Owner {
    Account(GroupId, UserId),
    Project(ProjectId, AccessLevel),
}

fn date(now: Timestamp) -> Date {
    jiff::tz::TimeZone::UTC.to_datetime(now).date()
}
