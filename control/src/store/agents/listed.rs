//! An agent as operators see it.

use dvx_proto::agent::AgentState;
use dvx_proto::operator::{Agent, Selectors};
use sqlx::any::AnyRow;

use crate::store::row::Columns;
use crate::store::{Result, StoreError};

/// $1 is the organisation.
pub(in crate::store) const SELECT: &str = "SELECT a.id, a.name, e.name AS enclave, a.unix_user, a.gid, a.unit, a.cgroup, \
    a.acts_as, a.state, a.reason, a.created_at, a.revision, \
    (SELECT COUNT(*) FROM secrets s WHERE s.org_id = a.org_id AND s.agent_id = a.id AND s.credential = 1) \
    AS credentials, \
    (SELECT MIN(s.expires_at) FROM secrets s WHERE s.org_id = a.org_id AND s.agent_id = a.id \
    AND s.credential = 1) AS next_expiry \
    FROM agents a JOIN enclaves e ON e.id = a.enclave_id WHERE a.org_id = $1";

pub(super) fn read(row: &AnyRow) -> Result<Agent> {
    Ok(Agent {
        id: row.text("id")?,
        name: row.parsed("name")?,
        enclave: row.parsed("enclave")?,
        unix_user: row.parsed("unix_user")?,
        selectors: selectors(row)?,
        acts_as: row.optional_text("acts_as")?,
        state: state(&row.text("state")?)?,
        reason: row.optional_text("reason")?,
        created_at: row.time("created_at")?,
        credentials: row.count("credentials")?,
        next_expiry: row.optional_time("next_expiry")?,
        revision: row.count("revision")?,
    })
}

pub(super) fn selectors(row: &AnyRow) -> Result<Selectors> {
    let gid = row.optional_number("gid")?.map(u32::try_from).transpose();
    Ok(Selectors {
        gid: gid.map_err(|_| StoreError::Corrupt("a group that there cannot be"))?,
        unit: row.optional_text("unit")?,
        cgroup: row.optional_text("cgroup")?,
    })
}

pub(in crate::store) fn state(text: &str) -> Result<AgentState> {
    [AgentState::Active, AgentState::Isolated, AgentState::Revoked]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or(StoreError::Corrupt("a state that there is not"))
}
