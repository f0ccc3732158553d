//! The routes of the API.

use std::collections::BTreeMap;

use super::answer::Reply;
use super::api::{accounts, groups, members, personal, projects, resource, users};
use super::auth::Scopes::{self, Any, Api, ReadUser, SelfRotate};
use super::call::Call;
use super::text::decoded;

pub(super) type Handler = fn(&mut Call<'_>) -> Reply;

pub(super) struct Route {
    pub(super) method: &'static str,
    /// Below `/api/v4`.
    pattern: &'static str,
    pub(super) scopes: Scopes,
    pub(super) access: Access,
    pub(super) handler: Handler,
}

/// Whether a call needs a token. One that has a bad token is refused either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Anybody,
    Users,
}

const fn route(method: &'static str, pattern: &'static str, scopes: Scopes, handler: Handler) -> Route {
    Route { method, pattern, scopes, access: Access::Users, handler }
}

const fn open(method: &'static str, pattern: &'static str, handler: Handler) -> Route {
    Route { method, pattern, scopes: Api, access: Access::Anybody, handler }
}

#[rustfmt::skip]
const ROUTES: &[Route] = &[
    route("GET",    "/user", ReadUser, users::current),
    route("GET",    "/version", ReadUser, users::version),
    route("GET",    "/metadata", ReadUser, users::version),
    route("DELETE", "/users/:user_id", Api, users::delete),
    route("POST",   "/users/:user_id/personal_access_tokens", Api, users::create_token),
    route("GET",    "/personal_access_tokens", Api, personal::list),
    route("GET",    "/personal_access_tokens/self", Any, personal::own),
    route("DELETE", "/personal_access_tokens/self", Any, personal::revoke_own),
    route("POST",   "/personal_access_tokens/self/rotate", SelfRotate, personal::rotate_own),
    route("GET",    "/personal_access_tokens/:token_id", Api, personal::one),
    route("DELETE", "/personal_access_tokens/:token_id", Api, personal::revoke),
    route("POST",   "/personal_access_tokens/:token_id/rotate", Api, personal::rotate),
    route("GET",    "/service_accounts", Api, accounts::list_of_instance),
    route("POST",   "/service_accounts", Api, accounts::create_for_instance),
    open ("GET",    "/groups", groups::list),
    open ("GET",    "/groups/:id", groups::one),
    open ("GET",    "/projects", projects::list),
    open ("GET",    "/projects/:id", projects::one),
    route("PUT",    "/projects/:id", Api, projects::update),
];

/// The same below groups and projects.
#[rustfmt::skip]
const BELOW_BOTH: &[Route] = &[
    route("GET",    "/service_accounts", Api, accounts::list),
    route("POST",   "/service_accounts", Api, accounts::create),
    route("PATCH",  "/service_accounts/:user_id", Api, accounts::update),
    route("DELETE", "/service_accounts/:user_id", Api, accounts::delete),
    route("GET",    "/service_accounts/:user_id/personal_access_tokens", Api, accounts::tokens::list),
    route("POST",   "/service_accounts/:user_id/personal_access_tokens", Api, accounts::tokens::create),
    route("DELETE", "/service_accounts/:user_id/personal_access_tokens/:token_id", Api, accounts::tokens::revoke),
    route("POST",   "/service_accounts/:user_id/personal_access_tokens/:token_id/rotate", Api, accounts::tokens::rotate),
    route("GET",    "/access_tokens", Api, resource::list),
    route("POST",   "/access_tokens", Api, resource::create),
    route("POST",   "/access_tokens/self/rotate", SelfRotate, resource::rotate_own),
    route("GET",    "/access_tokens/:token_id", Api, resource::one),
    route("DELETE", "/access_tokens/:token_id", Api, resource::revoke),
    route("POST",   "/access_tokens/:token_id/rotate", Api, resource::rotate),
    route("GET",    "/members", Api, members::list),
    route("POST",   "/members", Api, members::add),
    route("GET",    "/members/all", Api, members::list_all),
    route("GET",    "/members/all/:user_id", Api, members::highest),
    route("GET",    "/members/:user_id", Api, members::direct),
    route("PUT",    "/members/:user_id", Api, members::change),
    route("DELETE", "/members/:user_id", Api, members::remove),
];

/// The placeholders of a route with what stands for them.
pub(super) type Names = BTreeMap<&'static str, String>;

pub(super) enum Found {
    Route(&'static Route, Names),
    /// The path has routes, but none for this method.
    OtherMethods,
    Nothing,
}

/// Looks a path below `/api/v4` up. The first that fits wins, so words stand before placeholders.
pub(super) fn find(method: &str, path: &str) -> Found {
    let segments: Vec<String> = path.split('/').skip(1).map(decoded).collect();
    let mut found = Found::Nothing;
    for route in ROUTES {
        let fits = fit(route.pattern, &segments);
        keep_first(&mut found, route, method, fits);
    }
    if let [kind, id, below @ ..] = segments.as_slice()
        && matches!(kind.as_str(), "groups" | "projects")
    {
        for route in BELOW_BOTH {
            let fits = fit(route.pattern, below).map(|mut names| {
                names.insert("id", id.clone());
                names
            });
            keep_first(&mut found, route, method, fits);
        }
    }
    found
}

fn keep_first(found: &mut Found, route: &'static Route, method: &str, fits: Option<Names>) {
    let Some(names) = fits else { return };
    let wanted = if method == "HEAD" { "GET" } else { method };
    match found {
        Found::Route(..) => {}
        _ if route.method == wanted => *found = Found::Route(route, names),
        _ => *found = Found::OtherMethods,
    }
}

fn fit(pattern: &'static str, segments: &[String]) -> Option<Names> {
    let words: Vec<&'static str> = pattern.split('/').skip(1).collect();
    if words.len() != segments.len() {
        return None;
    }
    let mut names = Names::new();
    for (word, segment) in words.into_iter().zip(segments) {
        match word.strip_prefix(':') {
            Some(name) => drop(names.insert(name, segment.clone())),
            None if word == segment => {}
            None => return None,
        }
    }
    Some(names)
}
