//! The first organisation, its first admin, and what all of it is encrypted with.

use dvx_proto::operator::Role;
use dvx_proto::{OperatorName, without_trace};
use jiff::Timestamp;

use super::heads::head_key_aad;
use super::keys::KekRow;
use super::row::micros;
use super::transaction::Write;
use super::{Conflict, Result, Store, StoreError, backend};
use crate::crypto::{DataKey, Kek, PlainToken};
use crate::domain::{Cause, Event, OrgId};

impl Store {
    /// Makes the database where there is none, and an organisation with its admin, whose token is returned. All in
    /// one transaction: after a failure it can be repeated. An organisation that is there is a
    /// [`Conflict::AlreadyInitialised`].
    pub async fn init(
        url: &str,
        kek: Kek,
        organisation: &str,
        admin: &OperatorName,
        now: Timestamp,
    ) -> Result<PlainToken> {
        let store = Self::connect(backend::of(url)?, kek, now).await?;
        let token = store.init_organisation(organisation, admin, now).await;
        store.close().await;
        token
    }

    async fn init_organisation(
        &self,
        name: &str,
        admin: &OperatorName,
        now: Timestamp,
    ) -> Result<PlainToken> {
        self.migrate(now).await?;
        let mut write = self.write().await?;
        if let Some(lock) = self.0.backend.migration_lock() {
            sqlx::query(lock).execute(write.connection()).await?;
        }
        let there = sqlx::query("SELECT id FROM organisations WHERE name = $1")
            .bind(name)
            .fetch_optional(write.connection())
            .await?;
        if there.is_some() {
            return Err(Conflict::AlreadyInitialised.into());
        }
        let kek = write.first_kek(now).await?;
        let org = OrgId::generate(now);
        let head_key = without_trace(|| DataKey::generate().wrapped_under(&kek, &head_key_aad(org.as_str())));
        sqlx::query(
            "INSERT INTO organisations (id, name, revision, events, pruned, head_key, kek_id, created_at) \
             VALUES ($1, $2, 0, 0, 0, $3, $4, $5)",
        )
        .bind(org.as_str())
        .bind(name)
        .bind(head_key)
        .bind(kek.id().as_str())
        .bind(micros(now))
        .execute(write.connection())
        .await?;
        let cause = Cause::system(org, name.to_owned(), now);
        write.event(&cause, Event::allowed("organisation.create", name)).await?;
        let token = PlainToken::operator();
        write.insert_operator(&cause, admin, Role::Admin, &token).await?;
        write.commit().await?;
        Ok(token)
    }
}

impl Write<'_> {
    /// The KEK in force; ours where there is none yet.
    async fn first_kek(&mut self, now: Timestamp) -> Result<Kek> {
        let rows = self.kek_rows().await?;
        if !rows.is_empty() {
            return self.writing_kek().await;
        }
        let kek = self.store().0.keyring.held().first().cloned().ok_or(StoreError::Corrupt("no KEK"))?;
        self.insert_kek(&kek, "current", None, now).await?;
        Ok(kek)
    }

    pub(super) async fn kek_rows(&mut self) -> Result<Vec<KekRow>> {
        let rows = sqlx::query(super::keys::SELECT).fetch_all(self.connection()).await?;
        rows.iter().map(KekRow::read).collect()
    }

    pub(super) async fn insert_kek(
        &mut self,
        kek: &Kek,
        state: &str,
        wrapped: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<()> {
        // One that was in force before may be again.
        sqlx::query("DELETE FROM keks WHERE id = $1 AND state = 'retired'")
            .bind(kek.id().as_str())
            .execute(self.connection())
            .await?;
        sqlx::query("INSERT INTO keks (id, state, probe, wrapped, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(kek.id().as_str())
            .bind(state)
            .bind(kek.probe())
            .bind(wrapped)
            .bind(micros(now))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
