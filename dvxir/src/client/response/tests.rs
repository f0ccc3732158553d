use proptest::prelude::*;

use super::*;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDvx-Revision: 7\r\nDVX-AGE: 3\r\nLink: <a>\r\nlink: <b>\r\n\r\n{}";

fn head(text: &[u8]) -> Head {
    match parse(text) {
        Ok(Progress::Complete(head)) => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_head_is_read_whatever_the_case_of_its_names() {
    let head = head(GOOD);
    assert_eq!((head.status, head.revision, head.age_seconds), (200, Some(7), Some(3)));
    assert_eq!(head.links, ["<a>", "<b>"]);
    assert_eq!(&GOOD[head.body], b"{}");
}

#[test]
fn what_follows_the_body_is_not_part_of_it() {
    assert_eq!(head(&[GOOD, b"x"].concat()).body, GOOD.len() - 2..GOOD.len());
}

#[test]
fn every_beginning_of_an_answer_asks_for_more() {
    for length in 0..GOOD.len() {
        match parse(&GOOD[..length]) {
            Ok(Progress::Needs(bytes)) => assert!(bytes > length && bytes <= GOOD.len(), "{length}: {bytes}"),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn an_answer_says_once_how_long_it_is() {
    for fields in [
        "",
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551618\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: identity\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{{}}");
        assert_eq!(parse(text.as_bytes()), Err(InvalidAnswer::Length), "{fields:?}");
    }
    assert_eq!(head(b"HTTP/1.1 204 \r\n\r\n").body.len(), 0);
}

#[test]
fn sizes_are_bounded() {
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
    assert_eq!(parse(text.as_bytes()), Err(InvalidAnswer::BodyTooLarge));
    let text = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD_BYTES));
    assert_eq!(parse(text.as_bytes()), Err(InvalidAnswer::HeadTooLarge));
    let text = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
    assert_eq!(parse(text.as_bytes()), Err(InvalidAnswer::HeadTooLarge));
}

#[test]
fn what_is_not_plain_http_1_1_is_refused() {
    for text in [
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2",
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        "\r\n\r\n",
    ] {
        assert_eq!(parse(text.as_bytes()), Err(InvalidAnswer::NotHttp), "{text:?}");
    }
    assert_eq!(parse(b"HTTP/1.1 200 OK\r\nX: \xff\r\n\r\n"), Err(InvalidAnswer::NotHttp));
}

fn problem(head: &str, body: &str) -> ClientError {
    let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let head = self::head(text.as_bytes());
    match Answer::new(head, Zeroizing::new(text.into_bytes())).into_result() {
        Err(error) => error,
        Ok(_) => panic!("that is no success"),
    }
}

#[test]
fn a_problem_says_what_the_broker_said() {
    let body =
        r#"{"type":"urn:dvx:problem:rate-limited","title":"t","status":200,"detail":"d","hint":"h","x":1}"#;
    let error = problem("429 X\r\nContent-Type: application/problem+json\r\nRetry-After: 9", body);
    assert!(matches!(&error, ClientError::Problem {
        status: 429, code: Some(dvx_proto::Code::RateLimited), detail: Some(detail), hint: Some(hint),
        retry_after_seconds: Some(9),
    } if detail == "d" && hint == "h"));
}

#[test]
fn what_is_no_problem_document_counts_by_its_status() {
    for (head, body) in [
        ("503 X\r\nContent-Type: text/html", "<html>"),
        ("503 X\r\nContent-Type: application/problem+json", "{"),
        ("503 X", ""),
    ] {
        let error = problem(head, body);
        assert!(
            matches!(error, ClientError::Problem { status: 503, code: None, detail: None, .. }),
            "{error:?}"
        );
    }
    assert!(matches!(
        problem("301 Moved\r\nLocation: http://evil.example", ""),
        ClientError::Problem { status: 301, .. }
    ));
}

#[test]
fn an_error_about_json_repeats_nothing_of_it() {
    let head = head(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"token\":\"glpat-secret\"}  ");
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"token\":\"glpat-secret\"}  ".to_vec();
    let answer = Answer::new(head, Zeroizing::new(bytes));
    let error = answer.json::<dvx_proto::agent::Whoami>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("glpat"));
}

proptest! {
    #[test]
    fn nothing_that_arrives_breaks_the_parser(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _any = parse(&[b"HTTP/1.1 200 OK\r\n".as_slice(), &text].concat());
        let _any = parse(&text);
    }

    #[test]
    fn a_body_ends_where_its_length_says(length in 0usize..5000, extra in 0usize..10) {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length + extra));
        prop_assert_eq!(head(text.as_bytes()).body.len(), length);
    }
}
