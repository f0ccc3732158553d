use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Attributes, InvalidInput> {
    Attributes::parse(text.as_bytes())
}

const FINGERPRINT: &str = "0123456789abcdef";

#[test]
fn what_git_sends_is_read() {
    let asked = parse(
        "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=gitlab.com:8443\npath=group/project.git\n\
         username=bob\nwwwauth[]=Basic realm=\"GitLab\"\nwwwauth[]=Bearer\n\nhost=evil.example\n",
    )
    .unwrap();
    assert_eq!(asked.protocol.as_deref(), Some("https"));
    assert_eq!(asked.host.as_deref(), Some("gitlab.com:8443"));
    assert_eq!(asked.path.as_deref(), Some("group/project.git"));
    assert_eq!(asked.challenges, ["Basic realm=\"GitLab\"", "Bearer"]);
    assert!(asked.keeps_state);
    assert_eq!(asked.round, Round::First);
}

#[test]
fn values_may_have_an_equals_sign_and_the_last_line_no_end() {
    assert_eq!(parse("path=a=b").unwrap().path.as_deref(), Some("a=b"));
    assert_eq!(parse("host=\n").unwrap().host.as_deref(), Some(""));
    assert_eq!(parse("").unwrap(), Attributes::default());
}

#[test]
fn what_git_would_never_send_is_refused_as_a_whole() {
    let long = format!("x={}", "x".repeat(MAX_INPUT_BYTES));
    for (text, expected) in [
        ("host=a\0b", InvalidInput::Nul),
        ("x=\0", InvalidInput::Nul),
        ("protocol=https\r\nhost=a", InvalidInput::CarriageReturn),
        ("host=a\rb", InvalidInput::CarriageReturn),
        ("path=x\r", InvalidInput::CarriageReturn),
        ("username=a\rb", InvalidInput::CarriageReturn),
        ("wwwauth[]=Basic\rx", InvalidInput::CarriageReturn),
        ("protocol=https\nhost", InvalidInput::Form { line: 2 }),
        ("=x", InvalidInput::Form { line: 1 }),
        ("host=a\nhost=b", InvalidInput::Twice { key: "host" }),
        ("host=a\nhost=a", InvalidInput::Twice { key: "host" }),
        ("protocol=https\nprotocol=http", InvalidInput::Twice { key: "protocol" }),
        ("path=a\npath=b", InvalidInput::Twice { key: "path" }),
        ("password=a\npassword=b", InvalidInput::Twice { key: "password" }),
        ("host=a\u{1b}[2J", InvalidInput::Control { key: "host" }),
        ("host=a\tb", InvalidInput::Control { key: "host" }),
        ("path=a\u{9b}b", InvalidInput::Control { key: "path" }),
        ("url=https://gitlab.com\nprotocol=https\nhost=gitlab.com", InvalidInput::Url),
        (long.as_str(), InvalidInput::TooLarge),
    ] {
        let shown: String = text.chars().take(60).collect();
        assert_eq!(parse(text), Err(expected), "{shown:?}");
    }
    assert_eq!(Attributes::parse(b"host=a\xff"), Err(InvalidInput::NotText { key: "host" }));
}

#[test]
fn keys_are_told_apart_exactly() {
    let asked = parse("HOST=a\nhost =b\nhosts=c\nhost[]=d\nProtocol=https\nephemeral=1\nnew[]=x\n").unwrap();
    assert_eq!(asked, Attributes::default());
}

#[test]
fn values_that_are_not_looked_at_may_be_anything() {
    assert!(Attributes::parse(b"username=\xff\noauth_refresh_token=\x01\npassword=\xff").is_ok());
}

#[test]
fn only_the_password_s_fingerprint_is_kept() {
    let asked = parse("password=glpat-secret").unwrap();
    assert_eq!(asked.password, Some(Fingerprint::of(b"glpat-secret")));
    assert!(!format!("{asked:?}").contains("glpat"));
}

#[test]
fn capabilities_are_taken_back_by_an_empty_one() {
    assert!(!parse("capability[]=state\ncapability[]=").unwrap().keeps_state);
    assert!(parse("capability[]=\ncapability[]=state\ncapability[]=authtype").unwrap().keeps_state);
    assert!(!parse("capability[]=states\ncapability=state").unwrap().keeps_state);
}

#[test]
fn our_state_says_which_round_it_is() {
    let known = Some(FINGERPRINT.parse().unwrap());
    for (lines, expected) in [
        ("state[]=dvx:attempt=1\nstate[]=dvx:fingerprint=0123456789abcdef", Round::Again(known)),
        ("state[]=dvx:fingerprint=0123456789abcdef\nstate[]=dvx:attempt=1", Round::Again(known)),
        ("state[]=dvx:attempt=1", Round::Again(None)),
        ("state[]=dvx:attempt=2", Round::Again(None)),
        ("state[]=dvx:attempt=1\nstate[]=dvx:fingerprint=evil", Round::Again(None)),
        ("state[]=other:attempt=1\nstate[]=attempt=1", Round::First),
        ("state[]=dvx:later=1", Round::First),
        ("state[]=dvx:attempt=1\nstate[]=", Round::First),
        ("state=dvx:attempt=1", Round::First),
    ] {
        assert_eq!(parse(lines).unwrap().round, expected, "{lines}");
    }
}

#[test]
fn challenges_are_bounded_and_plain() {
    let many = "wwwauth[]=Basic\n".repeat(1000);
    assert_eq!(parse(&many).unwrap().challenges.len(), MAX_CHALLENGES);
    let asked = parse(&format!("wwwauth[]={}\nwwwauth[]=a\u{1b}b\nwwwauth[]=ok", "x".repeat(2000))).unwrap();
    assert_eq!(asked.challenges, ["ok"]);
    assert!(parse("wwwauth[]=a\nwwwauth[]=").unwrap().challenges.is_empty());
    assert!(Attributes::parse(b"wwwauth[]=\xff").unwrap().challenges.is_empty());
}

#[test]
fn a_question_is_complete_at_its_empty_line() {
    assert!(is_complete(b"\n", 0));
    assert!(is_complete(b"a=b\n\n", 0));
    assert!(is_complete(b"a=b\n\n", 4), "the line ends may arrive one by one");
    assert!(!is_complete(b"a=b\n", 0));
    assert!(!is_complete(b"", 0));
}

proptest! {
    #[test]
    fn nothing_that_arrives_breaks_the_parser(input in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _any = Attributes::parse(&input);
    }

    /// Whatever stands around them, the attributes that decide are the ones on lines of their own.
    #[test]
    fn no_value_smuggles_in_a_host(value in "[^\n]{0,80}", key in "[a-z\\[\\]]{1,12}") {
        prop_assume!(!["host", "protocol", "path", "password", "url"].contains(&key.as_str()));
        let text = format!("{key}={value}\nprotocol=https\nhost=gitlab.com\n");
        if let Ok(asked) = Attributes::parse(text.as_bytes()) {
            prop_assert_eq!(asked.host.as_deref(), Some("gitlab.com"));
            prop_assert_eq!(asked.path, None);
        }
    }

    #[test]
    fn an_accepted_host_is_the_line_s_value(value in "\\PC{0,40}") {
        let text = format!("protocol=https\nhost={value}\n");
        if let Ok(asked) = Attributes::parse(text.as_bytes()) {
            prop_assert_eq!(asked.host.as_deref(), Some(value.as_str()));
        }
    }
}
