//! Making a value of what is stored.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use dvx_proto::Secret;
use jiff::Timestamp;

use super::aad;
use crate::crypto::{Envelope, Kek, Unreadable};
use crate::domain::{Cause, Decision, Event, SecretId, StoredSecret};
use crate::store::row::stored;
use crate::store::{Result, Store, heads};

/// The unreadable ones of which there is an event already.
#[derive(Default)]
pub(in crate::store) struct Reported(Mutex<HashSet<(SecretId, u64)>>);

impl Reported {
    /// Enough for any fault; beyond it some events come again.
    const MAX: usize = 10_000;

    fn first(&self, secret: &StoredSecret) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= Self::MAX {
            reported.clear();
        }
        reported.insert((secret.id.clone(), secret.version))
    }
}

impl Store {
    /// Decrypts a value, if it and all that it is bound to is what was stored last.
    ///
    /// Otherwise it is `Unreadable`, and there is an event of it, once for each version in each process. The outer
    /// error is about the database.
    pub async fn open_secret(
        &self,
        secret: &StoredSecret,
        now: Timestamp,
    ) -> Result<Result<Secret, Unreadable>> {
        let opened = self.try_open(secret).await?;
        if opened.is_err() && self.0.reported.first(secret) {
            self.report(secret, now).await?;
        }
        Ok(opened)
    }

    async fn try_open(&self, secret: &StoredSecret) -> Result<Result<Secret, Unreadable>> {
        let Some(head) = secret.head.as_ref().filter(|_| !secret.malformed) else {
            return Ok(Err(Unreadable));
        };
        let Ok(key) = self.head_key(&secret.place.org).await? else { return Ok(Err(Unreadable)) };
        if !heads::current(head, secret.version, secret.id.as_str()) || !head.authentic(&key, &secret.place) {
            return Ok(Err(Unreadable));
        }
        if let Some(kek) = self.kek(&secret.envelope.kek).await? {
            return Ok(open(secret, &secret.envelope, &kek));
        }
        // A rekey may have come to its end since the row was read.
        let agent = secret.place.agent.as_ref().map(|(id, _)| id);
        let again = self.stored_secret(&secret.place.org, agent, &secret.place.name).await?;
        let Some(again) = again.filter(|again| again.version == secret.version) else {
            return Ok(Err(Unreadable));
        };
        let Some(kek) = self.kek(&again.envelope.kek).await? else { return Ok(Err(Unreadable)) };
        Ok(open(secret, &again.envelope, &kek))
    }

    async fn report(&self, secret: &StoredSecret, now: Timestamp) -> Result<()> {
        let place = &secret.place;
        tracing::error!(
            secret = %place.name,
            agent = place.agent.as_ref().map(|(_, name)| name.as_str()),
            version = secret.version,
            "a stored secret does not open: it, or something that it is bound to, was changed in the database"
        );
        let cause = Cause::system(place.org.clone(), String::new(), now);
        let event = Event {
            action: "secret.integrity",
            subject: Some(place.name.to_string()),
            agent: place.agent.as_ref().map(|(_, name)| name.to_string()),
            decision: Decision::Denied,
            reason: Some(format!("version {} does not open", secret.version)),
        };
        self.append_event(&cause, event).await
    }
}

fn open(secret: &StoredSecret, envelope: &Envelope, kek: &Kek) -> Result<Secret, Unreadable> {
    let aad = aad(&secret.place, &secret.id, &secret.metadata, secret.credential, stored(secret.version));
    envelope.open(kek, &aad)
}
