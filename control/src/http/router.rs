//! The table of routes is the operator API: it says what there is, who may use it, and who answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use dvx_proto::Code;
use dvx_proto::operator::Role;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response};

use super::answer::{self, Answer};
use super::auth::authenticate;
use super::body::{self, Accepts};
use super::call::Call;
use super::error::Refusal;
use super::{Peer, RequestId, framing, idempotency};
use crate::api::operator::ROUTES;
use crate::app::App;
use crate::clock;
use crate::domain::Actor;

/// One row of the operator API.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// With braces where a name stands.
    pub(crate) path: &'static str,
    /// The least role that may use it.
    pub(crate) role: Role,
    /// What the audit log calls it.
    pub(crate) action: &'static str,
    pub(crate) accepts: Accepts,
    pub(crate) run: Handler,
}

/// Answers the calls of one route.
pub(crate) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The one path that needs no token: it says how to get on with the others.
pub(crate) const DESCRIPTION: &str = "/api/v1/openapi.json";

/// Answers any request under the prefix of the operator API.
pub(crate) async fn handle(
    app: &Arc<App>,
    peer: Peer,
    id: &RequestId,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    match admit(app, peer, id, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::debug!(%peer, %method, path, code = %refusal.code, request_id = id.as_str(), "refused");
            refusal.into_answer()
        }
    }
}

async fn admit(app: &Arc<App>, peer: Peer, id: &RequestId, request: Request<Incoming>) -> Answer {
    if request.uri().path() == DESCRIPTION {
        framing::check(&request)?;
        return describe(request.method());
    }
    let now = clock::wall();
    let (parts, body) = request.into_parts();
    let admitted = enter(app, peer, id, now, &parts).await;
    let (actor, found) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            body::discard(body).await;
            return Err(refusal);
        }
    };
    let Found::Route { route, names } = found else { return Ok(options(found)) };
    let body = body::read(body, &parts.headers, route.accepts).await?;
    if route.accepts == Accepts::Nothing && !matches!(body.trim_ascii(), b"" | b"{}") {
        return Err(Refusal::bad_request("this path takes no body"));
    }
    let call = Call {
        app: app.clone(),
        actor,
        id: id.clone(),
        now,
        method: route.method,
        uri: parts.uri,
        names,
        accepts: route.accepts,
        body,
        idempotency_key: idempotency::key(&parts.headers)?,
    };
    // A caller that hangs up does not cut a change short.
    let run = route.run;
    tokio::spawn(async move { run(call).await }).await.unwrap_or_else(|error| Err(Refusal::internal(&error)))
}

/// Who it is, whether it may, whether there is such a thing, and whether it looks like a request. In this order.
async fn enter(
    app: &Arc<App>,
    peer: Peer,
    id: &RequestId,
    now: jiff::Timestamp,
    parts: &hyper::http::request::Parts,
) -> Result<(Actor, Found), Refusal> {
    let actor = match authenticate(app, peer, &parts.headers).await {
        Ok(actor) => actor,
        Err(refusal) => {
            app.note_unknown(peer, id, &refusal, now).await;
            return Err(refusal);
        }
    };
    let found = find(&parts.method, parts.uri.path());
    if let Found::Route { route, .. } = &found
        && actor.role.is_none_or(|role| role < route.role)
    {
        app.note_forbidden(peer, id, &actor, route, parts.uri.path(), now);
        let needed = route.role.as_str();
        let detail = format!("this needs the role {needed}; {} is {}", actor.name, role_of(&actor));
        return Err(Refusal::new(Code::RoleForbidden, detail));
    }
    match &found {
        Found::Nothing => return Err(Refusal::new(Code::NotFound, "there is no such path here")),
        Found::OtherMethods(allow) if parts.method != Method::OPTIONS => {
            return Err(Refusal::new(Code::MethodNotAllowed, format!("this path takes {allow}"))
                .with_allow(allow.clone()));
        }
        Found::OtherMethods(_) | Found::Route { .. } => {}
    }
    framing::check(&Request::from_parts(parts.clone(), ()))?;
    Ok((actor, found))
}

fn role_of(actor: &Actor) -> &'static str {
    actor.role.map_or("of no role", Role::as_str)
}

/// What there is at a path.
enum Found {
    Route {
        route: &'static Route,
        names: Vec<String>,
    },
    /// Something, with these methods.
    OtherMethods(String),
    Nothing,
}

fn find(method: &Method, path: &str) -> Found {
    // What can be had with GET can be asked about with HEAD; hyper leaves the body out.
    let wanted = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut methods = Vec::new();
    for route in ROUTES {
        let Some(names) = captures(route.path, path) else { continue };
        if route.method == wanted {
            return Found::Route { route, names };
        }
        methods.push(route.method);
    }
    if methods.is_empty() {
        return Found::Nothing;
    }
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    Found::OtherMethods(methods.join(", "))
}

/// What stands in the place of each pair of braces, if the path is of this form.
fn captures(form: &str, path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let (mut parts, mut given) = (form.split('/'), path.split('/'));
    loop {
        match (parts.next(), given.next()) {
            (None, None) => return Some(names),
            (Some(part), Some(name)) if part.starts_with('{') => names.push(unescape(name)?),
            (Some(part), Some(name)) if part == name => {}
            _ => return None,
        }
    }
}

/// Undoes percent-encoding. What is not UTF-8 then cannot be a name.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(16 * high + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn options(found: Found) -> Response<Body> {
    let mut answer = answer::no_content();
    if let Found::OtherMethods(allow) = found
        && let Ok(allow) = HeaderValue::from_str(&allow)
    {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}

fn describe(method: &Method) -> Answer {
    match method.as_str() {
        "GET" | "HEAD" => crate::openapi::answer(),
        "OPTIONS" => Ok(options(Found::OtherMethods("GET, HEAD, OPTIONS".to_owned()))),
        _ => Err(Refusal::new(Code::MethodNotAllowed, "this path takes GET, HEAD, OPTIONS")
            .with_allow("GET, HEAD, OPTIONS".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_between_slashes_and_are_unescaped_once() {
        let form = "/api/v1/agents/{agent}/secrets/{name}";
        let names = |path: &str| captures(form, path);
        assert_eq!(names("/api/v1/agents/a/secrets/b").unwrap(), ["a", "b"]);
        assert_eq!(names("/api/v1/agents/a/secrets/gitlab%3Atoken").unwrap(), ["a", "gitlab:token"]);
        assert_eq!(names("/api/v1/agents/a/secrets/%252e").unwrap(), ["a", "%2e"]);
        assert_eq!(names("/api/v1/agents/a/secrets/x%2Fy").unwrap(), ["a", "x/y"]);
        for other in [
            "/api/v1/agents/a/secrets",
            "/api/v1/agents/a/secrets/b/",
            "/api/v1/agents//a/secrets/b",
            "/api/v1/agents/a/secrets/%",
            "/api/v1/agents/a/secrets/%f",
            "/api/v1/agents/a/secrets/%ff",
        ] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_there_with_another_method_names_all_of_them() {
        let allow = |method: Method, path: &str| match find(&method, path) {
            Found::Route { route, .. } => route.action.to_owned(),
            Found::OtherMethods(allow) => allow,
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(allow(Method::GET, "/api/v1/agents"), "agent.list");
        assert_eq!(allow(Method::HEAD, "/api/v1/agents"), "agent.list");
        assert_eq!(allow(Method::PATCH, "/api/v1/agents"), "GET, POST, HEAD, OPTIONS");
        assert_eq!(allow(Method::GET, "/api/v1/agents/a/isolate"), "POST, OPTIONS");
        assert_eq!(allow(Method::GET, "/api/v1"), "nothing");
        assert_eq!(allow(Method::GET, "/api/v1/agents/"), "agent.get");
        assert_eq!(allow(Method::GET, "/api/v1/agents/a/"), "nothing");
    }

    #[test]
    fn no_two_routes_are_the_same() {
        for (index, route) in ROUTES.iter().enumerate() {
            let twins = ROUTES
                .iter()
                .skip(index + 1)
                .filter(|other| other.method == route.method && captures(other.path, route.path).is_some());
            assert_eq!(twins.count(), 0, "{} {}", route.method, route.path);
        }
    }
}
