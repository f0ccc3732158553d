//! Telling those who wait, in this process and in the others.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast;

use super::Store;
use crate::domain::OrgId;

/// How many announcements a subscriber may be behind; then it is told so and looks for itself.
pub(super) const CAPACITY: usize = 1024;

/// How long to wait for a connection, and between two looks whether there still is a store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_millis(500);

/// Something that others may wait for. It says where to look, not what is there, and may be lost: who waits also
/// looks from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The organisation has a new revision.
    Changes(OrgId),
    /// Brokers of the organisation have confirmed something.
    Acks(OrgId),
    /// The organisation has new audit events. Told in this process only.
    Audit(OrgId),
    /// There are other KEKs.
    Keys,
    /// Some announcements may have been lost: look for everything.
    Everything,
}

impl Announcement {
    /// As other processes are told of it.
    pub(super) fn payload(&self) -> Option<String> {
        Some(match self {
            Self::Changes(org) => format!("changes {org}"),
            Self::Acks(org) => format!("acks {org}"),
            Self::Keys => "keys".to_owned(),
            Self::Audit(_) | Self::Everything => return None,
        })
    }

    fn parse(payload: &str) -> Option<Self> {
        match payload.split_once(' ') {
            Some(("changes", org)) => Some(Self::Changes(org.to_owned().into())),
            Some(("acks", org)) => Some(Self::Acks(org.to_owned().into())),
            None if payload == "keys" => Some(Self::Keys),
            _ => None,
        }
    }
}

impl Store {
    /// Announcements from now on, of this process and of all others on the same database. Ours may come twice.
    pub fn subscribe(&self) -> broadcast::Receiver<Announcement> {
        self.0.announcements.subscribe()
    }

    pub(super) fn announce_here(&self, announcement: Announcement) {
        // Fails where nobody listens.
        drop(self.0.announcements.send(announcement));
    }

    /// Passes on what other processes announce, for as long as there is a store.
    pub(super) fn listen(&self) {
        let Some(url) = self.0.backend.listen_url().map(str::to_owned) else { return };
        let sender = self.0.announcements.clone();
        let store = std::sync::Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while store.strong_count() > 0 {
                if let Err(error) = relay(&url, &sender, &store).await {
                    // The polling of those who wait bridges the gap.
                    tracing::warn!(error = %error, "announcements of other replicas do not arrive");
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

async fn relay(
    url: &str,
    sender: &broadcast::Sender<Announcement>,
    store: &std::sync::Weak<super::Inner>,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE).connect(url).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // It would go on without a word, and nobody would look for what came in between.
    listener.eager_reconnect(false);
    listener.listen("dvx").await?;
    drop(sender.send(Announcement::Everything));
    loop {
        let next = tokio::time::timeout(PATIENCE, listener.try_recv()).await;
        match next {
            Ok(Ok(Some(notification))) => {
                if let Some(announcement) = Announcement::parse(notification.payload()) {
                    drop(sender.send(announcement));
                }
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) if store.strong_count() == 0 => return Ok(()),
            Err(_) => {}
        }
    }
}
