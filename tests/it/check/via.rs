use std::io::Write;

use super::{check_site, endpoint, expect_cause, site};
use crate::support::{Proxy, Refusing, Region, Upstream, ccpgate, read_request};

/// A proxy that answers every request so, and closes.
pub(super) fn says(answer: &str) -> Upstream {
    let answer = answer.to_owned();
    Upstream::serve(move |mut stream| {
        let _ = read_request(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

#[test]
fn through_ccpgate_itself() {
    let region = Region::healthy();
    let proxy = Proxy::start(&region.config());
    let url = format!("http://{}", proxy.http());
    // What leads there is the proxy's own business: nothing here knows the way.
    let config = site("[dns]\nservers = [\"127.0.0.1:1\"]\n");
    let ran = ccpgate(Some(&config), &["check", "--json", "--via", &url, "--ca", region.ca()]).expect(0);
    let report = ran.json();
    assert_eq!((&report["verdict"], &report["via"]), (&"ok".into(), &url.into()), "{report:#}");
    let acme = endpoint(&report, "acme.my.connect.aws");
    assert!(acme["address"].is_null() && acme["steps"]["dns_ms"].is_null(), "{acme:#}");
    // A host that this configuration allows and that proxy doesn't.
    let config = format!("{config}[[allow]]\npattern = \"other.example\"\n");
    let report = ccpgate(
        Some(&config),
        &["check", "--json", "--via", proxy_url(&proxy).as_str(), "--ca", region.ca()],
    )
    .expect(1)
    .json();
    let other = endpoint(&report, "other.example");
    assert_eq!(other["cause"], "proxy_denied", "{other:#}");
    assert!(other["detail"].as_str().unwrap().contains("no rule of the allow list matches"), "{other:#}");
}

/// More hosts than are tested at once, and the first are blocked: the answers of others come later than resets.
#[test]
fn a_host_that_a_proxy_resets_takes_no_other_with_it() {
    let region = Region::healthy();
    let proxy = Proxy::start(&region.config());
    let wall = Upstream::relay_without("blocked", proxy.http());
    let rules = |domain: &str, many: usize| -> String {
        let rule =
            |number| format!("[[allow]]\npattern = \"{number}.{domain}.example\"\ncategory = \"login\"\n");
        (0..many).map(rule).collect()
    };
    let config = site(&(rules("blocked", 3) + &rules("other", 30)));
    let url = format!("http://{}", wall.address());
    let report =
        ccpgate(Some(&config), &["check", "--json", "--via", &url, "--ca", region.ca()]).expect(1).json();
    let all = report["endpoints"].as_array().unwrap();
    let of = |key: &str, word: &str| all.iter().filter(|endpoint| endpoint[key] == word).count();
    assert_eq!((of("status", "skipped"), of("cause", "proxy_unreachable")), (0, 3), "{report:#}");
    assert_eq!(of("cause", "proxy_denied"), 30, "{report:#}");
    assert_eq!(endpoint(&report, "acme.my.connect.aws")["status"], "ok", "{report:#}");
}

fn proxy_url(proxy: &Proxy) -> String {
    format!("http://{}", proxy.http())
}

#[test]
fn refusals_are_told_apart_and_quoted() {
    for (answer, cause, owner) in [
        (
            "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
            "proxy_auth",
            "proxy",
        ),
        ("HTTP/1.1 403 No\r\nContent-Length: 14\r\n\r\nno\x1b[31m such luck", "proxy_denied", "proxy"),
        ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "proxy_denied", "proxy"),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "proxy_limit", "proxy"),
        ("HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n", "proxy_limit", "proxy"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n",
            "http_unexpected",
            "security",
        ),
        ("HTTP/1.1 504 No\r\nContent-Length: 0\r\n\r\n", "tcp_timeout", "firewall"),
        (
            "HTTP/1.1 502 No\r\nProxy-Status: p; error=dns_error; rcode=\"NXDOMAIN\"\r\nContent-Length: 0\r\n\r\n",
            "dns_nxdomain",
            "network",
        ),
        // A port that wants TLS.
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "proxy_unreachable", "proxy"),
        // It failed by itself, or knows no CONNECT: nothing is said of the far side.
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "proxy_unreachable", "proxy"),
        ("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", "proxy_unreachable", "proxy"),
        ("HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n", "proxy_unreachable", "proxy"),
        ("SSH-2.0-x\r\n\r\n", "proxy_unreachable", "proxy"),
        ("", "proxy_unreachable", "proxy"),
    ] {
        let proxy = says(answer);
        let url = format!("http://agent:S3cret@{}", proxy.address());
        let ran =
            ccpgate(Some(&site("")), &["check", "--json", "--category", "extra", "--via", &url]).expect(1);
        assert!(!ran.stdout.contains("S3cret") && !ran.stderr.contains("S3cret"), "{}", ran.stdout);
        let report = ran.json();
        expect_cause(&report, "failed", cause, owner);
        let detail = endpoint(&report, "site.example")["detail"].as_str().unwrap();
        assert!(!detail.contains(char::is_control), "{detail:?}");
    }
    let down = Refusing::new();
    let report = check_site(&site(""), &["--via", &format!("http://{}", down.address())]);
    expect_cause(&report, "failed", "proxy_unreachable", "proxy");
}

/// Squid answers 503 or 500 to whatever it doesn't reach: that is no want of places, and not its own
/// trouble. The answers are those of Squid 5.7, and of Squid 4 for the name.
#[test]
fn squids_503_is_told_by_its_reason() {
    let name_error = "<p>Name Error: The domain name does not exist.</p>";
    for (status, reason, page, cause, owner) in [
        ("503 Service Unavailable", "ERR_CONNECT_FAIL 111", "", "tcp_refused", "firewall"),
        ("503 Service Unavailable", "ERR_CONNECT_FAIL 110", "", "tcp_timeout", "firewall"),
        ("503 Service Unavailable", "ERR_CONNECT_FAIL 101", "", "tcp_unreachable", "firewall"),
        ("500 Internal Server Error", "ERR_CANNOT_FORWARD 0", "", "tcp_unreachable", "firewall"),
        ("503 Service Unavailable", "ERR_DNS_FAIL 0", name_error, "dns_nxdomain", "network"),
        ("503 Service Unavailable", "ERR_DNS_FAIL 0", "Server Failure", "dns_servfail", "network"),
        ("503 Service Unavailable", "ERR_SHUTTING_DOWN 0", "", "proxy_limit", "proxy"),
    ] {
        let length = page.len();
        let proxy = says(&format!(
            "HTTP/1.1 {status}\r\nServer: squid/5.7\r\nContent-Type: text/html\r\nX-Squid-Error: {reason}\r\n\
             Content-Length: {length}\r\n\r\n{page}"
        ));
        let detail = told_through(&proxy, cause, owner);
        assert!(detail.contains(reason), "{detail}");
    }
}

/// What is told of the site through this proxy, where that is to be found at fault.
#[track_caller]
fn told_through(proxy: &Upstream, cause: &str, owner: &str) -> String {
    let report = check_site(&site(""), &["--via", &format!("http://{}", proxy.address())]);
    expect_cause(&report, "failed", cause, owner);
    endpoint(&report, "site.example")["detail"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_proxy_wants_in_place_of_a_password_is_told() {
    let proxy = says("HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n");
    let detail = told_through(&proxy, "proxy_auth", "proxy");
    assert!(detail.contains("offers Negotiate"), "{detail}");
}

/// A gateway that says 200 to the CONNECT and then shows its page is itself what answers in clear.
#[test]
fn a_page_behind_the_200_of_a_proxy_is_the_proxys() {
    let proxy = says("HTTP/1.1 200 OK\r\n\r\n<html>blocked by the gateway</html>");
    let detail = told_through(&proxy, "http_unexpected", "security");
    assert!(detail.contains("blocked by the gateway"), "{detail}");
    assert!(detail.ends_with("the proxy on the way had answered 200"), "{detail}");
}
