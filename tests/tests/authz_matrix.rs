//! Who may ask for what: every route of the contract under every kind of identity, on both transports.

use dvx_proto::agent::{ROUTES, RouteSpec};
use dvx_proto::{Code, Fingerprint};
use dvx_tests::{
    Agent, AuditLine, Caller, CallerSpec, Cgroup, Forger, Request, Response, World, eventually_some,
    faketime_library, fresh_uid, recover_public_keys, skip, skip_without_root, unverified_claims,
};
use serde_json::Value;

/// What an agent gets from a route: its body in the request, the statuses by transport, the audited action.
struct Row {
    path: &'static str,
    body: fn(&World) -> Option<String>,
    unix: u16,
    tcp: u16,
    action: Option<&'static str>,
}

const ROWS: &[Row] = &[
    Row { path: "/v1/agent/discover", body: none, unix: 200, tcp: 200, action: None },
    Row { path: "/v1/agent/whoami", body: none, unix: 200, tcp: 200, action: Some("whoami") },
    Row { path: "/v1/agent/token", body: none, unix: 200, tcp: 403, action: Some("token.issue") },
    Row { path: "/v1/agent/credentials", body: none, unix: 200, tcp: 200, action: Some("credential.list") },
    Row { path: "/v1/agent/credentials/{}", body: none, unix: 200, tcp: 200, action: Some("credential.get") },
    Row {
        path: "/v1/agent/credentials/{}/rejected",
        body: rejection,
        unix: 202,
        tcp: 202,
        action: Some("credential.rejected"),
    },
    Row { path: "/v1/agent/secrets", body: none, unix: 200, tcp: 200, action: Some("secret.list") },
    Row { path: "/v1/agent/secrets/{}", body: none, unix: 200, tcp: 200, action: Some("secret.get") },
    Row { path: "/v1/agent/git-credential", body: git, unix: 200, tcp: 200, action: Some("credential.git") },
];

fn none(_: &World) -> Option<String> {
    None
}

fn rejection(_: &World) -> Option<String> {
    Some(format!(r#"{{"fingerprint":"{}"}}"#, Fingerprint::of(b"not held by anybody")))
}

fn git(_: &World) -> Option<String> {
    Some(r#"{"protocol":"https","host":"gitlab.com"}"#.into())
}

/// An identity and what becomes of it.
struct Column<'a> {
    name: &'static str,
    caller: &'a Caller,
    token: Option<String>,
    unix: Option<Code>,
    tcp: Option<Code>,
}

fn world(enclave: &str, agents: &[Agent]) -> World {
    let builder = agents
        .iter()
        .fold(World::builder().tcp().enclave(enclave), |builder, agent| builder.agent(agent.clone()));
    let builder = if faketime_library().is_some() { builder.movable_clock() } else { builder };
    let mut world = builder.build();
    for agent in agents {
        world.plant(&agent.name, "gitlab");
        let secret = world.planted.token("a secret");
        world.upstream.secret(&agent.name, "gitlab", secret.as_bytes());
    }
    world.start();
    world
}

#[test]
fn every_route_under_every_identity_on_both_transports() {
    const NAME: &str = "every_route_under_every_identity_on_both_transports";
    if skip_without_root(NAME) {
        return;
    }
    let gamma_uid = fresh_uid();
    let path = format!("/dvxm{gamma_uid}");
    let Some(cgroup) = Cgroup::create(&path) else { return skip(NAME, "no control groups here") };
    let agents = [
        Agent::new("alpha", fresh_uid()),
        Agent::new("beta", fresh_uid()),
        Agent::new("gamma", gamma_uid).cgroup(&path),
    ];
    let world = world("lab-1", &agents);
    let elsewhere = self::world("lab-2", &agents);

    let alpha = world.caller("alpha");
    let beta = world.caller("beta");
    let unmapped = world.caller_as(CallerSpec::user(fresh_uid()));
    let root = world.caller_as(CallerSpec::user(0));
    let inside = world.caller_as(CallerSpec::user(gamma_uid).in_cgroup(&cgroup));
    let outside = world.caller_as(CallerSpec::user(gamma_uid));

    let mut old = None;
    if faketime_library().is_some() {
        old = Some(alpha.token());
        world.advance_clock(301);
    } else {
        skip("the matrix's column of expired tokens", "libfaketime is not installed");
    }
    let good = alpha.token();
    let claims = unverified_claims(&good);
    let foreign = elsewhere.caller("alpha").token();
    let bad = |name, token: String| Column {
        name,
        caller: &alpha,
        token: Some(token),
        unix: Some(Code::TokenInvalid),
        tcp: Some(Code::TokenInvalid),
    };
    let unknown = |name, caller, token| Column {
        name,
        caller,
        token,
        unix: Some(Code::PeerUnknown),
        tcp: Some(Code::PeerUnknown),
    };
    let mismatch = |name, caller, token: String| Column {
        name,
        caller,
        token: Some(token),
        unix: Some(Code::PeerMismatch),
        tcp: Some(Code::PeerMismatch),
    };
    let mut columns = vec![
        Column { name: "its own token", caller: &alpha, token: Some(good.clone()), unix: None, tcp: None },
        Column {
            name: "its own cgroup",
            caller: &inside,
            token: Some(inside.token()),
            unix: None,
            tcp: None,
        },
        Column { name: "no token", caller: &alpha, token: None, unix: None, tcp: Some(Code::TokenMissing) },
        mismatch("other agent's token", &alpha, beta.token()),
        mismatch("another agent's user", &beta, good.clone()),
        bad("other enclave's token", foreign),
        bad("alg none", Forger::none("none", &claims)),
        bad("ES256 with another key", Forger::new().es256(&claims)),
        unknown("unmapped user", &unmapped, None),
        unknown("unmapped user, stolen token", &unmapped, Some(good.clone())),
        unknown("root", &root, None),
        unknown("root, stolen token", &root, Some(good.clone())),
        unknown("wrong cgroup", &outside, None),
        unknown("wrong cgroup, its agent's token", &outside, Some(inside.token())),
    ];
    columns.extend(old.map(|token| bad("expired", token)));
    columns.extend(
        recover_public_keys(&good)
            .iter()
            .map(|key| bad("HS256 with the public key", Forger::hs256(key, &claims))),
    );
    for route in ROUTES {
        let row = ROWS.iter().find(|row| row.path == route.path);
        let row = row.unwrap_or_else(|| panic!("{} has no row here; say who may ask for it", route.path));
        for column in &columns {
            check(&world, route, row, column);
        }
    }
    assert_eq!(ROWS.len(), ROUTES.len(), "a row without a route");
}

fn check(world: &World, route: &RouteSpec, row: &Row, column: &Column<'_>) {
    let mut request = Request::new(route.method, &route.path.replace("{}", "gitlab"));
    if let Some(body) = (row.body)(world) {
        request = request.json(&body);
    }
    if let Some(token) = &column.token {
        request = request.bearer(token);
    }
    for (transport, allowed, refused) in [("unix", row.unix, column.unix), ("tcp", row.tcp, column.tcp)] {
        let what = format!("{} {} as {} over {transport}", route.method, route.path, column.name);
        // So many false tokens at once are refused unread for a moment.
        let (before, answer) = eventually_some("the rate of false tokens is fine", || {
            let before = world.audit().len();
            let mut connection = if transport == "unix" { column.caller.unix() } else { column.caller.tcp() };
            let answer = connection.exchange(&request);
            (answer.status != 429).then_some((before, answer))
        });
        let Some(action) = row.action else {
            assert_eq!(answer.status, allowed, "{what}: {answer:?}");
            continue;
        };
        match refused {
            None => assert_eq!(answer.status, allowed, "{what}: {answer:?}"),
            Some(code) => assert_refused(world, &answer, code, &what),
        }
        remember_token(world, &answer);
        assert_audited(&world.audit()[before..], action, allowed < 300 && refused.is_none(), &what);
    }
}

#[track_caller]
fn assert_refused(world: &World, answer: &Response, code: Code, what: &str) {
    assert_eq!(answer.problem(), code, "{what}: {answer:?}");
    world.assert_clean(what, &answer.body);
    assert_eq!(answer.header("dvx-revision"), None, "{what}: a stranger learns nothing of the upstream");
    if code.status() == 401 {
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{what}");
    }
}

#[track_caller]
fn assert_audited(lines: &[AuditLine], action: &str, served: bool, what: &str) {
    let [line] = lines else { panic!("{what}: one decision, one line: {lines:?}") };
    assert_eq!(line.text_of("action"), action, "{what}");
    assert_eq!(line.text_of("decision"), if served { "served" } else { "denied" }, "{what}: {}", line.text);
    assert!(served || !line.text_of("reason").is_empty(), "{what}: {}", line.text);
}

fn remember_token(world: &World, answer: &Response) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(token) = body["token"].as_str() {
        world.planted.remember("an agent token", token);
    }
}

#[test]
fn two_agents_never_see_anything_of_each_other() {
    if skip_without_root("two_agents_never_see_anything_of_each_other") {
        return;
    }
    let mut world = World::pair().tcp().build();
    for agent in ["alpha", "beta"] {
        world.plant(agent, "gitlab");
        world.plant(agent, &format!("only-{agent}"));
        let json =
            format!(r#"{{"display_name":"name of {agent}","instance_url":"https://{agent}.example"}}"#);
        world.upstream.json(agent, &format!("only-{agent}"), &json);
        world.upstream.secret(agent, &format!("SECRET_{agent}"), format!("value of {agent}").as_bytes());
    }
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    let token = alpha.token();
    let requests = [
        Request::get("/v1/agent/whoami"),
        Request::get("/v1/agent/credentials"),
        Request::get("/v1/agent/credentials/gitlab"),
        Request::get("/v1/agent/credentials/only-beta"),
        Request::get("/v1/agent/secrets"),
        Request::get("/v1/agent/secrets/SECRET_beta"),
        Request::post("/v1/agent/git-credential").json(r#"{"protocol":"https","host":"beta.example"}"#),
        Request::post("/v1/agent/credentials/only-beta/rejected")
            .json(r#"{"fingerprint":"0123456789abcdef"}"#),
    ];
    let beta_uid = beta.spec.uid.to_string();
    let theirs = String::from_utf8(beta.get("/v1/agent/credentials/gitlab").body).unwrap();
    for request in &requests {
        for answer in [alpha.send(request), alpha.tcp().exchange(&request.clone().bearer(&token))] {
            let headers = format!("{:?}", answer.headers);
            let text = format!("{} {}", headers, answer.text());
            for mark in ["of beta", "beta.example", "SECRET_beta\"", "only-beta\"", &beta_uid, &theirs] {
                assert!(!text.contains(mark), "{mark} in {text} for {request:?}");
            }
        }
    }
}
