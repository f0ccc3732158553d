//! The links of agents to providers.

use dvx_gitlab::{AccessLevel, ProjectId};
use dvx_proto::operator::{Integration, LinkIntegration, Operation, Page, Unlinked};
use dvx_proto::{AgentName, ProviderName, RemoteUrl, Secret, Token};
use hyper::StatusCode;
use zeroize::Zeroizing;

use super::operations::begun;
use super::page::PageQuery;
use crate::domain::Event;
use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::error::Refusal;
use crate::integrations::IntegrationError;

/// A page of an agent's integrations.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent}/integrations", operation_id = "list_integrations",
    params(("agent" = AgentName, Path, description = "Whose"), PageQuery),
    responses((status = 200, body = Page<Integration>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    let agent: AgentName = call.name(0, "agent")?;
    let mut items = call.app().store.integrations(call.org(), &agent).await?;
    // An agent has one for each provider at the most, so all of them are at hand.
    items.retain(|item| page.after.as_deref().is_none_or(|after| item.provider.as_str() > after));
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let is_cut = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| is_cut).map(|item| item.provider.to_string());
    answer::json(&Page { items, next })
}

/// How an agent is to be linked: the two ways do not mix.
enum Way {
    Token { token: Token, instance_url: Option<RemoteUrl> },
    Minted { credential_provider: String, project: Option<ProjectId>, access_level: Option<AccessLevel> },
}

/// Link an agent to a provider: with a token, which is stored once the provider has said that it is good, or with
/// an identity that a credential provider makes. That may take longer than an answer should: then the answer is
/// 202, and the operation tells how it goes on.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/integrations/{provider}", operation_id = "link_integration",
    request_body = LinkIntegration,
    params(
        ("agent" = AgentName, Path, description = "Which"),
        ("provider" = ProviderName, Path, description = "gitlab or github")
    ),
    responses(
        (status = 201, description = "It is linked with the token", body = Integration),
        (status = 200, description = "It has an identity that was made for it", body = Operation),
        (status = 202, description = "An identity is being made", body = Operation)
    )
)]
pub(crate) async fn link(call: Call) -> Answer {
    call.no_query()?;
    let (agent, provider) = (call.name(0, "agent")?, call.name(1, "provider")?);
    let way = way(&provider, call.json()?)?;
    match way {
        Way::Token { token, instance_url } => with_token(&call, &agent, &provider, token, instance_url).await,
        Way::Minted { credential_provider, project, access_level } => {
            let (cause, integrations) = (call.cause_once(), &call.app().integrations);
            let linked =
                integrations.link_minted(&cause, &agent, &credential_provider, project, access_level);
            begun(linked.await?)
        }
    }
}

/// Unlink an agent: its token is gone here at once, at its broker when that confirms, for which the answer waits up
/// to ten seconds, and what was made for it at the provider as soon as that answers.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent}/integrations/{provider}", operation_id = "unlink_integration",
    params(
        ("agent" = AgentName, Path, description = "Which"),
        ("provider" = ProviderName, Path, description = "gitlab or github")
    ),
    responses((status = 200, body = Unlinked))
)]
pub(crate) async fn unlink(call: Call) -> Answer {
    call.no_query()?;
    let (agent, provider) = (call.name(0, "agent")?, call.name(1, "provider")?);
    let outcome = call.app().integrations.unlink(&call.cause(), &agent, &provider).await?;
    let unlinked = Unlinked { warning: outcome.warning, missing: outcome.missing };
    Ok(answer::at(outcome.revision, answer::json(&unlinked)?))
}

/// Replace the token of an identity that a credential provider has made.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/integrations/{provider}/rotate", operation_id = "rotate_integration",
    params(
        ("agent" = AgentName, Path, description = "Whose"),
        ("provider" = ProviderName, Path, description = "gitlab")
    ),
    responses(
        (status = 200, description = "It was replaced", body = Operation),
        (status = 202, description = "It is being replaced", body = Operation)
    )
)]
pub(crate) async fn rotate(call: Call) -> Answer {
    call.no_query()?;
    let (agent, provider) = (call.name(0, "agent")?, call.name(1, "provider")?);
    begun(call.app().integrations.rotate(&call.cause_once(), &agent, &provider).await?)
}

async fn with_token(
    call: &Call,
    agent: &AgentName,
    provider: &ProviderName,
    token: Token,
    instance_url: Option<RemoteUrl>,
) -> Answer {
    let cause = call.cause_once();
    let linked = call.app().integrations.link_pat(&cause, agent, provider, token, instance_url).await;
    if let Err(IntegrationError::Check(error)) = &linked {
        let subject = Some(format!("{provider}:token"));
        let event = Event::denied("integration.link", subject, error.to_string()).about(agent.as_str());
        call.app().store.append_event(&cause, event).await?;
    }
    let revision = linked?;
    let all = call.app().store.integrations(call.org(), agent).await?;
    let integration = all.into_iter().find(|integration| integration.provider == *provider);
    let integration = integration.ok_or_else(|| Refusal::not_found("integration"))?;
    Ok(answer::at(revision, answer::json_with(StatusCode::CREATED, &integration)?))
}

fn way(provider: &ProviderName, given: LinkIntegration) -> Result<Way, Refusal> {
    let LinkIntegration { token: value, instance_url, credential_provider, project_id, access_level } = given;
    match (value, credential_provider) {
        (Some(value), None) => {
            if project_id.is_some() || access_level.is_some() {
                return Err(Refusal::bad_request(
                    "project_id and access_level are for identities that a credential provider makes",
                ));
            }
            Ok(Way::Token { token: token(&value)?, instance_url })
        }
        (None, Some(credential_provider)) => {
            if instance_url.is_some() {
                return Err(Refusal::bad_request("the credential provider says which instance it is"));
            }
            if provider.as_str() != "gitlab" {
                return Err(Refusal::bad_request("credential providers make identities at gitlab only"));
            }
            let access_level = access_level.map(|level| {
                AccessLevel::from_number(level)
                    .ok_or_else(|| Refusal::bad_request("access_level is 10, 15, 20, 30, 40 or 50"))
            });
            let project = project_id.map(ProjectId);
            Ok(Way::Minted { credential_provider, project, access_level: access_level.transpose()? })
        }
        _ => Err(Refusal::bad_request("either a token or a credential_provider is needed, and not both")),
    }
}

/// A token goes into headers and into git's protocol, and is taken as it is: not even one line end may follow it.
pub(super) fn token(value: &Secret) -> Result<Token, Refusal> {
    let bytes = value.expose_secret();
    let range = Token::locate(bytes).map_err(|error| Refusal::bad_request(error.to_string()))?;
    if range.len() != bytes.len() {
        return Err(Refusal::bad_request("the token ends with a line end"));
    }
    Token::try_from(Zeroizing::new(bytes.to_vec())).map_err(|error| Refusal::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use dvx_proto::Code;

    use super::*;

    fn body(json: &str) -> Result<Way, Refusal> {
        way(&"gitlab".parse().unwrap(), serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_two_ways_of_linking_do_not_mix() {
        assert!(matches!(body(r#"{"token":"glpat-x"}"#), Ok(Way::Token { .. })));
        let minted = r#"{"credential_provider":"p","project_id":7,"access_level":30}"#;
        assert!(matches!(body(minted), Ok(Way::Minted { .. })));
        for bad in [
            "{}",
            r#"{"token":"glpat-x","credential_provider":"p"}"#,
            r#"{"token":"glpat-x","project_id":7}"#,
            r#"{"token":"glpat-x","access_level":30}"#,
            r#"{"credential_provider":"p","instance_url":"https://gitlab.example"}"#,
            r#"{"credential_provider":"p","access_level":31}"#,
            r#"{"token":""}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":"a\n"}"#,
        ] {
            assert_eq!(body(bad).err().map(|refusal| refusal.code), Some(Code::BadRequest), "{bad}");
        }
        let minted = serde_json::from_str(minted).unwrap();
        assert!(way(&"github".parse().unwrap(), minted).is_err());
    }
}
