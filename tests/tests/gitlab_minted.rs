//! Identities of agents' own: made, used by git, and taken away again.

use dvx_tests::git::GitClient;
use dvx_tests::{
    Agent, ControlPlane, Lab, Mode, Request, World, answer_on_terminal, eventually, fresh_uid, run,
    skip_without_root,
};
use serde_json::{Value, json};

const MODES: [Mode; 2] = [Mode::ServiceAccount, Mode::ProjectToken];

#[test]
fn an_agent_gets_an_identity_of_its_own_and_gits_with_it() {
    for mode in MODES {
        let lab = Lab::start();
        let provider = lab.provider("main", mode, &[]);
        lab.link_minted("alpha", &provider, mode).success();
        lab.settle(&["alpha"]);
        let live = lab.gitlab.live();
        let (identity, token) = (&live["identities"][0], &live["tokens"][0]);
        assert_eq!(token["scopes"], json!(["api", "write_repository", "self_rotate"]), "{mode:?}");
        let place = match mode {
            Mode::ServiceAccount => "acme",
            Mode::ProjectToken => "acme/app",
        };
        assert_eq!(identity["members"], json!([{"of": place, "access_level": 30}]), "{mode:?}");
        if mode == Mode::ServiceAccount {
            let id = lab.control.admin().get("/agents/alpha")["id"].as_str().unwrap().to_owned();
            let username = identity["username"].as_str().unwrap();
            assert_eq!(username, format!("dvx-agent-{id}-alpha"));
        }
        let listed = lab.integrations("alpha");
        assert_eq!((&listed[0]["origin"], &listed[0]["status"]), (&json!("minted"), &json!("active")));
        assert_eq!(&listed[0]["auth_type"], mode.name(), "{listed:?}");
        assert!(listed[0]["expires_at"].as_str().unwrap().ends_with("T00:00:00Z"), "{listed:?}");
        let git = GitClient::new(&lab.world, "alpha");
        let url = format!("{}/acme/app.git", lab.gitlab.url());
        git.git("", &["clone", "--quiet", &url, "work"]).success();
        git.commit("work", "first", b"1\n");
        git.git("work", &["push", "--quiet", "origin", "HEAD:main"]).success();
        git.git("work", &["fetch", "--quiet"]).success();
        let unlinked = lab.unlink("alpha");
        unlinked.success();
        assert_eq!(lab.served("alpha"), None, "in force when the command returns");
        lab.eventually_bare();
        assert_ne!(git.git("work", &["fetch", "--quiet"]).status, 0);
        eventually("nothing is left to do", || lab.debts().is_empty());
    }
}

#[test]
fn a_level_is_chosen() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    let link = |level: &str| {
        run(&mut lab.link_command("alpha", &["--credential-provider", &provider, "--access-level", level]))
    };
    link("20").success();
    assert_eq!(lab.gitlab.live()["identities"][0]["members"][0]["access_level"], 20);
    assert_ne!(link("31").status, 0, "there is no such level, and it is linked already");
}

#[test]
fn a_provider_is_named_by_its_id_and_a_project_where_it_is_needed() {
    let lab = Lab::start();
    let account = lab.provider("accounts", Mode::ServiceAccount, &[]);
    let project = lab.provider("projects", Mode::ProjectToken, &[]);
    let link = |provider: &str, more: &[&str]| {
        let arguments = [&["--credential-provider", provider], more].concat();
        lab.checked(run(&mut lab.link_command("alpha", &arguments)))
    };
    assert_eq!(link("no-such", &[]).status, 3);
    let id = lab.gitlab.seeded["projects"]["acme/app"].to_string();
    for (provider, more) in [(&project, &[][..]), (&account, &["--project-id", &id][..])] {
        let refused = link(provider, more);
        assert!([1, 2].contains(&refused.status), "{} {}", refused.status, refused.stderr);
        assert!(refused.stderr.contains("project"), "{}", refused.stderr);
    }
    let missing = link(&project, &["--project-id", "99999"]);
    assert_ne!(missing.status, 0);
    lab.settle(&[]);
    assert_eq!(lab.identities().len(), 0);
    assert_eq!(lab.integrations("alpha"), Vec::<Value>::new());
}

#[test]
fn a_linked_agent_is_unlinked_first_and_nothing_is_made_for_it() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let token = lab.served("alpha");
    let again = lab.link_minted("alpha", &provider, Mode::ServiceAccount);
    assert!(again.failure(1).contains("unlink"), "{}", again.stderr);
    let by_token = lab.link_pat("alpha", &lab.gitlab.token("dana", &["api"]));
    assert!(by_token.failure(1).contains("unlink"), "{}", by_token.stderr);
    assert_eq!(lab.served("alpha"), token);
    lab.settle(&["alpha"]);
    assert_eq!(lab.identities().len(), 1);
}

#[test]
fn a_link_that_gitlab_refuses_leaves_nothing() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    let refused = |status: u16, message: &str| {
        json!({"kind": "status", "status": status, "body": json!({"message": message}).to_string(),
               "headers": {"Content-Type": "application/json"}})
    };
    let cap = "400 Bad request - This namespace either does not have an active subscription that can create \
               service accounts, or the subscription has reached its service account creation limit.";
    for (path, action) in [
        ("/api/v4/groups/*/service_accounts", refused(400, cap)),
        ("/api/v4/groups/*/members", refused(403, "403 Forbidden")),
        (
            "/api/v4/groups/*/service_accounts/*/personal_access_tokens",
            refused(422, "Not permitted to create"),
        ),
    ] {
        lab.gitlab.fail("POST", path, &action);
        let outcome = lab.link_minted("alpha", &provider, Mode::ServiceAccount);
        assert!([1, 4].contains(&outcome.status), "{path}: {} {}", outcome.status, outcome.stderr);
        lab.eventually_bare();
        assert_eq!(lab.served("alpha"), None, "{path}");
        assert_eq!(lab.integrations("alpha"), Vec::<Value>::new(), "{path}");
    }
    lab.gitlab.come_back();
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    lab.settle(&["alpha"]);
}

#[test]
fn a_token_that_does_not_prove_itself_is_never_served() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &["--rotate-every", "off"]);
    let refused = json!({"kind": "status", "status": 401, "body": "{\"message\":\"401 Unauthorized\"}",
        "headers": {"Content-Type": "application/json"}});
    lab.gitlab.fail("GET", "/api/v4/personal_access_tokens/self", &refused);
    let outcome = lab.link_minted("alpha", &provider, Mode::ServiceAccount);
    if outcome.status == 0 {
        // It tried again with a good one: then that one serves.
        lab.settle(&["alpha"]);
    } else {
        assert_eq!(lab.served("alpha"), None);
        lab.eventually_bare();
    }
}

#[test]
fn who_is_deleted_or_revoked_leaves_no_identity() {
    for words in [
        &["agent", "delete", "alpha", "--yes"][..],
        &["agent", "revoke", "alpha", "--reason", "gone"],
        &["enclave", "delete", "lab-1", "--yes"],
    ] {
        let lab = Lab::start();
        let provider = lab.provider("main", Mode::ServiceAccount, &[]);
        lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
        assert_eq!(lab.identities().len(), 1);
        lab.dvx(words).success();
        lab.eventually_bare();
        eventually("nothing is left to do", || lab.debts().is_empty());
    }
}

#[test]
fn a_gitlab_that_is_down_at_unlink_is_cleaned_up_when_it_is_back() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let name = lab.identities().pop_first().unwrap();
    lab.gitlab.go_down();
    let unlinked = lab.unlink("alpha");
    unlinked.success();
    assert!(unlinked.stderr.contains("debts"), "it says where that is seen: {}", unlinked.stderr);
    assert_eq!(lab.served("alpha"), None, "locally it is over");
    assert_eq!(lab.integrations("alpha"), Vec::<Value>::new());
    let debts = lab.debts();
    assert!(debts.iter().any(|debt| debt["name"] == name.as_str() && debt["agent"] == "alpha"), "{debts:?}");
    let table = lab.dvx(&["credential-provider", "debts"]).success();
    assert!(table.contains("alpha"), "{table}");
    assert_eq!(lab.identities().len(), 1, "GitLab still has it");
    lab.gitlab.come_back();
    lab.eventually_bare();
    eventually("the debt is paid", || lab.debts().is_empty());
    // The agent can be linked again meanwhile and after.
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    lab.settle(&["alpha"]);
}

#[test]
fn a_debt_survives_a_crash() {
    let mut lab = Lab::start();
    let provider = lab.provider("main", Mode::ProjectToken, &[]);
    lab.link_minted("alpha", &provider, Mode::ProjectToken).success();
    lab.gitlab.go_down();
    lab.unlink("alpha").success();
    lab.crash();
    assert_eq!(lab.debts().len(), 1);
    lab.gitlab.come_back();
    lab.eventually_bare();
    eventually("the debt is paid", || lab.debts().is_empty());
}

#[test]
fn what_is_gone_already_is_no_debt() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let user = lab.gitlab.live()["identities"][0]["id"].clone();
    let owner = lab.gitlab.token("olga", &["api"]);
    let path = format!("/groups/acme/service_accounts/{user}");
    assert_eq!(lab.gitlab.api("DELETE", &path, Some(&owner), &Value::Null).status, 204);
    lab.gitlab.sim("POST", "/jobs", &Value::Null);
    lab.unlink("alpha").success();
    eventually("nothing is left to do", || lab.debts().is_empty());
}

#[test]
fn a_slow_gitlab_is_waited_for_with_word_of_the_progress() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    let slow = json!({"method": "POST", "path": "/api/v4/groups/*/members", "action": {"kind": "delay", "ms": 12_000}});
    lab.gitlab.sim("POST", "/faults", &slow);
    let command = lab.link_command("alpha", &["--credential-provider", &provider]);
    // It says on a terminal what it waits for.
    lab.checked(answer_on_terminal(&command, "member of the group", "")).success();
    lab.settle(&["alpha"]);
}

#[test]
fn every_agent_has_its_own() {
    if skip_without_root("every_agent_has_its_own") {
        return;
    }
    let world = World::single().agent(Agent::new("beta", fresh_uid()));
    let lab = Lab::with(ControlPlane::builder(), world);
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    for agent in ["alpha", "beta"] {
        lab.link_minted(agent, &provider, Mode::ServiceAccount).success();
    }
    assert_eq!(lab.identities().len(), 2);
    assert_ne!(lab.served("alpha"), lab.served("beta"));
    lab.settle(&["alpha", "beta"]);
    lab.unlink("alpha").success();
    eventually("one is left", || lab.identities().len() == 1);
    lab.settle(&["beta"]);
}

#[test]
fn unlinking_names_the_enclaves_whose_broker_does_not_confirm() {
    let mut lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    lab.world.kill();
    let unlinked = lab.unlink("alpha");
    assert_eq!(unlinked.success(), "", "the removal has succeeded");
    assert!(unlinked.stderr.contains("lab-1"), "{}", unlinked.stderr);
    lab.eventually_bare();
    // And a person's token.
    lab.link_pat("alpha", &lab.gitlab.token("dana", &["api"])).success();
    let unlinked = lab.json(&["agent", "integration", "gitlab", "unlink", "alpha", "--yes"]);
    assert_eq!(unlinked["missing"], json!(["lab-1"]), "{unlinked}");
    assert!(unlinked["warning"].as_str().unwrap().contains("revoke"), "{unlinked}");
    assert_eq!(lab.integrations("alpha"), Vec::<Value>::new());
}

#[test]
fn a_request_that_comes_again_is_answered_alike_and_makes_nothing() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &["--rotate-every", "off"]);
    let path = "/agents/alpha/integrations/gitlab";
    let ask = |key: &str, path: &str, body: &Value| {
        let request = Request::new("POST", &format!("/api/v1{path}")).header("Idempotency-Key", key);
        lab.control.admin().send(&request.json(&body.to_string()))
    };
    let body = json!({ "credential_provider": provider });
    let (first, again) = (ask("one", path, &body), ask("one", path, &body));
    assert_eq!((first.status, again.status, first.json()), (200, 200, again.json()));
    assert_eq!(ask("two", path, &body).status, 409, "it is linked already");
    assert_eq!(ask("one", path, &json!({ "credential_provider": "other" })).status, 422);
    let token = lab.gitlab.token("dana", &["api"]);
    lab.unlink("alpha").success();
    let body = json!({ "token": token, "instance_url": lab.gitlab.url() });
    let (first, again) = (ask("three", path, &body), ask("three", path, &body));
    assert_eq!((first.status, again.status, first.json()), (201, 201, again.json()));
    lab.unlink("alpha").success();
    lab.eventually_bare();
}
