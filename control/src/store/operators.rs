//! Operators.

use dvx_proto::OperatorName;
use dvx_proto::operator::{CreatedOperator, Operator, Page, Role};

use super::error::taken;
use super::row::{Columns, micros};
use super::transaction::{Write, only_number};
use super::{Conflict, Object, Result, Store, StoreError, auth};
use crate::crypto::PlainToken;
use crate::domain::{Cause, Changed, Event, Once, OrgId, Outcome, PageRequest};

impl Store {
    /// Makes an operator. Its token is in the answer, and nowhere else ever.
    pub async fn create_operator(
        &self,
        cause: &Cause,
        name: &OperatorName,
        role: Role,
        once: Option<Once<'_, CreatedOperator>>,
    ) -> Result<Outcome<CreatedOperator>> {
        let mut write = self.write().await?;
        let revision = write.lock(&cause.actor.org).await?;
        if let Some(answer) = write.repeated(cause, once.as_ref()).await? {
            return Ok(Outcome::Repeated(answer));
        }
        let token = PlainToken::operator();
        write.insert_operator(cause, name, role, &token).await?;
        let created = CreatedOperator { name: name.clone(), role, token: token.into_secret() };
        let changed = Changed { revision, value: created };
        write.remember(cause, once.as_ref(), &changed).await?;
        write.commit().await?;
        Ok(Outcome::Done(changed))
    }

    /// A page of the operators.
    pub async fn operators(&self, org: &OrgId, page: &PageRequest) -> Result<Page<Operator>> {
        let rows = sqlx::query(
            "SELECT name, role, created_at FROM operators WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(org.as_str())
        .bind(page.start())
        .bind(page.fetch())
        .fetch_all(&self.0.reader)
        .await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            let role = auth::role(&row.text("role")?)?;
            items.push(Operator { name: row.parsed("name")?, role, created_at: row.time("created_at")? });
        }
        Ok(page.cut(items, |operator| operator.name.to_string()))
    }

    /// Deletes an operator, unless it is the last admin. Its token is dead at once.
    pub async fn delete_operator(&self, cause: &Cause, name: &OperatorName) -> Result<Changed<()>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        let revision = write.lock(org).await?;
        let deleted = sqlx::query("DELETE FROM operators WHERE org_id = $1 AND name = $2")
            .bind(org.as_str())
            .bind(name.as_str())
            .execute(write.connection())
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NotFound(Object::Operator));
        }
        let admins = sqlx::query("SELECT COUNT(*) FROM operators WHERE org_id = $1 AND role = 'admin'")
            .bind(org.as_str())
            .fetch_one(write.connection())
            .await?;
        if only_number(&admins)? == 0 {
            return Err(Conflict::LastAdmin.into());
        }
        write.event(cause, Event::allowed("operator.delete", name.as_str())).await?;
        write.commit().await?;
        Ok(Changed { revision, value: () })
    }
}

impl Write<'_> {
    pub(super) async fn insert_operator(
        &mut self,
        cause: &Cause,
        name: &OperatorName,
        role: Role,
        token: &PlainToken,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO operators (id, org_id, name, role, token_hash, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        // Operators have no id type of their own: nothing but this row knows it.
        .bind(crate::domain::SecretId::generate(cause.time).as_str())
        .bind(cause.actor.org.as_str())
        .bind(name.as_str())
        .bind(role.as_str())
        .bind(token.hashed().as_bytes())
        .bind(micros(cause.time))
        .execute(self.connection())
        .await
        .map_err(taken(Object::Operator))?;
        let event =
            Event::allowed("operator.create", name.as_str()).because(Some(format!("role {}", role.as_str())));
        self.event(cause, event).await
    }
}
