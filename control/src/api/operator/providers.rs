//! Credential providers: privileged identities that make one for each agent.

use std::time::Duration;

use dvx_gitlab::GroupRef;
use dvx_proto::operator::{
    CreateCredentialProvider, CredentialProvider, CredentialProviderStatus, Debt, Page, ProvisioningMode,
    RotateCredentialProvider,
};
use hyper::StatusCode;

use super::integrations::token;
use super::page::PageQuery;
use crate::domain::{self, Mode};
use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::error::Refusal;
use crate::integrations::{ProviderRequest, public_instance};

/// What a name has at most: it stands in paths and in tables.
const MAX_NAME_BYTES: usize = 64;

/// Below an hour a token would be replaced all the time; above a year GitLab's end before.
const ROTATE_EVERY: std::ops::RangeInclusive<u64> = 60 * 60..=365 * 24 * 60 * 60;

/// The credential providers, without their tokens.
#[utoipa::path(
    get, path = "/api/v1/credential-providers", operation_id = "list_credential_providers", params(PageQuery),
    responses((status = 200, body = Page<CredentialProvider>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    let Page { items, next } = call.app().integrations.provider_list(call.org(), &page).await?;
    answer::json(&Page { items: items.into_iter().map(shown).collect(), next })
}

/// Make a credential provider, after the instance has said that the token is an Owner's of the group.
#[utoipa::path(
    post, path = "/api/v1/credential-providers", operation_id = "create_credential_provider",
    request_body = CreateCredentialProvider, responses((status = 201, body = CredentialProvider))
)]
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let given: CreateCredentialProvider = call.json()?;
    if given.provider.as_str() != "gitlab" {
        return Err(Refusal::bad_request("identities are made at gitlab only"));
    }
    check_name(&given.name)?;
    if given.rotate_every_seconds.is_some_and(|seconds| !ROTATE_EVERY.contains(&seconds)) {
        return Err(Refusal::bad_request("rotate_every_seconds is an hour to a year"));
    }
    let group: GroupRef =
        given.group_id.parse().map_err(|error| Refusal::bad_request(format!("group_id: {error}")))?;
    let instance_url = match given.instance_url {
        Some(url) => url,
        None => public_instance(&given.provider)?,
    };
    let request = ProviderRequest {
        name: given.name,
        instance_url,
        group,
        mode: match given.provisioning_mode {
            ProvisioningMode::ServiceAccount => Mode::ServiceAccount,
            ProvisioningMode::ProjectAccessToken => Mode::ProjectAccessToken,
        },
        rotate_every: given.rotate_every_seconds.map(Duration::from_secs),
        token: token(&given.token)?,
    };
    let created = call.app().integrations.provider_create(&call.cause_once(), request).await?;
    answer::json_with(StatusCode::CREATED, &shown(created))
}

/// Give a credential provider another token, after the same checks. What it has made stays as it is.
#[utoipa::path(
    post, path = "/api/v1/credential-providers/{provider}/rotate", operation_id = "rotate_credential_provider",
    request_body = RotateCredentialProvider,
    params(("provider" = String, Path, description = "Its id or name")),
    responses((status = 200, body = CredentialProvider))
)]
pub(crate) async fn rotate(call: Call) -> Answer {
    call.no_query()?;
    let id: String = call.name(0, "credential provider")?;
    let given: RotateCredentialProvider = call.json()?;
    let token = token(&given.token)?;
    let rotated = call.app().integrations.provider_rotate(&call.cause_once(), &id, token).await?;
    answer::json(&shown(rotated))
}

/// Delete a credential provider that no agent uses.
#[utoipa::path(
    delete, path = "/api/v1/credential-providers/{provider}", operation_id = "delete_credential_provider",
    params(("provider" = String, Path, description = "Its id or name")), responses((status = 204))
)]
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    let id: String = call.name(0, "credential provider")?;
    call.app().integrations.provider_delete(&call.cause(), &id).await?;
    Ok(answer::no_content())
}

/// What is still to be removed at providers. That is tried again and again.
#[utoipa::path(
    get, path = "/api/v1/credential-providers/debts", operation_id = "list_debts", params(PageQuery),
    responses((status = 200, body = Page<Debt>))
)]
pub(crate) async fn debts(call: Call) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    let Page { items, next } = call.app().integrations.debts(call.org(), &page).await?;
    answer::json(&Page { items: items.into_iter().map(owed).collect(), next })
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    // The list of debts has the path that a provider of this name would have.
    if !begins || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) || name == "debts" {
        let detail =
            "a credential provider's name is 1 to 64 lower-case letters, digits, - _ and ., and not debts";
        return Err(Refusal::bad_request(detail));
    }
    Ok(())
}

fn shown(provider: domain::CredentialProvider) -> CredentialProvider {
    CredentialProvider {
        id: provider.id.to_string(),
        name: provider.name,
        provider: provider.provider,
        instance_url: provider.instance_url,
        group_id: provider.group.0,
        provisioning_mode: match provider.mode {
            Mode::ServiceAccount => ProvisioningMode::ServiceAccount,
            Mode::ProjectAccessToken => ProvisioningMode::ProjectAccessToken,
        },
        rotate_every_seconds: provider.rotate_every.map(|time| time.as_secs()),
        status: match provider.inactive {
            None => CredentialProviderStatus::Active,
            Some(_) => CredentialProviderStatus::Inactive,
        },
        reason: provider.inactive,
        token_expires_at: provider.token_expires_at,
        next_rotation_at: provider.next_rotation_at,
        agents: provider.agents,
        created_at: provider.created_at,
    }
}

fn owed(debt: domain::Debt) -> Debt {
    Debt {
        id: debt.id.to_string(),
        agent: debt.agent,
        credential_provider: debt.credential_provider,
        kind: debt.kind.to_owned(),
        name: debt.name,
        since: debt.since,
        attempts: debt.attempts.into(),
        next_at: debt.next_at,
        error: Some(debt.why),
    }
}
