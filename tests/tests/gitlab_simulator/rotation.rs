//! Rotation, families, and automatic reuse detection.

use std::thread;

use serde_json::{Value, json};

use super::{EXPIRED, REVOKED, account, assert_error, get, id, mint, owned, post, tokens_path, value};

const SELF_ROTATE: &str = "/personal_access_tokens/self/rotate";

#[test]
fn a_rotation_keeps_everything_but_value_and_number_and_the_old_value_dies_at_once() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let old = mint(&gitlab, &owner, user, &["api", "self_rotate"]);
    let answer = gitlab.api("POST", SELF_ROTATE, Some(value(&old)), &json!({"expires_at": "2026-12-01"}));
    assert_eq!(answer.status, 200, "not 201");
    let new = answer.json();
    assert_ne!((&new["id"], value(&new)), (&old["id"], value(&old)));
    for name in ["name", "scopes", "description", "user_id"] {
        assert_eq!(new[name], old[name], "{name}");
    }
    assert_eq!(new["expires_at"], "2026-12-01");
    assert_error(&get(&gitlab, "/user", value(&old)), 401, REVOKED);
    assert_eq!(get(&gitlab, "/user", value(&new)).status, 200);
    let rows = get(&gitlab, &tokens_path(user), &owner).json();
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == old["id"]).unwrap();
    assert_eq!((&row["revoked"], &row["active"]), (&json!(true), &json!(false)));
}

#[test]
fn a_consumed_token_at_a_rotate_endpoint_ends_all_that_came_out_of_it() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let bystander = mint(&gitlab, &owner, user, &["api"]);
    let first = mint(&gitlab, &owner, user, &["api"]);
    let second = post(&gitlab, SELF_ROTATE, value(&first)).json();
    let third = post(&gitlab, SELF_ROTATE, value(&second)).json();
    // Elsewhere nothing happens.
    assert_error(&get(&gitlab, "/user", value(&first)), 401, REVOKED);
    assert_error(&post(&gitlab, "/groups/345/service_accounts", value(&first)), 401, REVOKED);
    assert_eq!(get(&gitlab, "/user", value(&third)).status, 200);
    assert_error(&post(&gitlab, SELF_ROTATE, value(&first)), 401, REVOKED);
    assert_error(&get(&gitlab, "/user", value(&third)), 401, REVOKED);
    assert_eq!(get(&gitlab, "/user", value(&bystander)).status, 200);
}

#[test]
fn reuse_is_detected_at_every_rotate_endpoint() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let app = id(&gitlab, "projects", "acme/app");
    for path in [
        "/personal_access_tokens/77/rotate".to_owned(),
        format!("{}/77/rotate", tokens_path(user)),
        format!("/projects/{app}/access_tokens/self/rotate"),
        "/groups/345/access_tokens/77/rotate".to_owned(),
    ] {
        let first = mint(&gitlab, &owner, user, &["api"]);
        let second = post(&gitlab, SELF_ROTATE, value(&first)).json();
        assert_error(&post(&gitlab, &path, value(&first)), 401, REVOKED);
        assert_error(&get(&gitlab, "/user", value(&second)), 401, REVOKED);
    }
}

#[test]
fn an_ancestor_survives_the_reuse_of_its_descendant() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let first = mint(&gitlab, &owner, user, &["api"]);
    let second = post(&gitlab, SELF_ROTATE, value(&first)).json();
    // Such a pair exists when two rotations cross: the ancestor is put back to life by hand.
    gitlab.sim("PATCH", &format!("/tokens/{}", first["id"]), &json!({"revoked": false}));
    gitlab.revoke(value(&second));
    assert_error(&post(&gitlab, SELF_ROTATE, value(&second)), 401, REVOKED);
    assert_eq!(get(&gitlab, "/user", value(&first)).status, 200);
}

#[test]
fn an_expired_and_revoked_token_says_expired_and_ends_nothing() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let first = mint(&gitlab, &owner, user, &["api"]);
    let longer = json!({"expires_at": "2027-06-01"});
    let second = gitlab.api("POST", SELF_ROTATE, Some(value(&first)), &longer).json();
    gitlab.set_time("2026-12-20T00:00:00Z");
    assert_error(&post(&gitlab, SELF_ROTATE, value(&first)), 401, EXPIRED);
    assert_eq!(get(&gitlab, "/user", value(&second)).status, 200);
}

#[test]
fn a_rotation_that_fails_leaves_the_old_token_alive() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    for (date, text) in [
        ("2099-01-01", "400 Bad request - Expiration date must be before 2027-11-20"),
        ("soon", "expires_at is invalid"),
    ] {
        let answer = gitlab.api("POST", SELF_ROTATE, Some(value(&token)), &json!({"expires_at": date}));
        assert_error(&answer, 400, text);
        assert_eq!(get(&gitlab, "/user", value(&token)).status, 200);
    }
    assert_eq!(gitlab.live()["tokens"].as_array().unwrap().len(), 1);
}

#[test]
fn the_owner_rotates_an_expired_token_but_not_a_revoked_one_and_that_ends_nothing() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let first = mint(&gitlab, &owner, user, &["api"]);
    let rotate =
        |token: &Value| post(&gitlab, &format!("{}/{}/rotate", tokens_path(user), token["id"]), &owner);
    let second = rotate(&first).json();
    assert_error(&rotate(&first), 400, "400 Bad request - Token already revoked");
    assert_eq!(get(&gitlab, "/user", value(&second)).status, 200);
    gitlab.set_time("2026-12-25T00:00:00Z");
    assert_error(&get(&gitlab, "/user", value(&second)), 401, EXPIRED);
    let third = rotate(&second);
    assert_eq!(third.status, 200);
    assert_eq!(get(&gitlab, "/user", value(&third.json())).status, 200);
    let missing = post(&gitlab, &format!("{}/99999/rotate", tokens_path(user)), &owner);
    assert_error(&missing, 404, "404 Not Found");
}

#[test]
fn of_two_rotations_one_after_the_other_the_second_destroys_the_first_ones_token() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    let winner = post(&gitlab, SELF_ROTATE, value(&token));
    assert_eq!(winner.status, 200);
    assert_error(&post(&gitlab, SELF_ROTATE, value(&token)), 401, REVOKED);
    assert_error(&get(&gitlab, "/user", value(&winner.json())), 401, REVOKED);
}

#[test]
fn two_rotations_that_both_passed_the_check_leave_two_live_successors() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    gitlab.sim(
        "POST",
        "/faults",
        &json!({"path": "/api/v4/personal_access_tokens/self/rotate", "times": 2,
                "action": {"kind": "pause", "ms": 500}}),
    );
    let answers: Vec<_> = thread::scope(|scope| {
        let rotate = || scope.spawn(|| post(&gitlab, SELF_ROTATE, value(&token)));
        [rotate(), rotate()].into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(get(&gitlab, "/user", value(&answer.json())).status, 200);
    }
}

#[test]
fn when_the_answer_is_lost_a_blind_retry_kills_the_new_token_too() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    gitlab.fail("POST", "/api/v4/personal_access_tokens/self/rotate", &json!({"kind": "lose_answer"}));
    let request = dvx_tests::Request::post(&format!("/api/v4{SELF_ROTATE}"));
    let mut connection = gitlab.connect();
    let request = request.header("PRIVATE-TOKEN", value(&token)).bytes(connection.host());
    connection.send(&request).unwrap();
    assert!(connection.response().is_err(), "the connection was lost");
    assert_eq!(gitlab.live()["tokens"].as_array().unwrap().len(), 1, "there is a successor that nobody has");
    assert_error(&post(&gitlab, SELF_ROTATE, value(&token)), 401, REVOKED);
    assert_eq!(gitlab.live()["tokens"], json!([]));
}

#[test]
fn people_may_be_kept_from_rotating_classic_tokens_and_service_accounts_not() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    gitlab.set(&json!({"legacy_rotation": false}));
    let text = "400 Bad request - Rotation of legacy personal access tokens is disabled. Use a fine-grained \
                token instead.";
    assert_error(&post(&gitlab, SELF_ROTATE, &owner), 400, text);
    assert_eq!(get(&gitlab, "/user", &owner).status, 200);
    assert_eq!(post(&gitlab, SELF_ROTATE, value(&token)).status, 200);
}
