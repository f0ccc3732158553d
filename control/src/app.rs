//! What requests share.

use std::sync::{Arc, OnceLock};

use dvx_proto::Code;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::config::Config;
use crate::domain::{Actor, Cause, Event, OrgId, Organisation};
use crate::http::error::Refusal;
use crate::http::limits::Refusals;
use crate::http::router::Route;
use crate::http::{Peer, RequestId};
use crate::hub::Hub;
use crate::integrations::Integrations;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The organisation that `init` makes unless told otherwise.
pub(crate) const DEFAULT_ORGANISATION: &str = "default";

/// One control plane. Everything in it is cheap to share; nothing of it is only here.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) integrations: Integrations,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    /// True once the process is going down: streams end at once, requests have a while.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Organisations are not deleted, and this one keeps its id.
    default_org: OnceLock<OrgId>,
    refusals: Refusals,
}

impl App {
    pub(crate) fn new(
        store: Store,
        hub: Hub,
        integrations: Integrations,
        config: Config,
        metrics: Metrics,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (default_org, refusals) = (OnceLock::new(), Refusals::new());
        Arc::new(Self { store, hub, integrations, config, metrics, stopping, default_org, refusals })
    }

    /// Until the process is going down.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // Its sender is gone only when the process is, too.
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Where callers act that the kernel names.
    pub(crate) async fn default_organisation(&self) -> Result<(OrgId, String), Refusal> {
        let name = DEFAULT_ORGANISATION.to_owned();
        if let Some(id) = self.default_org.get() {
            return Ok((id.clone(), name));
        }
        match self.store.organisation(DEFAULT_ORGANISATION).await? {
            Some(Organisation { id, .. }) => Ok((self.default_org.get_or_init(|| id).clone(), name)),
            None => Err(Refusal::new(Code::Conflict, "there is no organisation \"default\"")
                .with_hint("run dvx-control init")),
        }
    }

    /// Records that somebody who is nobody asked for something. Always in the default organisation: there is
    /// no other that it could be about.
    pub(crate) async fn note_unknown(
        self: &Arc<Self>,
        peer: Peer,
        id: &RequestId,
        refusal: &Refusal,
        now: Timestamp,
    ) {
        self.metrics.count_unauthenticated();
        // Anything else says nothing about the caller.
        if !matches!(refusal.code, Code::TokenInvalid | Code::TokenMissing)
            || !self.refusals.is_recorded(peer)
        {
            return;
        }
        tracing::info!(%peer, code = %refusal.code, request_id = id.as_str(), "a caller is not known");
        let Ok((org, organisation)) = self.default_organisation().await else { return };
        let actor = Actor { org, organisation, name: peer.to_string(), role: None };
        self.record(id, actor, Event::denied("operator.authenticate", None, refusal.code.as_str()), now);
    }

    /// Records that an operator asked for more than its role allows.
    pub(crate) fn note_forbidden(
        self: &Arc<Self>,
        peer: Peer,
        id: &RequestId,
        actor: &Actor,
        route: &Route,
        path: &str,
        now: Timestamp,
    ) {
        if !self.refusals.is_recorded(peer) {
            return;
        }
        tracing::info!(%peer, operator = actor.name, action = route.action, request_id = id.as_str(), "forbidden");
        let subject: String = path.chars().take(MAX_SUBJECT_CHARS).collect();
        let event = Event::denied(route.action, Some(subject), Code::RoleForbidden.as_str());
        self.record(id, actor.clone(), event, now);
    }

    /// Nobody is answered later for it.
    fn record(self: &Arc<Self>, id: &RequestId, actor: Actor, event: Event, now: Timestamp) {
        let cause = Cause { actor, request_id: Some(id.as_str().to_owned()), time: now, repeatable: None };
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.store.append_event(&cause, event).await {
                tracing::warn!(error = crate::causes::causes(&error), "a refusal cannot be recorded");
            }
        });
    }
}

/// A path comes from the caller and may be as long as a request's head.
const MAX_SUBJECT_CHARS: usize = 256;

impl From<StoreError> for Refusal {
    /// The caller's mistakes are said to the caller. Of ours it only learns that there was one.
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound(_) => Self::new(Code::NotFound, error.to_string()),
            StoreError::Conflict(conflict) => conflict.problem().into(),
            StoreError::Selector(_) => Self::new(Code::BadRequest, error.to_string()),
            StoreError::Unavailable(_) => {
                tracing::error!(error = crate::causes::causes(&error), "the database failed");
                Self::new(Code::StoreUnavailable, "the database cannot be used at the moment")
            }
            StoreError::Url
            | StoreError::Place { .. }
            | StoreError::NotInitialised
            | StoreError::KekWrong { .. }
            | StoreError::KekReplaced { .. }
            | StoreError::RekeyUnderWay(_)
            | StoreError::ReplicasBehind(_)
            | StoreError::StillRead
            | StoreError::SchemaTooNew { .. }
            | StoreError::Memory(_)
            | StoreError::Corrupt(_) => Self::internal(&error),
        }
    }
}
