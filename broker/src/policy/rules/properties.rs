//! What holds for any rules and any peers.

use proptest::prelude::*;

use super::*;
use crate::peer::Groups;

/// Few of everything, so that rules meet.
fn rule() -> impl Strategy<Value = AgentRule> {
    let unit = prop::option::of(prop::sample::select(vec!["a.service", "b.service", "c.scope"]));
    let cgroup = prop::option::of(prop::sample::select(vec![
        "/",
        "/system.slice",
        "/system.slice/a.service",
        "/system.slice/a.service/x",
        "/system.slice/b.service",
        "/a.service",
        "/agents",
        "/agents/a",
        "/agents/ab",
    ]));
    let uid = prop::sample::select(vec![0, 1001, 1001, 1002, OVERFLOW_UID]);
    ("[a-e]", uid, prop::option::of(50_u32..53), unit, cgroup).prop_map(|(name, uid, gid, unit, cgroup)| {
        AgentRule {
            name: name.parse().unwrap(),
            uid,
            gid,
            unit: unit.map(|unit| unit.parse().unwrap()),
            cgroup: cgroup.map(|path| path.parse().unwrap()),
        }
    })
}

fn facts() -> impl Strategy<Value = PeerFacts> {
    let part = prop::sample::select(vec![
        "system.slice",
        "agents",
        "a.service",
        "b.service",
        "c.scope",
        "_a.service",
        "a",
        "ab",
        "x",
    ]);
    let cgroup =
        prop::option::of(prop::collection::vec(part, 0..4).prop_map(|parts| format!("/{}", parts.join("/"))));
    let uid = prop::sample::select(vec![0, 1001, 1001, 1002, 1003, OVERFLOW_UID]);
    let groups = prop::option::of(prop::collection::vec(50_u32..53, 0..3));
    let namespace =
        prop::sample::select(vec![PidNamespace::Ours, PidNamespace::Nested, PidNamespace::Unknown]);
    (uid, groups, cgroup, namespace).prop_map(|(uid, groups, cgroup, namespace)| PeerFacts {
        transport: Transport::Unix,
        uid,
        gid: None,
        groups: groups.map_or(Groups::Unknown, |groups| Groups::from(&groups[..])),
        pid: None,
        cgroup: cgroup.map(Into::into),
        namespace,
        socket: None,
    })
}

fn is_matched(rule: &AgentRule, peer: &PeerFacts) -> bool {
    rule.uid == peer.uid && rule.admits(peer).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn of_accepted_rules_at_most_one_matches_any_peer(rules in prop::collection::vec(rule(), 0..8), peers in prop::collection::vec(facts(), 1..16)) {
        let (accepted, errors) = Rules::admit(rules.clone());
        prop_assert_eq!(accepted.iter().len() + errors.len(), rules.len());
        for peer in &peers {
            let matching: Vec<_> = accepted.iter().filter(|rule| is_matched(rule, peer)).collect();
            prop_assert!(matching.len() <= 1, "{:?} is {:?}", peer, matching);
            match accepted.agent_for(peer) {
                Ok(rule) => prop_assert_eq!(matching, [rule]),
                // Whoever matches is refused for what no rule can say.
                Err(_) => prop_assert!(matching.is_empty() || peer.uid == 0, "{:?}", peer),
            }
        }
    }

    #[test]
    fn rules_that_exclude_each_other_do_so_both_ways_and_share_no_peer(one in rule(), other in rule(), peers in prop::collection::vec(facts(), 1..16)) {
        prop_assert_eq!(one.excludes(&other), other.excludes(&one));
        if one.excludes(&other) {
            prop_assert!(!peers.iter().any(|peer| is_matched(&one, peer) && is_matched(&other, peer)));
        }
    }

    #[test]
    fn all_together_are_accepted_where_each_two_are(rules in prop::collection::vec(rule(), 0..6)) {
        let accepted = Rules::new(rules.clone()).is_ok();
        let two = |a: &AgentRule, b: &AgentRule| Rules::new(vec![a.clone(), b.clone()]).is_ok();
        let alone = rules.iter().all(|rule| Rules::new(vec![rule.clone()]).is_ok());
        let pairs = rules.iter().enumerate().all(|(at, a)| rules[at + 1..].iter().all(|b| two(a, b)));
        prop_assert_eq!(accepted, alone && pairs);
        prop_assert_eq!(accepted, Rules::admit(rules).1.is_empty());
    }

    #[test]
    fn in_between_two_sets_of_rules_nobody_is_who_they_are_not_in_both(before in prop::collection::vec(rule(), 0..6), after in prop::collection::vec(rule(), 0..6), peers in prop::collection::vec(facts(), 1..16)) {
        let (before, after) = (Rules::admit(before).0, Rules::admit(after).0);
        let between = before.common(&after);
        for peer in &peers {
            let name = |rules: &Rules| rules.agent_for(peer).ok().map(|rule| rule.name.clone());
            if let Some(agent) = name(&between) {
                prop_assert_eq!(name(&before), Some(agent.clone()));
                prop_assert_eq!(name(&after), Some(agent));
            }
        }
    }
}
