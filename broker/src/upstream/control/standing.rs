//! How the upstream fares, put together from what its parts find.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::upstream::{Degraded, Mailbox};

/// What is not as it should be, by who found it.
#[derive(Default)]
struct Troubles {
    connection: Option<Degraded>,
    audit: Option<Degraded>,
    taken_over: Vec<Degraded>,
}

/// Tells the server.
pub(super) struct Standing<'m> {
    mailbox: &'m Mailbox,
    address: String,
    troubles: Mutex<Troubles>,
}

impl<'m> Standing<'m> {
    pub(super) fn new(mailbox: &'m Mailbox, address: String) -> Self {
        Self { mailbox, address, troubles: Mutex::default() }
    }

    /// The stream has begun.
    pub(super) fn connected(&self) {
        self.mailbox.report_connected(true);
        self.change(|troubles| troubles.connection = None);
    }

    /// There is no stream; why.
    pub(super) fn disconnected(&self, why: String) {
        self.mailbox.report_connected(false);
        let what = self.address.clone();
        self.change(|troubles| troubles.connection = Some(Degraded { what, why }));
    }

    /// Why audit lines are not taken, if they are not.
    pub(super) fn audit(&self, why: Option<String>) {
        let what = "audit lines to the control plane".to_owned();
        self.change(|troubles| troubles.audit = why.map(|why| Degraded { what, why }));
    }

    /// What of the control plane's could not be taken over.
    pub(super) fn taken_over(&self, degraded: &[Degraded]) {
        self.change(|troubles| troubles.taken_over = degraded.to_vec());
    }

    fn change(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = self.troubles();
        let before = troubles.list();
        change(&mut troubles);
        let after = troubles.list();
        if before != after {
            log(&before, &after);
            self.mailbox.report(&after);
        }
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Troubles {
    fn list(&self) -> Vec<Degraded> {
        self.connection.iter().chain(&self.audit).chain(&self.taken_over).cloned().collect()
    }
}

/// A line for each that has come or gone.
fn log(before: &[Degraded], after: &[Degraded]) {
    let map = |list: &[Degraded]| -> BTreeMap<_, _> {
        list.iter().map(|bad| (bad.what.clone(), bad.why.clone())).collect()
    };
    let (before, after) = (map(before), map(after));
    for (what, why) in &after {
        if before.get(what) != Some(why) {
            tracing::warn!(%what, %why, "degraded");
        }
    }
    for what in before.keys().filter(|what| !after.contains_key(*what)) {
        tracing::info!(%what, "no longer a problem");
    }
}
