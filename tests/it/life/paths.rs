//! What is served by path on every listener: queries, readiness, a HEAD that is refused.

use http::Request;

use super::{at, rules};
use crate::support::{H2, Proxy, Secured, Upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_path_alone_decides_on_every_listener() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    let mut multiplexed = H2::connect(&proxy, &agent).await;
    let long = format!("?{}", "x".repeat(8 * 1024));
    for (path, found) in [
        ("/proxy.pac", true),
        ("/wpad.dat", true),
        ("/readyz", true),
        ("/proxy.pac/", false),
        ("//proxy.pac", false),
        ("/PROXY.PAC", false),
        ("/proxy.pac%3Fv=2", false),
    ] {
        for query in
            ["", "?", "?v=2", "?location=/office/1", "?a=1&b=http://x/?y", "?/proxy.pac", long.as_str()]
        {
            let asked = format!("{path}{query}");
            let expected = if found { 200 } else { 404 };
            let shown: String = asked.chars().take(60).collect();
            assert_eq!(at(proxy.http(), "GET", &asked).status, expected, "plain {shown}");
            let request = Request::get(format!("https://127.0.0.1{asked}")).body(()).unwrap();
            let (parts, _) = multiplexed.ask(request, true).await.unwrap();
            assert_eq!(parts.status, expected, "HTTP/2 {shown}");
            // The name for WPAD is one of the proxy listeners alone.
            let expected = if path == "/wpad.dat" { 404 } else { expected };
            assert_eq!(at(proxy.admin(), "GET", &asked).status, expected, "admin {shown}");
        }
    }
    // A fragment is the client's own; some send it all the same.
    for address in [proxy.http(), proxy.admin()] {
        assert_eq!(at(address, "GET", "/proxy.pac#x").status, 200);
        assert_eq!(at(address, "DELETE", "/readyz?x").status, 405);
        assert_eq!(at(address, "HEAD", "/readyz?x").status, 200);
        assert_eq!(
            at(address, "GET", "/?/proxy.pac").status,
            if address == proxy.admin() { 200 } else { 404 }
        );
    }
    let line = proxy.log_line("the wrong address", |line| line["event"] == "wrong_pac_address");
    assert!(!line.to_string().contains("location="), "no query in the log: {line}");
    let lines = proxy.log_so_far().iter().filter(|line| line["event"] == "wrong_pac_address").count();
    assert!(lines <= 5, "{lines} lines");
}

#[test]
fn readiness_is_for_clients_and_a_refused_head_has_no_body() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&rules(&upstream));
    assert_eq!(at(proxy.http(), "GET", "/readyz").text(), at(proxy.admin(), "GET", "/readyz").text());
    for request in ["OPTIONS / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"] {
        assert_eq!(proxy.ask(request).status, 404, "{request}");
    }
    assert_eq!(proxy.ask("GET /readyz HTTP/1.0\r\n\r\n").status, 200, "as HAProxy asks");
    proxy.reload(&format!("[proxy]\nclients = [\"192.0.2.0/24\"]\n{}", rules(&upstream)), "ok");
    assert_eq!(at(proxy.http(), "GET", "/readyz").proxy_status("details"), Some("client"));
    for target in ["/readyz", "http://good.example/", "/nothing"] {
        let mut client = proxy.connect();
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let head = client.read_head();
        assert_eq!(head.status, 403, "{}", head.head);
        assert_ne!(head.field("content-length"), Some("0"), "that of the GET: {}", head.head);
        client.expect_closed();
    }
}
