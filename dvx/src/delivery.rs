//! Whether the brokers have a change in force.

use std::time::Duration;

use dvx_proto::AgentName;
use dvx_proto::operator::{Delivery, MAX_WAIT_SECONDS, MissingDelivery};

use crate::client::{Client, ClientError, Request, with_query};
use crate::clock::{self, Deadline};
use crate::failure::{Failure, exit};
use crate::output::note;
use crate::times;

/// How long a change waits for brokers that are connected, so that whoever asks next sees it.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// How long it is waited at a time while some brokers are not connected and may not come.
const STEP: Duration = Duration::from_secs(1);

/// How much longer than asked an answer may take.
const MARGIN: Duration = Duration::from_secs(10);

/// A change that was made.
pub(crate) struct Change<'a> {
    pub(crate) revision: u64,
    /// The agent that it is about, if it is about one and there still is one.
    pub(crate) agent: Option<&'a AgentName>,
}

impl Change<'_> {
    /// Waits until it is in force everywhere. `done` says what was done, such as `agent a is isolated`.
    pub(crate) async fn confirm(
        &self,
        client: &mut Client,
        patience: Duration,
        done: &str,
    ) -> Result<(), Failure> {
        let what = format!("{done}, but that is not in force everywhere");
        let deadline = Deadline::after(patience);
        loop {
            let wait = deadline.remaining().min(Duration::from_secs(MAX_WAIT_SECONDS.into()));
            let delivery = self.ask(client, wait).await.map_err(|error| {
                let why = error.into_failure("the control plane").one_line();
                Failure::new(format!("{done}, but whether that is in force cannot be told"), why)
                    .with_exit(exit::NOT_READY)
            })?;
            if delivery.complete {
                return Ok(());
            }
            if deadline.has_passed() {
                let missing: Vec<String> = delivery.missing.iter().map(shown).collect();
                let why = format!("not confirmed within {} s by {}", patience.as_secs(), missing.join(", "));
                return Err(Failure::new(what, why).with_exit(exit::NOT_READY).with_hint(
                    "a broker that is not connected takes it over when it connects, or stops serving after its max_stale",
                ));
            }
        }
    }

    /// Waits a little for the brokers that are connected. The others only get a note.
    pub(crate) async fn await_connected(&self, client: &mut Client) {
        match self.connected(client, USUAL_WAIT).await {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => {
                let missing: Vec<String> = missing.iter().map(shown).collect();
                note(&format!("done, but not yet in force at {}", missing.join(", ")));
            }
            Err(error) => {
                let why = error.into_failure("the control plane").one_line();
                note(&format!("done, but whether it is in force cannot be told: {why}"));
            }
        }
    }

    async fn connected(
        &self,
        client: &mut Client,
        patience: Duration,
    ) -> Result<Vec<MissingDelivery>, ClientError> {
        let deadline = Deadline::after(patience);
        let mut wait = Duration::ZERO;
        loop {
            let delivery = self.ask(client, wait).await?;
            let is_awaited = delivery.missing.iter().any(|missing| missing.connected);
            if delivery.complete || !is_awaited || deadline.has_passed() {
                return Ok(if delivery.complete { Vec::new() } else { delivery.missing });
            }
            // One that is not connected would hold the answer up to its end.
            let all_connected = delivery.missing.iter().all(|missing| missing.connected);
            wait = if all_connected { deadline.remaining() } else { deadline.remaining().min(STEP) };
        }
    }

    async fn ask(&self, client: &mut Client, wait: Duration) -> Result<Delivery, ClientError> {
        // Whole seconds, rounded up: with none the answer would come at once, again and again.
        let seconds = wait.as_millis().div_ceil(1000);
        let query =
            [("agent", self.agent.map(ToString::to_string)), ("wait_seconds", Some(seconds.to_string()))];
        let path = with_query(&format!("/deliveries/{}", self.revision), &query);
        let answer = client.send(Request::get(path).with_patience(wait + MARGIN)).await?;
        client.parse(&answer)
    }
}

/// `enclave lab-1 (not connected, last seen 5 min ago)`.
fn shown(missing: &MissingDelivery) -> String {
    let MissingDelivery { enclave, connected, seen_at } = missing;
    let state = match (connected, seen_at) {
        (true, _) => "connected".to_owned(),
        (false, None) => "not connected".to_owned(),
        (false, Some(seen)) => {
            format!("not connected, last seen {} ago", times::distance(*seen, clock::wall()))
        }
    };
    format!("enclave {enclave} ({state})")
}
