//! Who the broker takes the other end of its Unix socket for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dvx_proto::Code;
use dvx_tests::{
    Agent, Caller, CallerSpec, Cgroup, Request, World, binary, eventually, fresh_uid, run, skip,
    skip_without_root,
};
use nix::sys::signal::Signal;

const WHOAMI: &str = "/v1/agent/whoami";

/// A caller's agent, or nothing where it is nobody's.
#[track_caller]
fn agent_of(caller: &Caller) -> Option<String> {
    let answer = caller.get(WHOAMI);
    if answer.status == 200 {
        return Some(answer.json()["agent"].as_str().unwrap().to_owned());
    }
    assert_eq!(answer.problem(), Code::PeerUnknown);
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").problem(), Code::PeerUnknown);
    None
}

#[test]
fn the_own_user_is_served() {
    let mut world = World::single().build();
    world.start();
    assert_eq!(agent_of(&world.caller("alpha")).as_deref(), Some("alpha"));
}

#[test]
fn each_user_is_its_own_agent_and_others_are_nobody() {
    if skip_without_root("each_user_is_its_own_agent_and_others_are_nobody") {
        return;
    }
    let mut world = World::pair().build();
    world.start();
    assert_eq!(agent_of(&world.caller("alpha")).as_deref(), Some("alpha"));
    assert_eq!(agent_of(&world.caller("beta")).as_deref(), Some("beta"));
    for uid in [fresh_uid(), world.broker_uid, 65534, 0] {
        assert_eq!(agent_of(&world.caller_as(CallerSpec::user(uid))), None, "uid {uid}");
    }
}

#[test]
fn nobody_is_nobody_even_when_mapped() {
    if skip_without_root("nobody_is_nobody_even_when_mapped") {
        return;
    }
    let mut world = World::single().agent(Agent::new("nobody", 65534)).build();
    // To refuse the configuration is as good.
    let mut command = world.broker_command(&["check", "--config"]);
    if run(command.arg(world.config_path())).status == 0 {
        world.start();
        assert_eq!(agent_of(&world.caller("nobody")), None);
    }
}

#[test]
fn root_is_an_agent_only_where_it_is_mapped() {
    if skip_without_root("root_is_an_agent_only_where_it_is_mapped") {
        return;
    }
    let mut world = World::single().agent(Agent::new("rooted", 0)).build();
    world.start();
    assert_eq!(agent_of(&world.caller("rooted")).as_deref(), Some("rooted"));
}

#[test]
fn a_containers_root_is_not_the_hosts_root() {
    if skip_without_root("a_containers_root_is_not_the_hosts_root") {
        return;
    }
    let mut world = World::single().agent(Agent::new("rooted", 0)).build();
    world.start();
    let mut spec = CallerSpec::user(0);
    spec.before_user = ["unshare", "--pid", "--fork", "--kill-child"].map(String::from).into();
    assert_eq!(agent_of(&world.caller_as(spec)), None);
}

#[test]
fn root_of_a_user_namespace_is_the_user_who_made_it() {
    if skip_without_root("root_of_a_user_namespace_is_the_user_who_made_it") {
        return;
    }
    let mut world = World::single().agent(Agent::new("rooted", 0)).build();
    let spec = |uid| CallerSpec { after_user: vec!["unshare".into(), "-Ur".into()], ..CallerSpec::user(uid) };
    let allowed = run(&mut spec(world.uid_of("alpha")).command(Path::new("true"))).status == 0;
    if !allowed {
        return skip(
            "root_of_a_user_namespace_is_the_user_who_made_it",
            "users may not make user namespaces here",
        );
    }
    world.start();
    assert_eq!(agent_of(&world.caller_as(spec(world.uid_of("alpha")))).as_deref(), Some("alpha"));
    assert_eq!(agent_of(&world.caller_as(spec(fresh_uid()))), None);
}

#[test]
fn a_group_selector_takes_any_of_the_peers_groups() {
    if skip_without_root("a_group_selector_takes_any_of_the_peers_groups") {
        return;
    }
    let (uid, group) = (fresh_uid(), fresh_uid());
    let mut world = World::builder().agent(Agent::new("alpha", uid).gid(group)).build();
    world.start();
    let with = |gid: u32, groups: &[u32]| {
        let spec = CallerSpec { gid: Some(gid), ..CallerSpec::user(uid).with_groups(groups) };
        agent_of(&world.caller_as(spec))
    };
    assert_eq!(with(group, &[]).as_deref(), Some("alpha"), "its primary group");
    assert_eq!(with(uid, &[7, group, 9]).as_deref(), Some("alpha"), "a supplementary group");
    assert_eq!(with(uid, &[7, 9]), None);
    let other = CallerSpec::user(fresh_uid()).with_groups(&[group]);
    assert_eq!(agent_of(&world.caller_as(other)), None, "the group without the user");
}

#[test]
fn a_unit_selector_takes_the_system_unit_and_nothing_that_looks_like_it() {
    const NAME: &str = "a_unit_selector_takes_the_system_unit_and_nothing_that_looks_like_it";
    if skip_without_root(NAME) {
        return;
    }
    let uid = fresh_uid();
    let unit = format!("dvx{uid}.service");
    let mut world = World::builder().agent(Agent::new("alpha", uid).unit(&unit)).build();
    let group = |path: String| Cgroup::create(&path);
    let Some(right) = group(format!("dvx{uid}.slice/{unit}")) else {
        return skip(NAME, "no control groups here");
    };
    let below = group(format!("dvx{uid}.slice/{unit}/worker")).unwrap();
    let wrong: Vec<Cgroup> = [
        format!("dvx{uid}.slice/other.service"),
        format!("dvx{uid}.slice/x{unit}"),
        format!("dvx{uid}.slice/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/{unit}"),
        format!("dvx{uid}.slice/container.scope/{unit}"),
        format!("dvx{uid}.slice"),
    ]
    .into_iter()
    .map(|path| group(path).unwrap())
    .collect();
    world.start();
    let agent_in = |cgroup: &Cgroup| agent_of(&world.caller_as(CallerSpec::user(uid).in_cgroup(cgroup)));
    assert_eq!(agent_in(&right).as_deref(), Some("alpha"));
    assert_eq!(agent_in(&below).as_deref(), Some("alpha"));
    for cgroup in &wrong {
        assert_eq!(agent_in(cgroup), None, "{}", cgroup.path());
    }
    assert_eq!(agent_of(&world.caller_as(CallerSpec::user(uid))), None, "no unit at all");
    assert_eq!(agent_of(&world.caller_as(CallerSpec::user(fresh_uid()).in_cgroup(&right))), None);
}

#[test]
fn a_cgroup_selector_takes_the_group_and_what_is_below() {
    const NAME: &str = "a_cgroup_selector_takes_the_group_and_what_is_below";
    if skip_without_root(NAME) {
        return;
    }
    let uid = fresh_uid();
    let path = format!("/dvxc{uid}/agents");
    let mut world = World::builder().agent(Agent::new("alpha", uid).cgroup(&path)).build();
    let Some(right) = Cgroup::create(&path) else { return skip(NAME, "no control groups here") };
    let below = Cgroup::create(&format!("{path}/one")).unwrap();
    let sibling = Cgroup::create(&format!("{path}-evil")).unwrap();
    let above = Cgroup::create(&format!("/dvxc{uid}")).unwrap();
    world.start();
    let agent_in = |cgroup: &Cgroup| agent_of(&world.caller_as(CallerSpec::user(uid).in_cgroup(cgroup)));
    assert_eq!(agent_in(&right).as_deref(), Some("alpha"));
    assert_eq!(agent_in(&below).as_deref(), Some("alpha"));
    assert_eq!(agent_in(&sibling), None);
    assert_eq!(agent_in(&above), None);
}

#[test]
fn a_shared_user_is_told_apart_by_its_units() {
    const NAME: &str = "a_shared_user_is_told_apart_by_its_units";
    if skip_without_root(NAME) {
        return;
    }
    let uid = fresh_uid();
    let unit = |name: &str| format!("dvxs{uid}{name}.service");
    let agent = |name: &str| Agent::new(name, uid).unit(&unit(name));
    let mut world = World::builder().agent(agent("alpha")).agent(agent("beta")).build();
    let token = world.plant("beta", "gitlab");
    world.start();
    let mut callers = Vec::new();
    let mut groups = Vec::new();
    for name in ["alpha", "beta"] {
        let Some(cgroup) = Cgroup::create(&unit(name)) else { return skip(NAME, "no control groups here") };
        callers.push(world.caller_as(CallerSpec::user(uid).in_cgroup(&cgroup)));
        groups.push(cgroup);
    }
    assert_eq!(callers[1].get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    assert_eq!(callers[0].get("/v1/agent/credentials/gitlab").problem(), Code::NotFound);
    drop(callers);
}

#[test]
fn agents_that_could_be_confused_are_refused_at_the_start() {
    let uid = fresh_uid();
    let alone = Agent::new("alpha", uid);
    for other in [
        Agent::new("beta", uid),
        Agent::new("beta", uid).unit("x.service"),
        Agent::new("beta", uid).gid(5),
        Agent::new("beta", uid).cgroup("/x"),
    ] {
        let world = World::builder().agent(alone.clone()).agent(other.clone()).build();
        let mut command = world.broker_command(&["check", "--config"]);
        let outcome = run(command.arg(world.config_path()));
        assert_eq!(outcome.status, 78, "{other:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("alpha") && outcome.stderr.contains("beta"), "{}", outcome.stderr);
        assert_eq!(world.run_to_end().status, 78, "run says what check says");
    }
}

#[test]
fn a_connection_that_was_handed_on_stays_its_makers() {
    if skip_without_root("a_connection_that_was_handed_on_stays_its_makers") {
        return;
    }
    // All tests rest on this: the connection is made by the caller and used by the test, which is root.
    let mut world = World::pair().build();
    let token = world.plant("alpha", "gitlab");
    world.start();
    let mut caller = world.caller("alpha");
    let mut connection = caller.unix();
    assert_eq!(connection.exchange(&Request::get("/v1/agent/discover")).status, 200);
    caller.end();
    let answer = connection.exchange(&Request::get("/v1/agent/credentials/gitlab"));
    assert_eq!(answer.json()["token"], token.as_str(), "the maker is gone and the identity stays");
}

/// Connects while the broker is stopped, so that it accepts only after the caller is gone.
fn answer_after_the_callers_end(world: &mut World, agent: &str) -> dvx_tests::Response {
    world.broker().signal(Signal::SIGSTOP);
    let mut caller = world.caller(agent);
    let mut connection = caller.unix();
    caller.end();
    world.broker().signal(Signal::SIGCONT);
    connection.exchange(&Request::get(WHOAMI))
}

#[test]
fn a_peer_that_ended_before_it_was_looked_at_is_nobody() {
    let mut world = World::single().build();
    world.start();
    assert_eq!(answer_after_the_callers_end(&mut world, "alpha").problem(), Code::PeerUnknown);
    assert_eq!(agent_of(&world.caller("alpha")).as_deref(), Some("alpha"), "the next one is served");
}

#[test]
fn a_set_user_id_program_is_not_its_owner() {
    const NAME: &str = "a_set_user_id_program_is_not_its_owner";
    if skip_without_root(NAME) {
        return;
    }
    let mut world = World::single().build();
    world.start();
    let uid = world.uid_of("alpha");
    let program = world.ground.path("setuid-caller");
    fs::copy(binary("dvx-caller"), &program).unwrap();
    std::os::unix::fs::chown(&program, Some(uid), Some(uid)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let caller = world.caller_program(CallerSpec::user(fresh_uid()), &program);
    assert_eq!(agent_of(&caller), None);
}

#[test]
fn without_pidfds_users_hold_and_selectors_refuse() {
    const NAME: &str = "without_pidfds_users_hold_and_selectors_refuse";
    if skip_without_root(NAME) {
        return;
    }
    let uid = fresh_uid();
    let unit = format!("dvxn{uid}.service");
    let Some(cgroup) = Cgroup::create(&unit) else { return skip(NAME, "no control groups here") };
    let mut world = World::single()
        .agent(Agent::new("by-unit", uid).unit(&unit))
        .agent(Agent::new("by-cgroup", fresh_uid()).cgroup(&format!("/{unit}")))
        .agent(Agent::new("rooted", 0))
        .env("DVX_TEST_NO_PIDFD", "1")
        .build();
    world.start();
    assert_eq!(agent_of(&world.caller("alpha")).as_deref(), Some("alpha"));
    assert_eq!(agent_of(&world.caller_as(CallerSpec::user(uid).in_cgroup(&cgroup))), None);
    let by_cgroup = CallerSpec::user(world.uid_of("by-cgroup")).in_cgroup(&cgroup);
    assert_eq!(agent_of(&world.caller_as(by_cgroup)), None);
    assert_eq!(
        agent_of(&world.caller("rooted")),
        None,
        "a container's root could not be told from the host's"
    );
}

#[test]
fn a_program_that_is_exchanged_after_connecting_gains_nothing() {
    const NAME: &str = "a_program_that_is_exchanged_after_connecting_gains_nothing";
    if skip_without_root(NAME) {
        return;
    }
    // An agent's own program, deleted while it runs or worn by somebody else, is neither a rule nor evidence.
    let mut world = World::pair().build();
    world.plant("alpha", "gitlab");
    world.start();
    let program = world.ground.path("an-agent");
    fs::copy(binary("dvx-caller"), &program).unwrap();
    let alpha = world.caller_program(CallerSpec::user(world.uid_of("alpha")), &program);
    assert_eq!(agent_of(&alpha).as_deref(), Some("alpha"));
    let thief = world.caller_program(CallerSpec::user(fresh_uid()), &program);
    assert_eq!(agent_of(&thief), None);
    fs::remove_file(&program).unwrap();
    assert_eq!(agent_of(&alpha).as_deref(), Some("alpha"), "/proc/PID/exe now ends in (deleted)");
}

#[test]
fn an_agent_that_is_added_by_reload_is_served_and_one_that_is_removed_is_not() {
    if skip_without_root("an_agent_that_is_added_by_reload_is_served_and_one_that_is_removed_is_not") {
        return;
    }
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    world.start();
    let alpha = world.caller("alpha");
    let mut kept = alpha.unix();
    assert_eq!(kept.exchange(&Request::get(WHOAMI)).status, 200);
    world.config.agents = vec![Agent::new("beta", fresh_uid())];
    world.plant("beta", "gitlab");
    world.reload();
    let beta = world.caller("beta");
    eventually("beta is served", || beta.get(WHOAMI).status == 200);
    eventually("alpha is not", || alpha.get(WHOAMI).status == 403);
    let answer = kept.exchange(&Request::get("/v1/agent/credentials/gitlab"));
    assert_eq!(answer.problem(), Code::PeerUnknown, "nor on a connection from before");
}
