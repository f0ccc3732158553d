//! Service accounts.

use serde_json::{Value, json};

use super::{account, assert_error, delete, error, get, id, mint, owned, post, tokens_path, value};

const ACCOUNTS: &str = "/groups/acme/service_accounts";

#[test]
fn a_new_account_has_a_name_an_address_and_access_to_nothing() {
    let (gitlab, owner) = owned();
    let answer = post(&gitlab, ACCOUNTS, &owner);
    assert_eq!(answer.status, 201);
    let made = answer.json();
    let names: Vec<&String> = made.as_object().unwrap().keys().collect();
    assert_eq!(names, ["email", "id", "name", "public_email", "username"]);
    let username = made["username"].as_str().unwrap();
    let random = username.strip_prefix("service_account_group_345_").unwrap();
    assert!(random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{username}");
    assert_eq!(made["email"], format!("{username}@noreply.127.0.0.1"));
    assert_eq!(made["name"], "Service account user");
    let token = mint(&gitlab, &owner, made["id"].as_u64().unwrap(), &["api"]);
    let user = get(&gitlab, "/user", value(&token)).json();
    assert_eq!((&user["external"], &user["bot"]), (&json!(true), &json!(true)));
    for hidden in ["/projects/acme%2Fapp", "/projects/acme%2Flib", "/groups/acme"] {
        assert_eq!(get(&gitlab, hidden, value(&token)).status, 404, "{hidden}");
    }
    let body = json!({"user_id": made["id"], "access_level": 30});
    assert_eq!(gitlab.api("POST", "/groups/acme/members", Some(&owner), &body).status, 201);
    let project = get(&gitlab, "/projects/acme%2Fapp", value(&token)).json();
    assert_eq!(project["permissions"]["group_access"]["access_level"], 30);
    assert_eq!(project["permissions"]["project_access"], Value::Null);
}

#[test]
fn ten_are_created_in_a_minute_and_the_next_is_429_with_an_object() {
    let (gitlab, owner) = owned();
    for _ in 0..10 {
        assert_eq!(post(&gitlab, ACCOUNTS, &owner).status, 201);
    }
    let limited = post(&gitlab, ACCOUNTS, &owner);
    assert_eq!(limited.status, 429);
    let text = "This endpoint has been requested too many times. Try again later.";
    assert_eq!(limited.json(), json!({"message": {"error": text}}));
    assert_eq!(limited.header("retry-after"), Some("60"));
    gitlab.set(&json!({"limit_says_retry_after": false}));
    assert_eq!(post(&gitlab, ACCOUNTS, &owner).header("retry-after"), None);
    assert_eq!(get(&gitlab, ACCOUNTS, &owner).status, 200, "nothing else is limited");
    let admin = gitlab.token("root", &["api"]);
    assert_eq!(post(&gitlab, ACCOUNTS, &admin).status, 201, "each caller has a limit of his own");
    gitlab.set_time("2026-11-20T12:01:00Z");
    assert_eq!(post(&gitlab, ACCOUNTS, &owner).status, 201);
}

#[test]
fn the_cap_counts_the_whole_hierarchy_or_the_instance() {
    let (gitlab, owner) = owned();
    gitlab.set(&json!({"service_account_cap": 2}));
    let text = "400 Bad request - This namespace either does not have an active subscription that can create \
                service accounts, or the subscription has reached its service account creation limit.";
    assert_eq!(post(&gitlab, ACCOUNTS, &owner).status, 201);
    assert_eq!(post(&gitlab, "/groups/acme%2Fteam/service_accounts", &owner).status, 201);
    assert_error(&post(&gitlab, ACCOUNTS, &owner), 400, text);
    assert_eq!(post(&gitlab, "/groups/other/service_accounts", &owner).status, 201);
    gitlab.set(&json!({"service_account_cap": 3, "cap_per_instance": true}));
    assert_error(&post(&gitlab, "/groups/other/service_accounts", &owner), 400, text);
}

#[test]
fn a_deletion_is_accepted_at_once_and_happens_later() {
    let (gitlab, owner) = owned();
    gitlab.set(&json!({"delete_after_seconds": 30}));
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    let path = format!("{ACCOUNTS}/{user}");
    let answer = delete(&gitlab, &path, &owner);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(get(&gitlab, "/user", value(&token)).status, 200, "the token outlives the call");
    assert_eq!(gitlab.live()["identities"], json!([]), "but it is no orphan");
    let taken = "400 Bad request - Email has already been taken and Username has already been taken";
    let again = gitlab.api("POST", ACCOUNTS, Some(&owner), &json!({"username": "agent-1"}));
    assert_error(&again, 400, taken);
    assert_eq!(delete(&gitlab, &path, &owner).status, 204, "a second time, while it lasts");
    gitlab.set_time("2026-11-20T12:00:30Z");
    assert_error(&get(&gitlab, "/user", value(&token)), 401, "401 Unauthorized");
    assert_error(&delete(&gitlab, &path, &owner), 404, "404 User Not Found");
    assert_eq!(get(&gitlab, ACCOUNTS, &owner).json(), json!([]));
    account(&gitlab, &owner, "agent-1");
}

#[test]
fn pending_deletions_can_be_run_at_once() {
    let (gitlab, owner) = owned();
    gitlab.set(&json!({"delete_after_seconds": 3600}));
    let user = account(&gitlab, &owner, "agent-1");
    assert_eq!(delete(&gitlab, &format!("{ACCOUNTS}/{user}"), &owner).status, 204);
    gitlab.sim("POST", "/jobs", &Value::Null);
    assert_error(&delete(&gitlab, &format!("{ACCOUNTS}/{user}"), &owner), 404, "404 User Not Found");
}

#[test]
fn where_owners_may_not_create_accounts_a_deletion_is_204_and_does_nothing() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    gitlab.set(&json!({"owners_may_create_service_accounts": false}));
    let text = "400 Bad request - User does not have permission to create a service account in this group.";
    assert_error(&post(&gitlab, ACCOUNTS, &owner), 400, text);
    assert_eq!(delete(&gitlab, &format!("{ACCOUNTS}/{user}"), &owner).status, 204);
    gitlab.sim("POST", "/jobs", &Value::Null);
    assert_eq!(get(&gitlab, ACCOUNTS, &owner).json()[0]["id"], user);
}

#[test]
fn the_sole_owner_of_a_group_is_deleted_only_with_force() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    gitlab.seed(&json!({"members": [{"of": "acme/team", "user": "agent-1", "access_level": 50}]}));
    let path = format!("{ACCOUNTS}/{user}");
    let text = "User cannot be removed while is the sole-owner of a group";
    assert_error(&delete(&gitlab, &path, &owner), 409, text);
    assert_eq!(delete(&gitlab, &format!("{path}?hard_delete=true"), &owner).status, 204);
}

#[test]
fn only_accounts_of_exactly_this_group_are_found() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let below = post(&gitlab, "/groups/acme%2Fteam/service_accounts", &owner).json()["id"].clone();
    let human = id(&gitlab, "users", "dana");
    for (group, id) in [
        ("acme%2Fteam", json!(user)),
        ("other", json!(user)),
        ("acme", below),
        ("acme", json!(human)),
        ("acme", json!(99_999)),
    ] {
        let path = format!("/groups/{group}/service_accounts/{id}/personal_access_tokens");
        assert_error(&get(&gitlab, &path, &owner), 404, "404 User Not Found");
    }
    gitlab.seed(&json!({"users": [{"username": "perry", "provisioned_by": "acme", "id": 7000}]}));
    let text = "400 Bad request - User is not of type Service Account";
    assert_error(&get(&gitlab, &tokens_path(7000), &owner), 400, text);
    assert_error(&delete(&gitlab, &format!("{ACCOUNTS}/7000"), &owner), 400, text);
    assert_error(&delete(&gitlab, &format!("{ACCOUNTS}/ASDF"), &owner), 400, "user_id is invalid");
    let listed = get(&gitlab, ACCOUNTS, &owner).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "not those of subgroups: {listed}");
}

#[test]
fn names_collide_with_users_groups_and_projects_in_any_case() {
    let (gitlab, owner) = owned();
    account(&gitlab, &owner, "agent-1");
    let create = |body: Value| gitlab.api("POST", ACCOUNTS, Some(&owner), &body);
    let (status, text) = error(&create(json!({"username": "AGENT-1"})));
    assert!(status == 400 && text.contains("Username has already been taken"), "{text}");
    let namespace = create(json!({"username": "Other"}));
    assert_error(&namespace, 400, "400 Bad request - Username has already been taken");
    let email = create(json!({"username": "agent-2", "email": "agent-1@noreply.127.0.0.1"}));
    assert_error(&email, 400, "400 Bad request - Email has already been taken");
    let (status, text) = error(&create(json!({"username": "-agent"})));
    assert!(status == 400 && text.contains("can contain only letters"), "{text}");
}

#[test]
fn scopes_of_account_tokens_may_be_joined_by_commas() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let path = format!("{}?name=n&scopes[]=api,self_rotate", tokens_path(user));
    let answer = post(&gitlab, &path, &owner);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["scopes"], json!(["api", "self_rotate"]));
    let path = "/projects/acme%2Fapp/access_tokens?name=n&scopes[]=api,self_rotate&expires_at=2026-12-20";
    assert_error(&post(&gitlab, path, &owner), 400, "scopes does not have a valid value");
}

#[test]
fn in_the_community_edition_owners_do_not_mint() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    gitlab.set(&json!({"edition": "community"}));
    let body = json!({"name": "n", "scopes": ["api"]});
    let answer = gitlab.api("POST", &tokens_path(user), Some(&owner), &body);
    assert_eq!((answer.status, answer.json()), (422, json!({"message": "Not permitted to create"})));
    let admin = gitlab.token("root", &["api"]);
    assert_eq!(gitlab.api("POST", &tokens_path(user), Some(&admin), &body).status, 201);
}

#[test]
fn an_account_that_lost_its_membership_keeps_its_tokens() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    let body = json!({"user_id": user, "access_level": 30});
    gitlab.api("POST", "/groups/acme/members", Some(&owner), &body);
    assert_eq!(get(&gitlab, "/projects/acme%2Fapp", value(&token)).status, 200);
    assert_eq!(delete(&gitlab, &format!("/groups/acme/members/{user}"), &owner).status, 204);
    assert_error(&get(&gitlab, "/projects/acme%2Fapp", value(&token)), 404, "404 Project Not Found");
    assert_eq!(get(&gitlab, "/user", value(&token)).status, 200);
}

#[test]
fn a_token_is_revoked_by_the_owner_under_its_account_alone() {
    let (gitlab, owner) = owned();
    let (one, other) = (account(&gitlab, &owner, "agent-1"), account(&gitlab, &owner, "agent-2"));
    let token = mint(&gitlab, &owner, one, &["api"]);
    let path = |user: u64| format!("{}/{}", tokens_path(user), token["id"]);
    let text = "404 Personal Access Token Not Found";
    assert_error(&delete(&gitlab, &path(other), &owner), 404, text);
    assert_eq!(delete(&gitlab, &path(one), &owner).status, 204);
    assert_error(&get(&gitlab, "/user", value(&token)), 401, super::REVOKED);
}

#[test]
fn an_account_with_ownership_creates_others_unless_it_is_of_a_subgroup() {
    let (gitlab, owner) = owned();
    for (group, status) in [("acme", 201), ("acme%2Fteam", 400)] {
        let made = post(&gitlab, &format!("/groups/{group}/service_accounts"), &owner).json();
        let username = made["username"].as_str().unwrap();
        let of = group.replace("%2F", "/");
        gitlab.seed(&json!({"members": [{"of": of, "user": username, "access_level": 50}]}));
        let token = gitlab.token(username, &["api"]);
        let answer = post(&gitlab, &format!("/groups/{group}/service_accounts"), &token);
        assert_eq!(answer.status, status, "{group}: {answer:?}");
    }
}

#[test]
fn a_project_has_accounts_too() {
    let (gitlab, owner) = owned();
    let maintainer = gitlab.token("max", &["api"]);
    let answer = post(&gitlab, "/projects/acme%2Fapp/service_accounts", &maintainer);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.json()["username"].as_str().unwrap().starts_with("service_account_project_"));
    let stranger = gitlab.token("nemo", &["api"]);
    let hidden = post(&gitlab, "/projects/acme%2Fapp/service_accounts", &stranger);
    assert_error(&hidden, 404, "404 Project Not Found");
    assert_eq!(get(&gitlab, ACCOUNTS, &owner).json(), json!([]), "not the group's");
}

#[test]
fn an_account_is_renamed_to_a_free_name() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    account(&gitlab, &owner, "agent-2");
    let rename = |id: u64, username: &str| {
        let body = json!({"username": username, "name": "Another"});
        gitlab.api("PATCH", &format!("{ACCOUNTS}/{id}"), Some(&owner), &body)
    };
    let taken = "400 Bad request - Username has already been taken";
    assert_error(&rename(user, "agent-2"), 400, taken);
    assert_error(&rename(99_999, "agent-3"), 404, "404 User Not Found");
    let renamed = rename(user, "agent-3");
    assert_eq!(renamed.status, 200);
    assert_eq!(
        (&renamed.json()["username"], &renamed.json()["name"]),
        (&json!("agent-3"), &json!("Another"))
    );
}

#[test]
fn accounts_are_listed_newest_first_and_otherwise_as_asked() {
    let (gitlab, owner) = owned();
    for name in ["agent-b", "agent-a", "agent-c"] {
        account(&gitlab, &owner, name);
    }
    for (query, names) in [
        ("", ["agent-c", "agent-a", "agent-b"]),
        ("?sort=asc", ["agent-b", "agent-a", "agent-c"]),
        ("?order_by=username&sort=asc", ["agent-a", "agent-b", "agent-c"]),
        ("?order_by=username", ["agent-c", "agent-b", "agent-a"]),
    ] {
        let list = get(&gitlab, &format!("{ACCOUNTS}{query}"), &owner).json();
        let listed: Vec<&Value> = list.as_array().unwrap().iter().map(|row| &row["username"]).collect();
        assert_eq!(listed, names, "{query}");
    }
}
