use std::time::{Duration, Instant};

use super::*;

fn facts() -> Facts {
    let names = [("acme.my.connect.aws", "198.51.100.7"), ("six.example.com", "2001:db8::7")];
    let names = names.map(|(name, address)| (name.to_owned(), vec![address.parse().unwrap()]));
    Facts { names: names.into(), own: vec!["10.1.2.3".parse().unwrap()] }
}

/// What a body of `FindProxyForURL` answers.
fn ask(body: &str, host: &str) -> Result<String, Fault> {
    let file = format!("function FindProxyForURL(url, host) {{ {body} }}");
    Engine::read(&file, facts())?.ask(&format!("https://{host}/"), host)
}

/// Whether an expression holds for a host.
fn holds(expression: &str, host: &str) -> bool {
    ask(&format!("return ({expression}) ? 'yes' : 'no';"), host).unwrap() == "yes"
}

#[test]
fn files_may_use_what_browsers_give_them() {
    let host = "acme.my.connect.aws";
    for (expression, expected) in [
        ("isPlainHostName(host)", false),
        ("isPlainHostName('intranet')", true),
        ("dnsDomainIs(host, '.connect.aws')", true),
        ("dnsDomainIs(host, 'CONNECT.aws')", true),
        ("dnsDomainIs('aws', '.connect.aws')", false),
        ("localHostOrDomainIs('acme', 'acme.my.connect.aws')", true),
        ("localHostOrDomainIs('acm', 'acme.my.connect.aws')", false),
        ("dnsDomainLevels(host) === 3", true),
        ("shExpMatch(host, '*.connect.aws')", true),
        ("shExpMatch(host, 'acme.my.connect.a?s')", true),
        ("shExpMatch(host, '*.connect.aw')", false),
        ("shExpMatch('axmy', 'a.my')", false),
        ("shExpMatch(url, 'https://*/')", true),
        ("isResolvable(host)", true),
        ("isResolvable('nowhere.example')", false),
        ("dnsResolve(host) === '198.51.100.7'", true),
        ("dnsResolve('nowhere.example') === null", true),
        ("dnsResolve('six.example.com') === null && isResolvableEx('six.example.com')", true),
        ("isInNet(host, '198.51.100.0', '255.255.255.0')", true),
        ("isInNet(host, '198.51.101.0', '255.255.255.0')", false),
        ("isInNet('200.1.1.1', '200.0.0.0', '255.0.0.0')", true),
        ("isInNet('no.example', '0.0.0.0', '0.0.0.0')", false),
        ("isInNetEx('six.example.com', '2001:db8::/32')", true),
        ("isInNetEx('six.example.com', '2001:db9::/32')", false),
        ("isInNetEx(host, '198.51.100.0/24')", true),
        ("myIpAddress() === '10.1.2.3'", true),
        ("convert_addr('1.2.3.4') === 16909060", true),
        ("weekdayRange('SUN', 'SAT') && weekdayRange('SUN', 'SAT', 'GMT')", true),
        ("timeRange(0, 0, 0, 23, 59, 59)", true),
        ("dateRange('JAN', 'DEC') && dateRange(1, 31) && dateRange(2000, 2999)", true),
        ("dateRange(1, 'JAN', 2000, 2, 'JAN', 2000)", false),
        ("url === 'https://acme.my.connect.aws/' && host === 'acme.my.connect.aws'", true),
    ] {
        assert_eq!(holds(expression, host), expected, "{expression}");
    }
    // Exactly one of two halves of the day, the week and the year is now.
    for halves in [
        ["timeRange(0, 11)", "timeRange(12, 23)"],
        ["weekdayRange('SUN', 'TUE', 'GMT')", "weekdayRange('WED', 'SAT', 'GMT')"],
        ["dateRange('JAN', 'JUN', 'GMT')", "dateRange('JUL', 'DEC', 'GMT')"],
        ["weekdayRange('FRI', 'MON')", "weekdayRange('TUE', 'THU')"],
    ] {
        let [one, other] = halves.map(|half| holds(half, host));
        assert!(one != other || halves[0].contains("time"), "{halves:?}");
    }
}

#[test]
fn a_broken_file_is_told_from_one_that_takes_too_much() {
    for broken in [
        "function FindProxyForURL(url, host) { return ",
        "var x = 1;",
        "<html>404</html>",
        "throw new Error('\u{1b}[31mno');",
    ] {
        match Engine::read(broken, facts()).map(drop) {
            Err(Fault::Broken(why)) => {
                assert!(!why.is_empty() && !why.chars().any(char::is_control), "{why}")
            }
            other => panic!("{broken}: {other:?}"),
        }
    }
    assert!(matches!(ask("return nothing.at.all;", "a.example"), Err(Fault::Broken(_))));
    assert!(matches!(ask("return 7;", "a.example"), Err(Fault::Broken(_))));
    let begun = Instant::now();
    for greedy in [
        "while (true) {}",
        "var all = []; while (true) { all.push(new Array(1000).join('x')); }",
        "var text = 'x'; while (true) { text += text; }",
        "function f() { return f() + 1; } return f();",
        "return new RegExp('^(a+)+$').test(new Array(40).join('a') + '!') ? 'DIRECT' : 'DIRECT';",
    ] {
        let answer = ask(greedy, "a.example");
        assert!(matches!(answer, Err(Fault::Exhausted(_))), "{greedy}: {answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(ask("return 'PROXY\\n\\x1b[2J p:1'", "a.example"), Ok("PROXY [2J p:1".to_owned()));
}
