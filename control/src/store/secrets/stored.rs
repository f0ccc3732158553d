//! Rows of secrets, and what their values are bound to.

use dvx_proto::agent::AuthType;
use sqlx::any::AnyRow;

use crate::crypto::{Aad, Envelope};
use crate::domain::{Head, Metadata, Place, SecretId, StoredSecret};
use crate::store::row::{Columns, micros};
use crate::store::{Result, StoreError};

/// What [`read`] needs.
pub(in crate::store) const COLUMNS: &str = "s.org_id, s.agent_id, s.name, s.id, s.agent_accessible, s.version, \
    s.display_name, s.auth_type, s.instance_url, s.expires_at, s.credential, s.kek_id, s.wrapped_key, s.value, \
    a.name AS agent, h.secret_id AS head_secret, h.version AS head_version, h.deleted AS head_deleted, \
    h.mac AS head_mac";

/// Where it comes from.
pub(in crate::store) const FROM: &str = "FROM secrets s LEFT JOIN agents a ON a.id = s.agent_id \
    LEFT JOIN secret_heads h ON h.org_id = s.org_id AND h.agent_id = s.agent_id AND h.name = s.name";

/// What a value is bound to: all that is known of it.
pub(in crate::store) fn aad(
    place: &Place,
    id: &SecretId,
    metadata: &Metadata,
    credential: bool,
    version: i64,
) -> Aad {
    let Metadata { agent_accessible, display_name, auth_type, instance_url, expires_at } = metadata;
    Aad::new("dvx secret 1")
        .text(place.org.as_str())
        .text(if place.agent.is_some() { "agent" } else { "org" })
        .text(place.agent_id())
        .text(place.name.as_str())
        .text(id.as_str())
        .number(i64::from(*agent_accessible))
        .number(i64::from(credential))
        .number(version)
        .optional(display_name.as_deref())
        .optional(auth_type.map(AuthType::as_str))
        .optional(instance_url.as_ref().map(ToString::to_string).as_deref())
        .optional(expires_at.map(|time| micros(time).to_string()).as_deref())
}

/// Reads each; rows that no name can be made of are left out, since nobody can ask for them.
pub(in crate::store) fn read_all(rows: &[AnyRow]) -> Result<Vec<StoredSecret>> {
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}

/// Reads one. What was edited into something that cannot be makes it unreadable, and nothing else.
pub(in crate::store) fn read(row: &AnyRow) -> Result<Option<StoredSecret>> {
    let Ok(name) = row.parsed("name") else {
        tracing::error!("a row of the table secrets has a name that no secret can have");
        return Ok(None);
    };
    let agent_id = row.text("agent_id")?;
    let agent = match (agent_id.as_str(), row.optional_text("agent")?) {
        ("", _) => None,
        (_, Some(agent)) => {
            let agent = agent.parse().map_err(|_| StoreError::Corrupt("an agent's name"))?;
            Some((agent_id.into(), agent))
        }
        // Of an agent that there is not.
        (_, None) => return Ok(None),
    };
    let metadata = metadata(row);
    let version = row.number("version").ok().and_then(|version| u64::try_from(version).ok());
    let credential = row.flag("credential");
    let envelope = envelope(row);
    let malformed = metadata.is_err() || version.is_none() || credential.is_err() || envelope.is_err();
    Ok(Some(StoredSecret {
        id: row.text("id")?.into(),
        place: Place { org: row.text("org_id")?.into(), agent, name },
        metadata: metadata.unwrap_or(Metadata {
            agent_accessible: false,
            display_name: None,
            auth_type: None,
            instance_url: None,
            expires_at: None,
        }),
        credential: credential.unwrap_or(false),
        version: version.unwrap_or(0),
        envelope: envelope.unwrap_or_else(|_| Envelope {
            kek: String::new().into(),
            wrapped_key: Vec::new(),
            value: Vec::new(),
        }),
        head: head(row).unwrap_or(None),
        malformed,
    }))
}

pub(in crate::store) fn metadata(row: &AnyRow) -> Result<Metadata> {
    let auth_type = row.optional_text("auth_type")?.map(|text| auth_type(&text)).transpose()?;
    let instance_url = match row.optional_text("instance_url")? {
        Some(_) => Some(row.parsed("instance_url")?),
        None => None,
    };
    Ok(Metadata {
        agent_accessible: row.flag("agent_accessible")?,
        display_name: row.optional_text("display_name")?,
        auth_type,
        instance_url,
        expires_at: row.optional_time("expires_at")?,
    })
}

fn auth_type(text: &str) -> Result<AuthType> {
    [AuthType::Pat, AuthType::ServiceAccount, AuthType::ProjectAccessToken]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or(StoreError::Corrupt("a kind of token that there is not"))
}

fn envelope(row: &AnyRow) -> Result<Envelope> {
    Ok(Envelope {
        kek: row.text("kek_id")?.into(),
        wrapped_key: row.blob("wrapped_key")?,
        value: row.blob("value")?,
    })
}

fn head(row: &AnyRow) -> Result<Option<Head>> {
    let Some(mac) = row.optional_blob("head_mac")? else { return Ok(None) };
    Ok(Some(Head {
        secret: row.text("head_secret")?.into(),
        version: row.number("head_version")?,
        deleted: row.flag("head_deleted")?,
        mac,
    }))
}
