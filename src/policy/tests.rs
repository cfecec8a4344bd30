//! Decisions: evasion tables, precedence, the nearest rule, and the index against a naive matcher.

use super::*;
use crate::target::{Host, Target};
use proptest::prelude::*;
use std::net::IpAddr;

fn rule(pattern: &str, ports: &[u16], protocol: Protocol) -> Rule {
    Rule { protocol, ..Rule::added(Pattern::parse(pattern).unwrap(), ports.to_vec(), Category::Extra) }
}

fn policy(patterns: &[&str], deny: &[&str]) -> Policy {
    Policy::new(
        patterns.iter().map(|pattern| rule(pattern, &[443], Protocol::Tcp)).collect(),
        deny.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
    )
}

fn usual() -> Policy {
    let mut rules: Vec<_> = [
        "*.my.connect.aws",
        "acme.awsapps.com",
        "rtc*.connect-telecom.us-west-2.amazonaws.com",
        "*.execute-api.us-west-2.amazonaws.com",
        "participant.connect.us-west-2.amazonaws.com",
        "*.cloudfront.net",
        "192.0.2.1",
        "2001:db8::1",
    ]
    .iter()
    .map(|pattern| rule(pattern, &[443], Protocol::Tcp))
    .collect();
    rules.push(rule("turnnlb-*.elb.us-west-2.amazonaws.com", &[3478], Protocol::Udp));
    Policy::new(rules, vec![Pattern::parse("*.bad.cloudfront.net").unwrap()])
}

fn target(text: &str) -> Target {
    Target::parse_authority(text.as_bytes()).unwrap()
}

/// The reason, or the rule that allows.
fn verdict(policy: &Policy, text: &str) -> String {
    match policy.decide(&target(text)) {
        Decision::Allowed(id, rule) => {
            assert_eq!(policy.rule(id), Some(rule));
            rule.pattern.to_string()
        }
        Decision::Denied { reason, .. } => reason.as_str().to_owned(),
    }
}

#[test]
fn evasions() {
    let policy = usual();
    for (text, expected) in [
        ("acme.my.connect.aws:443", "*.my.connect.aws"),
        ("ACME.my.connect.aws.:443", "*.my.connect.aws"),
        ("my.connect.aws:443", "no_rule"),
        ("evilmy.connect.aws:443", "no_rule"),
        ("my.connect.aws.evil.com:443", "no_rule"),
        ("evil-amazonaws.com:443", "no_rule"),
        ("xamazonaws.com:443", "no_rule"),
        (
            "rtc1-a.connect-telecom.us-west-2.amazonaws.com:443",
            "rtc*.connect-telecom.us-west-2.amazonaws.com",
        ),
        ("rtc.evil.com.connect-telecom.us-west-2.amazonaws.com:443", "no_rule"),
        ("rtc.connect-telecom.us-west-2.amazonaws.com.evil.com:443", "no_rule"),
        ("xn--acme.awsapps.com:443", "no_rule"),
        ("acme.awsapps.com:80", "port"),
        ("d1.cloudfront.net:443", "*.cloudfront.net"),
        ("d1.bad.cloudfront.net:443", "deny_rule"),
        ("d1.bad.cloudfront.net:80", "deny_rule"),
        ("bad.cloudfront.net:443", "*.cloudfront.net"),
        ("turnnlb-1.elb.us-west-2.amazonaws.com:3478", "no_rule"),
        ("turnnlb-1.elb.us-west-2.amazonaws.com:443", "no_rule"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("192.0.2.1.:443", "192.0.2.1"),
        ("192.0.2.1:80", "port"),
        ("192.0.2.2:443", "ip_literal"),
        ("[2001:db8:0::1]:443", "2001:db8::1"),
        ("[::ffff:192.0.2.1]:443", "ip_literal"),
        ("[::1]:443", "ip_literal"),
        ("[::ffff:169.254.169.254]:443", "ip_literal"),
        ("[64:ff9b::a9fe:a9fe]:443", "ip_literal"),
        ("127.0.0.1:443", "ip_literal"),
        ("127.1:443", "ip_literal"),
        ("2130706433:443", "ip_literal"),
        ("0x7f000001:443", "ip_literal"),
        ("0177.0.0.1:443", "ip_literal"),
        ("0:443", "ip_literal"),
        ("017700000001:443", "ip_literal"),
        ("127.0.0.1.:443", "ip_literal"),
    ] {
        assert_eq!(verdict(&policy, text), expected, "{text}");
    }
}

#[test]
fn exact_then_longest_then_first() {
    let mut rules: Vec<_> =
        ["*.example.com", "*.a.example.com", "x*.a.example.com", "xyz.a.example.com", "*.a.example.com"]
            .iter()
            .map(|pattern| rule(pattern, &[443], Protocol::Tcp))
            .collect();
    rules[0].ports = vec![80, 443, 8443];
    let policy = Policy::new(rules, Vec::new());
    assert_eq!(verdict(&policy, "xyz.a.example.com:443"), "xyz.a.example.com");
    assert_eq!(verdict(&policy, "xy.a.example.com:443"), "x*.a.example.com");
    assert_eq!(verdict(&policy, "y.a.example.com:443"), "*.a.example.com");
    assert_eq!(verdict(&policy, "xyz.a.example.com:8443"), "*.example.com");
    assert_eq!(verdict(&policy, "xyz.a.example.com:1"), "port");
    assert!(matches!(
        policy.decide(&target("y.a.example.com:443")),
        Decision::Allowed(id, _) if id.index() == 1
    ));
    assert!(matches!(
        policy.decide(&target("xyz.a.example.com:1")),
        Decision::Denied { reason: Reason::Port, by: Some(By::Rule(_, rule)) }
            if rule.pattern.as_str() == "xyz.a.example.com"
    ));
}

#[test]
fn deny_patterns_name_themselves() {
    let policy = policy(&["*.example.com"], &["*.zip", "*.b.example.com", "192.0.2.1"]);
    for (text, expected) in
        [("x.zip:443", "*.zip"), ("a.b.example.com:443", "*.b.example.com"), ("192.0.2.1:443", "192.0.2.1")]
    {
        assert!(matches!(
            policy.decide(&target(text)),
            Decision::Denied { reason: Reason::DenyRule, by: Some(By::Deny(deny)) } if deny.as_str() == expected
        ));
    }
}

#[test]
fn a_policy_without_rules_denies() {
    let policy = Policy::default();
    assert_eq!(verdict(&policy, "a.example:443"), "no_rule");
    assert_eq!(verdict(&policy, "[::1]:443"), "ip_literal");
    // A name that no parser made is no reason to panic.
    let name = Host::Name("a.".repeat(200).into());
    let odd = Target { host: name, port: 0 };
    assert!(matches!(usual().decide(&odd), Decision::Denied { .. }));
}

#[test]
fn nearest_rule() {
    let policy = usual();
    for (text, expected) in [
        ("acme.my.connect.aws:443", None),
        ("acme.my.connect.aws:8443", Some(("*.my.connect.aws", "is for port 443, not 8443"))),
        (
            "turnnlb-1.elb.us-west-2.amazonaws.com:3478",
            Some(("turnnlb-*.elb.us-west-2.amazonaws.com", "voice goes over UDP 3478 past the proxy")),
        ),
        ("my.connect.aws:443", Some(("*.my.connect.aws", "bare"))),
        (
            "x.rtc.connect-telecom.us-west-2.amazonaws.com:443",
            Some(("rtc*.connect-telecom.us-west-2.amazonaws.com", "one label more")),
        ),
        ("www.acme.awsapps.com:443", Some(("acme.awsapps.com", "that name alone"))),
        ("acne.awsapps.com:443", Some(("acme.awsapps.com", "\"acne\" where the rule has \"acme\""))),
        ("globex.awsapps.com:443", Some(("acme.awsapps.com", "\"globex\""))),
        ("acme.my.conect.aws:443", Some(("*.my.connect.aws", "\"conect\""))),
        (
            "participant.connect.us-east-1.amazonaws.com:443",
            Some(("participant.connect.us-west-2.amazonaws.com", "\"us-east-1\"")),
        ),
        ("d.bad.cloudfront.net:443", Some(("*.bad.cloudfront.net", "wins over the rule *.cloudfront.net"))),
        ("[::ffff:192.0.2.1]:443", Some(("192.0.2.1", "notation"))),
        ("www.example.org:443", None),
        ("google.com:443", None),
        ("10.0.0.1:443", None),
        ("127.1:443", None),
    ] {
        let nearest = policy.nearest(&target(text));
        match (&nearest, expected) {
            (None, None) => {}
            (Some(found), Some((rule, part))) if found.rule == rule && found.why.contains(part) => {}
            _ => panic!("{text}: expected {expected:?}, got {nearest:?}"),
        }
    }
}

#[test]
fn another_service_is_not_near() {
    let policy = policy(
        &["*.execute-api.eu-central-1.amazonaws.com", "participant.connect.eu-central-1.amazonaws.com"],
        &[],
    );
    for host in [
        "portal.sso.eu-central-1.amazonaws.com",
        "assets.sso-portal.eu-central-1.amazonaws.com",
        "acme.lambda.eu-central-1.amazonaws.com",
        "participant.chime.eu-central-1.amazonaws.com",
    ] {
        assert_eq!(policy.nearest(&target(&format!("{host}:443"))), None, "{host}");
    }
    // The same service in another Region, and a slip of the keyboard, are.
    for host in ["participant.connect.us-west-2.amazonaws.com", "a.execute-appi.eu-central-1.amazonaws.com"] {
        let near = policy.nearest(&target(&format!("{host}:443"))).expect(host);
        assert!(near.same.is_some(), "{host}: {near:?}");
    }
}

#[test]
fn what_looks_like_a_region_is_one_in_names_of_aws_alone() {
    let others = policy(&["sso-prod-1.corp.example"], &[]);
    let near = others.nearest(&target("tracker-test-7.corp.example:443"));
    assert!(near.is_none_or(|near| near.same.is_none()), "another host of the company's");
    let regional = policy(&["participant.connect.eu-central-1.amazonaws.com"], &[]);
    let near = regional.nearest(&target("participant.connect.eusc-de-east-1.amazonaws.com:443")).unwrap();
    assert!(near.same.is_some(), "{near:?}");
}

/// The contract's words, once more, without any cleverness: every split of the host is tried.
fn naive(pattern: &str, host: &str) -> bool {
    fn run(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len())
                .take_while(|&taken| !text[..taken].contains(&'.'))
                .any(|taken| run(rest, &text[taken..])),
            [first, rest @ ..] => text.first() == Some(first) && run(rest, &text[1..]),
        }
    }
    let host: Vec<char> = host.chars().collect();
    match pattern.strip_prefix("*.") {
        Some(rest) => {
            let rest: Vec<char> = rest.chars().collect();
            (1..host.len()).any(|dot| host[dot] == '.' && run(&rest, &host[dot + 1..]))
        }
        None => run(&pattern.chars().collect::<Vec<_>>(), &host),
    }
}

fn naive_verdict(policy: &Policy, target: &Target) -> (Option<Reason>, Option<String>) {
    let hit = |pattern: &Pattern| match (&target.host, pattern.as_host()) {
        (Host::Ip(address), Some(Host::Ip(known))) => address == known,
        (Host::Name(name), None | Some(Host::Name(_))) => naive(pattern.as_str(), name),
        _ => false,
    };
    let best = |patterns: Vec<&Pattern>| {
        let longest = patterns.iter().map(|pattern| (pattern.is_exact(), pattern.as_str().len())).max()?;
        patterns
            .into_iter()
            .find(|pattern| (pattern.is_exact(), pattern.as_str().len()) == longest)
            .map(|pattern| pattern.to_string())
    };
    if let Some(deny) = best(policy.deny().iter().filter(|p| hit(p)).collect()) {
        return (Some(Reason::DenyRule), Some(deny));
    }
    let matching: Vec<_> =
        policy.rules().iter().filter(|rule| rule.protocol == Protocol::Tcp && hit(&rule.pattern)).collect();
    let with_port = matching.iter().filter(|rule| rule.ports.contains(&target.port));
    if let Some(rule) = best(with_port.map(|rule| &rule.pattern).collect()) {
        return (None, Some(rule));
    }
    if let Some(rule) = best(matching.iter().map(|rule| &rule.pattern).collect()) {
        return (Some(Reason::Port), Some(rule));
    }
    let literal = matches!(target.host, Host::Ip(_)) || target.host.is_numeric_name();
    let reason = if literal { Reason::IpLiteral } else { Reason::NoRule };
    (Some(reason), None)
}

/// A pattern from so few parts that patterns and hosts meet often.
fn any_pattern() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        3 => "[ab]{1,2}",
        1 => Just("*".to_owned()),
        1 => r"[ab]?\*[ab]?",
        1 => r"\*[ab]\*|a\*b\*",
    ];
    (proptest::collection::vec(label, 0..3), "[ab]\\.(com|net)").prop_map(|(labels, end)| {
        let labels: String = labels.iter().map(|label| format!("{label}.")).collect();
        labels + &end
    })
}

fn any_host() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => r"([ab]{1,3}\.){0,4}[ab]\.(com|net)\.?",
        1 => r"[ab]{1,2}\.?",
        1 => Just("192.0.2.1".to_owned()),
        1 => Just("[2001:db8::1]".to_owned()),
        1 => Just("a.1".to_owned()),
    ]
}

proptest! {
    #[test]
    fn index_agrees_with_the_naive_matcher(
        patterns in proptest::collection::vec((any_pattern(), 0_u16..3, any::<bool>()), 0..12),
        deny in proptest::collection::vec(any_pattern(), 0..2),
        hosts in proptest::collection::vec((any_host(), 1_u16..4), 1..20),
    ) {
        let mut rules: Vec<_> = patterns
            .iter()
            .map(|(pattern, extra, tcp)| {
                let protocol = if *tcp { Protocol::Tcp } else { Protocol::Udp };
                rule(pattern, &[1, 1 + extra], protocol)
            })
            .collect();
        rules.push(rule("192.0.2.1", &[1], Protocol::Tcp));
        let deny = deny.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let policy = Policy::new(rules, deny);
        for (host, port) in hosts {
            let target = target(&format!("{host}:{port}"));
            let decided = match policy.decide(&target) {
                Decision::Allowed(_, rule) => (None, Some(rule.pattern.to_string())),
                Decision::Denied { reason, by } => (Some(reason), by.map(|by| by.pattern().to_string())),
            };
            prop_assert_eq!(decided, naive_verdict(&policy, &target), "{}", target);
            for rule in policy.rules() {
                if let Host::Name(name) = &target.host
                    && !matches!(rule.pattern.as_host(), Some(Host::Ip(IpAddr::V4(_))))
                {
                    let text = rule.pattern.as_str();
                    prop_assert_eq!(rule.pattern.matches(&target.host), naive(text, name));
                }
            }
            let _ = policy.nearest(&target);
        }
    }

    #[test]
    fn any_text_as_pattern(text in any::<String>()) {
        if let Ok(pattern) = Pattern::parse(&text) {
            let again = Pattern::parse(pattern.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&pattern));
            let _ = Policy::new(Vec::new(), vec![pattern]);
        }
    }

    #[test]
    fn near_patterns(text in r"[a-z0-9A-Z*._\[\]:-]{0,24}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            let again = Pattern::parse(pattern.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&pattern));
            let _ = Policy::new(Vec::new(), vec![pattern.clone()]);
            // No pattern with a star is a target, so none can match itself.
            let wire = format!("{pattern}:443");
            prop_assert!(pattern.is_exact() || Target::parse_authority(wire.as_bytes()).is_err());
        }
    }
}
