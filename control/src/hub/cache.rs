//! Secrets of organisations, read once for all streams that send them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use dvx_proto::SecretName;

use super::load::Loaded;
use crate::domain::{OrgId, Revision};
use crate::store::StoreError;

/// Values are in it for a second or two after a change, no longer: see [`clear`](Cache::clear).
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<(OrgId, SecretName), Arc<Cell>>>);

#[derive(Default)]
struct Cell {
    /// Taken by the one that reads, while others wait for what it finds.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Option<(Revision, Arc<Loaded>)>>,
}

impl Cell {
    fn at(&self, revision: Revision) -> Option<Arc<Loaded>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(as_of, _)| *as_of >= revision).map(|(_, loaded)| loaded.clone())
    }
}

impl Cache {
    /// What is known already of a secret at a revision or later.
    pub(crate) fn find(&self, org: &OrgId, name: &SecretName, revision: Revision) -> Option<Arc<Loaded>> {
        self.map().get(&(org.clone(), name.clone()))?.at(revision)
    }

    /// What a secret is at `revision` or later. What is read now is as of `newest`, or later.
    pub(crate) async fn get<F>(
        &self,
        org: &OrgId,
        name: &SecretName,
        revision: Revision,
        newest: Revision,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<Loaded>, StoreError>
    where
        F: Future<Output = Result<Loaded, StoreError>>,
    {
        let cell = self.map().entry((org.clone(), name.clone())).or_default().clone();
        if let Some(loaded) = cell.at(revision) {
            return Ok(loaded);
        }
        let _turn = cell.turn.lock().await;
        if let Some(loaded) = cell.at(revision) {
            return Ok(loaded);
        }
        let loaded = Arc::new(load().await?);
        *cell.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((newest, loaded.clone()));
        Ok(loaded)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.map().clear();
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<(OrgId, SecretName), Arc<Cell>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_secret_is_read_once_for_a_revision_and_again_for_a_later_one() {
        let (cache, reads) = (Cache::default(), AtomicUsize::new(0));
        let (org, name) = (OrgId::from("o".to_owned()), "S".parse::<SecretName>().unwrap());
        let get = async |revision, newest| {
            let load = || async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(Loaded::Gone)
            };
            cache.get(&org, &name, Revision(revision), Revision(newest), load).await.unwrap();
        };
        tokio::join!(get(1, 3), get(1, 3), get(3, 3));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        get(4, 4).await;
        get(2, 4).await;
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        cache.clear();
        get(2, 4).await;
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }
}
