//! The PAC file in a real JavaScript engine, held against the policy.

mod direct;
mod lanes;
mod own;

use super::*;
use crate::policy::{Category, Decision, Rule};
use crate::target::Target;
use proptest::prelude::*;

const ON: &str = "HTTPS proxy1.corp:3129; PROXY proxy1.corp:3128";
const OFF: &str = "DIRECT";

fn rule(pattern: &str, ports: &[u16], protocol: Protocol) -> Rule {
    Rule { protocol, ..Rule::added(Pattern::parse(pattern).unwrap(), ports.to_vec(), Category::Extra) }
}

fn policy(patterns: &[&str]) -> Policy {
    let rules = patterns.iter().map(|pattern| rule(pattern, &[443], Protocol::Tcp)).collect();
    Policy::new(rules, Vec::new())
}

fn answers(proxies: &[&str], otherwise: &str) -> Answers {
    Answers {
        listed: proxies.iter().map(|word| vec![(*word).to_owned()]).collect(),
        otherwise: otherwise.to_owned(),
        direct: Vec::new(),
    }
}

fn rendered(policy: &Policy) -> String {
    render(policy, &answers(&ON.split("; ").collect::<Vec<_>>(), OFF))
}

/// Asks the file about each URL and host.
fn ask<'a>(pac: &str, questions: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    assert!(pac.is_ascii());
    let runtime = rquickjs::Runtime::new().unwrap();
    let context = rquickjs::Context::full(&runtime).unwrap();
    context.with(|ctx| {
        ctx.eval::<(), _>(pac).unwrap();
        let find: rquickjs::Function<'_> = ctx.globals().get("FindProxyForURL").unwrap();
        questions.into_iter().map(|question| find.call(question).unwrap()).collect()
    })
}

fn ask_one(pac: &str, host: &str) -> String {
    ask(pac, [(format!("wss://{host}/").as_str(), host)]).remove(0)
}

/// Whether the policy allows the host on any port that some rule has.
fn allowed_on_some_port(policy: &Policy, host: &Host) -> bool {
    let mut ports: Vec<u16> = policy.rules().iter().flat_map(|rule| rule.ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.into_iter().any(|port| {
        let target = Target { host: host.clone(), port };
        matches!(policy.decide(&target), Decision::Allowed(..))
    })
}

#[test]
fn hosts_go_where_the_policy_says() {
    let pac = rendered(&policy(&[
        "acme.awsapps.com",
        "*.my.connect.aws",
        "rtc*.connect-telecom.us-west-2.amazonaws.com",
        "*.a*.example.com",
        "s3.*.example.net",
        "example.*",
        "192.0.2.1",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "__proto__",
    ]));
    for (host, expected) in [
        ("acme.awsapps.com", ON),
        ("ACME.AwsApps.com.", ON),
        ("x.acme.awsapps.com", OFF),
        ("acme.my.connect.aws", ON),
        ("a.b.my.connect.aws", ON),
        ("my.connect.aws", OFF),
        (".my.connect.aws", OFF),
        ("evilmy.connect.aws", OFF),
        ("my.connect.aws.evil.com", OFF),
        ("rtc.connect-telecom.us-west-2.amazonaws.com", ON),
        ("rtc1-a.connect-telecom.us-west-2.amazonaws.com", ON),
        ("rtc.evil.com.connect-telecom.us-west-2.amazonaws.com", OFF),
        ("x.rtc.connect-telecom.us-west-2.amazonaws.com", OFF),
        ("rtc.connect-telecomxus-west-2.amazonaws.com", OFF),
        ("x.y.ab.example.com", ON),
        ("ab.example.com", OFF),
        ("s3.x.example.net", ON),
        ("s3.x.y.example.net", OFF),
        ("example.test", ON),
        ("example.test.com", OFF),
        ("192.0.2.1", ON),
        ("192.0.2.10", OFF),
        ("2001:db8::1", ON),
        ("[2001:db8::1]", ON),
        ("2001:DB8::1", ON),
        ("[::ffff:c000:201]", ON),
        ("::ffff:192.0.2.1", ON),
        ("2001:db8::2", OFF),
        ("__proto__", ON),
        ("constructor", OFF),
        ("toString", OFF),
        ("hasOwnProperty", OFF),
        ("x.constructor", OFF),
        ("localhost", OFF),
        ("", OFF),
        (".", OFF),
        ("..", OFF),
    ] {
        assert_eq!(ask_one(&pac, host), expected, "{host}");
    }
}

#[test]
fn ports_and_deny_patterns_are_left_to_the_proxy_and_udp_to_nobody() {
    let rules = vec![
        rule("a.example.com", &[8443], Protocol::Tcp),
        rule("turn*.example.com", &[3478], Protocol::Udp),
    ];
    let deny = vec![Pattern::parse("a.example.com").unwrap()];
    let pac = rendered(&Policy::new(rules, deny));
    assert_eq!(ask_one(&pac, "a.example.com"), ON);
    assert_eq!(ask_one(&pac, "turn1.example.com"), OFF);
}

#[test]
fn names_longer_than_any_are_looked_up_nowhere() {
    let pac = rendered(&policy(&["*.example.com", "a*.example.com"]));
    let longest = format!("{}.example.com", ["a".repeat(60).as_str(); 4].join("."));
    let at_the_limit = &longest[longest.len() - 253..];
    assert_eq!(ask_one(&pac, at_the_limit), ON);
    assert_eq!(ask_one(&pac, &format!("{at_the_limit}.")), ON);
    assert_eq!(ask_one(&pac, &longest[longest.len() - 254..]), OFF);
    // Looked up label by label, this would hold the browser's only PAC thread for minutes.
    assert_eq!(ask_one(&pac, &format!("{}example.com", "a.".repeat(500_000))), OFF);
}

#[test]
fn an_empty_policy_sends_nothing_to_the_proxy() {
    let pac = rendered(&Policy::default());
    assert_eq!(ask_one(&pac, "a.example.com"), OFF);
    let pac = render(&policy(&["a.example.com"]), &answers(&[], "PROXY old.corp:8080"));
    assert_eq!(ask_one(&pac, "a.example.com"), "PROXY old.corp:8080");
}

#[test]
fn every_string_is_escaped() {
    let odd = "PROXY \"; alert(1) //\\\n\u{2028}\u{1f600}</script>";
    let pac = render(&policy(&["a.example.com"]), &answers(&[odd], odd));
    assert_eq!(ask_one(&pac, "a.example.com"), odd);
    assert_eq!(ask_one(&pac, "b.example.com"), odd);
    assert!(!pac.contains("</script"));
}

#[test]
fn nothing_that_old_engines_lack_or_that_asks_the_dns() {
    let mut answers = answers(&ON.split("; ").collect::<Vec<_>>(), OFF);
    answers.listed.push(vec!["HTTPS x:1".to_owned(), "HTTPS x:2".to_owned()]);
    let pac = render(&policy(&["a.example.com", "*.b.example.com", "c*.example.com"]), &answers);
    for word in [
        "shExpMatch",
        "dnsDomainIs",
        "dnsResolve",
        "isInNet",
        "isResolvable",
        "myIpAddress",
        "let ",
        "const ",
        "=>",
        "`",
        "endsWith",
        "startsWith",
        "includes",
        ",\n}",
        "url.",
        // Lookbehind, named groups, sticky and Unicode expressions.
        "(?<",
        "/u",
        "/y",
        // Methods that old arrays and strings lack, or have in another form.
        ".trim(",
        ".indexOf(",
        ".map(",
        ".forEach(",
        ".substr(",
        // A string as if it were an array, a comma that makes arrays longer there.
        "host[",
        ",]",
    ] {
        assert!(!pac.contains(word), "{word}");
    }
    let proxied: Vec<_> = pac.lines().filter(|line| line.contains("PROXY")).collect();
    assert_eq!(proxied.len(), 1);
    assert!(!proxied[0].contains("DIRECT"));
}

#[test]
fn ten_thousand_rules() {
    let patterns: Vec<String> = (0..10_000)
        .map(|n| match n % 3 {
            0 => format!("h{n}.example.com"),
            1 => format!("*.d{n}.example.com"),
            _ => format!("p{n}*.example.com"),
        })
        .collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let pac = rendered(&policy(&patterns));
    assert!(pac.len() < 600_000, "{}", pac.len());
    let hosts: Vec<String> = (0..999)
        .map(|n| match n % 3 {
            0 => format!("h{n}.example.com"),
            1 => format!("x.y.d{n}.example.com"),
            _ => format!("p{n}-a.example.com"),
        })
        .collect();
    let answers = ask(&pac, hosts.iter().map(|host| ("https://x/", host.as_str())));
    assert!(answers.iter().all(|answer| answer == ON));
    assert_eq!(ask_one(&pac, "d1.example.com"), OFF);
}

fn any_pattern() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        3 => "[ab]{1,2}",
        1 => Just("*".to_owned()),
        1 => r"[ab-]?\*[ab_]?",
        1 => r"a\*b\*",
    ];
    (proptest::collection::vec(label, 0..3), "[ab]\\.(com|net)").prop_map(|(labels, end)| {
        let labels: String = labels.iter().map(|label| format!("{label}.")).collect();
        labels + &end
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn agrees_with_the_policy(
        patterns in proptest::collection::vec((any_pattern(), 0_u16..3, any::<bool>()), 0..12),
        hosts in proptest::collection::vec(r"([abAB_-]{1,3}\.){0,4}[ab]\.(com|net)\.?", 80),
        scheme in "https|wss|http",
    ) {
        let rules = patterns
            .iter()
            .map(|(pattern, extra, tcp)| {
                let protocol = if *tcp { Protocol::Tcp } else { Protocol::Udp };
                rule(pattern, &[443, 443 + extra], protocol)
            })
            .collect();
        let policy = Policy::new(rules, Vec::new());
        let urls: Vec<String> = hosts.iter().map(|host| format!("{scheme}://{host}/x")).collect();
        let questions = urls.iter().map(String::as_str).zip(hosts.iter().map(String::as_str));
        let answers = ask(&rendered(&policy), questions);
        for (host, answer) in hosts.iter().zip(answers) {
            let parsed = Host::parse(host.as_bytes()).unwrap();
            let expected = if allowed_on_some_port(&policy, &parsed) { ON } else { OFF };
            prop_assert_eq!(answer, expected, "{}", host);
        }
    }
}
