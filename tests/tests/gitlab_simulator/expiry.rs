//! `expires_at`.

use serde_json::{Value, json};

use super::{EXPIRED, account, assert_error, get, mint, owned, post, tokens_path};

#[test]
fn a_token_is_dead_at_midnight_utc_of_its_day() {
    let (gitlab, _) = owned();
    let token = gitlab.token_with(&json!({"user": "olga", "scopes": ["api"], "expires_at": "2027-01-01"}));
    gitlab.set_time("2026-12-31T23:59:59Z");
    assert_eq!(get(&gitlab, "/user", &token).status, 200);
    assert_eq!(get(&gitlab, "/personal_access_tokens/self", &token).json()["active"], true);
    gitlab.set_time("2027-01-01T00:00:00Z");
    assert_error(&get(&gitlab, "/user", &token), 401, EXPIRED);
}

#[test]
fn today_and_the_past_are_accepted_and_make_a_dead_token() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    for date in ["2026-11-20", "2025-01-01"] {
        let body = json!({"name": "n", "scopes": ["api"], "expires_at": date});
        let answer = gitlab.api("POST", &tokens_path(user), Some(&owner), &body);
        assert_eq!(answer.status, 201, "{date}");
        assert_eq!(answer.json()["active"], false);
        assert_eq!(answer.json()["revoked"], false);
        assert_error(&get(&gitlab, "/user", super::value(&answer.json())), 401, EXPIRED);
    }
}

#[test]
fn the_longest_life_is_365_or_400_days_and_the_error_depends_on_the_endpoint() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"])["id"].clone();
    let create = |date: &str| {
        let body = json!({"name": "n", "scopes": ["api"], "expires_at": date});
        gitlab.api("POST", &tokens_path(user), Some(&owner), &body)
    };
    for (days, last, over) in [(365, "2027-11-20", "2027-11-21"), (400, "2027-12-25", "2027-12-26")] {
        gitlab.set(&json!({"max_lifetime_days": days}));
        assert_eq!(create(last).status, 201);
        assert_error(&create(over), 422, &format!("Expiration date must be before {last}"));
        let rotate = format!("{}/{token}/rotate", tokens_path(user));
        let answer = gitlab.api("POST", &rotate, Some(&owner), &json!({"expires_at": over}));
        let text = format!("400 Bad request - Expiration date must be before {last}");
        assert_error(&answer, 400, &text);
        let body = json!({"name": "n", "scopes": ["api"], "expires_at": over});
        let answer = gitlab.api("POST", "/projects/acme%2Fapp/access_tokens", Some(&owner), &body);
        assert_error(&answer, 400, &text);
    }
    assert_eq!(gitlab.live()["identities"].as_array().unwrap().len(), 1, "no bot of a failure is left");
}

#[test]
fn on_its_last_day_a_token_is_in_neither_list() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"])["id"].clone();
    let listed = |state: &str| {
        let path = format!("{}?state={state}", tokens_path(user));
        let list = get(&gitlab, &path, &owner).json();
        list.as_array().unwrap().iter().any(|row| row["id"] == token)
    };
    for (now, active, inactive) in [
        ("2026-12-19T23:59:59Z", true, false),
        ("2026-12-20T00:00:00Z", false, false),
        ("2026-12-20T23:59:59Z", false, false),
        ("2026-12-21T00:00:00Z", false, true),
    ] {
        gitlab.set_time(now);
        assert_eq!((listed("active"), listed("inactive")), (active, inactive), "{now}");
    }
}

#[test]
fn without_a_date_creation_takes_the_longest_life_and_rotation_a_week() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let ends = |path: &str, body: &Value| {
        let answer = gitlab.api("POST", path, Some(&owner), body);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        (answer.json()["id"].clone(), answer.json()["expires_at"].clone())
    };
    let body = json!({"name": "n", "scopes": ["api"]});
    let (token, date) = ends(&tokens_path(user), &body);
    assert_eq!(date, "2027-11-20");
    let (token, date) = ends(&format!("{}/{token}/rotate", tokens_path(user)), &Value::Null);
    assert_eq!(date, "2026-11-27");
    gitlab.set(&json!({"expiry_enforced": false}));
    assert_eq!(ends(&tokens_path(user), &body).1, Value::Null);
    assert_eq!(ends(&format!("{}/{token}/rotate", tokens_path(user)), &Value::Null).1, Value::Null);
}

#[test]
fn the_clock_can_be_shifted_and_runs_on() {
    let (gitlab, owner) = owned();
    let token = gitlab.token_with(&json!({"user": "olga", "scopes": ["api"], "expires_at": "2200-01-01"}));
    gitlab.shift_time(0);
    assert_eq!(get(&gitlab, "/user", &token).status, 200);
    gitlab.shift_time(200 * 366 * 86_400);
    assert_error(&get(&gitlab, "/user", &token), 401, EXPIRED);
    assert_eq!(post(&gitlab, "/groups/acme/service_accounts", &owner).status, 201);
}
