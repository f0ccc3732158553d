//! The enclave API: what brokers ask. Who is no enclave learns nothing, not even which paths there are.

mod ack;
mod audit;
mod auth;
mod body;
mod rejected;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use dvx_proto::Code;
use hyper::{Method, Request, Response};

use crate::app::App;
use crate::http::answer::Answer;
use crate::http::error::Refusal;
use crate::http::framing;

/// Answers everything below `/v1/enclave`. Requests carry their
/// [`Peer`](crate::http::Peer) and [`RequestId`](crate::http::RequestId).
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new().fallback(handle).with_state(app)
}

async fn handle(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    answer(&app, request).await.unwrap_or_else(Refusal::into_answer)
}

async fn answer(app: &Arc<App>, request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let caller = match auth::authenticate(app, &parts.headers).await {
        Ok(caller) => caller,
        Err(refusal) => {
            body::discard(body).await;
            return Err(refusal);
        }
    };
    let request = Request::from_parts(parts, body);
    framing::check(&request)?;
    let path = request.uri().path().strip_prefix("/v1/enclave/").unwrap_or_default().to_owned();
    match route(request.method(), &path)? {
        Route::Watch => watch::answer(app, caller, request).await,
        Route::Ack => ack::answer(app, caller, request).await,
        Route::Audit => audit::answer(app, caller, request).await,
        Route::Rejected(credential) => rejected::answer(app, caller, credential, request).await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Route<'p> {
    Watch,
    Ack,
    Audit,
    Rejected(&'p str),
}

fn route<'p>(method: &Method, path: &'p str) -> Result<Route<'p>, Refusal> {
    let (allowed, route) = match path {
        "watch" => (Method::GET, Route::Watch),
        "ack" => (Method::POST, Route::Ack),
        "audit" => (Method::POST, Route::Audit),
        _ => match path.strip_prefix("credentials/").and_then(|rest| rest.strip_suffix("/rejected")) {
            Some(id) if !id.is_empty() && !id.contains('/') => (Method::POST, Route::Rejected(id)),
            _ => return Err(Refusal::new(Code::NotFound, "there is no such path here")),
        },
    };
    if *method != allowed {
        return Err(Refusal::new(Code::MethodNotAllowed, format!("this path takes {allowed}"))
            .with_allow(allowed.to_string()));
    }
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_takes_its_one_method() {
        let code = |method: Method, path: &str| route(&method, path).err().map(|refusal| refusal.code);
        assert_eq!(code(Method::GET, "watch"), None);
        assert_eq!(code(Method::POST, "watch"), Some(Code::MethodNotAllowed));
        assert_eq!(code(Method::GET, "ack"), Some(Code::MethodNotAllowed));
        assert_eq!(route(&Method::POST, "credentials/x-1/rejected").ok(), Some(Route::Rejected("x-1")));
        for path in
            ["", "watch/", "credentials/rejected", "credentials//rejected", "credentials/a/b/rejected"]
        {
            assert_eq!(code(Method::POST, path), Some(Code::NotFound), "{path}");
        }
    }
}
