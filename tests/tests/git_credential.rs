//! git's credential protocol as attackers speak it, through the real `dvxir`.

use dvx_tests::{Outcome, World, run_with_input};

fn ask(world: &World, action: &str, input: &[u8]) -> Outcome {
    let mut command = world.command("alpha", world.program("dvxir"));
    let outcome = run_with_input(command.args(["git-credential", action]), input);
    world.assert_clean("dvxir's stderr", outcome.stderr.as_bytes());
    let bells = outcome.stderr.chars().any(|character| character.is_control() && character != '\n');
    assert!(!bells, "nothing that moves a terminal: {:?}", outcome.stderr);
    outcome
}

fn linked() -> (World, String) {
    let mut world = World::single().trusted().build();
    let token = world.plant("alpha", "gitlab");
    world.plant("alpha", "scoped");
    world.upstream.json("alpha", "scoped", r#"{"instance_url":"https://forge.example/team/a"}"#);
    world.start();
    (world, token)
}

#[test]
fn the_own_host_gets_name_and_password() {
    let (world, token) = linked();
    let plain = ask(&world, "get", b"protocol=https\nhost=gitlab.com\n\n").success();
    assert_eq!(plain, format!("username=oauth2\npassword={token}\n"));
    for input in [
        "protocol=https\nhost=gitlab.com\n".to_owned(),
        "protocol=HTTPS\nhost=GitLab.COM\n\n".into(),
        "protocol=https\nhost=gitlab.com:443\npath=group/project.git\n\n".into(),
        "protocol=https\nhost=gitlab.com\nusername=bob\n\n".into(),
        "protocol=https\nhost=gitlab.com\nsome-key-of-the-future=1\nnew[]=2\n\n".into(),
        "protocol=https\nhost=gitlab.com\nwwwauth[]=Basic realm=\"GitLab\"\nwwwauth[]=Bearer x=\"y\"\n\n"
            .into(),
        format!("protocol=https\nhost=gitlab.com\npath={}\n\n", "p".repeat(60_000)),
    ] {
        let answer = ask(&world, "get", input.as_bytes()).success();
        assert!(answer.contains(&format!("password={token}\n")), "{input}");
    }
}

#[test]
fn state_makes_a_second_round_possible() {
    let (world, token) = linked();
    let offered = b"capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=gitlab.com\n\n";
    let answer = ask(&world, "get", offered).success();
    let lines: Vec<&str> = answer.lines().collect();
    for expected in ["username=oauth2", &format!("password={token}"), "state[]=dvx:attempt=1", "continue=1"] {
        assert!(lines.contains(&expected), "{expected}: {lines:?}");
    }
    assert!(lines.contains(&"capability[]=state"));
    assert!(!answer.contains("authtype="), "Bearer breaks pushes above http.postBuffer");
}

/// Requests of which none may be answered with a token.
const HOSTILE: &[(&str, &str)] = &[
    // Another host, however alike.
    ("a substring", "protocol=https\nhost=gitlab.evil.example\n\n"),
    ("a suffix", "protocol=https\nhost=evil-gitlab.com\n\n"),
    ("a prefix", "protocol=https\nhost=gitlab.com.evil.example\n\n"),
    ("a subdomain", "protocol=https\nhost=www.gitlab.com\n\n"),
    ("another port", "protocol=https\nhost=gitlab.com:8443\n\n"),
    ("an empty port", "protocol=https\nhost=gitlab.com:\n\n"),
    ("a look-alike", "protocol=https\nhost=gitl\u{430}b.com\n\n"),
    ("punycode", "protocol=https\nhost=xn--gitlb-2nf.com\n\n"),
    ("a full stop", "protocol=https\nhost=gitlab.com.\n\n"),
    ("a user before the host", "protocol=https\nhost=gitlab.com@evil.example\n\n"),
    ("a user before our host", "protocol=https\nhost=user:pass@gitlab.com\n\n"),
    ("a path in the host", "protocol=https\nhost=gitlab.com/evil\n\n"),
    ("a query in the host", "protocol=https\nhost=gitlab.com?x\n\n"),
    ("a fragment in the host", "protocol=https\nhost=gitlab.com#x\n\n"),
    ("a backslash", "protocol=https\nhost=gitlab.com\\.evil.example\n\n"),
    ("an escape", "protocol=https\nhost=gitlab%2ecom\n\n"),
    ("a space", "protocol=https\nhost= gitlab.com\n\n"),
    ("an IPv6 literal", "protocol=https\nhost=[::1]\n\n"),
    ("an IPv6 zone", "protocol=https\nhost=[fe80::1%25eth0]\n\n"),
    ("an address", "protocol=https\nhost=172.65.251.78\n\n"),
    ("a wildcard", "protocol=https\nhost=*\n\n"),
    ("a pattern", "protocol=https\nhost=*gitlab*\n\n"),
    // Another scheme.
    ("plain http", "protocol=http\nhost=gitlab.com\n\n"),
    ("plain http on our port", "protocol=http\nhost=gitlab.com:443\n\n"),
    ("ftp", "protocol=ftp\nhost=gitlab.com\n\n"),
    ("ssh", "protocol=ssh\nhost=gitlab.com\n\n"),
    ("ssh over https", "protocol=https+ssh\nhost=gitlab.com\n\n"),
    ("a file", "protocol=file\nhost=gitlab.com\n\n"),
    ("a longer scheme", "protocol=httpsx\nhost=gitlab.com\n\n"),
    // Something is missing.
    ("no host (CVE-2020-11008)", "protocol=https\n\n"),
    ("an empty host", "protocol=https\nhost=\n\n"),
    ("no protocol", "host=gitlab.com\n\n"),
    ("an empty protocol", "protocol=\nhost=gitlab.com\n\n"),
    ("nothing", ""),
    ("an empty line", "\n"),
    // Bytes that do not belong there.
    ("a carriage return (CVE-2024-52006)", "protocol=https\nhost=gitlab.com\r\n\n"),
    ("a carriage return within", "protocol=https\nhost=evil.example\rhost=gitlab.com\n\n"),
    ("a carriage return in the user", "protocol=https\nhost=gitlab.com\nusername=a\rb\n\n"),
    ("a carriage return in the path", "protocol=https\nhost=gitlab.com\npath=a\rb\n\n"),
    ("a NUL", "protocol=https\nhost=gitlab.com\0.evil.example\n\n"),
    ("a NUL in the path", "protocol=https\nhost=gitlab.com\npath=\0\n\n"),
    ("a line without =", "protocol=https\nhost=gitlab.com\nnonsense\n\n"),
    ("an escape sequence", "protocol=https\nhost=\u{1b}[2J\u{7}gitlab.com\n\n"),
    // Two readings.
    ("two hosts", "protocol=https\nhost=gitlab.com\nhost=evil.example\n\n"),
    ("two hosts, the other way", "protocol=https\nhost=evil.example\nhost=gitlab.com\n\n"),
    ("two protocols", "protocol=http\nprotocol=https\nhost=gitlab.com\n\n"),
    ("a URL that says otherwise", "protocol=https\nhost=gitlab.com\nurl=https://evil.example\n\n"),
    ("a URL that says ours", "protocol=https\nhost=evil.example\nurl=https://gitlab.com\n\n"),
    ("a newline from a URL (CVE-2020-5260)", "protocol=https\nhost=evil.example\npath=\nhost=gitlab.com\n\n"),
    // Another project of a host where the instance is one path.
    ("no path", "protocol=https\nhost=forge.example\n\n"),
    ("a neighbour", "protocol=https\nhost=forge.example\npath=team/b.git\n\n"),
    ("a longer name", "protocol=https\nhost=forge.example\npath=team/ab.git\n\n"),
    ("dots", "protocol=https\nhost=forge.example\npath=team/a/../b.git\n\n"),
    ("escaped dots", "protocol=https\nhost=forge.example\npath=team/a/%2e%2e/b.git\n\n"),
    ("another case", "protocol=https\nhost=forge.example\npath=Team/A/x.git\n\n"),
];

#[test]
fn hostile_requests_get_no_token() {
    let (world, _) = linked();
    for (what, input) in HOSTILE {
        let outcome = ask(&world, "get", input.as_bytes());
        world.assert_clean(what, &outcome.stdout);
        assert!(!outcome.text().contains("password="), "{what}: {outcome:?}");
        assert!(!outcome.text().contains("username="), "{what}: {outcome:?}");
    }
}

#[test]
fn bytes_that_are_no_text_get_no_token() {
    let (world, _) = linked();
    let long = [b"protocol=https\nhost=".as_slice(), &[b'a'; 100_000], b".gitlab.com\n\n"].concat();
    let endless =
        [b"protocol=https\nhost=gitlab.com\n".as_slice(), &b"wwwauth[]=x\n".repeat(200_000), b"\n"].concat();
    for input in [b"protocol=https\nhost=gitlab.com\xff\n\n".as_slice(), b"\xff\xfe\n\n", &long, &endless] {
        let outcome = ask(&world, "get", input);
        assert!(!outcome.text().contains("password="), "{} bytes", input.len());
    }
}

#[test]
fn a_host_that_is_not_ours_is_left_to_the_next_helper() {
    let (world, _) = linked();
    for host in ["github.com", "gitlab.com:8443", "evil.example", "127.0.0.1:1"] {
        let input = format!("protocol=https\nhost={host}\n\n");
        let outcome = ask(&world, "get", input.as_bytes());
        assert_eq!((outcome.success(), outcome.stderr), (String::new(), String::new()), "{host}");
    }
}

#[test]
fn subgroups_and_lfs_of_the_own_path_are_served() {
    let (world, _) = linked();
    for path in ["team/a/x.git", "team/a/sub/group/x.git", "team/a/x.git/info/lfs", "team/a"] {
        let input = format!("protocol=https\nhost=forge.example\npath={path}\n\n");
        let answer = ask(&world, "get", input.as_bytes()).success();
        assert!(answer.contains("password=glpat-"), "{path}");
    }
}

#[test]
fn store_and_erase_of_foreign_tokens_change_nothing() {
    let (world, token) = linked();
    let foreign = "protocol=https\nhost=gitlab.com\nusername=evil\npassword=glpat-somebodyelses00000\n\n";
    for action in ["store", "erase", "store", "erase"] {
        let outcome = ask(&world, action, foreign.as_bytes());
        assert_eq!(outcome.success(), "", "{action}");
    }
    for _ in 0..50 {
        ask(&world, "erase", foreign.as_bytes()).success();
    }
    let answer = ask(&world, "get", b"protocol=https\nhost=gitlab.com\n\n").success();
    assert!(answer.contains(&token), "served at once and unchanged");
    assert_eq!(
        ask(&world, "erase", b"protocol=https\nhost=gitlab.com\n\n").success(),
        "",
        "nothing to erase"
    );
    ask(&world, "unheard-of-action", b"protocol=https\nhost=gitlab.com\n\n");
}

#[test]
fn an_expiry_is_given_with_a_margin() {
    let (world, _) = linked();
    let end = jiff::Timestamp::now().as_second() + 3600;
    world.plant("alpha", "ending");
    let stamp = jiff::Timestamp::from_second(end).unwrap();
    let json = format!(r#"{{"instance_url":"https://ending.example","expires_at":"{stamp}"}}"#);
    world.upstream.json("alpha", "ending", &json);
    let answer = dvx_tests::eventually_some("the credential arrives", || {
        let answer = ask(&world, "get", b"protocol=https\nhost=ending.example\n\n").text();
        answer.contains("password=").then_some(answer)
    });
    let line = answer.lines().find_map(|line| line.strip_prefix("password_expiry_utc=")).expect("an expiry");
    let given: i64 = line.parse().unwrap();
    assert!(given <= end && given > end - 600, "{given} of {end}");
}

#[test]
fn the_name_of_the_program_will_do() {
    let (world, token) = linked();
    let link = world.ground.path("git-credential-dvxir");
    std::os::unix::fs::symlink(world.program("dvxir"), &link).unwrap();
    let mut command = world.command("alpha", &link);
    let outcome = run_with_input(command.arg("get"), b"protocol=https\nhost=gitlab.com\n\n");
    assert_eq!(outcome.success(), format!("username=oauth2\npassword={token}\n"));
}
