//! Tokens end when the day in their `expires_at` begins, in UTC, and are replaced before; whatever clocks do.

use std::process::Stdio;
use std::time::Duration;

use dvx_proto::Code;
use dvx_tests::{Lab, Mode, World, eventually, within};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// What time it is at GitLab, which is what it is for the control plane.
fn time(lab: &Lab) -> Timestamp {
    lab.gitlab.sim("GET", "/clock", &Value::Null)["now"].as_str().unwrap().parse().unwrap()
}

/// Lets time pass to this time of tomorrow, in UTC, and gives the day.
fn pass_to_tomorrow(lab: &Lab, hour: i8, minute: i8) -> Date {
    let now = time(lab);
    let day = TimeZone::UTC.to_datetime(now).date().checked_add(1.day()).unwrap();
    let then = TimeZone::UTC.to_timestamp(day.to_datetime(Time::constant(hour, minute, 0, 0))).unwrap();
    lab.pass(now.duration_until(then).as_secs());
    day
}

fn after(day: Date, days: i64) -> Date {
    day.checked_add(days.days()).unwrap()
}

/// How many tokens of service accounts were made.
fn minted(lab: &Lab) -> usize {
    let is_mint = |request: &&Value| {
        let path = request["path"].as_str().unwrap();
        request["method"] == "POST" && path.ends_with("/personal_access_tokens") && request["status"] == 201
    };
    lab.gitlab.requests().iter().filter(is_mint).count()
}

/// Nothing is made, although the control plane looks several times.
#[track_caller]
fn assert_nothing_is_made(lab: &Lab) {
    let before = minted(lab);
    let made = within(Duration::from_secs(3), || (minted(lab) > before).then_some(()));
    assert!(made.is_none(), "a token was made at {}", time(lab));
}

/// A lab with an agent that has an identity of its own.
fn linked(test: &str) -> Option<Lab> {
    let lab = Lab::movable(test, World::single())?;
    let provider = lab.provider("main", Mode::ServiceAccount, &["--rotate-every", "off"]);
    // GitLab's longest life for a token decides when this one ends.
    if test.contains("tomorrow") {
        lab.gitlab.set(&json!({"max_lifetime_days": 2}));
        pass_to_tomorrow(&lab, 12, 0);
    }
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    Some(lab)
}

#[test]
fn a_token_that_ends_tomorrow_is_replaced_today() {
    let Some(lab) = linked("a_token_that_ends_tomorrow_is_replaced_today") else { return };
    let first = lab.served("alpha").unwrap();
    let day = TimeZone::UTC.to_datetime(time(&lab)).date();
    let end = format!("{}T00:00:00Z", after(day, 2));
    assert_eq!(lab.integrations("alpha")[0]["expires_at"], *end);
    // The next day at 14:00 three quarters of its 36 hours are not over, at 17:00 four fifths are.
    lab.pass(26 * HOUR);
    assert_nothing_is_made(&lab);
    lab.pass(3 * HOUR);
    eventually("it is replaced", || lab.served("alpha").is_some_and(|token| token != first));
    let second = lab.served("alpha").unwrap();
    assert!(lab.works(&first) && lab.works(&second), "long before midnight");
    assert_eq!(lab.integrations("alpha")[0]["expires_at"], format!("{}T00:00:00Z", after(day, 3)));
    assert_eq!(minted(&lab), 2);
    assert_nothing_is_made(&lab);
    // A second after midnight the agent has one that works.
    lab.pass(7 * HOUR);
    assert_eq!(time(&lab).as_second() / DAY, end.parse::<Timestamp>().unwrap().as_second() / DAY);
    assert!(lab.works(&second) && !lab.works(&first));
    assert_eq!(lab.served("alpha"), Some(second));
}

#[test]
fn a_token_of_a_person_ends_at_midnight_for_everybody() {
    const NAME: &str = "a_token_of_a_person_ends_at_midnight_for_everybody";
    let Some(lab) = Lab::movable(NAME, World::single().movable_clock()) else { return };
    let start = time(&lab);
    let day = pass_to_tomorrow(&lab, 23, 58);
    let token = lab.gitlab.token_with(&json!({
        "user": "dana", "scopes": ["api"], "expires_at": after(day, 1).to_string(),
    }));
    lab.link_pat("alpha", &token).success();
    let end = format!("{}T00:00:00Z", after(day, 1));
    assert_eq!(lab.integrations("alpha")[0]["expires_at"], *end);
    let caller = lab.world.caller("alpha");
    let told = || caller.get("/v1/agent/credentials/gitlab");
    lab.world.advance_clock(u32::try_from(start.duration_until(time(&lab)).as_secs()).unwrap());
    assert_eq!(told().json()["expires_at"], *end);
    lab.pass(3 * 60);
    lab.world.advance_clock(u32::try_from(start.duration_until(time(&lab)).as_secs()).unwrap());
    eventually("the broker serves it no more", || told().status != 200);
    assert_eq!(told().problem(), Code::CredentialExpired);
    lab.unlink("alpha").success();
    assert!(lab.link_pat("alpha", &token).failure(6).contains("expired"));
    assert_eq!(lab.integrations("alpha"), Vec::<Value>::new());
}

#[test]
fn a_token_is_replaced_at_four_fifths_of_its_life_once_however_clocks_jump() {
    const NAME: &str = "a_token_is_replaced_at_four_fifths_of_its_life_once_however_clocks_jump";
    let Some(lab) = linked(NAME) else { return };
    let first = lab.served("alpha").unwrap();
    lab.pass(20 * DAY);
    assert_nothing_is_made(&lab);
    lab.pass(5 * DAY);
    eventually("it is replaced", || lab.served("alpha").is_some_and(|token| token != first));
    let second = lab.served("alpha").unwrap();
    assert_eq!(minted(&lab), 2);
    for days in [-2, 2, 2, -4, 2] {
        lab.pass(days * DAY);
        assert_nothing_is_made(&lab);
    }
    assert_eq!(lab.served("alpha").as_ref(), Some(&second));
    assert_eq!((minted(&lab), lab.identities().len()), (2, 1));
    assert!(lab.works(&second));
}

/// Whoever is at work has a lease for half a minute, which a jump ends; the process knows better.
#[test]
fn a_clock_that_jumps_while_a_token_is_made_has_none_made_twice() {
    const NAME: &str = "a_clock_that_jumps_while_a_token_is_made_has_none_made_twice";
    for days in [2, -2] {
        let Some(mut lab) = linked(NAME) else { return };
        let path = "/api/v4/groups/*/service_accounts/*/personal_access_tokens";
        lab.gitlab.fail("POST", path, &json!({"kind": "delay", "ms": 3_000}));
        let mut command = lab.control.dvx_command();
        command.args(["agent", "integration", "gitlab", "rotate", "alpha"]).stdout(Stdio::null());
        let mut rotation = command.spawn().unwrap();
        eventually("a token is being made", || {
            let open = |request: &Value| request["status"].is_null() && !request["fault"].is_null();
            lab.gitlab.requests().iter().any(open)
        });
        lab.pass(days * DAY);
        assert!(rotation.wait().unwrap().success());
        lab.fly("one is left", |lab| lab.balance(&["alpha"]));
        assert_eq!(minted(&lab), 2, "the first and the one that replaces it, after a jump of {days} days");
    }
}
