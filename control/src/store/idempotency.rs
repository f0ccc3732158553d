//! Carrying a request out once, however often it comes.

use super::row::{Columns, micros, stored};
use super::transaction::Write;
use super::{Conflict, Result, Store, StoreError};
use crate::crypto::{Aad, Envelope};
use crate::domain::{Cause, Changed, Once, Repeatable, Revision, StoredAnswer};

impl Write<'_> {
    /// The answer to the same request, where it has come before. The organisation's row must be taken: so of two
    /// that come at once the second one waits for the first one's answer.
    pub(super) async fn repeated<T>(
        &mut self,
        cause: &Cause,
        once: Option<&Once<'_, T>>,
    ) -> Result<Option<StoredAnswer>> {
        let Some(once) = once else { return Ok(None) };
        let row = sqlx::query(
            "SELECT request, status, revision, kek_id, wrapped_key, body FROM idempotency \
             WHERE org_id = $1 AND actor = $2 AND key = $3",
        )
        .bind(cause.actor.org.as_str())
        .bind(cause.actor.name.as_str())
        .bind(once.key)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.blob("request")? != once.request {
            return Err(Conflict::KeyReused.into());
        }
        let status = row.number("status")?;
        let envelope = Envelope {
            kek: row.text("kek_id")?.into(),
            wrapped_key: row.blob("wrapped_key")?,
            value: row.blob("body")?,
        };
        let aad = aad(cause.actor.org.as_str(), &cause.actor.name, once.key, status);
        let kek = self.kek(&envelope.kek).await?;
        let body = kek.ok_or(()).and_then(|kek| envelope.open(&kek, &aad).map_err(drop));
        Ok(Some(StoredAnswer {
            status: u16::try_from(status).map_err(|_| StoreError::Corrupt("a status that there is not"))?,
            revision: row.revision("revision")?,
            body: body.map_err(|()| StoreError::Corrupt("an answer that does not open"))?,
        }))
    }

    /// Keeps the answer, in the transaction of what it answers to.
    pub(super) async fn remember<T>(
        &mut self,
        cause: &Cause,
        once: Option<&Once<'_, T>>,
        changed: &Changed<T>,
    ) -> Result<()> {
        let Some(once) = once else { return Ok(()) };
        let answer = (once.render)(changed);
        let status = i64::from(answer.status);
        let aad = aad(cause.actor.org.as_str(), &cause.actor.name, once.key, status);
        let kek = self.writing_kek().await?;
        let envelope = Envelope::seal(&kek, &aad, answer.body.expose_secret());
        sqlx::query(
            "INSERT INTO idempotency \
             (org_id, actor, key, request, status, revision, created_at, kek_id, wrapped_key, body) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(cause.actor.org.as_str())
        .bind(cause.actor.name.as_str())
        .bind(once.key)
        .bind(once.request.as_slice())
        .bind(status)
        .bind(stored(answer.revision.0))
        .bind(micros(cause.time))
        .bind(envelope.kek.as_str())
        .bind(envelope.wrapped_key)
        .bind(envelope.value)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

/// What takes more than one transaction is remembered by the id of what it began or made; the answer tells how that
/// stands now.
impl Store {
    /// What the same request made when it came before.
    pub(crate) async fn made_before(&self, cause: &Cause) -> Result<Option<String>> {
        if cause.repeatable.is_none() {
            return Ok(None);
        }
        let mut write = self.write().await?;
        write.lock(&cause.actor.org).await?;
        write.made_before(cause).await
    }

    /// Remembers what a request has come to that another one had begun.
    pub(crate) async fn remember_made(&self, cause: &Cause, id: &str) -> Result<()> {
        if cause.repeatable.is_none() {
            return Ok(());
        }
        let mut write = self.write().await?;
        write.lock(&cause.actor.org).await?;
        if write.made_before(cause).await?.is_none() {
            write.remember_made(cause, id).await?;
        }
        write.commit().await
    }
}

impl Write<'_> {
    /// The same, where the organisation's row is taken.
    pub(super) async fn made_before(&mut self, cause: &Cause) -> Result<Option<String>> {
        let once = once(cause);
        let Some(answer) = self.repeated(cause, once.as_ref()).await? else { return Ok(None) };
        let id = String::from_utf8(answer.body.expose_secret().to_vec());
        id.map(Some).map_err(|_| StoreError::Corrupt("an answer that is no id"))
    }

    /// Remembers what a request made, in the transaction that makes it.
    pub(super) async fn remember_made(&mut self, cause: &Cause, id: &str) -> Result<()> {
        let changed = Changed { revision: Revision(0), value: id.to_owned() };
        self.remember(cause, once(cause).as_ref(), &changed).await
    }
}

fn once(cause: &Cause) -> Option<Once<'_, String>> {
    let Repeatable { key, request } = cause.repeatable.as_ref()?;
    Some(Once { key, request: *request, render: &reference })
}

fn reference(made: &Changed<String>) -> StoredAnswer {
    StoredAnswer { status: 200, revision: made.revision, body: made.value.clone().into_bytes().into() }
}

/// What a stored answer is bound to.
pub(super) fn aad(org: &str, actor: &str, key: &str, status: i64) -> Aad {
    Aad::new("dvx idempotency 1").text(org).text(actor).text(key).number(status)
}
