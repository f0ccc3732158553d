//! Secrets, of an agent or of the organisation. Their values come in and are never given back.

use dvx_proto::limits::MAX_SECRET_BYTES;
use dvx_proto::operator::{Page, SecretInfo, SetSecret};
use dvx_proto::{AgentName, SecretName, Token};
use hyper::StatusCode;

use super::page::PageQuery;
use crate::domain::{Metadata, NewSecret};
use crate::http::answer::{self, Answer};
use crate::http::body::value_too_large;
use crate::http::call::{Call, text};
use crate::http::error::Refusal;

/// The longest name of an identity at a provider.
const MAX_DISPLAY_NAME_BYTES: usize = 255;

/// A page of the organisation's secrets, without their values.
#[utoipa::path(
    get, path = "/api/v1/secrets", operation_id = "list_secrets", params(PageQuery),
    responses((status = 200, body = Page<SecretInfo>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    list_in(&call, None).await
}

/// Set a secret of the organisation: every agent has it that has none of this name itself.
#[utoipa::path(
    put, path = "/api/v1/secrets/{secret}", operation_id = "set_secret", request_body = SetSecret,
    params(("secret" = SecretName, Path, description = "Its name")),
    responses(
        (status = 200, description = "It was set again", body = SecretInfo),
        (status = 201, description = "There was none", body = SecretInfo)
    )
)]
pub(crate) async fn set(call: Call) -> Answer {
    set_in(&call, None, 0).await
}

/// Delete a secret of the organisation.
#[utoipa::path(
    delete, path = "/api/v1/secrets/{secret}", operation_id = "delete_secret",
    params(("secret" = SecretName, Path, description = "Its name")), responses((status = 204))
)]
pub(crate) async fn delete(call: Call) -> Answer {
    delete_in(&call, None, 0).await
}

/// A page of an agent's own secrets, without their values.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent}/secrets", operation_id = "list_agent_secrets",
    params(("agent" = AgentName, Path, description = "Whose"), PageQuery),
    responses((status = 200, body = Page<SecretInfo>))
)]
pub(crate) async fn list_of_agent(call: Call) -> Answer {
    let agent = call.name(0, "agent")?;
    list_in(&call, Some(&agent)).await
}

/// Set a secret of an agent.
#[utoipa::path(
    put, path = "/api/v1/agents/{agent}/secrets/{secret}", operation_id = "set_agent_secret",
    request_body = SetSecret,
    params(
        ("agent" = AgentName, Path, description = "Whose"),
        ("secret" = SecretName, Path, description = "Its name")
    ),
    responses(
        (status = 200, description = "It was set again", body = SecretInfo),
        (status = 201, description = "There was none", body = SecretInfo)
    )
)]
pub(crate) async fn set_of_agent(call: Call) -> Answer {
    let agent = call.name(0, "agent")?;
    set_in(&call, Some(&agent), 1).await
}

/// Delete a secret of an agent.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent}/secrets/{secret}", operation_id = "delete_agent_secret",
    params(
        ("agent" = AgentName, Path, description = "Whose"),
        ("secret" = SecretName, Path, description = "Its name")
    ),
    responses((status = 204))
)]
pub(crate) async fn delete_of_agent(call: Call) -> Answer {
    let agent = call.name(0, "agent")?;
    delete_in(&call, Some(&agent), 1).await
}

async fn list_in(call: &Call, agent: Option<&AgentName>) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    answer::json(&call.app().store.secrets(call.org(), agent, &page).await?)
}

async fn set_in(call: &Call, agent: Option<&AgentName>, name: usize) -> Answer {
    call.no_query()?;
    let secret = secret(call.new_name(name)?, call.json()?)?;
    let set = call.app().store.set_secret(&call.cause(), agent, secret).await?;
    let status = if set.value.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer::at(set.revision, answer::json_with(status, &set.value.info)?))
}

async fn delete_in(call: &Call, agent: Option<&AgentName>, name: usize) -> Answer {
    call.no_query()?;
    let name: SecretName = call.name(name, "secret")?;
    let changed = call.app().store.delete_secret(&call.cause(), agent, &name).await?;
    Ok(answer::at(changed.revision, answer::no_content()))
}

/// What is to be set, if it goes together.
fn secret(name: SecretName, given: SetSecret) -> Result<NewSecret, Refusal> {
    let SetSecret { value, agent_accessible, display_name, auth_type, instance_url, expires_at } = given;
    if value.expose_secret().len() > MAX_SECRET_BYTES {
        return Err(value_too_large());
    }
    let metadata = Metadata { agent_accessible, display_name, auth_type, instance_url, expires_at };
    let secret = NewSecret { name, value, metadata };
    if secret.is_credential() {
        check_credential(&secret)?;
    } else {
        refuse_metadata(&secret.metadata)?;
    }
    Ok(secret)
}

/// A provider's token goes into headers and into git's protocol.
fn check_credential(secret: &NewSecret) -> Result<(), Refusal> {
    // Brokers take a token as it is, so not even one line end may follow it.
    let value = secret.value.expose_secret();
    let token = Token::locate(value).map_err(|error| Refusal::bad_request(error.to_string()))?;
    if token.len() != value.len() {
        return Err(Refusal::bad_request("the token ends with a line end"));
    }
    if let Some(name) = &secret.metadata.display_name {
        text("display_name", name, MAX_DISPLAY_NAME_BYTES)?;
    }
    Ok(())
}

fn refuse_metadata(metadata: &Metadata) -> Result<(), Refusal> {
    let Metadata { agent_accessible: _, display_name, auth_type, instance_url, expires_at } = metadata;
    let given = [
        ("display_name", display_name.is_some()),
        ("auth_type", auth_type.is_some()),
        ("instance_url", instance_url.is_some()),
        ("expires_at", expires_at.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((member, _)) => Err(Refusal::bad_request(format!(
            "{member} is only for a provider's token: a secret named PROVIDER:token with agent_accessible false"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use dvx_proto::Code;

    use super::*;

    fn set(name: &str, body: &str) -> Result<NewSecret, Refusal> {
        secret(name.parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn what_is_known_of_a_token_is_for_tokens_that_agents_must_not_access() {
        let about = r#"{"value":"glpat-1","agent_accessible":false,"display_name":"me"}"#;
        assert!(set("gitlab:token", about).unwrap().is_credential());
        assert!(set("gitlab:token", r#"{"value":"any thing"}"#).is_ok());
        for (name, body) in [
            ("DATABASE_URL", about),
            ("gitlab:token", r#"{"value":"glpat-1","display_name":"me"}"#),
            ("gitlab:token", r#"{"value":"glpat-1","auth_type":"pat"}"#),
            ("x", r#"{"value":"1","agent_accessible":false,"instance_url":"https://gitlab.com"}"#),
            ("x", r#"{"value":"1","agent_accessible":false,"expires_at":"2030-01-01T00:00:00Z"}"#),
        ] {
            assert_eq!(set(name, body).unwrap_err().code, Code::BadRequest, "{name} {body}");
        }
    }

    #[test]
    fn a_token_is_one_word() {
        for value in ["", "a b", "a\\n", "a\\u0000", "é", "a\\r\\n"] {
            let body = format!(r#"{{"value":"{value}","agent_accessible":false}}"#);
            let refusal = set("gitlab:token", &body).unwrap_err();
            assert_eq!(refusal.code, Code::BadRequest, "{value}");
        }
    }

    #[test]
    fn a_value_above_the_limit_is_refused_with_the_limit() {
        let body = |length| format!(r#"{{"value":"{}"}}"#, "x".repeat(length));
        assert!(set("x", &body(MAX_SECRET_BYTES)).is_ok());
        let refusal = set("x", &body(MAX_SECRET_BYTES + 1)).unwrap_err();
        assert_eq!(refusal.code, Code::BodyTooLarge);
        assert!(refusal.detail.contains("at most 65536 bytes"));
    }
}
