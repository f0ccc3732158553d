use super::*;
use crate::testing::server::{Server, json, reply, transport};
use crate::testing::{answer, token};

const USER: &str = r#"{"login":"octocat","id":1,"type":"User","plan":{"name":"pro"}}"#;

#[test]
fn the_api_lies_where_the_kind_of_instance_has_it() {
    for (url, api) in [
        ("https://github.com", "https://api.github.com"),
        ("https://GitHub.com/", "https://api.github.com"),
        ("https://acme.ghe.com", "https://api.acme.ghe.com"),
        ("https://ghe.company.example", "https://ghe.company.example/api/v3"),
        ("https://ghe.company.example:8443", "https://ghe.company.example:8443/api/v3"),
        ("https://github.com.evil.example", "https://github.com.evil.example/api/v3"),
    ] {
        assert_eq!(api_url(&url.parse().unwrap()).unwrap().to_string(), api, "{url}");
    }
}

#[tokio::test]
async fn a_user_comes_with_its_tokens_scopes_and_end() {
    let headers = "content-type: application/json; charset=utf-8\r\nx-oauth-scopes: repo, read:user\r\n\
                   github-authentication-token-expiration: 2026-12-25 07:00:00 UTC\r\n";
    let server = Server::start(vec![reply(200, headers, USER)]).await;
    let github = GitHub::new(transport(), &server.url()).unwrap();
    let user = github.user(&token("ghp_visible")).await.unwrap();
    assert_eq!((user.id, user.login.as_str()), (1, "octocat"));
    assert_eq!(user.scopes, Some(["repo", "read:user"].into_iter().collect()));
    assert_eq!(user.ends_at, Some("2026-12-25T07:00:00Z".parse().unwrap()));
    let request = server.requests().remove(0);
    assert!(request.starts_with("GET /api/v3/user HTTP/1.1\r\n"));
    assert!(request.contains("\r\nauthorization: Bearer ghp_visible\r\n"), "{request}");
}

#[test]
fn a_tokens_end_is_read_in_both_forms() {
    for (text, expected) in [
        ("2026-12-25 07:00:00 UTC", Some("2026-12-25T07:00:00Z")),
        ("2026-12-25 07:00:00 -0700", Some("2026-12-25T14:00:00Z")),
        ("soon", None),
    ] {
        let answer = answer(200, &[("github-authentication-token-expiration", text)], "");
        assert_eq!(end(&answer.headers), expected.map(|text| text.parse().unwrap()), "{text}");
    }
    assert_eq!(end(&HeaderMap::new()), None);
}

#[test]
fn every_refusal_of_github_has_its_cause() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let (exhausted, date) = (("x-ratelimit-remaining", "0"), ("date", "Wed, 25 Nov 2026 20:00:00 GMT"));
    for (status, headers, body, expected) in [
        (401, vec![JSON], r#"{"message":"Bad credentials"}"#, "InvalidToken"),
        (401, vec![JSON], r#"{"message":"Must specify two-factor authentication OTP code."}"#, "Unusable"),
        (
            403,
            vec![JSON, exhausted, date, ("x-ratelimit-reset", "1795636860")],
            r#"{"message":"API rate limit exceeded"}"#,
            "RateLimited Some(60s)",
        ),
        (
            403,
            vec![JSON],
            r#"{"message":"You have exceeded a secondary rate limit."}"#,
            "RateLimited Some(60s)",
        ),
        (
            403,
            vec![JSON, ("retry-after", "9")],
            r#"{"message":"You have exceeded a secondary rate limit."}"#,
            "RateLimited Some(9s)",
        ),
        (403, vec![JSON], r#"{"message":"Sorry. Your account was suspended."}"#, "Blocked"),
        (
            403,
            vec![JSON],
            r#"{"message":"Resource protected by organization SAML enforcement."}"#,
            "NotPermitted",
        ),
        (403, vec![], "", "Forbidden"),
        (404, vec![JSON], r#"{"message":"Not Found"}"#, "NotGitHub"),
        (404, vec![("content-type", "text/html")], "<h1>404</h1>", "NotGitHub"),
        (401, vec![JSON], "[]", "NotGitHub"),
        (422, vec![JSON], r#"{"message":"Validation Failed"}"#, "Rejected"),
        (429, vec![("retry-after", "3")], "slow down", "RateLimited Some(3s)"),
        (502, vec![("content-type", "text/html")], "<h1>Unicorn</h1>", "Server"),
        (503, vec![JSON], r#"{"message":"Service unavailable"}"#, "Server"),
    ] {
        let error = check(answer(status, &headers, body), &token("t")).err().unwrap();
        let debug = format!("{error:?}");
        let name = debug.split([' ', '(']).next().unwrap();
        let cause = match &error {
            Error::RateLimited { retry_after } => format!("{name} {retry_after:?}"),
            _ => name.to_owned(),
        };
        assert_eq!(cause, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_gitlab_is_no_github() {
    let gitlab = r#"{"id":1,"username":"u"}"#;
    let server = Server::start(vec![json(200, gitlab)]).await;
    let outcome = GitHub::new(transport(), &server.url()).unwrap().user(&token("t")).await;
    assert!(matches!(outcome, Err(Error::NotGitHub { .. })), "{outcome:?}");
}
