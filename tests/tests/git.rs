//! Real git against a real git server: the token comes from the broker, and its changes go unnoticed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dvx_tests::git::{GitClient, GitServer};
use dvx_tests::{World, eventually, run, skip};

fn started() -> (World, GitServer) {
    let mut world = World::single().trusted().build();
    world.start();
    let server = GitServer::start(&world.ground.path("repositories"));
    (world, server)
}

/// A client with a working copy of a repository that has one commit.
fn with_work<'a>(world: &'a World, server: &GitServer) -> (GitClient<'a>, String) {
    let client = GitClient::new(world, "alpha");
    let token = client.link(server);
    let url = server.repository("work.git");
    eventually_linked(world);
    client.git("", &["clone", "--quiet", &url, "work"]).success();
    client.commit("work", "first", b"1\n");
    client.git("work", &["push", "--quiet", "origin", "main"]).success();
    (client, token)
}

fn eventually_linked(world: &World) {
    let caller = world.caller("alpha");
    eventually("the token has arrived", || caller.get("/v1/agent/credentials/gitlab").status == 200);
}

#[test]
fn clone_fetch_and_push_work_without_a_question() {
    let (world, server) = started();
    let (client, token) = with_work(&world, &server);
    client.git("", &["clone", "--quiet", &format!("{}/work.git", server.url()), "other"]).success();
    client.commit("other", "second", b"2\n");
    client.git("other", &["push", "--quiet"]).success();
    client.git("work", &["pull", "--quiet", "origin", "main"]).success();
    assert_eq!(fs::read(client.home().join("work/second")).unwrap(), b"2\n");
    assert_eq!(server.passwords().into_iter().collect::<Vec<_>>(), [token]);
    assert_eq!(server.refusals(), 0);
    let on_disk = world.planted.found_below(client.home());
    assert!(on_disk.is_empty(), "git left the token on disk: {on_disk:?}");
}

#[test]
fn a_push_above_the_post_buffer_works() {
    let (world, server) = started();
    let (client, _) = with_work(&world, &server);
    let mut noise = vec![0; 3 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        // Numerical Recipes' generator: nothing that zlib could shorten.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = state.to_be_bytes()[0];
    }
    client.commit("work", "noise", &noise);
    client.git("work", &["push", "--quiet", "origin", "main"]).success();
    client.git("", &["clone", "--quiet", &format!("{}/work.git", server.url()), "other"]).success();
    assert_eq!(fs::read(client.home().join("other/noise")).unwrap(), noise);
}

#[test]
fn submodules_are_fetched_side_by_side() {
    let (world, server) = started();
    let (client, _) = with_work(&world, &server);
    for index in 0..5 {
        let url = server.repository(&format!("sub{index}.git"));
        client.git("", &["clone", "--quiet", &url, &format!("sub{index}")]).success();
        client.commit(&format!("sub{index}"), "file", b"s\n");
        client.git(&format!("sub{index}"), &["push", "--quiet", "origin", "main"]).success();
        client.git("work", &["submodule", "--quiet", "add", &url]).success();
    }
    client.git("work", &["commit", "--quiet", "-m", "submodules"]).success();
    client.git("work", &["push", "--quiet", "origin", "main"]).success();
    let url = format!("{}/work.git", server.url());
    client.git("", &["clone", "--quiet", "--recurse-submodules", "--jobs", "5", &url, "all"]).success();
    assert!((0..5).all(|index| client.home().join(format!("all/sub{index}/file")).exists()));
    // The same while the token is replaced and the old one revoked.
    let old = world.caller("alpha").get("/v1/agent/credentials/gitlab").json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    client.rotate(&server);
    server.revoke(&old);
    client.git("", &["clone", "--quiet", "--recurse-submodules", "--jobs", "5", &url, "again"]).success();
}

#[test]
fn large_files_work() {
    let (world, server) = started();
    let (client, _) = with_work(&world, &server);
    if run(&mut client.command("", &["lfs", "version"])).status != 0 {
        return skip("large_files_work", "git-lfs is not installed");
    }
    client.git("", &["lfs", "install"]).success();
    client.git("work", &["lfs", "track", "*.bin"]).success();
    let content = vec![7; 100_000];
    client.commit("work", "large.bin", &content);
    client.git("work", &["push", "--quiet", "origin", "main"]).success();
    assert!(server.served("PUT /lfs-objects/") >= 1, "the object itself went to the LFS store");
    client.git("", &["clone", "--quiet", &format!("{}/work.git", server.url()), "other"]).success();
    assert_eq!(fs::read(client.home().join("other/large.bin")).unwrap(), content);
}

#[test]
fn a_token_replaced_between_two_fetches_is_picked_up() {
    let (world, server) = started();
    let (client, mut old) = with_work(&world, &server);
    for _ in 0..3 {
        client.git("work", &["fetch", "--quiet"]).success();
        let new = client.rotate(&server);
        server.revoke(&old);
        // At once: whether the broker has seen the new one yet or not.
        client.git("work", &["fetch", "--quiet"]).success();
        client.commit("work", &new, b"x");
        client.git("work", &["push", "--quiet", "origin", "main"]).success();
        old = new;
    }
}

#[test]
fn a_token_revoked_behind_our_back_costs_a_wait_and_no_failure() {
    let (world, server) = started();
    let (client, old) = with_work(&world, &server);
    server.revoke(&old);
    let fetch = client.command("work", &["fetch", "--quiet"]);
    let fetching = thread::spawn(move || {
        let mut fetch = fetch;
        run(&mut fetch)
    });
    eventually("the server has refused the old token", || server.refusals() >= 1);
    client.rotate(&server);
    let outcome = fetching.join().unwrap();
    outcome.success();
    assert_eq!(server.refusals(), 1, "one extra round");
    let audited = world.audit().iter().any(|line| line.text_of("action") == "credential.rejected");
    assert!(audited, "the refusal is on record");
}

#[test]
fn a_loop_of_fetches_never_fails_while_tokens_change() {
    let (world, server) = started();
    let (client, mut old) = with_work(&world, &server);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let loops: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !stop.load(Ordering::Relaxed) || rounds < 3 {
                        client.git("work", &["ls-remote", "--quiet", "origin"]).success();
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for _ in 0..6 {
            let before = server.requests();
            eventually("the loops have asked", || server.requests() > before + 6);
            let new = client.rotate(&server);
            server.revoke(&old);
            eventually("the new one is in use", || server.passwords().contains(&new));
            old = new;
        }
        stop.store(true, Ordering::Relaxed);
        let rounds: usize = loops.into_iter().map(|each| each.join().unwrap()).sum();
        assert!(rounds >= 6);
    });
}

#[test]
fn an_erased_good_token_is_still_served() {
    let (world, server) = started();
    let (client, token) = with_work(&world, &server);
    let attributes = format!("protocol=http\nhost={}\nusername=oauth2\npassword={token}\n\n", server.host());
    for _ in 0..5 {
        let mut command = client.command("", &["credential", "reject"]);
        dvx_tests::run_with_input(&mut command, attributes.as_bytes()).success();
    }
    client.git("work", &["fetch", "--quiet"]).success();
    assert!(world.admin("/readyz").status == 200);
}

#[test]
fn other_servers_get_nothing() {
    let (world, server) = started();
    let (client, _) = with_work(&world, &server);
    let other = GitServer::start(&world.ground.path("others"));
    other.repository("work.git");
    for url in [
        format!("{}/work.git", other.url()),
        format!("http://oauth2@{}/work.git", other.host()),
        format!("http://{}@{}/work.git", server.host().replace(':', "%3A"), other.host()),
        format!("{}/work.git", other.url().replace("127.0.0.1", "localhost")),
        format!("{}/%0ahost={}/work.git", other.url(), server.host().replace(':', "%3a")),
    ] {
        let outcome = client.git("", &["ls-remote", &url]);
        assert_ne!(outcome.status, 0, "{url}");
    }
    let real = format!("{}/work.git", server.url());
    let instead = format!("url.{}/.insteadOf", other.url());
    let outcome = client.git("", &["-c", &format!("{instead}={}/", server.url()), "ls-remote", &real]);
    assert_ne!(outcome.status, 0);
    client.git("", &["ls-remote", &real]).success();
    assert!(other.requests() > 0, "the other server was reached");
    assert!(other.passwords().iter().all(|password| !password.starts_with("glpat-")), "and got nothing");
}

#[test]
fn a_hostile_repository_cannot_send_the_token_elsewhere() {
    let (world, server) = started();
    let (client, _) = with_work(&world, &server);
    let other = GitServer::start(&world.ground.path("others"));
    other.repository("sub.git");
    let modules = format!("[submodule \"s\"]\n\tpath = s\n\turl = {}/sub.git\n", other.url());
    client.commit("work", ".gitmodules", modules.as_bytes());
    let lfs = format!("[lfs]\n\turl = {}/sub.git/info/lfs\n", other.url());
    client.commit("work", ".lfsconfig", lfs.as_bytes());
    let head = client.git("work", &["rev-parse", "HEAD"]).success();
    let entry = format!("160000,{},s", head.trim());
    client.git("work", &["update-index", "--add", "--cacheinfo", &entry]).success();
    client.git("work", &["commit", "--quiet", "-m", "hostile"]).success();
    client.git("work", &["push", "--quiet", "--no-verify", "origin", "main"]).success();
    let url = format!("{}/work.git", server.url());
    assert_ne!(client.git("", &["clone", "--quiet", "--recurse-submodules", &url, "victim"]).status, 0);
    drop(client.git("victim", &["lfs", "fetch", "--all"]));
    assert!(other.requests() > 0 && other.passwords().is_empty());
}

#[test]
fn init_is_all_that_an_agent_has_to_run() {
    let mut world = World::single().trusted().build();
    let server = GitServer::start(&world.ground.path("repositories"));
    let client = GitClient::unconfigured(&world, "alpha");
    client.link(&server);
    // A helper from before would write the token to disk: git hands it to every helper.
    client.set("credential.helper", "store");
    let home = client.home().to_path_buf();
    world.start();
    world.dvxir("alpha", &["init"]).success();
    let client = GitClient::unconfigured(&world, "alpha");
    let url = server.repository("work.git");
    client.git("", &["clone", "--quiet", &url, "work"]).success();
    client.commit("work", "first", b"1\n");
    client.git("work", &["push", "--quiet", "origin", "main"]).success();
    let on_disk = world.planted.found_below(&home);
    assert!(on_disk.is_empty(), "the token is on disk: {on_disk:?}");
    world.dvxir("alpha", &["init"]).success();
    let helpers = client.git("", &["config", "--global", "--get-regexp", "credential\\..*127.*"]).success();
    assert_eq!(helpers.lines().count(), 2, "an empty one and ours, also after a second run: {helpers}");
}

#[test]
fn an_expired_token_is_a_clear_failure() {
    let (world, server) = started();
    let (client, _) = with_work(&world, &server);
    let json = format!(r#"{{"instance_url":"{}","expires_at":"2001-01-01T00:00:00Z"}}"#, server.url());
    world.upstream.json("alpha", "gitlab", &json);
    let caller = world.caller("alpha");
    eventually("expired", || caller.get("/v1/agent/credentials/gitlab").status == 410);
    let outcome = client.git("work", &["fetch", "--quiet"]);
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("dvxir: ") && outcome.stderr.contains("expired"), "{}", outcome.stderr);
}
