//! Agents and integrations, as tables.

use dvx_proto::RemoteUrl;
use dvx_proto::agent::AgentState;
use dvx_proto::operator::{Agent, Integration, IntegrationStatus};
use jiff::{SignedDuration, Timestamp};

use crate::output::{Cell, Table};
use crate::{clock, times};

/// A credential that ends within this time wants to be looked at.
pub(in crate::commands) const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(in crate::commands) fn agents(agents: &[Agent]) -> Table {
    let mut table = Table::new(["NAME", "ENCLAVE", "USER", "STATE", "CREDENTIALS", "NEXT EXPIRY", "REASON"]);
    for agent in agents {
        table.push([
            Cell::new(agent.name.as_str()),
            Cell::new(agent.enclave.as_str()),
            Cell::new(agent.unix_user.as_str()),
            state(agent.state),
            Cell::number(agent.credentials),
            expiry(agent.next_expiry, clock::wall()),
            Cell::maybe(agent.reason.as_deref()),
        ]);
    }
    table
}

pub(super) fn properties(agent: &Agent) -> Table {
    let selectors = &agent.selectors;
    let mut table = Table::properties();
    let rows = [
        ("name", Cell::new(agent.name.as_str())),
        ("id", Cell::new(&agent.id)),
        ("enclave", Cell::new(agent.enclave.as_str())),
        ("unix user", Cell::new(agent.unix_user.as_str())),
        ("gid", Cell::maybe(selectors.gid.map(|gid| gid.to_string()))),
        ("unit", Cell::maybe(selectors.unit.as_deref())),
        ("cgroup", Cell::maybe(selectors.cgroup.as_deref())),
        ("acts as", Cell::maybe(agent.acts_as.as_deref())),
        ("state", state(agent.state)),
        ("reason", Cell::maybe(agent.reason.as_deref())),
        ("created", Cell::new(times::shown(agent.created_at))),
        ("credentials", Cell::number(agent.credentials)),
        ("next expiry", expiry(agent.next_expiry, clock::wall())),
        ("revision", Cell::number(agent.revision)),
    ];
    for (name, value) in rows {
        table.push([Cell::new(name), value]);
    }
    table
}

pub(in crate::commands) fn integrations(integrations: &[Integration]) -> Table {
    let mut table = Table::new(["PROVIDER", "TYPE", "NAME", "INSTANCE", "SCOPES", "EXPIRES", "STATUS"]);
    for integration in integrations {
        table.push([
            Cell::new(integration.provider.as_str()),
            Cell::new(integration.auth_type.as_str()),
            Cell::new(&integration.display_name),
            Cell::maybe(integration.instance_url.as_ref().map(RemoteUrl::to_string)),
            Cell::maybe(integration.scopes.as_ref().map(|scopes| scopes.join(" "))),
            expiry(integration.expires_at, clock::wall()),
            match (integration.status, &integration.cause) {
                (IntegrationStatus::Active, _) => Cell::new("active").good(),
                (IntegrationStatus::Invalid, None) => Cell::new("invalid").bad(),
                (IntegrationStatus::Invalid, Some(cause)) => Cell::new(format!("invalid: {cause}")).bad(),
            },
        ]);
    }
    table
}

pub(in crate::commands) fn state(state: AgentState) -> Cell {
    let cell = Cell::new(state.as_str());
    match state {
        AgentState::Active => cell.good(),
        AgentState::Isolated => cell.warning(),
        AgentState::Revoked => cell.bad(),
    }
}

/// When something ends.
pub(in crate::commands) fn expiry(end: Option<Timestamp>, now: Timestamp) -> Cell {
    let cell = Cell::maybe(end.map(times::shown));
    match end.map(|end| end.duration_since(now)) {
        Some(left) if left <= SignedDuration::ZERO => cell.bad(),
        Some(left) if left <= SOON => cell.warning(),
        _ => cell,
    }
}
