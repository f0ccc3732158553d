//! Somebody who can write the database and does not have the key: what is moved, edited or put back is unavailable
//! by itself, is told of, and is never another value.

use std::process::Command;

use dvx_proto::Code;
use dvx_tests::{Agent, Caller, ControlPlane, World, eventually, fresh_uid, run, skip_without_root};
use serde_json::{Value, json};

/// Two agents with two secrets each, and one of the organisation.
fn scene() -> (ControlPlane, World) {
    let control = ControlPlane::start();
    let mut world = World::builder()
        .agent(Agent::new("alpha", fresh_uid()))
        .agent(Agent::new("beta", fresh_uid()))
        .control(&control)
        .build();
    for agent in ["alpha", "beta"] {
        for name in ["ONE", "TWO"] {
            control.admin().set_secret(Some(agent), name, &format!("{name} of {agent}"));
        }
    }
    control.admin().set_secret(None, "ORG", "of all");
    world.start();
    (control, world)
}

/// Runs statements on the database of a control plane that does not run.
fn edit(control: &ControlPlane, script: &str) {
    let script = format!(
        "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
agent = {{name: id for id, name in db.execute('select id, name from agents')}}
agent['-'] = ''
def row(who, name):
    names = [column[1] for column in db.execute('pragma table_info(secrets)')]
    found = db.execute('select * from secrets where agent_id = ? and name = ?', (agent[who], name)).fetchone()
    return dict(zip(names, found))
def put(who, name, **values):
    for key, value in values.items():
        count = db.execute(f'update secrets set {{key}} = ? where agent_id = ? and name = ?', (value, agent[who], name)).rowcount
        assert count == 1, (who, name)
def flipped(blob):
    return bytes([blob[0] ^ 1]) + blob[1:]
{script}
db.commit()"
    );
    let mut command = Command::new("python3");
    run(command.args(["-c", &script]).arg(control.data().join("control.db"))).success();
}

/// Does something where the database lies.
fn in_data(control: &ControlPlane, script: &str) {
    let script = format!("cd \"$0\" && {script}");
    run(Command::new("sh").args(["-c", &script]).arg(control.data())).success();
}

fn value(caller: &Caller, name: &str) -> Option<String> {
    let answer = caller.get(&format!("/v1/agent/secrets/{name}"));
    match answer.status {
        200 => Some(answer.json()["value"].as_str().unwrap().to_owned()),
        _ => {
            assert_eq!(answer.problem(), Code::NotFound);
            None
        }
    }
}

/// Edits the database while nothing runs; afterwards everything runs, `gone` is not served and said to be unreadable,
/// and everything else is what it was.
#[track_caller]
fn only_these_are_lost(script: &str, gone: &[(&str, &str)]) {
    let (mut control, mut world) = scene();
    control.stop();
    world.kill();
    edit(&control, script);
    control.start_all();
    world.start();
    for (agent, expected) in [("alpha", "alpha"), ("beta", "beta")] {
        let caller = world.caller(agent);
        for name in ["ONE", "TWO", "ORG"] {
            let whole = if name == "ORG" { "of all".to_owned() } else { format!("{name} of {expected}") };
            let lost = gone.contains(&(agent, name)) || (name == "ORG" && gone.contains(&("-", name)));
            assert_eq!(value(&caller, name), (!lost).then_some(whole), "{agent} {name} after {script}");
        }
    }
    let events = || control.admin().audit("");
    let integrity = |event: &Value| event["action"] == "secret.integrity" && event["actor"] == "system";
    eventually("the loss is told", || events().iter().filter(|event| integrity(event)).count() >= gone.len());
    for (agent, name) in gone {
        let told = events().iter().any(|event| {
            let of_agent = if *agent == "-" { Value::Null } else { json!(agent) };
            integrity(event) && event["agent"] == of_agent && event.to_string().contains(name)
        });
        assert!(told, "{agent} {name} is named");
    }
    // Setting it again is all that it takes.
    for (agent, name) in gone {
        let agent = (*agent != "-").then_some(*agent);
        let revision = control.admin().set_secret(agent, name, "set again");
        control.admin().delivered(revision);
        assert_eq!(value(&world.caller(agent.unwrap_or("beta")), name).as_deref(), Some("set again"));
    }
}

macro_rules! lost {
    ($test:ident, $script:literal, $gone:expr) => {
        #[test]
        fn $test() {
            if !skip_without_root(stringify!($test)) {
                only_these_are_lost($script, &$gone);
            }
        }
    };
}

lost!(
    rows_that_change_places_open_for_nobody,
    "one, other = row('alpha', 'ONE'), row('beta', 'ONE')
for who, what in (('alpha', other), ('beta', one)):
    put(who, 'ONE', value=what['value'], wrapped_key=what['wrapped_key'])",
    [("alpha", "ONE"), ("beta", "ONE")]
);

lost!(
    a_value_of_one_name_does_not_open_under_another,
    "one = row('alpha', 'ONE')
put('alpha', 'TWO', value=one['value'], wrapped_key=one['wrapped_key'], version=one['version'])",
    [("alpha", "TWO")]
);

lost!(
    a_value_of_an_agent_does_not_open_for_all,
    "one = row('alpha', 'ONE')
put('-', 'ORG', value=one['value'], wrapped_key=one['wrapped_key'])",
    [("-", "ORG")]
);

lost!(
    bits_that_were_flipped_are_noticed,
    "put('alpha', 'ONE', value=flipped(row('alpha', 'ONE')['value']))
put('beta', 'TWO', wrapped_key=flipped(row('beta', 'TWO')['wrapped_key']))",
    [("alpha", "ONE"), ("beta", "TWO")]
);

lost!(
    values_that_were_cut_are_noticed,
    "put('alpha', 'ONE', value=row('alpha', 'ONE')['value'][:-1])
put('alpha', 'TWO', value=b'')
put('beta', 'ONE', wrapped_key=b'')",
    [("alpha", "ONE"), ("alpha", "TWO"), ("beta", "ONE")]
);

lost!(a_version_that_was_edited_is_noticed, "put('alpha', 'ONE', version=7)", [("alpha", "ONE")]);

#[test]
fn a_hidden_value_that_is_made_accessible_does_not_open() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().plant("alpha", "gitlab");
    control.stop();
    edit(&control, "put('alpha', 'gitlab:token', agent_accessible=1, credential=0)");
    control.start_all();
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(value(&caller, "gitlab:token"), None);
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").problem(), Code::NotFound);
}

#[test]
fn a_token_is_not_sent_to_an_instance_that_was_put_in_later() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().plant("alpha", "gitlab");
    control.stop();
    edit(&control, "put('alpha', 'gitlab:token', instance_url='https://evil.example')");
    control.start_all();
    world.start();
    let caller = world.caller("alpha");
    for host in ["evil.example", "gitlab.com"] {
        let answer =
            caller.post("/v1/agent/git-credential", &json!({"protocol": "https", "host": host}).to_string());
        assert_eq!(answer.problem(), Code::NotFound, "{host}");
    }
}

#[test]
fn an_older_row_that_is_put_back_does_not_open() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().set_secret(Some("alpha"), "OLD", "the first");
    control.admin().set_secret(Some("alpha"), "GONE", "deleted");
    control.stop();
    edit(&control, "db.execute('create table kept as select * from secrets')");
    control.start_all();
    control.admin().set_secret(Some("alpha"), "OLD", "the second");
    control.admin().delete_secret(Some("alpha"), "GONE");
    control.stop();
    edit(
        &control,
        "db.execute('delete from secrets')\ndb.execute('insert into secrets select * from kept')\ndb.execute('drop table kept')",
    );
    control.start_all();
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(
        (value(&caller, "OLD"), value(&caller, "GONE")),
        (None, None),
        "neither the old nor the deleted value"
    );
}

#[test]
fn a_whole_database_that_is_put_back_is_refused_by_brokers_that_know_more() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().set_secret(Some("alpha"), "NAME", "the first");
    world.start();
    control.stop();
    in_data(&control, "cp -p control.db backup");
    control.start_all();
    let revision = control.admin().set_secret(Some("alpha"), "NAME", "the second");
    control.admin().delivered(revision);
    control.stop();
    in_data(&control, "rm -f control.db-* && mv backup control.db");
    control.start_all();
    eventually("the broker says so", || world.admin("/readyz").text().contains("revision"));
    assert_eq!(value(&world.caller("alpha"), "NAME").as_deref(), Some("the second"));
}

#[test]
fn a_broker_that_knew_more_takes_everything_anew_once_the_database_is_ahead_again() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().set_secret(Some("alpha"), "NAME", "the first");
    world.start();
    control.stop();
    in_data(&control, "cp -p control.db backup");
    control.start_all();
    let revision = control.admin().set_secret(Some("alpha"), "NAME", "the second");
    control.admin().delivered(revision);
    control.stop();
    in_data(&control, "rm -f control.db-* && mv backup control.db");
    control.start_all();
    // What is lost was revision so and so; now that is another one.
    while control.admin().set_secret(Some("alpha"), "OTHER", "of the new history") <= revision {}
    let caller = world.caller("alpha");
    eventually("the broker follows", || value(&caller, "OTHER").is_some());
    assert_eq!(value(&caller, "NAME").as_deref(), Some("the first"));
}
