//! The description of the operator API, for programs that read such a thing (OpenAPI 3.1).
//!
//! Paths and types come from the handlers and from `dvx-proto`; what holds for all of them is added here.

use std::sync::OnceLock;

use axum::body::Body;
use bytes::Bytes;
use dvx_proto::operator::{IDEMPOTENCY_KEY, REVISION};
use dvx_proto::{PROBLEM_MEDIA_TYPE, Problem};
use hyper::StatusCode;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder, Schema, SecurityRequirement};
use utoipa::{Modify, OpenApi};

use crate::api::operator::{
    ROUTES, agents, audit, deliveries, enclaves, integrations, operations, operators, overview, providers,
    secrets,
};
use crate::http::answer::{self, Answer};
use crate::http::body::Accepts;
use crate::http::router::Route;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "dvx operator API",
        description = "Agents, their secrets and enclaves, and who may have what. Values of secrets go in and never \
                       come back.",
        license(name = "MIT", identifier = "MIT")
    ),
    paths(
        overview::whoami, overview::overview,
        operators::list, operators::create, operators::delete,
        enclaves::list, enclaves::create, enclaves::get, enclaves::delete,
        agents::list, agents::create, agents::get, agents::delete,
        agents::isolate, agents::restore, agents::revoke, agents::reprovision,
        integrations::list, integrations::link, integrations::unlink, integrations::rotate,
        operations::get,
        providers::list, providers::create, providers::debts, providers::delete, providers::rotate,
        secrets::list, secrets::set, secrets::delete,
        secrets::list_of_agent, secrets::set_of_agent, secrets::delete_of_agent,
        deliveries::get,
        audit::list, audit::export,
        description
    ),
    components(schemas(Problem)),
    modifiers(&Common)
)]
struct Description;

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"))
)]
#[expect(dead_code, reason = "the router answers it before there is a call; this is what describes it")]
fn description() {}

/// The description as JSON, the same each time.
pub(crate) fn text() -> String {
    let mut text = Description::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

pub(crate) fn answer() -> Answer {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| text().into()).clone();
    Ok(answer::rendered(StatusCode::OK, Body::from(text)))
}

/// What is the same for every operation.
struct Common;

const SCHEME: &str = "token";

impl Modify for Common {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An operator's token. Root and dvx-control need none on the Unix socket."))
            .build();
        components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
        for route in ROUTES {
            if let Some(operation) = operation(openapi, route) {
                complete(operation, route);
            }
        }
    }
}

fn operation<'o>(openapi: &'o mut utoipa::openapi::OpenApi, route: &Route) -> Option<&'o mut Operation> {
    let item = openapi.paths.paths.get_mut(route.path)?;
    match route.method {
        "GET" => item.get.as_mut(),
        "POST" => item.post.as_mut(),
        "PUT" => item.put.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

fn complete(operation: &mut Operation, route: &Route) {
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())]);
    let about = operation.description.take().or(operation.summary.take()).unwrap_or_default();
    operation.summary =
        about.split_once('.').map_or(Some(about.clone()), |(first, _)| Some(first.to_owned()));
    operation.description = Some(format!("{about} Needs the role {} or a higher one.", route.role.as_str()));
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            "It was done".clone_into(&mut response.description);
        }
    }
    for (status, what) in problems(route) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(what).content(PROBLEM_MEDIA_TYPE, problem).build();
        operation.responses.responses.insert(status.to_owned(), RefOr::T(response));
    }
    if route.method == "GET" {
        return;
    }
    let number = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0)).build();
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('2')
        {
            let header = HeaderBuilder::new()
                .schema(Some(number.clone()))
                .description(Some("The organisation's revision that has the change"))
                .build();
            response.headers.insert(REVISION.to_owned(), header.into());
        }
    }
    if takes_key(route) {
        operation.parameters.get_or_insert_default().push(idempotency_key().into());
    }
}

/// Whatever makes something. A rotation has no body.
fn takes_key(route: &Route) -> bool {
    let makes = route.accepts != Accepts::Nothing || route.path.ends_with("/integrations/{provider}/rotate");
    route.method == "POST" && makes
}

fn idempotency_key() -> utoipa::openapi::path::Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some("^[!-~]{1,128}$"))
        .build();
    ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The same request with the same key is carried out once, and answered alike"))
        .schema(Some(Schema::Object(schema)))
        .build()
}

/// The refusals that an operation can come to.
fn problems(route: &Route) -> Vec<(&'static str, &'static str)> {
    let mut problems = vec![
        ("400", "Not a request that this path takes"),
        ("401", "No token, or not a valid one"),
        ("403", "The role does not allow this"),
        ("431", "The head of the request is too large"),
        ("500", "The control plane's own failure"),
        ("503", "The database cannot be used, or there are too many connections"),
    ];
    if route.path.contains('{') || route.accepts == Accepts::Json || route.method == "DELETE" {
        problems.push(("404", "There is no such thing"));
    }
    if route.method != "GET" {
        problems.push(("409", "Not possible in this state"));
        problems.push(("413", "The body is too large"));
    }
    if takes_key(route) && route.accepts != Accepts::Secret {
        problems.push(("422", "The idempotency key belongs to another request"));
    }
    // A provider is asked, and has its own reasons.
    if route.method == "POST" && route.accepts == Accepts::Secret {
        problems.push(("404", "There is no such thing"));
        problems.push(("410", "The token has expired"));
        problems.push((
            "422",
            "What is at the instance's address is not such a provider, or the idempotency key belongs to another request",
        ));
        problems.push(("429", "The provider has had too many requests"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Vec<(String, String)> {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let paths = description["paths"].as_object().unwrap().clone();
        let mut found = Vec::new();
        for (path, item) in paths {
            for method in item.as_object().unwrap().keys() {
                found.push((method.to_uppercase(), path.clone()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn every_route_is_described_and_everything_described_is_a_route() {
        let mut routes: Vec<_> =
            ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
        routes.push(("GET".to_owned(), crate::http::router::DESCRIPTION.to_owned()));
        routes.sort();
        assert_eq!(described(), routes);
    }

    #[test]
    fn every_operation_says_which_role_it_needs_and_how_it_is_refused() {
        let mut description = Description::openapi();
        for route in ROUTES {
            let operation = operation(&mut description, route).unwrap();
            let about = operation.description.clone().unwrap();
            assert!(about.ends_with(&format!("role {} or a higher one.", route.role.as_str())), "{about}");
            assert!(operation.security.is_some());
            for status in ["400", "401", "403"] {
                assert!(operation.responses.responses.contains_key(status), "{} {status}", route.path);
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = text();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut count = 0;
        for reference in text.split("\"$ref\": \"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(description["components"]["schemas"][name].is_object(), "{name}");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }
}
