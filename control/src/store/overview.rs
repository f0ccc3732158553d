//! An organisation in numbers.

use dvx_proto::agent::AgentState;
use dvx_proto::operator::Overview;
use jiff::Timestamp;

use super::row::Columns;
use super::{Result, Store, agents};
use crate::domain::{OrgId, Organisation};

impl Store {
    /// How many agents there are in which state.
    pub async fn overview(&self, org: &OrgId, version: &str, now: Timestamp) -> Result<Overview> {
        let row = sqlx::query("SELECT id, name, revision FROM organisations WHERE id = $1")
            .bind(org.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        let row = row.ok_or(super::StoreError::NotFound(super::Object::Organisation))?;
        let organisation =
            Organisation { id: org.clone(), name: row.text("name")?, revision: row.revision("revision")? };
        let rows =
            sqlx::query("SELECT state, COUNT(*) AS number FROM agents WHERE org_id = $1 GROUP BY state")
                .bind(org.as_str())
                .fetch_all(&self.0.reader)
                .await?;
        let mut overview = Overview {
            version: version.to_owned(),
            organisation: organisation.name,
            revision: organisation.revision.0,
            active: 0,
            isolated: 0,
            revoked: 0,
            attention: self.attention(org, now).await?,
        };
        for row in &rows {
            let count = row.count("number")?;
            match agents::parse_state(&row.text("state")?)? {
                AgentState::Active => overview.active = count,
                AgentState::Isolated => overview.isolated = count,
                AgentState::Revoked => overview.revoked = count,
            }
        }
        Ok(overview)
    }
}
