use std::pin::Pin;
use std::sync::Mutex;

use jiff::civil::date;

use super::*;
use crate::testing::server::{Reply, Server, json, reply, transport};
use crate::testing::token;
use crate::{Error, GitLab, GroupId, Loss, UserId};

const USER: &str = r#"{"id":57,"username":"bot"}"#;

/// Answers every name with the same addresses and counts how often it is asked.
struct Fixed {
    addresses: Vec<SocketAddr>,
    asked: Mutex<u32>,
}

impl Fixed {
    fn new(addresses: &[&str]) -> Arc<Self> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { addresses, asked: Mutex::new(0) })
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

impl Resolve for Fixed {
    fn resolve<'a>(
        &'a self,
        _: &'a str,
        _: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        *self.asked.lock().unwrap() += 1;
        Box::pin(async { Ok(self.addresses.clone()) })
    }
}

async fn user_at(transport: Transport, url: &str) -> Result<crate::User, Error> {
    GitLab::new(transport, url.parse().unwrap()).with_token(&token("t")).user().await
}

fn trusting(pem: &str) -> Transport {
    Transport::new(Guard::default().with_loopback(), Some(pem.as_bytes())).unwrap()
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_its_checked_address_is_dialled() {
    let (server, pem) = Server::start_tls("gitlab.test", vec![json(200, USER)]).await;
    let resolver = Fixed::new(&[&format!("127.0.0.1:{}", server.port)]);
    let transport = trusting(&pem).with_resolver(resolver.clone());
    let user = user_at(transport, "https://gitlab.test").await.unwrap();
    assert_eq!((user.id, user.username.as_str()), (UserId(57), "bot"));
    assert_eq!(resolver.asked(), 1);
    assert!(server.requests()[0].to_ascii_lowercase().contains("\r\nhost: gitlab.test\r\n"));
}

#[tokio::test]
async fn one_refused_address_refuses_the_name() {
    let server = Server::start(vec![json(200, USER)]).await;
    let loopback = format!("127.0.0.1:{}", server.port);
    for addresses in [vec!["169.254.169.254:443"], vec![loopback.as_str(), "10.0.0.1:443"]] {
        let resolver = Fixed::new(&addresses);
        let transport = transport().with_resolver(resolver.clone());
        let outcome = user_at(transport, "https://gitlab.test").await;
        assert!(matches!(outcome, Err(Error::AddressRefused(Refusal::Address { .. }))), "{outcome:?}");
        assert_eq!(resolver.asked(), 1, "a refusal is not tried again");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn addresses_in_an_odd_form_are_refused_before_any_look_up() {
    let resolver = Fixed::new(&["127.0.0.1:443"]);
    for url in ["https://2130706433", "https://0x7f.1", "https://017700000001", "https://127.1"] {
        let outcome = user_at(transport().with_resolver(resolver.clone()), url).await;
        assert!(matches!(outcome, Err(Error::AddressRefused(Refusal::OddForm { .. }))), "{url}");
    }
    assert_eq!(resolver.asked(), 0);
}

#[tokio::test]
async fn loopback_is_refused_unless_it_is_allowed() {
    let server = Server::start(vec![json(200, USER)]).await;
    let strict = Transport::new(Guard::default(), None).unwrap();
    let outcome = user_at(strict, &server.url().to_string()).await;
    assert!(matches!(outcome, Err(Error::AddressRefused(Refusal::Address { .. }))), "{outcome:?}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn plain_http_goes_to_no_other_machine_whatever_localhost_is() {
    let guard = Guard::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let transport = Transport::new(guard, None).unwrap().with_resolver(Fixed::new(&["10.0.0.1:80"]));
    let outcome = user_at(transport, "http://localhost").await;
    assert!(matches!(outcome, Err(Error::AddressRefused(Refusal::Insecure { .. }))), "{outcome:?}");
}

#[tokio::test]
async fn an_address_that_does_not_answer_makes_room_for_the_next() {
    let (server, pem) = Server::start_tls("gitlab.test", vec![json(200, USER)]).await;
    let closed = closed_port().await;
    let resolver = Fixed::new(&[&format!("127.0.0.1:{closed}"), &format!("127.0.0.1:{}", server.port)]);
    let transport = trusting(&pem).with_resolver(resolver.clone());
    assert!(user_at(transport, "https://gitlab.test").await.is_ok());
    assert_eq!(resolver.asked(), 1);
}

#[tokio::test]
async fn a_certificate_for_another_name_or_of_an_unknown_authority_is_refused() {
    let (server, pem) = Server::start_tls("other.test", vec![json(200, USER)]).await;
    let address = format!("127.0.0.1:{}", server.port);
    for transport in [trusting(&pem), transport()] {
        let transport = transport.with_resolver(Fixed::new(&[&address]));
        let outcome = user_at(transport, "https://gitlab.test").await;
        assert!(matches!(outcome, Err(Error::Tls { ref host, .. }) if host == "gitlab.test"), "{outcome:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn what_does_not_speak_tls_is_no_secure_connection() {
    // The server waits for a request's head, which a handshake does not have, so it has to speak first.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let talk = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let transport = transport().with_resolver(Fixed::new(&[&address.to_string()]));
    let outcome = user_at(transport, "https://gitlab.test").await;
    talk.abort();
    assert!(matches!(outcome, Err(Error::Tls { .. })), "{outcome:?}");
}

#[test]
fn roots_that_are_no_certificates_are_refused() {
    let roots = |pem: &str| Transport::new(Guard::default(), Some(pem.as_bytes()));
    assert!(matches!(roots(""), Err(InvalidRoots::Empty)));
    assert!(roots("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
}

/// One call that reads, one that may be repeated, one that creates, one that is never repeated.
struct Outcomes {
    read: Error,
    delete: Error,
    create: Error,
    rotate: Error,
    /// How many requests each of them made.
    requests: [usize; 4],
}

async fn outcomes(make: impl Fn() -> Reply) -> Outcomes {
    let (read, delete, create, rotate) = tokio::join!(
        outcome_of(0, make()),
        outcome_of(1, make()),
        outcome_of(2, make()),
        outcome_of(3, make())
    );
    let requests = [read.1, delete.1, create.1, rotate.1];
    Outcomes { read: read.0, delete: delete.0, create: create.0, rotate: rotate.0, requests }
}

async fn outcome_of(call: usize, reply: Reply) -> (Error, usize) {
    let server = Server::start(vec![reply]).await;
    let gitlab = GitLab::new(transport().with_limit(Duration::from_millis(2500)), server.url());
    let token = token("t");
    let session = gitlab.with_token(&token);
    let error = match call {
        0 => session.user().await.unwrap_err(),
        1 => session.delete_service_account(GroupId(1), UserId(2)).await.unwrap_err(),
        2 => session.create_service_account(GroupId(1), "u", "n").await.unwrap_err(),
        _ => session.rotate_self(date(2027, 1, 1)).await.unwrap_err(),
    };
    (error, server.requests().len())
}

fn is_lost(error: &Error, expected: Loss) -> bool {
    matches!(error, Error::ResponseLost { loss } if *loss == expected) && error.outcome_is_unknown()
}

#[tokio::test]
async fn a_connection_that_ends_is_tried_again_only_where_that_is_safe() {
    for reply in [
        Reply::Close,
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"id\""
                .to_vec(),
        ),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab".to_vec()),
    ] {
        let outcomes = outcomes(|| reply.clone()).await;
        assert!(matches!(outcomes.read, Error::Unreachable { .. }), "{:?}", outcomes.read);
        for error in [&outcomes.delete, &outcomes.create, &outcomes.rotate] {
            assert!(is_lost(error, Loss::Closed), "{error:?}");
        }
        assert_eq!(outcomes.requests, [3, 3, 1, 1]);
    }
}

#[tokio::test]
async fn what_does_not_speak_http_is_no_gitlab() {
    let outcomes = outcomes(|| Reply::Bytes(b"220 mail.example ESMTP\r\n".to_vec())).await;
    assert!(matches!(outcomes.read, Error::NotGitLab { .. }), "{:?}", outcomes.read);
    for error in [&outcomes.delete, &outcomes.create, &outcomes.rotate] {
        assert!(is_lost(error, Loss::Unreadable), "{error:?}");
    }
    assert_eq!(outcomes.requests, [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_when_the_time_is_over() {
    let outcomes = outcomes(|| Reply::Hang).await;
    assert!(matches!(outcomes.read, Error::TimedOut), "{:?}", outcomes.read);
    for error in [&outcomes.delete, &outcomes.create, &outcomes.rotate] {
        assert!(is_lost(error, Loss::TimedOut), "{error:?}");
    }
    assert_eq!(outcomes.requests, [1, 1, 1, 1]);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let head =
        |framing: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
    for head in [head("content-length: 99999999"), head("connection: close")] {
        let outcomes = outcomes(|| Reply::Flood(head.clone().into_bytes())).await;
        assert!(matches!(outcomes.read, Error::TooLarge { .. }), "{:?}", outcomes.read);
        assert!(is_lost(&outcomes.create, Loss::Unreadable), "{:?}", outcomes.create);
        assert!(is_lost(&outcomes.rotate, Loss::Unreadable), "{:?}", outcomes.rotate);
        assert_eq!(outcomes.requests, [1, 1, 1, 1]);
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_read_to_its_end() {
    let outcomes = outcomes(|| Reply::Flood(b"HTTP/1.1 200 OK\r\nx: ".to_vec())).await;
    assert!(matches!(outcomes.read, Error::NotGitLab { .. }), "{:?}", outcomes.read);
    assert!(is_lost(&outcomes.rotate, Loss::Unreadable), "{:?}", outcomes.rotate);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_where_to() {
    let elsewhere = Server::start(vec![json(200, USER)]).await;
    for status in [301, 302, 307, 308] {
        let location = format!("location: {}/api/v4/user?private_token=x\r\n", elsewhere.url());
        let outcomes = outcomes(|| reply(status, &location, "")).await;
        for error in [&outcomes.read, &outcomes.delete, &outcomes.create, &outcomes.rotate] {
            let Error::Redirected { to: Some(origin) } = error else { panic!("{error:?}") };
            assert_eq!(origin.to_string(), elsewhere.url().to_string());
        }
        assert_eq!(outcomes.requests, [1, 1, 1, 1]);
    }
    assert!(elsewhere.requests().is_empty());
    let outcomes = outcomes(|| reply(302, "location: /users/sign_in\r\n", "")).await;
    assert!(matches!(outcomes.read, Error::Redirected { to: None }));
}

#[tokio::test]
async fn a_failing_server_is_asked_again_only_where_that_is_safe() {
    for status in [500, 502, 503] {
        let outcomes = outcomes(|| reply(status, "content-type: text/html\r\n", "<h1>Oops</h1>")).await;
        for error in [&outcomes.read, &outcomes.delete, &outcomes.create, &outcomes.rotate] {
            assert!(matches!(error, Error::Server { status: s } if *s == status), "{error:?}");
            assert!(error.outcome_is_unknown());
        }
        assert_eq!(outcomes.requests, [3, 3, 1, 1]);
    }
}

#[tokio::test]
async fn too_many_requests_are_never_made_more() {
    let message =
        r#"{"message":{"error":"This endpoint has been requested too many times. Try again later."}}"#;
    for (reply, wait) in [
        (reply(429, "content-type: text/plain\r\nretry-after: 7\r\n", "Retry later\n"), Some(7)),
        (json(429, message), None),
    ] {
        let outcomes = outcomes(|| reply.clone()).await;
        for error in [&outcomes.read, &outcomes.delete, &outcomes.create, &outcomes.rotate] {
            let Error::RateLimited { retry_after } = error else { panic!("{error:?}") };
            assert_eq!(retry_after.map(|wait| wait.as_secs()), wait);
            assert!(!error.outcome_is_unknown());
        }
        assert_eq!(outcomes.requests, [1, 1, 1, 1]);
    }
}

#[tokio::test]
async fn success_in_another_language_is_no_gitlab_or_a_lost_answer() {
    for reply in [
        reply(200, "content-type: text/html\r\n", USER),
        json(200, "<html>"),
        json(200, r#"{"login":"octocat"}"#),
        json(200, ""),
    ] {
        let outcomes = outcomes_of_reading_and_creating(&reply).await;
        assert!(matches!(outcomes.0, Error::NotGitLab { .. }), "{:?}", outcomes.0);
        assert!(is_lost(&outcomes.1, Loss::Unreadable), "{:?}", outcomes.1);
    }
}

async fn outcomes_of_reading_and_creating(reply: &Reply) -> (Error, Error) {
    let server = Server::start(vec![reply.clone()]).await;
    let (gitlab, token) = (server.gitlab(), token("t"));
    let session = gitlab.with_token(&token);
    (session.user().await.unwrap_err(), session.rotate_self(date(2027, 1, 1)).await.unwrap_err())
}

#[tokio::test]
async fn a_call_that_was_not_sent_may_be_made_again_but_not_a_rotation() {
    let closed = closed_port().await;
    let address = format!("127.0.0.1:{closed}");
    let token = token("t");
    let resolver = Fixed::new(&[&address]);
    let transport = transport().with_resolver(resolver.clone());
    let gitlab = GitLab::new(transport, "https://gitlab.test".parse().unwrap());
    let session = gitlab.with_token(&token);
    let error = session.create_service_account(GroupId(1), "u", "n").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && !error.outcome_is_unknown(), "{error:?}");
    assert_eq!(resolver.asked(), 3);
    let error = session.rotate_self(date(2027, 1, 1)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && !error.outcome_is_unknown(), "{error:?}");
    assert_eq!(resolver.asked(), 4);
}

#[tokio::test]
async fn a_second_attempt_can_succeed() {
    let server = Server::start(vec![Reply::Close, reply(502, "", ""), json(200, USER)]).await;
    assert!(user_at(transport(), &server.url().to_string()).await.is_ok());
    assert_eq!(server.requests().len(), 3);
}

async fn closed_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}
