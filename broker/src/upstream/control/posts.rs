//! What the control plane is told besides: what is in force, and which tokens are said to be refused.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::agent::Rejection;
use dvx_proto::enclave::{Ack, RejectionAnswer, Verdict};
use dvx_proto::{AgentName, Fingerprint, ProviderName};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use super::backoff::Backoff;
use super::error::Trouble;
use super::link::{Channel, Endpoint};
use crate::causes::causes;
use crate::keyring::Keyring;
use crate::upstream::Host;

const JSON: &str = "application/json";

/// How long an acknowledgement may take.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// How long the control plane may take to ask a provider.
const REPORT_WAIT: Duration = Duration::from_secs(30);

/// Reports on their way at a time; there are as many reported tokens as agents care to make.
const REPORTS: usize = 8;

/// Tells what is in force, whenever that changes, on a connection of its own.
pub(super) async fn acknowledge(
    endpoint: Arc<Endpoint>,
    session: &str,
    mut acks: watch::Receiver<Option<Ack>>,
) -> Infallible {
    let mut channel = Channel::new(endpoint, session);
    let mut backoff = Backoff::new();
    loop {
        if acks.changed().await.is_err() {
            // The stream ends, and this with it.
            return std::future::pending().await;
        }
        loop {
            let Some(ack) = acks.borrow_and_update().clone() else { break };
            match post(&mut channel, "/v1/enclave/ack", &ack, ACK_WAIT).await {
                Ok(_) => {
                    backoff.reset();
                    break;
                }
                Err(error) => tracing::warn!(error = causes(&error), "what is in force cannot be told"),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Passes reports about refused tokens on.
pub(super) struct Reports {
    endpoint: Arc<Endpoint>,
    keyring: Arc<Keyring>,
    host: Arc<dyn Host>,
    places: Arc<Semaphore>,
    /// Of the stream; none before the first.
    session: watch::Receiver<Option<String>>,
}

impl Reports {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        keyring: Arc<Keyring>,
        host: Arc<dyn Host>,
        session: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { endpoint, keyring, host, places: Arc::new(Semaphore::new(REPORTS)), session }
    }

    /// Reports a token, if it is still what is held, and hears what the control plane knows about it.
    pub(super) fn send(&self, agent: AgentName, provider: ProviderName, fingerprint: Fingerprint) {
        let Some(id) = self.credential(&agent, &provider, fingerprint) else { return };
        let Some(session) = self.session.borrow().clone() else { return };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!(%agent, %provider, "too many reports about refused tokens at a time");
            return;
        };
        let (endpoint, host) = (self.endpoint.clone(), self.host.clone());
        tokio::spawn(async move {
            let _held = place;
            let mut channel = Channel::new(endpoint, &session);
            let path = format!("/v1/enclave/credentials/{id}/rejected");
            match report(&mut channel, &path, fingerprint).await {
                Ok(verdict) => {
                    tracing::info!(%agent, %provider, %fingerprint, ?verdict, "token was refused; reported");
                    if verdict == Verdict::Good {
                        host.settle(&agent, &provider, fingerprint);
                    }
                }
                Err(error) => {
                    tracing::warn!(%agent, %provider, error = causes(&error), "a refused token was not reported");
                }
            }
        });
    }

    /// The id of what is held, as it may stand in a path.
    fn credential(
        &self,
        agent: &AgentName,
        provider: &ProviderName,
        fingerprint: Fingerprint,
    ) -> Option<Box<str>> {
        let view = self.keyring.load();
        let credential = view.snapshot.agents.get(agent)?.credentials.get(provider)?;
        let id = credential.id.as_ref().filter(|_| credential.fingerprint == fingerprint)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        (!id.is_empty() && id.len() <= 128 && id.bytes().all(plain)).then(|| id.clone())
    }
}

async fn report(channel: &mut Channel, path: &str, fingerprint: Fingerprint) -> Result<Verdict, Trouble> {
    let answer = post(channel, path, &Rejection { fingerprint }, REPORT_WAIT).await?;
    Ok(serde_json::from_slice::<RejectionAnswer>(&answer)?.verdict)
}

async fn post(
    channel: &mut Channel,
    path: &str,
    body: &impl Serialize,
    wait: Duration,
) -> Result<Bytes, Trouble> {
    let body = serde_json::to_vec(body)?;
    channel.post(path, JSON, body.into(), wait).await
}
