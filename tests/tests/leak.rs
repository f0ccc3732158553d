//! Planted secrets are looked for in everything that the programs write, and in all that others can read of them.
//!
//! Every other test does the same at its end for what it did.

use std::fs;

use dvx_tests::{Caller, Request, Response, World, eventually, run};

/// Asks for everything there is, well and badly.
fn exercise(world: &World, caller: &Caller) -> Vec<Response> {
    let token = caller.token();
    let wrong = world.planted.token("a wrong agent token");
    let mut answers = Vec::new();
    let mut requests = vec![
        Request::get("/v1/agent/whoami"),
        Request::get("/v1/agent/credentials"),
        Request::get("/v1/agent/credentials/gitlab").bearer(&wrong),
        Request::get("/v1/agent/credentials/gitlab").header("Authorization", &format!("Basic {wrong}")),
        Request::get(&format!(
            "/v1/agent/whoami?private_token={}",
            world.planted.token("a token in a query")
        )),
        Request::get("/v1/agent/nothing")
            .header("PRIVATE-TOKEN", &world.planted.token("a token in a header")),
        Request::get("/v1/agent/nothing").header("Cookie", &world.planted.token("a cookie")),
        Request::post("/v1/agent/git-credential")
            .json(&format!(r#"{{"x":"{}""#, world.planted.token("a broken body"))),
        Request::post("/v1/agent/git-credential").json(r#"{"protocol":"https","host":"evil.example"}"#),
        Request::post("/v1/agent/credentials/gitlab/rejected")
            .json(&format!(r#"{{"fingerprint":"{}"}}"#, world.planted.token("a token for a fingerprint"))),
        Request::get("/v1/agent/credentials/gitlab")
            .header("Transfer-Encoding", &world.planted.token("a coding")),
    ];
    requests.push(Request::get("/v1/agent/whoami").bearer(&token));
    for request in &requests {
        answers.push(caller.send(request));
        answers
            .push(caller.tcp().exchange(&request.clone().header("X-Also", &world.planted.token("a field"))));
    }
    answers
}

#[test]
fn nothing_planted_is_in_any_log_audit_line_or_error() {
    let mut world = World::single().tcp().build();
    let token = world.plant("alpha", "gitlab");
    let secret = world.planted.token("an agent's secret");
    world.upstream.secret("alpha", "NAME", secret.as_bytes());
    // Values that cannot be used are secrets all the same.
    world.upstream.token("alpha", "spaced", &format!("{} x", world.planted.token("a bad token")));
    let password = world.planted.token("a password in a URL");
    world.plant("alpha", "urlish");
    let json = format!(r#"{{"instance_url":"https://u:{password}@h.example","display_name":7}}"#);
    world.upstream.json("alpha", "urlish", &json);
    world.start_unready();
    let caller = world.caller("alpha");
    for answer in exercise(&world, &caller) {
        world.assert_clean("an answer", &answer.body);
        world.assert_clean("an answer's head", format!("{:?}", answer.headers).as_bytes());
    }
    for path in ["/v1/agent/credentials/gitlab", "/v1/agent/secrets/NAME"] {
        assert_eq!(caller.get(path).status, 200);
    }
    let replaced = world.plant("alpha", "gitlab");
    eventually("replaced", || {
        caller.get("/v1/agent/credentials/gitlab").json()["token"] == replaced.as_str()
    });
    for path in ["/status", "/readyz", "/metrics", "/healthz"] {
        world.assert_clean(path, &world.admin(path).body);
    }
    assert!(world.log().contains("serving"), "there is a log");
    // The search itself can find something.
    fs::write(world.ground.path("output/planted"), &token).unwrap();
    assert_eq!(world.planted.found_below(&world.ground.path("output")).len(), 1);
    fs::remove_file(world.ground.path("output/planted")).unwrap();
    world.stop();
    world.assert_no_leaks();
}

#[test]
fn a_process_shows_nothing_to_its_neighbours() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
    let pid = world.broker().pid();
    for name in ["cmdline", "environ", "status", "maps", "comm"] {
        let text = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        world.assert_clean(name, &text);
    }
    let spec = dvx_tests::CallerSpec::user(world.broker_uid);
    if dvx_tests::is_root() {
        for name in ["environ", "mem", "maps"] {
            let outcome = run(spec.command("cat".as_ref()).arg(format!("/proc/{pid}/{name}")));
            assert_ne!(outcome.status, 0, "the broker's own user reads its {name}");
        }
    }
}

#[test]
fn secrets_on_a_configuration_line_are_not_repeated() {
    let mut world = World::single().build();
    let secret = world.planted.token("a secret in the configuration");
    for (table, key, value) in [
        ("upstream", "api_key", format!("\"{secret}\"")),
        ("upstream", "max_stale", format!("\"${{DVX_TEST_SECRET}}{secret}\"")),
    ] {
        let before = world.config.clone();
        world.config.set(table, key, &value);
        world.write_config();
        let mut command = world.broker_command(&["check", "--config"]);
        let outcome = run(command.arg(world.config_path()));
        assert_eq!(outcome.status, 78);
        if key == "api_key" {
            world.assert_clean("an error about an unknown key", outcome.stderr.as_bytes());
        }
        world.config = before;
        world.write_config();
    }
}
