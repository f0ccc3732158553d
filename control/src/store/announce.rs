//! Telling those who wait, in this process and in the others.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::broadcast;

use super::Store;
use crate::domain::OrgId;

/// How many announcements a subscriber may be behind; then it is told so and looks for itself.
pub(super) const CAPACITY: usize = 1024;

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
            let mut failures = 0_u32;
            while store.strong_count() > 0 {
                if let Err(error) = relay(&url, &sender, &store).await {
                    // The polling of those who wait bridges the gap.
                    tracing::warn!(error = %error, "announcements of other replicas do not arrive");
                }
                failures = failures.saturating_add(1);
                tokio::time::sleep(Duration::from_millis(200) * failures.min(10)).await;
            }
        });
    }
}

async fn relay(
    url: &str,
    sender: &broadcast::Sender<Announcement>,
    store: &std::sync::Weak<super::Inner>,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen("dvx").await?;
    drop(sender.send(Announcement::Everything));
    loop {
        let next = tokio::time::timeout(Duration::from_secs(5), listener.try_recv()).await;
        match next {
            Ok(Ok(Some(notification))) => {
                if let Some(announcement) = Announcement::parse(notification.payload()) {
                    drop(sender.send(announcement));
                }
            }
            // The connection broke and is there again: something may have come in between.
            Ok(Ok(None)) => drop(sender.send(Announcement::Everything)),
            Ok(Err(error)) => return Err(error),
            Err(_) if store.strong_count() == 0 => return Ok(()),
            Err(_) => {}
        }
    }
}
