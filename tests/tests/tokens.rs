//! Agent tokens: forged ones, old ones, and the files that hold fresh ones.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dvx_proto::Code;
use dvx_tests::{
    Agent, Caller, CallerSpec, Forger, Request, World, eventually, faketime_library, fresh_uid, is_root, run,
    skip, skip_without_root, unverified_claims,
};
use serde_json::{Value, json};

const WHOAMI: &str = "/v1/agent/whoami";

#[track_caller]
fn assert_invalid(world: &World, caller: &Caller, token: &str, what: &str) {
    if token.len() > 32 {
        world.planted.remember(what, token);
    }
    let request = Request::get(WHOAMI).bearer(token);
    assert_eq!(caller.send(&request).problem(), Code::TokenInvalid, "{what}");
    assert_eq!(caller.tcp().exchange(&request).problem(), Code::TokenInvalid, "{what} over TCP");
}

fn started() -> (World, Caller, String, Value) {
    let mut world = World::single().tcp().build();
    world.start();
    let caller = world.caller("alpha");
    let token = caller.token();
    let claims = unverified_claims(&token);
    (world, caller, token, claims)
}

#[test]
fn forged_tokens_are_not_valid() {
    let (world, caller, token, claims) = started();
    let forger = Forger::new();
    for spelling in ["none", "None", "NONE", "nOnE", ""] {
        assert_invalid(&world, &caller, &Forger::none(spelling, &claims), "unsigned");
        let signature = token.rsplit('.').next().unwrap();
        let with_signature = Forger::none(spelling, &claims) + signature;
        assert_invalid(&world, &caller, &with_signature, "none with a signature");
    }
    assert_invalid(&world, &caller, &forger.es256(&claims), "another key");
    assert_invalid(&world, &caller, &forger.embedded_key(&claims), "a key of its own in the header");
    assert_invalid(&world, &caller, &Forger::zero_signature(&claims), "the zero signature");
    for key in [b"".as_slice(), b"dvx-broker", b"lab-1"] {
        assert_invalid(&world, &caller, &Forger::hs256(key, &claims), "a guessed MAC key");
    }
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": "../../../../dev/null", "crit": ["x"]});
    assert_invalid(&world, &caller, &forger.es256_with_header(&header, &claims), "a kid that is a path");
    assert_eq!(caller.send(&Request::get(WHOAMI).bearer(&token)).status, 200, "the real one");
}

#[test]
fn changed_tokens_are_not_valid() {
    let (world, caller, token, _) = started();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    for (what, changed) in [
        ("no signature", format!("{header}.{claims}.")),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{token}.{signature}")),
        ("a signature cut short", token[..token.len() - 4].to_owned()),
        ("a longer signature", format!("{token}AAAA")),
        ("padding", format!("{token}==")),
        ("nothing", String::new()),
        ("dots", "..".into()),
        ("garbage", "x".repeat(100)),
        ("a huge token", format!("{header}.{}.{signature}", "A".repeat(10_000))),
        ("two tokens", format!("{token} {token}")),
    ] {
        assert_invalid(&world, &caller, &changed, what);
    }
    for at in [2, header.len() + 10, token.len() - 10] {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert_invalid(&world, &caller, &String::from_utf8(bytes).unwrap(), "one changed character");
    }
}

#[test]
fn a_token_that_is_sent_must_be_sent_well() {
    let (_world, caller, token, _) = started();
    for (value, good) in [
        (format!("Bearer {token}"), true),
        (format!("Basic {token}"), false),
        (token.clone(), false),
        (format!("Bearer{token}"), false),
        ("Bearer".to_owned(), false),
        (format!("Bearer {token}, Bearer {token}"), false),
    ] {
        let answer = caller.send(&Request::get(WHOAMI).header("Authorization", &value));
        if good {
            assert_eq!(answer.status, 200);
        } else {
            assert_eq!(answer.problem(), Code::TokenInvalid, "{}", value.replace(&token, "TOKEN"));
        }
    }
    let twice = Request::get(WHOAMI).bearer(&token).bearer("other");
    assert!(matches!(caller.send(&twice).problem(), Code::TokenInvalid | Code::BadRequest));
    let in_query = Request::get(&format!("{WHOAMI}?access_token={token}"));
    let code = caller.tcp().exchange(&in_query).problem();
    assert!(matches!(code, Code::TokenMissing | Code::NotFound), "a token in the target is none: {code}");
}

#[test]
fn a_token_dies_with_the_broker_that_made_it() {
    let (mut world, caller, token, _) = started();
    drop(caller);
    world.stop();
    world.start();
    let caller = world.caller("alpha");
    assert_invalid(&world, &caller, &token, "a token of the broker before");
}

#[test]
fn a_token_lives_five_minutes_even_where_it_was_seen_before() {
    const NAME: &str = "a_token_lives_five_minutes_even_where_it_was_seen_before";
    if faketime_library().is_none() {
        return skip(NAME, "libfaketime is not installed");
    }
    let mut world = World::single().tcp().movable_clock().build();
    world.start();
    let caller = world.caller("alpha");
    let token = caller.token();
    let mut kept = caller.tcp();
    let request = Request::get(WHOAMI).bearer(&token);
    assert_eq!(kept.exchange(&request).status, 200);
    world.advance_clock(290);
    assert_eq!(kept.exchange(&request).status, 200);
    world.advance_clock(301);
    assert_eq!(kept.exchange(&request).problem(), Code::TokenInvalid, "on a kept connection");
    assert_invalid(&world, &caller, &token, "an expired token");
}

fn token_file(world: &World, agent: &str) -> PathBuf {
    world.ground.path("run/agents").join(agent).join("token")
}

/// What a process of this identity reads from a file.
fn read_as(world: &World, spec: &CallerSpec, path: &Path) -> Option<String> {
    let outcome = run(world.command_as(spec, "cat").arg(path));
    (outcome.status == 0).then(|| outcome.text())
}

#[test]
fn the_token_file_is_a_valid_token_for_its_agent() {
    let mut world = World::single().tcp().build();
    world.start();
    let caller = world.caller("alpha");
    let path = token_file(&world, "alpha");
    let token = read_as(&world, &caller.spec, &path).expect("the agent reads its own token");
    world.planted.remember("the token file", &token);
    assert_eq!(token.trim_end_matches('\n').split('.').count(), 3);
    assert!(!token.contains('\n'), "so that $(cat FILE) and DVX_TOKEN_FILE agree with a plain read");
    assert_eq!(caller.tcp().exchange(&Request::get(WHOAMI).bearer(&token)).status, 200);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.uid(), world.broker_uid);
    assert_eq!(metadata.mode() & 0o007, 0, "nothing for others");
}

#[test]
fn the_token_file_is_readable_by_its_agent_alone() {
    if skip_without_root("the_token_file_is_readable_by_its_agent_alone") {
        return;
    }
    let (uid, group) = (fresh_uid(), fresh_uid());
    let mut world = World::pair().agent(Agent::new("gamma", uid).gid(group)).build();
    world.start();
    let user = |agent: &str| CallerSpec::user(world.uid_of(agent));
    let gamma = CallerSpec::user(uid).with_groups(&[group]);
    for (agent, own) in [("alpha", user("alpha")), ("beta", user("beta")), ("gamma", gamma.clone())] {
        let path = token_file(&world, agent);
        assert!(read_as(&world, &own, &path).is_some(), "{agent} reads its own");
        let others = ["alpha", "beta"].into_iter().filter(|other| *other != agent).map(user);
        for other in others.chain([CallerSpec::user(fresh_uid()), CallerSpec::user(65534)]) {
            assert_eq!(read_as(&world, &other, &path), None, "uid {} reads {agent}'s", other.uid);
            let directory = path.parent().unwrap();
            let listed = run(world.command_as(&other, "ls").arg(directory));
            assert_ne!(listed.status, 0, "uid {} lists {agent}'s directory", other.uid);
        }
        for probe in ["rm -f \"$0\"", "mv \"$0\" \"$0.x\"", ": > \"$0\""] {
            let outcome = run(world.command_as(&own, "sh").args(["-c", probe]).arg(&path));
            assert_ne!(outcome.status, 0, "{agent} may not {probe}");
        }
    }
    // With a group selector the user alone is not enough.
    let without_group = CallerSpec::user(uid);
    assert_eq!(read_as(&world, &without_group, &token_file(&world, "gamma")), None);
    assert!(read_as(&world, &gamma, &token_file(&world, "gamma")).is_some());
}

#[test]
fn the_token_file_of_an_agent_that_is_gone_goes_too() {
    let mut world = World::single().agent(Agent::new("beta", fresh_uid())).build();
    if !is_root() {
        return skip(
            "the_token_file_of_an_agent_that_is_gone_goes_too",
            "an ACL for another user needs root here",
        );
    }
    world.start();
    assert!(token_file(&world, "beta").exists());
    world.config.agents.pop();
    world.reload();
    eventually("the directory is gone", || !world.ground.path("run/agents/beta").exists());
    assert!(token_file(&world, "alpha").exists());
    world.config.agents.push(Agent::new("late", fresh_uid()));
    world.reload();
    eventually("a new agent gets one", || token_file(&world, "late").exists());
}

#[test]
fn what_lies_in_the_agents_directory_is_not_followed_or_removed() {
    let mut world = World::single().build();
    let mine = world.ground.directory("mine", world.broker_uid, 0o755);
    fs::write(mine.join("precious"), "p").unwrap();
    world.ground.directory("run/agents", world.broker_uid, 0o711);
    std::os::unix::fs::symlink(&mine, world.ground.path("run/agents/alpha")).unwrap();
    std::os::unix::fs::symlink(&mine, world.ground.path("run/agents/gone")).unwrap();
    world.ground.directory("run/agents/kept", world.broker_uid, 0o755);
    fs::write(world.ground.path("run/agents/kept/file"), "k").unwrap();
    world.start_unready();
    world.stop();
    assert_eq!(fs::read_dir(&mine).unwrap().count(), 1, "nothing was written through the link");
    assert!(world.ground.path("run/agents/kept/file").exists());
}

#[test]
fn the_token_file_is_replaced_before_its_token_ends() {
    const NAME: &str = "the_token_file_is_replaced_before_its_token_ends";
    if faketime_library().is_none() {
        return skip(NAME, "libfaketime is not installed");
    }
    let mut world = World::single().movable_clock().build();
    world.start();
    let path = token_file(&world, "alpha");
    let first = fs::read_to_string(&path).unwrap();
    let ends = unverified_claims(first.trim())["exp"].as_u64().unwrap();
    // A suspended machine wakes up with a dead token: whatever it does next, the broker notices.
    world.advance_clock(400);
    let caller = world.caller("alpha");
    eventually("a token that is valid now", || {
        drop(caller.get(WHOAMI));
        let token = fs::read_to_string(&path).unwrap();
        unverified_claims(token.trim())["exp"].as_u64().unwrap() > ends + 100
    });
}
