use std::io::Write;
use std::sync::{Arc, Mutex};

use jiff::civil::date;

use super::*;
use crate::testing::server::{Reply, Server, json, reply, transport};
use crate::testing::token;
use crate::{AccessLevel, GroupId, Loss, Need, ProjectId, TokenId, UserId};

const TOKEN: &str = "glpat-AAECAwQFBgcICQoLDA0OD2M6MQpvOjEKdTo3Y2x6aQ8.01.171xt4buz";

const MINTED: &str = r#"{"id":6,"name":"agent-1","revoked":false,"created_at":"2026-11-20T07:47:13.900Z","description":null,"scopes":["api"],"user_id":57,"last_used_at":null,"active":true,"expires_at":"2026-12-20","token":"glpat-AAECAwQFBgcICQoLDA0OD2M6MQpvOjEKdTo3Y2x6aQ8.01.171xt4buz"}"#;

const ACCOUNT: &str = r#"{"id":57,"username":"dvx-agent-1","name":"agent","email":"x@noreply.gitlab.example.com","public_email":null}"#;

fn new_token() -> NewToken {
    let scopes = ["api", "self_rotate"].into_iter().collect();
    NewToken { name: "agent-1".to_owned(), scopes, expires_at: date(2026, 12, 20) }
}

async fn with<T>(replies: Vec<Reply>, call: impl AsyncFnOnce(Session<'_>) -> T) -> (T, Vec<String>) {
    let server = Server::start(replies).await;
    let (gitlab, token) = (server.gitlab(), token("glpat-own"));
    let outcome = call(gitlab.with_token(&token)).await;
    (outcome, server.calls())
}

#[tokio::test]
async fn a_token_is_read_with_all_that_matters_about_it() {
    let body = MINTED.split(r#","token""#).next().unwrap().to_owned() + r#","last_used_ips":[]}"#;
    let (info, calls) = with(vec![json(200, &body)], async |s| s.token_self().await.unwrap()).await;
    assert_eq!(calls, ["GET /api/v4/personal_access_tokens/self"]);
    assert_eq!(
        (info.id, info.user_id, info.active, info.revoked),
        (TokenId(6), Some(UserId(57)), true, false)
    );
    assert!(info.scopes.suffice_for(Need::Write));
    assert_eq!(info.ends_at(), Some("2026-12-20T00:00:00Z".parse().unwrap()));
    let endless = body.replace(r#""2026-12-20""#, "null");
    let (info, _) = with(vec![json(200, &endless)], async |s| s.token_self().await.unwrap()).await;
    assert_eq!(info.ends_at(), None);
}

#[tokio::test]
async fn the_token_stands_in_its_header_and_nowhere_else() {
    let server = Server::start(vec![json(200, r#"{"id":1,"username":"u"}"#)]).await;
    let token = token(TOKEN);
    server.gitlab().with_token(&token).user().await.unwrap();
    let request = server.requests().remove(0);
    assert_eq!(request.matches(TOKEN).count(), 1);
    assert!(request.contains(&format!("\r\nprivate-token: {TOKEN}\r\n")), "{request}");
    assert!(request.starts_with("GET /api/v4/user HTTP/1.1\r\n"));
}

#[tokio::test]
async fn an_instance_under_a_path_is_called_there() {
    let server = Server::start(vec![json(200, r#"{"id":1,"username":"u"}"#)]).await;
    let url = format!("{}/gitlab", server.url()).parse().unwrap();
    GitLab::new(transport(), url).with_token(&token("t")).user().await.unwrap();
    assert_eq!(server.calls(), ["GET /gitlab/api/v4/user"]);
}

#[tokio::test]
async fn minted_tokens_arrive_for_service_accounts_and_projects() {
    let (minted, calls) = with(vec![json(201, MINTED)], async |s| {
        s.create_service_account_token(GroupId(345), UserId(57), &new_token()).await.unwrap()
    })
    .await;
    assert_eq!(minted.token.expose_secret(), TOKEN.as_bytes());
    assert!(!format!("{minted:?}").contains(TOKEN));
    let body = r#"{"name":"agent-1","scopes":["api","self_rotate"],"expires_at":"2026-12-20"}"#;
    assert_eq!(calls, [format!("POST /api/v4/groups/345/service_accounts/57/personal_access_tokens {body}")]);

    let (minted, calls) = with(vec![json(201, MINTED)], async |s| {
        s.create_project_token(ProjectId(7), &new_token(), AccessLevel::DEVELOPER).await.unwrap()
    })
    .await;
    assert_eq!(minted.info.id, TokenId(6));
    let body = body.replace('}', r#","access_level":30}"#);
    assert_eq!(calls, [format!("POST /api/v4/projects/7/access_tokens {body}")]);
}

#[tokio::test]
async fn a_token_rotates_itself_to_the_date_that_is_asked_for() {
    let (minted, calls) =
        with(vec![json(200, MINTED)], async |s| s.rotate_self(date(2026, 12, 20)).await.unwrap()).await;
    assert_eq!(minted.token.expose_secret(), TOKEN.as_bytes());
    let body = r#"{"expires_at":"2026-12-20"}"#;
    assert_eq!(calls, [format!("POST /api/v4/personal_access_tokens/self/rotate {body}")]);
}

#[tokio::test]
async fn a_service_account_is_made_and_found_by_name() {
    let (account, calls) = with(vec![json(201, ACCOUNT)], async |s| {
        s.create_service_account(GroupId(345), "dvx-agent-1", "agent").await.unwrap()
    })
    .await;
    assert_eq!((account.id, account.username.as_str()), (UserId(57), "dvx-agent-1"));
    assert_eq!(
        calls,
        [r#"POST /api/v4/groups/345/service_accounts {"name":"agent","username":"dvx-agent-1"}"#]
    );

    let page =
        |next: &str, body: &str| reply(200, &format!("content-type: application/json\r\n{next}"), body);
    let first = page(
        "link: <https://elsewhere.example/api/v4/groups/345/service_accounts?page=2&per_page=100>; rel=\"next\"\r\n",
        r#"[{"id":1,"username":"a","name":""}]"#,
    );
    let second = page("x-next-page: 3\r\n", &format!("[{ACCOUNT}]"));
    let third = page("x-next-page: \r\n", "[]");
    let pages = vec![first, second, third];
    let (found, calls) =
        with(pages.clone(), async |s| s.find_service_account(GroupId(345), "DVX-agent-1").await.unwrap())
            .await;
    assert_eq!(found, Some(account));
    let target = "GET /api/v4/groups/345/service_accounts?";
    assert_eq!(calls, [format!("{target}per_page=100"), format!("{target}page=2&per_page=100")]);

    let (found, calls) =
        with(pages, async |s| s.find_service_account(GroupId(345), "nobody").await.unwrap()).await;
    assert_eq!((found, calls.len()), (None, 3));
    assert_eq!(calls[2], format!("{target}per_page=100&page=3"));
}

#[tokio::test]
async fn a_list_that_leads_back_to_itself_is_given_up() {
    let headers = "content-type: application/json\r\nlink: <https://h/x?per_page=100>; rel=\"next\"\r\n";
    let (outcome, calls) =
        with(vec![reply(200, headers, "[]")], async |s| s.service_accounts(GroupId(1)).await).await;
    assert!(matches!(outcome, Err(Error::EndlessList { .. })), "{outcome:?}");
    assert_eq!(calls.len(), 1);
}

#[tokio::test]
async fn what_is_gone_already_is_removed_and_what_cannot_be_seen_is_not() {
    let message = |text: &str| json(404, &format!(r#"{{"message":"404 {text}"}}"#));
    for (text, expected) in [
        ("User Not Found", Some(Removed::Before)),
        ("Personal Access Token Not Found", Some(Removed::Before)),
        ("Group Not Found", None),
        ("Not Found", None),
    ] {
        let (outcome, _) = with(vec![message(text)], async |s| {
            s.revoke_service_account_token(GroupId(1), UserId(2), TokenId(3)).await
        })
        .await;
        assert_eq!(outcome.ok(), expected, "{text}");
    }
    for (text, expected) in [("User Not Found", Some(Removed::Before)), ("Group Not Found", None)] {
        let (outcome, calls) =
            with(vec![message(text)], async |s| s.delete_service_account(GroupId(1), UserId(2)).await).await;
        assert_eq!(outcome.ok(), expected, "{text}");
        assert_eq!(calls, ["DELETE /api/v4/groups/1/service_accounts/2?hard_delete=true"]);
    }
    for (text, expected) in
        [("project Access Token Not Found", Some(Removed::Before)), ("Project Not Found", None)]
    {
        let (outcome, _) =
            with(vec![message(text)], async |s| s.revoke_project_token(ProjectId(1), TokenId(2)).await).await;
        assert_eq!(outcome.ok(), expected, "{text}");
    }
    let (outcome, calls) =
        with(vec![reply(204, "", "")], async |s| s.revoke_token(TokenId(9)).await.unwrap()).await;
    assert_eq!((outcome, calls), (Removed::Now, vec!["DELETE /api/v4/personal_access_tokens/9".to_owned()]));
}

#[tokio::test]
async fn a_page_that_is_shown_for_everything_removes_and_adds_nothing() {
    let page = || vec![reply(200, "content-type: text/html\r\n", "<h1>Welcome</h1>")];
    let lost = |error| matches!(error, Error::ResponseLost { loss: Loss::Unreadable });
    let (outcome, _) = with(page(), async |s| s.delete_service_account(GroupId(1), UserId(2)).await).await;
    assert!(outcome.is_err_and(lost));
    let (outcome, _) =
        with(page(), async |s| s.add_member(GroupId(1), UserId(2), AccessLevel::DEVELOPER).await).await;
    assert!(outcome.is_err_and(lost));
}

#[tokio::test]
async fn a_refusal_that_looks_like_an_unknown_token_is_told_apart() {
    let denial = || json(401, r#"{"message":"401 Unauthorized"}"#);
    let own = || json(200, MINTED);
    let (outcome, calls) = with(vec![denial(), own()], async |s| s.project_tokens(ProjectId(1)).await).await;
    assert!(matches!(outcome, Err(Error::NotPermitted { .. })), "{outcome:?}");
    assert_eq!(calls.len(), 2);
    let (outcome, _) = with(vec![denial()], async |s| s.project_tokens(ProjectId(1)).await).await;
    assert!(matches!(outcome, Err(Error::InvalidToken)), "{outcome:?}");
    let (outcome, _) = with(vec![denial(), own()], async |s| s.revoke_token(TokenId(1)).await).await;
    assert!(matches!(outcome, Err(Error::NotPermitted { .. })), "{outcome:?}");
}

#[tokio::test]
async fn only_owners_and_administrators_pass_as_owners() {
    let user = |admin: &str| json(200, &format!(r#"{{"id":5,"username":"u"{admin}}}"#));
    let member = |level: u8| json(200, &format!(r#"{{"id":5,"username":"u","access_level":{level}}}"#));
    let missing = |text: &str| json(404, &format!(r#"{{"message":"404 {text}"}}"#));
    for (replies, owner) in [
        (vec![user(""), member(50)], true),
        (vec![user(""), member(40)], false),
        (vec![user(""), missing("Not found")], false),
        (vec![user(r#","is_admin":true"#)], true),
        (vec![user(r#","is_admin":false"#), member(30)], false),
    ] {
        let (outcome, calls) = with(replies, async |s| s.require_owner(GroupId(9)).await).await;
        match outcome {
            Ok(()) => assert!(owner),
            Err(Error::NotOwner) => assert!(!owner),
            Err(error) => panic!("{error:?}"),
        }
        assert!(calls.get(1).is_none_or(|call| call == "GET /api/v4/groups/9/members/all/5"));
    }
    let (outcome, _) =
        with(vec![user(""), missing("Group Not Found")], async |s| s.require_owner(GroupId(9)).await).await;
    assert!(matches!(outcome, Err(Error::NotFound { what: Missing::Group })));
    let forbidden = json(403, r#"{"message":"403 Forbidden"}"#);
    let (outcome, _) =
        with(vec![forbidden], async |s| s.create_service_account(GroupId(9), "u", "n").await).await;
    assert!(matches!(outcome, Err(Error::NotOwner)), "{outcome:?}");
}

#[tokio::test]
async fn a_member_is_added_once() {
    let body = r#"POST /api/v4/groups/9/members {"access_level":30,"user_id":5}"#;
    for (reply, added) in [
        (json(201, r#"{"id":5,"access_level":30}"#), Added::Now),
        (json(409, r#"{"message":"Member already exists"}"#), Added::Before),
    ] {
        let (outcome, calls) = with(vec![reply], async |s| {
            s.add_member(GroupId(9), UserId(5), AccessLevel::DEVELOPER).await.unwrap()
        })
        .await;
        assert_eq!((outcome, calls), (added, vec![body.to_owned()]));
    }
}

#[tokio::test]
async fn groups_and_projects_are_looked_up() {
    let group =
        r#"{"id":9,"name":"Agents","full_path":"company/agents","parent_id":8,"visibility":"private"}"#;
    let (found, calls) =
        with(vec![json(200, group)], async |s| s.group(&"company/agents".parse().unwrap()).await.unwrap())
            .await;
    assert_eq!((found.id, found.parent_id), (GroupId(9), Some(GroupId(8))));
    assert_eq!(calls, ["GET /api/v4/groups/company%2Fagents?with_projects=false"]);
    let project = r#"{"id":7,"path_with_namespace":"company/app","permissions":null}"#;
    let (found, _) = with(vec![json(200, project)], async |s| s.project(ProjectId(7)).await.unwrap()).await;
    assert_eq!(found.path_with_namespace, "company/app");
}

#[tokio::test]
async fn a_gitlab_is_known_by_its_words_before_it_sees_a_token() {
    for (reply, good) in [
        (json(401, r#"{"message":"401 Unauthorized"}"#), true),
        (json(404, r#"{"message":"Not Found","documentation_url":"x"}"#), false),
        (json(200, r#"{"version":"1.22.0"}"#), false),
        (reply(200, "content-type: text/html\r\n", "<h1>Welcome</h1>"), false),
        (reply(403, "", ""), false),
        (reply(401, "content-type: text/html\r\n", "Log in"), false),
    ] {
        let server = Server::start(vec![reply]).await;
        match server.gitlab().probe().await {
            Ok(()) => assert!(good),
            Err(Error::NotGitLab { .. }) => assert!(!good),
            Err(error) => panic!("{error:?}"),
        }
        let request = server.requests().remove(0).to_ascii_lowercase();
        assert!(!request.contains("private-token") && !request.contains("authorization"), "{request}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_reaches_a_log_or_an_error_and_request_ids_do() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Of this whole process: what other tests do must not show up either, and a subscriber of one thread misses
    // events that another thread was the first to come by.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let echo = format!(r#"{{"message":"401 {TOKEN}","error":"{TOKEN}"}}"#);
    let oauth = format!(r#"{{"error":"x","error_description":"{TOKEN} is odd","scope":"{TOKEN}"}}"#);
    let mut replies: Vec<Reply> =
        [400, 401, 403, 404, 409, 418, 422, 429, 500].map(|status| json(status, &echo)).into();
    let scope = oauth.replace(r#""x""#, r#""insufficient_scope""#);
    for status in [400, 401, 403] {
        replies.extend([json(status, &oauth), json(status, &scope)]);
    }
    replies.extend([
        json(200, &format!(r#"{{"id":"{TOKEN}"}}"#)),
        json(201, MINTED),
        reply(302, &format!("location: https://{TOKEN}/{TOKEN}\r\n"), ""),
        reply(200, &format!("x-request-id: {TOKEN}\r\n"), &echo),
        Reply::Close,
    ]);
    for reply in replies {
        let server = Server::start(vec![reply]).await;
        let (gitlab, token) = (server.gitlab(), token(TOKEN));
        let session = gitlab.with_token(&token);
        let mut shown = format!("{session:?} {gitlab:?}");
        shown += &format!("{:?}", session.user().await);
        shown += &format!("{:?}", session.rotate_self(date(2027, 1, 1)).await);
        if let Err(error) = session.create_service_account(GroupId(1), "u", "n").await {
            shown += &format!("{error} {error:?}");
        }
        assert!(!shown.to_ascii_lowercase().contains(&TOKEN.to_ascii_lowercase()), "{shown}");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("status=429 request_id=\"01REQ\"") && log.contains("DEBUG"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}
