//! The desk check over HTTP: who gets the page, who may report, what a report is joined with, and what
//! hostile ones come to. The page itself is tried in browsers, in `desk_browser`.

use std::net::{IpAddr, SocketAddr};

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{
    Answer, Dns, H2, PATIENCE, Proxy, Raw, Refusing, Reply, Secured, Upstream, ccpgate, eventually,
};

const HOST: &str = "acme.my.connect.aws";

/// A desk that lacks its voice servers, or one where all was tried that is asked for.
fn report(media: &str) -> Value {
    let media = format!("{media}.elb.us-west-2.amazonaws.com");
    json!({
        "took_ms": 9100, "browser": "Mozilla/5.0 (test)", "webrtc": true,
        "hosts": [{"host": HOST, "result": "answered", "ms": 80}],
        "media": [{"host": media, "state": "gathering", "codes": [], "texts": [], "ms": 9000}],
    })
}

const VOICE: &str = "turnnlb-13c884fe3673ed9f";

/// A POST as the page makes it, with fields that replace or add to its own.
fn post(address: SocketAddr, body: &str, fields: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("Host", address.to_string()),
        ("Origin", format!("http://{address}")),
        ("Content-Type", "application/json".to_owned()),
        ("Content-Length", body.len().to_string()),
    ];
    for (name, value) in fields {
        all.retain(|(known, _)| known != name);
        all.push((name, (*value).to_owned()));
    }
    let head: String = all
        .iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("POST /check/report HTTP/1.1\r\n{head}\r\n{body}")
}

/// Reports, each time from another address of loopback.
#[track_caller]
fn send(proxy: &Proxy, body: &str, fields: &[(&str, &str)]) -> Answer {
    let client: IpAddr = [127, 9, fastrand::u8(..), fastrand::u8(1..255)].into();
    let mut raw = Raw::connect_from(client, proxy.http());
    raw.send(post(proxy.http(), body, fields));
    raw.read_answer()
}

fn desks(proxy: &Proxy) -> Vec<Value> {
    proxy.get("/api/desks").json()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
}

#[test]
fn the_page_is_there_for_clients_of_the_proxy_and_is_sealed() {
    let proxy = Proxy::start("");
    let mut client = proxy.connect();
    for path in ["/check", "/check?again"] {
        client.send(get(path));
        let page = client.read_answer();
        assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.field("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'sha256-",
            "style-src 'sha256-",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            &format!("connect-src 'self' https://{HOST}"),
        ] {
            assert!(policy.contains(part), "{part} in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(page.field(name), Some(value));
        }
        assert_eq!(page.field("access-control-allow-origin"), None);
        assert!(page.text().contains("\"start\":true") && page.text().contains(HOST));
    }
    // The same connection serves on; a HEAD has no body.
    client.send("HEAD /check HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_eq!(client.read_head().status, 200);
    for (request, allow) in [
        ("POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "GET, HEAD"),
        ("GET /check/report HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "POST"),
        ("OPTIONS /check/report HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "POST"),
    ] {
        client.send(request);
        let answer = client.read_answer();
        assert_eq!((answer.status, answer.field("allow")), (405, Some(allow)), "{request}");
        assert_eq!(answer.field("access-control-allow-origin"), None);
    }
    for path in ["/check/", "/checks", "/check/report/x", "/Check"] {
        assert_eq!(proxy.ask(get(path)).status, 404, "{path}");
    }
    // Another site's link starts nothing by itself.
    let led = proxy.ask("GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n\r\n");
    assert!(led.text().contains("\"start\":false"));
}

#[test]
fn who_may_not_use_the_proxy_gets_neither() {
    let proxy = Proxy::start("[proxy]\nclients = [\"127.0.0.1\"]\n");
    let elsewhere = [127, 0, 0, 9].into();
    for request in [get("/check"), post(proxy.http(), &report(VOICE).to_string(), &[])] {
        let mut client = Raw::connect_from(elsewhere, proxy.http());
        client.send(request);
        let answer = client.read_answer();
        assert_eq!((answer.status, answer.proxy_status("details")), (403, Some("client")), "{}", answer.head);
    }
    assert!(desks(&proxy).is_empty());
}

#[test]
fn it_can_be_switched_off_and_on() {
    let proxy = Proxy::start("[desk]\nenabled = false\n");
    let is_there = || (proxy.ask(get("/check")).status, send(&proxy, &report(VOICE).to_string(), &[]).status);
    assert_eq!(is_there(), (404, 404));
    proxy.reload("[desk]\nenabled = true\n", "ok");
    assert_eq!(is_there(), (200, 200));
    proxy.reload("[desk]\nenabled = false\n", "ok");
    assert_eq!(is_there(), (404, 404));
}

#[test]
fn a_browser_that_sends_all_through_the_proxy_gets_it_by_the_proxys_own_name() {
    let proxy = Proxy::start("[proxy]\nadvertise = [\"proxy.corp.example:3128\"]\n");
    let port = proxy.http().port();
    for url in [
        format!("http://127.0.0.1:{port}/check"),
        format!("HTTP://127.0.0.1:{port}/check?x"),
        format!("http://localhost:{port}/check"),
        "http://Proxy.corp.example:3128/check".to_owned(),
    ] {
        let answer = proxy.ask(format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((answer.status, answer.field("proxy-status")), (200, None), "{url}");
    }
    for url in [
        format!("http://127.0.0.1:{}/check", if port == 1 { 2 } else { 1 }),
        format!("http://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/proxy.pac"),
        format!("http://evil.example:{port}/check"),
        format!("ftp://127.0.0.1:{port}/check"),
        format!("http://user@127.0.0.1:{port}/check"),
        "http://proxy.corp.example/check".to_owned(),
    ] {
        let answer = proxy.ask(format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((answer.status, answer.proxy_status("details")), (403, Some("method")), "{url}");
    }
    let body = report(VOICE).to_string();
    let absolute =
        post(proxy.http(), &body, &[]).replace("POST /", &format!("POST http://127.0.0.1:{port}/"));
    assert_eq!(proxy.ask(absolute).status, 200);
}

#[test]
fn a_name_that_is_nobodys_gets_nothing() {
    let proxy = Proxy::start(
        "[proxy]\nadvertise = [\"proxy.corp.example:3128\"]\n[admin]\nhosts = [\"ops.example\"]\n",
    );
    let of = |host: &str| {
        let page = proxy.ask(format!("GET /check HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let origin = format!("http://{host}");
        let sent = send(&proxy, &report(VOICE).to_string(), &[("Host", host), ("Origin", &origin)]);
        assert_eq!(page.status, sent.status, "{host}");
        page
    };
    for known in [
        "10.1.2.3:3128",
        "[2001:db8::1]:3128",
        "proxy.corp.example",
        "proxy.corp.example:9",
        "proxy1:3128",
        "ops.example",
    ] {
        assert_eq!(of(known).status, 200, "{known}");
    }
    for foreign in ["evil.example:3128", "proxy.corp.example.evil.example", "a b", "evil.example"] {
        let answer = of(foreign);
        assert_eq!(
            (answer.status, answer.proxy_status("error")),
            (403, Some("http_request_denied")),
            "{foreign}"
        );
        assert!(answer.text().contains("proxy.advertise"), "{}", answer.text());
    }
    // A proxy that was given no name has whichever leads to it, as in its PAC file.
    proxy.reload("", "ok");
    assert_eq!(of("proxy.corp.example:3128").status, 200);
}

#[test]
fn a_report_is_judged_joined_and_shown_everywhere() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&[&format!("{HOST}:443")]));
    let client: IpAddr = [127, 1, 2, 3].into();
    let mut tunnel = Raw::connect_from(client, proxy.http());
    assert_eq!(tunnel.connect_target(&format!("{HOST}:443")).status, 200);
    tunnel.expect_echo(b"hello");
    let mut raw = Raw::connect_from(client, proxy.http());
    raw.send(post(proxy.http(), &report(VOICE).to_string(), &[("Sec-Fetch-Site", "same-origin")]));
    let answer = raw.read_answer();
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
    let told: Value = answer.json();
    let code = told["code"].as_str().unwrap();
    let sentence = "Your computer can't reach Amazon's voice servers: UDP 3478 is blocked on this network.";
    assert_eq!((&told["schema_version"], &told["verdict"]), (&json!(1), &json!("udp_blocked")));
    assert_eq!((&told["sentence"], code.len()), (&json!(sentence), 5));
    assert_eq!(told["said"]["key"], "udp_blocked_all");
    assert_eq!(told.get("seen"), None, "the desk learns nothing of tunnels");

    let all = desks(&proxy);
    let [desk] = &all[..] else { panic!("{all:?}") };
    for (key, value) in [
        ("client", "127.1.2.3"),
        ("network", "127.1.2.0/24"),
        ("code", code),
        ("verdict", "udp_blocked"),
        ("sentence", sentence),
        ("owner", "firewall"),
        ("browser", "Mozilla/5.0 (test)"),
    ] {
        assert_eq!(desk[key], value, "{desk:#}");
    }
    assert!(desk["remedy"].as_str().unwrap().contains("UDP 3478") && desk["time"].is_string());
    assert_eq!(desk["categories"]["login"]["status"], "ok");
    assert_eq!(desk["media"][0]["status"], "udp_blocked");
    let seen = &desk["seen"][0];
    assert_eq!(
        (&seen["target"], &seen["state"]),
        (&json!(format!("{HOST}:443")), &json!("live")),
        "{desk:#}"
    );
    assert_eq!(proxy.metric("ccpgate_desk_checks_total{verdict=\"udp_blocked\"}"), 1.0);
    assert_eq!(proxy.metric("ccpgate_desk_checks_total{verdict=\"ok\"}"), 0.0);
    let line = proxy.log_line("the check", |line| line["event"] == "desk_check");
    assert_eq!((&line["code"], &line["network"]), (&json!(code), &json!("127.1.2.0/24")));

    let admin = format!("http://{}", proxy.admin());
    let run = |arguments: &[&str]| ccpgate(None, &[&["desks", "--admin", &admin], arguments].concat());
    let list = run(&[]).expect(0).stdout;
    assert!(
        list.contains("127.1.2.0/24  1 udp_blocked") && list.contains(code) && list.contains(sentence),
        "{list}"
    );
    let one = run(&[&code.to_lowercase()]).expect(0).stdout;
    for says in [
        sentence,
        "whose turn   firewall",
        "proxy saw    acme.my.connect.aws:443 live",
        "login        acme.my.connect.aws: ok",
    ] {
        assert!(one.contains(says), "{says} in:\n{one}");
    }
    assert_eq!(run(&["--json"]).expect(0).json().as_array().unwrap().len(), 1);
    assert_eq!(run(&["--json", "--client", "127.1.2.3"]).expect(0).json().as_array().unwrap().len(), 1);
    assert_eq!(run(&["--json", "--client", "127.1.2.4"]).expect(0).json(), json!([]));
    assert!(run(&["QQQQQ"]).expect(1).stdout.contains("no check with the code QQQQQ"));
    assert_eq!(run(&["QQQQQ", "--json"]).expect(1).json(), json!([]));
    assert!(run(&["--client", "desk7"]).expect(2).stderr.contains("IP address"));
    for wrong in ["client=desk7", "limit=few"] {
        assert_eq!(proxy.get(&format!("/api/desks?{wrong}")).status, 400);
    }
    assert_eq!(proxy.get("/api/desks?limit=0").text(), "[]");
}

#[test]
fn what_the_proxy_saw_decides_whether_a_host_went_through_it() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "[connect]\nmedia = false\n{}",
        upstream.for_targets(&[&format!("{HOST}:443")])
    ));
    let tried =
        |result: &str| json!({"took_ms": 500, "hosts": [{"host": HOST, "result": result}]}).to_string();
    let verdict = |client: IpAddr, body: &str| {
        let mut raw = Raw::connect_from(client, proxy.http());
        raw.send(post(proxy.http(), body, &[]));
        let answer: Value = raw.read_answer().json();
        answer["verdict"].as_str().unwrap().to_owned()
    };
    let desk: IpAddr = [127, 1, 2, 3].into();
    let target = format!("{HOST}:443");
    // An ended tunnel counts like a live one, and another desk's doesn't.
    let mut tunnel = Raw::connect_from(desk, proxy.http());
    assert_eq!(tunnel.connect_target(&target).status, 200);
    drop(tunnel);
    proxy.access_line("tunnel", &target);
    assert_eq!(verdict(desk, &tried("answered")), "ok");
    assert_eq!(verdict(desk, &tried("failed")), "category_unreachable");
    assert_eq!(verdict([127, 1, 2, 4].into(), &tried("answered")), "not_through_proxy");
    // What came to nothing at the proxy came through it.
    proxy.reload(
        "[connect]\nmedia = false\n[dns]\nhosts = { \"acme.my.connect.aws\" = [\"10.0.0.1\"] }\n",
        "ok",
    );
    let private: IpAddr = [127, 1, 2, 5].into();
    let mut denied = Raw::connect_from(private, proxy.http());
    assert_eq!(denied.connect_target(&target).status, 403);
    assert_eq!(verdict(private, &tried("failed")), "category_unreachable");
    let all = desks(&proxy);
    assert_eq!(all[0]["categories"]["login"]["hosts"][0]["because"], "private_address", "{:#}", all[0]);
}

/// Many desks behind one address: their tunnels are newer than the one over which this desk's browser asks again.
#[test]
fn more_tunnels_than_are_looked_at_prove_nothing_of_the_rest() {
    const OTHER: &str = "participant.connect.us-west-2.amazonaws.com";
    let upstream = Upstream::echo();
    let targets = [HOST, OTHER].map(|host| format!("{host}:443"));
    let proxy = Proxy::start(&format!(
        "[connect]\nmedia = false\n{}",
        upstream.for_targets(&targets.each_ref().map(|target| &**target))
    ));
    let office: IpAddr = [127, 1, 2, 3].into();
    let tunnel = |target: &str| {
        let mut raw = Raw::connect_from(office, proxy.http());
        assert_eq!(raw.connect_target(target).status, 200);
        raw
    };
    let verdict = || {
        let body = json!({"took_ms": 60_000, "hosts": [{"host": HOST, "result": "answered"}]}).to_string();
        let mut raw = Raw::connect_from(office, proxy.http());
        raw.send(post(proxy.http(), &body, &[]));
        raw.read_answer().json::<Value>()["verdict"].clone()
    };
    let _others: Vec<Raw> = (0..5).map(|_| tunnel(&targets[1])).collect();
    assert_eq!(verdict(), "not_through_proxy", "all were looked at");
    let mut asked = tunnel(&targets[0]);
    let mut newer: Vec<Raw> = (0..200).map(|_| tunnel(&targets[1])).collect();
    assert_eq!(verdict(), "ok", "all live");
    // The same of tunnels that have ended.
    let ended = |many: usize| {
        eventually("the ends", || {
            let all: Value = proxy.get("/api/tunnels?limit=1000").json();
            (all["ended"].as_array().unwrap().len() == many).then_some(())
        });
    };
    asked.finish();
    asked.expect_closed();
    ended(1);
    newer.iter_mut().for_each(|raw| {
        raw.finish();
        raw.expect_closed();
    });
    ended(201);
    assert_eq!(verdict(), "ok", "all ended");
}

#[test]
fn a_host_is_told_with_the_last_failure_unless_a_tunnel_to_it_stood() {
    let (dns, refusing, upstream) = (Dns::start(), Refusing::new(), Upstream::echo());
    dns.set(HOST, Reply::Code(3));
    let target = format!("{HOST}:443");
    let to = |address: SocketAddr| {
        format!("[connect]\nmedia = false\n[egress]\nconnect_to = {{ \"{target}\" = \"{address}\" }}\n")
    };
    let proxy = Proxy::start(&format!("[connect]\nmedia = false\n{}", dns.as_config()));
    let desk: IpAddr = [127, 1, 2, 3].into();
    let attempt = || {
        let mut raw = Raw::connect_from(desk, proxy.http());
        (raw.connect_target(&target).status, raw)
    };
    let because = || {
        let body = json!({"took_ms": 60_000, "hosts": [{"host": HOST, "result": "failed"}]}).to_string();
        let mut raw = Raw::connect_from(desk, proxy.http());
        raw.send(post(proxy.http(), &body, &[]));
        assert_eq!(raw.read_answer().json::<Value>()["verdict"], "category_unreachable");
        desks(&proxy)[0]["categories"]["login"]["hosts"][0]["because"].clone()
    };
    assert_eq!(attempt().0, 502);
    assert_eq!(because(), "dns");
    proxy.reload(&to(refusing.address()), "ok");
    assert_eq!(attempt().0, 502);
    assert_eq!(because(), "connect");
    proxy.reload(&to(upstream.address()), "ok");
    let (status, tunnel) = attempt();
    assert_eq!((status, because()), (200, json!("tls_or_http")));
    drop(tunnel);
    proxy.access_line("tunnel", &target);
    proxy.reload(&to(refusing.address()), "ok");
    assert_eq!(attempt().0, 502);
    assert_eq!(because(), "tls_or_http", "one that stood says more");
}

#[test]
fn only_the_page_itself_may_report() {
    let proxy = Proxy::start("");
    let body = report(VOICE).to_string();
    for (fields, status, details) in [
        // What a form or a simple request of a foreign page can send.
        (&[("Content-Type", "text/plain")][..], 415, "malformed"),
        (&[("Content-Type", "application/x-www-form-urlencoded")], 415, "malformed"),
        (&[("Content-Type", "multipart/form-data; boundary=application/json")], 415, "malformed"),
        (&[("Content-Type", "text/plain; charset=application/json")], 415, "malformed"),
        (&[("Content-Type", "")], 415, "malformed"),
        (&[("Origin", "https://evil.example")], 403, "foreign_site"),
        (&[("Origin", "null")], 403, "foreign_site"),
        (&[("Origin", "http://127.0.0.1")], 403, "foreign_site"),
        (&[("Origin", "http://127.0.0.1:1/x")], 403, "foreign_site"),
        (&[("Origin", "junk")], 403, "foreign_site"),
        (&[("Sec-Fetch-Site", "cross-site")], 403, "foreign_site"),
        (&[("Sec-Fetch-Site", "same-site")], 403, "foreign_site"),
        (&[("Sec-Fetch-Site", "none")], 403, "foreign_site"),
        (&[("Content-Length", "16385")], 413, "malformed"),
        (&[("Content-Length", "99999999999999999999999999")], 413, "malformed"),
        (&[("Content-Length", ""), ("Transfer-Encoding", "chunked")], 411, "malformed"),
        (&[("Content-Length", "")], 411, "malformed"),
    ] {
        let answer = send(&proxy, &body, fields);
        let got = (answer.status, answer.proxy_status("details"));
        assert_eq!(got, (status, Some(details)), "{fields:?}: {}", answer.head);
        assert_eq!(answer.field("access-control-allow-origin"), None);
    }
    assert!(desks(&proxy).is_empty());
    let line = proxy.log_line("why", |line| line["event"] == "desk_check_refused" && line["status"] == 415);
    assert!(line["message"].as_str().unwrap().contains("application/json"), "{line}");
    // A person with curl has no origin, and a parameter of the type is none of our business.
    let plain = [("Origin", ""), ("Content-Type", "Application/JSON; charset=utf-8")];
    assert_eq!(send(&proxy, &body, &plain).status, 200);
}

#[test]
fn what_is_no_report_is_told_with_its_place() {
    let proxy = Proxy::start("");
    for (body, says) in [
        ("", "EOF while parsing"),
        ("{\"took_ms\": 1,\n \"hosts\": x}", "line 2 column"),
        ("{\"hosts\": [{\"host\": \"a\", \"result\": \"<script>alert(1)</script>\"}]}", "answered"),
        ("{}", "nothing of what this proxy asks for"),
        ("{\"hosts\": [{\"host\": \"evil.example\", \"result\": \"failed\"}]}", "nothing of what"),
    ] {
        let answer = send(&proxy, body, &[]);
        assert_eq!(
            (answer.status, answer.proxy_status("error")),
            (400, Some("http_request_error")),
            "{body}"
        );
        assert!(answer.text().contains(says), "{}", answer.text());
        assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
    }
    let deep = format!("{{\"hosts\":{}", "[".repeat(16_000));
    assert_eq!(send(&proxy, &deep, &[]).status, 400);
    let largest = format!("{:<16384}", report(VOICE).to_string());
    assert_eq!(send(&proxy, &largest, &[]).status, 200);
    assert_eq!(send(&proxy, &format!("{largest} "), &[]).status, 413);
}

#[test]
fn a_report_in_pieces_is_waited_for_and_half_a_one_is_not() {
    let proxy = Proxy::start("[limits]\nheader_timeout = \"1s\"\n");
    let whole = post(proxy.http(), &report(VOICE).to_string(), &[]);
    let mut client = proxy.connect();
    client.send_bytewise(&whole);
    assert_eq!(client.read_answer().status, 200);
    let mut client = proxy.connect();
    client.send(&whole[..whole.len() - 1]);
    let late = client.read_answer();
    assert_eq!((late.status, late.proxy_status("error")), (408, Some("http_request_error")), "{}", late.head);
    client.expect_closed();
}

#[test]
fn reports_are_bounded_for_each_client() {
    let proxy = Proxy::start("");
    let body = report(VOICE).to_string();
    let one: IpAddr = [127, 3, 3, 3].into();
    let ask = |client| {
        let mut raw = Raw::connect_from(client, proxy.http());
        raw.send(post(proxy.http(), &body, &[]));
        raw.read_answer()
    };
    // A minute may end meanwhile, but not three.
    let limited = (0..31).map(|_| ask(one)).find(|answer| answer.status != 200).expect("a limit");
    assert_eq!((limited.status, limited.proxy_status("details")), (429, Some("rate")));
    let pause: u64 = limited.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&pause), "{pause}");
    assert_eq!(ask([127, 3, 3, 4].into()).status, 200, "another desk isn't held up");
    let own = desks(&proxy).iter().filter(|desk| desk["client"] == "127.3.3.3").count();
    assert!((10..=20).contains(&own), "{own}");
}

#[test]
fn a_hostile_report_is_text_everywhere() {
    let proxy = Proxy::start("");
    let mut hostile = report(VOICE);
    let script = "</script><img src=x onerror=alert(1)>\"'&\u{1b}[2J\u{9b}\r\nevil=1\u{202e}";
    hostile["browser"] = json!(script.repeat(40));
    hostile["media"][0]["texts"] = json!([script]);
    hostile[script] = json!(script);
    hostile["hosts"].as_array_mut().unwrap().push(json!({"host": script, "result": "failed"}));
    let answer = send(&proxy, &hostile.to_string(), &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains("script"), "nothing of a report comes back: {}", answer.text());
    let row = &desks(&proxy)[0];
    let browser = row["browser"].as_str().unwrap();
    assert!(browser.starts_with("</script><img") && browser.chars().count() <= 200, "{browser}");
    assert!(!browser.contains(char::is_control), "{browser:?}");
    assert_eq!(row.to_string().matches("onerror").count(), browser.matches("onerror").count(), "{row:#}");
    let listed = proxy.get("/api/desks");
    assert_eq!(
        (listed.field("content-type"), listed.field("x-content-type-options")),
        (Some("application/json"), Some("nosniff"))
    );
    let admin = format!("http://{}", proxy.admin());
    let shown = ccpgate(None, &["desks", "--admin", &admin, row["code"].as_str().unwrap()]).expect(0).stdout;
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{shown:?}");
    // A page of the admin listener that a foreign name leads to is refused, as all of /api is.
    let mut foreign = Raw::connect(proxy.admin());
    foreign.send("GET /api/desks HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(foreign.read_answer().status, 403);
}

#[test]
fn clients_are_cut_where_they_must_not_be_shown() {
    let proxy = Proxy::start("[ledger]\nanonymise = true\n");
    let mut raw = Raw::connect_from([127, 5, 6, 7].into(), proxy.http());
    raw.send(post(proxy.http(), &report(VOICE).to_string(), &[]));
    assert_eq!(raw.read_answer().status, 200);
    let row = &desks(&proxy)[0];
    assert_eq!((&row["client"], &row["network"]), (&json!("127.5.6.0"), &json!("127.5.6.0/24")));
    let line = proxy.log_line("the check", |line| line["event"] == "desk_check");
    assert_eq!(line["client"], "127.5.6.0");
    assert!(proxy.get("/api/desks?client=127.5.6.9").text().contains("127.5.6.0"), "one of that network");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_http2_it_is_the_same() {
    let secured = Secured::new();
    let upstream = Upstream::echo();
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let host = proxy.https().to_string();
    let url = |path: &str| format!("https://{host}{path}");
    let request = Request::get(url("/check")).body(()).unwrap();
    let (parts, _) = client.ask(request, true).await.unwrap();
    assert_eq!(
        (parts.status.as_u16(), parts.headers["content-type"].to_str().unwrap()),
        (200, "text/html; charset=utf-8")
    );
    let post = |origin: String, kind: &str| {
        let request = Request::builder().method(Method::POST).uri(url("/check/report"));
        request.header("origin", origin).header("content-type", kind).body(()).unwrap()
    };
    let body = report(VOICE).to_string();
    for (origin, kind, body, status) in [
        (url(""), "application/json", body.clone(), 200),
        (url(""), "application/json", format!("{body:<16385}"), 413),
        (url(""), "application/json", "{".to_owned(), 400),
        (url(""), "text/plain", body.clone(), 415),
        ("https://evil.example".to_owned(), "application/json", body, 403),
    ] {
        let request = post(origin, kind);
        let answered = tokio::time::timeout(PATIENCE, async {
            let mut requests = client.sender().await;
            let (answer, mut stream) = requests.send_request(request, false).unwrap();
            // Refused by its head, the body may not be wanted any more.
            let _ = stream.send_data(body.into(), true);
            answer.await.unwrap().status().as_u16()
        });
        assert_eq!(answered.await.unwrap(), status);
    }
    assert_eq!(desks(&proxy).len(), 1);
}
