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
