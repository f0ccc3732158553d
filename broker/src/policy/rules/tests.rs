use super::*;
use crate::peer::Groups;

/// `name uid [gid=N] [unit=U] [cgroup=P]`
fn rule(text: &str) -> AgentRule {
    let mut words = text.split(' ');
    let name = words.next().unwrap().parse().unwrap();
    let uid = words.next().unwrap().parse().unwrap();
    let mut rule = AgentRule { name, uid, gid: None, unit: None, cgroup: None };
    for word in words {
        match word.split_once('=').unwrap() {
            ("gid", value) => rule.gid = Some(value.parse().unwrap()),
            ("unit", value) => rule.unit = Some(value.parse().unwrap()),
            ("cgroup", value) => rule.cgroup = Some(value.parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    rule
}

fn rules(texts: &[&str]) -> Rules {
    Rules::new(texts.iter().map(|text| rule(text)).collect()).unwrap()
}

/// `uid [gid=N,N…] [cgroup=P] [ns=ours|nested]`; what is not given is not known.
fn facts(text: &str) -> PeerFacts {
    let mut words = text.split(' ');
    let uid = words.next().unwrap().parse().unwrap();
    let mut facts = PeerFacts {
        transport: Transport::Unix,
        uid,
        gid: None,
        groups: Groups::Unknown,
        pid: None,
        cgroup: None,
        namespace: PidNamespace::Unknown,
        socket: None,
    };
    for word in words {
        match word.split_once('=').unwrap() {
            ("gid", list) => {
                let list: Vec<u32> = list.split(',').map(|gid| gid.parse().unwrap()).collect();
                facts.groups = Groups::from(&list[..]);
            }
            ("primary", gid) => facts.gid = Some(gid.parse().unwrap()),
            ("cgroup", path) => facts.cgroup = Some(path.into()),
            ("ns", "ours") => facts.namespace = PidNamespace::Ours,
            ("ns", "nested") => facts.namespace = PidNamespace::Nested,
            other => panic!("{other:?}"),
        }
    }
    facts
}

#[test]
fn who_a_peer_is() {
    let rules = rules(&[
        "plain 1001",
        "group 1002 gid=50",
        "unit 1003 unit=a.service",
        "path 1004 cgroup=/agents/x",
        "all 1005 gid=50 unit=b.service cgroup=/system.slice",
        "shared-a 1006 unit=a.service",
        "shared-b 1006 unit=b.service gid=50",
        "root 0",
    ]);
    let table: &[(&str, Result<&str, NoMatch>)] = &[
        ("1001", Ok("plain")),
        ("1001 gid=1,2 cgroup=/anything", Ok("plain")),
        ("1000", Err(NoMatch::Uid)),
        ("65534", Err(NoMatch::Uid)),
        ("4294967295", Err(NoMatch::Uid)),
        ("1002 gid=1,50", Ok("group")),
        ("1002 primary=50", Ok("group")),
        ("1002 primary=50 gid=1", Ok("group")),
        ("1002 gid=1,2", Err(NoMatch::Group)),
        ("1002 gid=1,2,3,4,5,6,7,8,9,50", Ok("group")),
        ("1002 gid=1,2,3,4,5,6,7,8,9,51", Err(NoMatch::Group)),
        ("1002", Err(NoMatch::UnknownGroups)),
        ("1002 primary=1", Err(NoMatch::UnknownGroups)),
        ("1003 cgroup=/system.slice/a.service", Ok("unit")),
        ("1003 cgroup=/system.slice/a.service/sub", Ok("unit")),
        ("1003 cgroup=/system.slice/b.service", Err(NoMatch::Unit)),
        ("1003 cgroup=/user.slice/user-1003.slice/user@1003.service/app.slice/a.service", Err(NoMatch::Unit)),
        ("1003 cgroup=/", Err(NoMatch::Unit)),
        ("1003", Err(NoMatch::UnknownCgroup)),
        ("1004 cgroup=/agents/x", Ok("path")),
        ("1004 cgroup=/agents/x/y", Ok("path")),
        ("1004 cgroup=/agents/xy", Err(NoMatch::Cgroup)),
        ("1004 cgroup=/agents", Err(NoMatch::Cgroup)),
        ("1004", Err(NoMatch::UnknownCgroup)),
        ("1005 gid=50 cgroup=/system.slice/b.service", Ok("all")),
        ("1005 gid=51 cgroup=/system.slice/b.service", Err(NoMatch::Group)),
        ("1005 gid=50 cgroup=/system.slice/a.service", Err(NoMatch::Unit)),
        ("1005 gid=50 cgroup=/other.slice/b.service", Err(NoMatch::Cgroup)),
        ("1005 gid=50", Err(NoMatch::UnknownCgroup)),
        ("1005 cgroup=/system.slice/b.service", Err(NoMatch::UnknownGroups)),
        ("1006 cgroup=/system.slice/a.service", Ok("shared-a")),
        ("1006 cgroup=/system.slice/b.service gid=50", Ok("shared-b")),
        ("1006 cgroup=/system.slice/c.service gid=50", Err(NoMatch::Unit)),
        ("1006", Err(NoMatch::UnknownGroups)),
        ("0 ns=ours", Ok("root")),
        ("0 ns=nested", Err(NoMatch::NestedRoot)),
        ("0", Err(NoMatch::UnprovenRoot)),
    ];
    for (peer, expected) in table {
        let peer_facts = facts(peer);
        let found = rules.agent_for(&peer_facts).map(|rule| rule.name.as_str());
        assert_eq!(found, *expected, "{peer}");
    }
}

#[test]
fn uid_0_is_nobody_unless_it_is_mapped() {
    assert_eq!(rules(&["a 1001"]).agent_for(&facts("0 ns=ours")).err(), Some(NoMatch::Uid));
    assert_eq!(rules(&["a 1001"]).agent_for(&facts("0 ns=nested")).err(), Some(NoMatch::Uid));
    assert_eq!(rules(&[]).agent_for(&facts("1001")).err(), Some(NoMatch::Uid));
}

#[test]
fn rules_of_one_uid_must_exclude_each_other() {
    let table: &[(&str, &str, bool)] = &[
        ("a 1", "b 2", true),
        ("a 1", "b 1", false),
        ("a 1 unit=x.service", "b 1", false),
        ("a 1 cgroup=/x", "b 1", false),
        ("a 1 gid=1", "b 1 gid=2", false),
        ("a 1 unit=x.service", "b 1 unit=y.service", true),
        ("a 1 unit=x.service", "b 1 unit=x.service", false),
        ("a 1 unit=x.service gid=1", "b 1 unit=x.service gid=2", false),
        ("a 1 cgroup=/x", "b 1 cgroup=/y", true),
        ("a 1 cgroup=/x", "b 1 cgroup=/x/y", false),
        ("a 1 cgroup=/", "b 1 cgroup=/y", false),
        ("a 1 cgroup=/x", "b 1 cgroup=/xy", true),
        ("a 1 unit=x.service", "b 1 cgroup=/system.slice/y.service", true),
        ("a 1 unit=x.service", "b 1 cgroup=/system.slice/x.service", false),
        ("a 1 unit=x.service", "b 1 cgroup=/system.slice", false),
        ("a 1 unit=x.service cgroup=/p.slice", "b 1 cgroup=/q.slice", true),
        ("a 1 unit=x.service cgroup=/p.slice", "b 1 cgroup=/p.slice", false),
    ];
    for (first, second, compatible) in table {
        let forward = Rules::new(vec![rule(first), rule(second)]);
        let backward = Rules::new(vec![rule(second), rule(first)]);
        assert_eq!(forward.is_ok(), *compatible, "{first} | {second}");
        assert_eq!(backward.is_ok(), *compatible, "{second} | {first}");
    }
}

#[test]
fn every_conflict_is_named_with_both_agents() {
    let errors = Rules::new(vec![
        rule("first 7"),
        rule("twin 8"),
        rule("second 7 gid=4"),
        rule("twin 9"),
        rule("ghost 65534"),
    ])
    .unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "agents first and second both match uid 7; give each a unit or a cgroup that the other's excludes",
            "agent twin is there twice",
            "agent ghost: uid 65534 is nobody's, the kernel shows it for users that it cannot name",
        ]
    );
}

#[test]
fn the_owner_of_a_tcp_peer_is_asked_for_groups_and_for_root_alone() {
    let rules = rules(&["plain 1001", "group 1002 gid=50", "unit 1003 unit=a.service", "root 0"]);
    for (uid, asked) in [("1001", false), ("1002", true), ("1003", false), ("0", true), ("7", false)] {
        let mut peer = facts(uid);
        assert!(!rules.needs_owner(&peer), "{uid} on a Unix socket");
        peer.transport = Transport::Tcp;
        assert_eq!(rules.needs_owner(&peer), asked, "{uid}");
    }
    let mut root = facts("0");
    root.transport = Transport::Tcp;
    assert!(!Rules::default().needs_owner(&root));
}

#[test]
fn of_rules_in_each_others_way_the_earlier_one_is_admitted() {
    let candidates = [
        "a 1001",
        "b 1001 unit=b.service",
        "c 1002 unit=c.service",
        "d 1002 unit=d.service",
        "e 65534",
        "a 1003",
        "f 1001",
    ];
    let (admitted, errors) = Rules::admit(candidates.map(rule).into());
    let mut names: Vec<_> = admitted.iter().map(|rule| rule.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "c", "d"]);
    let refused = |error: &RuleError| match error {
        RuleError::Overlap { second, .. } => second.to_string(),
        RuleError::Duplicate { name } | RuleError::Nobody { name, .. } => name.to_string(),
    };
    assert_eq!(errors.iter().map(refused).collect::<Vec<_>>(), ["b", "e", "a", "f"]);
}

#[test]
fn only_what_is_the_same_before_and_after_is_in_force_in_between() {
    let before = rules(&["a 1001", "b 1002", "c 1003"]);
    let after = rules(&["a 1002", "b 1001", "c 1003", "d 1004"]);
    let common = before.common(&after);
    assert_eq!(common.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn nobody_is_turned_away_for_good_before_the_agents_are_known() {
    let awaited = Rules::awaited();
    assert_eq!(awaited.agent_for(&facts("1001")).err(), Some(NoMatch::Awaited));
    assert!(awaited.mentions(1001), "all that a rule may ask is looked up");
    assert!(!rules(&["a 1002"]).mentions(1001));
}
