//! One request, from its arrival to what is sent back.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use dvx_proto::Fingerprint;
use jiff::Timestamp;

use super::answer::{Answer, Reply};
use super::auth::{Caller, Presented, presented};
use super::call::Call;
use super::clock::iso;
use super::fault::Action;
use super::git;
use super::journal::Entry;
use super::limit::{action_limit, throttled};
use super::model::State;
use super::params::Params;
use super::routes::{self, Access, Found};
use crate::git::Request;
use crate::random_alphanumeric;

const API: &str = "/api/v4";

/// The instance.
pub(super) struct Instance {
    state: Mutex<State>,
    pub(super) repositories: PathBuf,
}

/// What goes back over the connection.
pub(super) enum Sent {
    Answer(Answer),
    /// Half of it.
    Truncated(Answer),
    /// Bytes that are no answer.
    Raw(&'static [u8]),
    /// The end of the connection.
    Nothing,
    /// Nothing, and the connection stays.
    Silence,
}

/// A request with where it came from.
pub(super) struct Arrival {
    pub(super) request: Request,
    pub(super) peer: IpAddr,
    pub(super) scheme: &'static str,
}

impl Instance {
    pub(super) fn new(repositories: PathBuf) -> Self {
        Self { state: Mutex::default(), repositories }
    }

    /// The state, as of now.
    pub(super) fn lock(&self) -> (MutexGuard<'_, State>, Timestamp) {
        let mut state = self.state.lock().expect("no handler panicked");
        let now = state.clock.now();
        state.settle(now);
        (state, now)
    }

    pub(super) fn respond(&self, arrival: Arrival) -> Sent {
        let request_id = format!("01{}", random_alphanumeric(24).to_uppercase());
        let (number, action) = self.note(&arrival, &request_id);
        let finish = |answer: Answer| {
            self.lock().0.journal.answered(number, &request_id, answer.status);
            let close = arrival.request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
            let answer = if close { answer.header("Connection", "close") } else { answer };
            answer.header("X-Request-Id", &request_id).header("Server", "nginx")
        };
        match action {
            Some(Action::LoseRequest) => return Sent::Nothing,
            Some(Action::Hang { after_effect: false }) => return Sent::Silence,
            Some(Action::Garbage) => return Sent::Raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
            Some(Action::Delay { ms }) => thread::sleep(Duration::from_millis(ms)),
            _ => {}
        }
        if let Some(answer) = action.as_ref().and_then(|action| self.instead(action)) {
            return Sent::Answer(finish(answer));
        }
        let answer = finish(self.answer(&arrival, action.as_ref()).unwrap_or_else(|error| error));
        match action {
            Some(Action::LoseAnswer) => Sent::Nothing,
            Some(Action::Hang { .. }) => Sent::Silence,
            Some(Action::Truncate) => Sent::Truncated(answer),
            _ => Sent::Answer(answer),
        }
    }

    /// Writes the request down and looks for a fault that strikes it.
    fn note(&self, arrival: &Arrival, request_id: &str) -> (usize, Option<Action>) {
        let (mut state, now) = self.lock();
        let request = &arrival.request;
        let presented = Params::of(request).ok().and_then(|params| presented(request, &params));
        let basic = || Some(Presented { value: request.password()?, place: "basic" });
        let presented = presented.or_else(basic);
        let token =
            presented.as_ref().map(|presented| Fingerprint::of(presented.value.as_bytes()).to_string());
        let owner = presented.as_ref().and_then(|presented| state.token_of_value(&presented.value));
        let owner = owner.and_then(|token| state.users.get(&token.user_id));
        let user = owner.map(|user| user.username.clone());
        let path = below(&state.settings.path_prefix, &request.path).unwrap_or(&request.path).to_owned();
        let action = state.faults.strike(&request.method, &path, token.as_deref());
        let entry = Entry {
            at: iso(now),
            method: request.method.clone(),
            path,
            token,
            place: presented.map(|presented| presented.place),
            user,
            request_id: request_id.to_owned(),
            status: None,
            fault: action.as_ref().and_then(|action| serde_json::to_value(action).ok()),
        };
        (state.journal.begin(entry), action)
    }

    /// The answer that a fault gives instead of the right one.
    fn instead(&self, action: &Action) -> Option<Answer> {
        match action {
            Action::Status { status, body, headers } => {
                let answer = Answer { body: body.clone().into_bytes(), ..Answer::empty(*status) };
                Some(headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value)))
            }
            Action::Throttled { retry_after } => Some(throttled(*retry_after, 60, 61, self.lock().1)),
            Action::LimitReached { retry_after } => Some(action_limit(*retry_after)),
            Action::Redirect { location, status } => {
                Some(Answer::empty(status.unwrap_or(302)).header("Location", location))
            }
            _ => None,
        }
    }

    fn answer(&self, arrival: &Arrival, action: Option<&Action>) -> Reply {
        let prefix = self.lock().0.settings.path_prefix.clone();
        let Some(path) = below(&prefix, &arrival.request.path) else { return Err(no_page()) };
        if let Some(route) = path.strip_prefix(API).filter(|route| route.is_empty() || route.starts_with('/'))
        {
            return self.api(arrival, &prefix, path, route, action);
        }
        if let Some(wanted) = git::Wanted::parse(path, &arrival.request) {
            return git::serve(self, &wanted, arrival);
        }
        if path == "/" {
            let place = format!("{}/users/sign_in", instance_url(arrival, &prefix));
            return Ok(Answer::html(302, "").header("Location", &place));
        }
        Err(no_page())
    }

    /// Authentication and effect are two steps: what happens between them is not seen by the second.
    fn api(
        &self,
        arrival: &Arrival,
        prefix: &str,
        path: &str,
        route: &str,
        action: Option<&Action>,
    ) -> Reply {
        let request = &arrival.request;
        let params = Params::of(request)?;
        let (route, names) = match routes::find(&request.method, route.trim_end_matches('/')) {
            Found::Route(route, names) => (route, names),
            Found::OtherMethods => return Err(Answer::unrouted(405, "405 Not Allowed")),
            Found::Nothing => return Err(Answer::unrouted(404, "404 Not Found")),
        };
        let caller = self.authenticate(arrival, &params, path, route)?;
        if let Some(Action::Pause { ms }) = action {
            thread::sleep(Duration::from_millis(*ms));
        }
        let (mut state, now) = self.lock();
        let mut call = Call {
            state: &mut state,
            now,
            caller,
            names,
            params,
            instance: instance_url(arrival, prefix),
            method: &request.method,
            path,
            query: &request.query,
        };
        (route.handler)(&mut call)
    }

    /// A token that is there is judged, also where none is needed.
    fn authenticate(
        &self,
        arrival: &Arrival,
        params: &Params,
        path: &str,
        route: &routes::Route,
    ) -> Result<Option<Caller>, Answer> {
        let (mut state, now) = self.lock();
        let presented = presented(&arrival.request, params);
        let owner = presented.as_ref().and_then(|presented| state.token_of_value(&presented.value));
        let who = owner.map_or_else(|| arrival.peer.to_string(), |token| format!("user {}", token.user_id));
        let State { limits, settings, .. } = &mut *state;
        limits.throttle(&who, settings, now)?;
        let Some(presented) = presented else {
            return if route.access == Access::Users { Err(Answer::unauthorized()) } else { Ok(None) };
        };
        let place = (arrival.request.method.as_str(), path);
        state.authenticate(&presented, route.scopes, place, now).map(Some)
    }
}

fn no_page() -> Answer {
    Answer::html(404, "<!DOCTYPE html><html><head><title>Not Found</title></head><body>404</body></html>")
}

/// A path below the instance.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    rest.starts_with('/').then_some(rest)
}

fn instance_url(arrival: &Arrival, prefix: &str) -> String {
    let host = arrival.request.header("host").unwrap_or("localhost");
    format!("{}://{host}{prefix}", arrival.scheme)
}
