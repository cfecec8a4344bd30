//! The PAC file as browsers fetch it: on both listeners, exact routes, and nothing that a client
//! says can point other agents elsewhere.

use std::io::Read;

use rquickjs::{Context, Runtime};

use crate::support::{Answer, Proxy, Raw, Secured, ccpgate};

const POLICY: &str = "[[allow]]\npattern = \"*.good.example\"\n[policy]\ndeny = [\"bad.good.example\"]\n";
const TYPE: &str = "application/x-ns-proxy-autoconfig";

fn get(proxy: &Proxy, path: &str, host: &str) -> Answer {
    proxy.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// Evaluates a PAC file as a browser does.
fn find_proxy(pac: &str, url: &str, host: &str) -> String {
    let context = Context::full(&Runtime::new().unwrap()).unwrap();
    context.with(|js| {
        js.eval::<(), _>(pac).unwrap();
        js.eval(format!("FindProxyForURL({url:?}, {host:?})")).unwrap()
    })
}

#[test]
fn served_on_both_listeners_under_both_names() {
    let proxy = Proxy::start(POLICY);
    let host = proxy.http().to_string();
    let pac = get(&proxy, "/proxy.pac", &host);
    assert_eq!(pac.status, 200, "{}", pac.head);
    assert!(pac.field("content-type").unwrap().starts_with(TYPE), "{}", pac.head);
    assert!(pac.body.is_ascii());
    assert_eq!(get(&proxy, "/wpad.dat", &host).body, pac.body);
    let admin = proxy.get("/proxy.pac");
    assert_eq!(admin.status, 200);
    assert!(admin.field("content-type").unwrap().starts_with(TYPE), "{}", admin.head);
    assert_eq!(admin.text(), pac.text(), "the admin listener names the first listen address");

    let through = format!("PROXY {host}");
    for (url, name, expected) in [
        ("https://www.good.example/", "www.good.example", through.as_str()),
        ("wss://a.b.good.example/x", "a.b.good.example", &through),
        ("https://acme.my.connect.aws/ccp-v2", "acme.my.connect.aws", &through),
        (
            "https://RTC1.connect-telecom.us-west-2.amazonaws.com/",
            "rtc1.connect-telecom.us-west-2.amazonaws.com",
            &through,
        ),
        // Allowed and denied: the proxy is asked, and refuses it.
        ("https://bad.good.example/", "bad.good.example", &through),
        ("https://good.example/", "good.example", "DIRECT"),
        ("https://evil.example/", "evil.example", "DIRECT"),
        (
            "https://rtc.evil.connect-telecom.us-west-2.amazonaws.com/",
            "rtc.evil.connect-telecom.us-west-2.amazonaws.com",
            "DIRECT",
        ),
        ("https://www.good.example.evil.example/", "www.good.example.evil.example", "DIRECT"),
        ("https://127.0.0.1/", "127.0.0.1", "DIRECT"),
    ] {
        assert_eq!(find_proxy(&pac.text(), url, name), expected, "{url}");
    }
}

#[test]
fn the_pac_has_no_way_round_the_proxies_and_asks_no_dns() {
    let advertise = "[proxy]\nadvertise = [\"proxy1.corp:3128\", \"https://proxy2.corp:3129\"]\n[pac]\notherwise = \"PROXY old.corp:8080\"";
    let proxy = Proxy::start(&format!("{POLICY}{advertise}"));
    let pac = get(&proxy, "/proxy.pac", "x").text();
    let to = find_proxy(&pac, "https://www.good.example/", "www.good.example");
    assert_eq!(to, "PROXY proxy1.corp:3128; HTTPS proxy2.corp:3129", "in order, and no DIRECT behind");
    assert_eq!(find_proxy(&pac, "https://evil.example/", "evil.example"), "PROXY old.corp:8080");
    for function in ["dnsResolve", "isInNet", "isResolvable", "myIpAddress", "dnsDomainLevels", "shExpMatch"]
    {
        assert!(!pac.contains(function), "{function} in the PAC");
    }
}

#[test]
fn head_is_get_without_the_body_and_the_connection_stays() {
    let proxy = Proxy::start(POLICY);
    let length = get(&proxy, "/proxy.pac", "x").body.len();
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("HEAD /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = client.read_head();
        assert_eq!(head.status, 200);
        assert_eq!(head.field("content-length"), Some(length.to_string().as_str()), "{}", head.head);
    }
    client.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.read_answer().status, 404);
    client.send("DELETE /wpad.dat HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(answer.status, 405);
    let allow = answer.field("allow").unwrap_or_default();
    assert!(allow.contains("GET") && allow.contains("HEAD"), "{}", answer.head);
    client.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.read_answer().status, 200, "the connection stays open after these answers");
    client.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_answer().status, 200);
    client.expect_closed();
}

#[test]
fn requests_of_http_1_0_are_answered_and_closed() {
    let proxy = Proxy::start(POLICY);
    let mut client = proxy.connect();
    client.send("GET /proxy.pac HTTP/1.0\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(answer.status, 200);
    let local = format!("PROXY {}", proxy.http());
    assert_eq!(find_proxy(&answer.text(), "https://www.good.example/", "www.good.example"), local);
    client.expect_closed();
}

#[test]
fn routes_are_exact() {
    let proxy = Proxy::start(POLICY);
    for path in [
        "/",
        "/proxy.pac/",
        "//proxy.pac",
        "/PROXY.PAC",
        "/proxy.pac%00",
        "/../../etc/passwd",
        "/metrics",
        "/healthz",
        "/proxy.pac/../metrics",
    ] {
        let answer = get(&proxy, path, "x");
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
    }
}

#[test]
fn the_host_header_is_believed_only_when_it_parses_strictly() {
    // The file is shared by caches and may reach other agents.
    // The port is the listener's, the host is the one that the browser found it by.
    let proxy = Proxy::start(POLICY);
    let local = format!("PROXY {}", proxy.http());
    let named = format!("PROXY proxy1.corp:{}", proxy.http().port());
    for (host, expected) in [
        ("proxy1.corp", named.as_str()),
        ("proxy1.corp:3128", &named),
        ("PROXY1.Corp:3128", &named),
        ("x\"; DIRECT", &local),
        ("x\\\"; return \\\"DIRECT", &local),
        ("x;DIRECT:3128", &local),
        ("x\u{2028}:3128", &local),
        ("user@proxy1.corp:3128", &local),
        ("proxy1.corp:99999", &local),
        ("proxy1 corp:3128", &local),
        ("", &local),
    ] {
        let answer = get(&proxy, "/proxy.pac", host);
        if answer.status == 400 {
            continue; // Refused as a malformed request: just as safe.
        }
        assert_eq!(answer.status, 200, "{host}: {}", answer.head);
        let pac = answer.text();
        assert!(pac.is_ascii(), "{host}");
        let to = find_proxy(&pac, "https://www.good.example/", "www.good.example");
        assert_eq!(to.to_ascii_lowercase(), expected.to_ascii_lowercase(), "Host: {host}");
    }
}

/// What an answer's body is, uncompressed where it says that it is compressed.
fn unpacked(answer: &Answer) -> String {
    if answer.field("content-encoding").is_none() {
        return answer.text();
    }
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*answer.body).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_browser_that_has_the_file_gets_it_again_only_when_it_has_changed() {
    let secured = Secured::new();
    let proxy = Proxy::start(&format!("{POLICY}{}", secured.section("")));
    let ways: [&dyn Fn(&str) -> Answer; 3] = [
        &|more| {
            proxy.ask(format!("GET /proxy.pac HTTP/1.1\r\nHost: p.corp\r\nConnection: close\r\n{more}\r\n"))
        },
        &|more| {
            let mut client = secured.agent().connect(&proxy);
            client.send(format!("GET /wpad.dat HTTP/1.1\r\nHost: p.corp\r\nConnection: close\r\n{more}\r\n"));
            client.read_answer()
        },
        &|more| {
            let mut client = Raw::connect(proxy.admin());
            client
                .send(format!("GET /proxy.pac HTTP/1.1\r\nHost: p.corp\r\nConnection: close\r\n{more}\r\n"));
            client.read_answer()
        },
    ];
    let mut tags = Vec::new();
    for ask in ways {
        let plain = ask("");
        let tag = plain.field("etag").unwrap().to_owned();
        assert_eq!((plain.status, plain.field("vary")), (200, Some("Accept-Encoding")), "{}", plain.head);
        let packed = ask("Accept-Encoding: br, gzip\r\n");
        assert_eq!(unpacked(&packed), plain.text());
        assert!(packed.body.len() * 2 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
        assert_ne!(packed.field("etag"), Some(tag.as_str()), "other bytes, other tag");
        assert_eq!(ask("Accept-Encoding: gzip;q=0\r\n").body, plain.body);
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let unchanged = ask(&format!("If-None-Match: {known}\r\n"));
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{known}: {}", unchanged.head);
            assert_eq!(unchanged.field("etag"), Some(tag.as_str()));
            assert_eq!(unchanged.field("content-length"), None);
        }
        assert_eq!(ask("If-None-Match: \"another\"\r\n").body, plain.body);
        tags.push(tag);
    }
    proxy.reload(&format!("{POLICY}[[allow]]\npattern = \"new.example\"\n{}", secured.section("")), "ok");
    for (ask, tag) in ways.iter().zip(tags) {
        let changed = ask(&format!("If-None-Match: {tag}\r\n"));
        assert_eq!(changed.status, 200);
        assert!(changed.text().contains(".new.example"));
    }
}

#[test]
fn a_tag_belongs_to_the_address_that_the_file_was_fetched_from() {
    let proxy = Proxy::start(POLICY);
    let [one, other] = ["one.corp", "other.corp"].map(|host| get(&proxy, "/proxy.pac", host));
    assert_ne!(one.field("etag"), other.field("etag"));
    let request = format!(
        "GET /proxy.pac HTTP/1.1\r\nHost: other.corp\r\nIf-None-Match: {}\r\n\r\n",
        one.field("etag").unwrap()
    );
    assert_eq!(proxy.ask(request).body, other.body);
}

#[test]
fn a_reload_changes_the_pac() {
    let proxy = Proxy::start(POLICY);
    let find = || {
        let pac = get(&proxy, "/proxy.pac", "p.corp").text();
        find_proxy(&pac, "https://new.example/", "new.example")
    };
    assert_eq!(find(), "DIRECT");
    proxy.reload("[[allow]]\npattern = \"new.example\"", "ok");
    assert_eq!(find(), format!("PROXY p.corp:{}", proxy.http().port()));
}

#[test]
fn a_body_with_a_request_for_the_pac_is_no_second_request() {
    let proxy = Proxy::start(POLICY);
    let mut client: Raw = proxy.connect();
    client.send(
        "GET /proxy.pac HTTP/1.1\r\nHost: x\r\nContent-Length: 39\r\n\r\nCONNECT www.good.example:443 HTTP/1.1\r\n\r\n",
    );
    client.finish();
    let got = String::from_utf8(client.read_to_end().unwrap_or_default()).unwrap();
    assert!(got.matches("HTTP/1.1 ").count() <= 1, "the body was parsed: {got}");
}

#[test]
fn direct_hosts_get_direct_from_every_listener_and_localhost_always() {
    let direct = "direct = [\"plain\", \"crm.good.example\", \"10.0.0.0/8\"]";
    let config = format!("{POLICY}[pac]\notherwise = \"PROXY old.corp:8080; DIRECT\"\n{direct}");
    let proxy = Proxy::start(&config);
    let through = format!("PROXY {}", proxy.http());
    for pac in [get(&proxy, "/proxy.pac", &proxy.http().to_string()), proxy.get("/proxy.pac")] {
        for (host, expected) in [
            ("localhost", "DIRECT"),
            ("app.localhost", "DIRECT"),
            ("127.8.9.1", "DIRECT"),
            ("::1", "DIRECT"),
            ("intranet", "DIRECT"),
            ("CRM.good.example.", "DIRECT"),
            ("10.1.2.3", "DIRECT"),
            ("www.good.example", &through),
            ("11.1.2.3", "PROXY old.corp:8080; DIRECT"),
            ("elsewhere.example", "PROXY old.corp:8080; DIRECT"),
        ] {
            assert_eq!(find_proxy(&pac.text(), &format!("https://{host}/"), host), expected, "{host}");
        }
    }
    assert!(
        !proxy.log_so_far().iter().any(|line| line["event"] == "pac_warning"),
        "nothing it covers is a rule"
    );
}

#[test]
fn lanes_are_the_ports_that_listen_where_the_browser_came_in() {
    // Both are reached by 127.0.0.1, the third isn't.
    let lanes = |lanes: bool| {
        format!(
            "{POLICY}[proxy]\nlisten = [\"127.0.0.1:0\", \"0.0.0.0:0\", \"127.0.0.2:0\"]\n[pac]\nlanes = {lanes}"
        )
    };
    let proxy = Proxy::start(&lanes(true));
    let line = proxy.log_line("the listener on loopback", |line| {
        line["listener"] == "http" && line["address"].as_str().is_some_and(|a| a.starts_with("127.0.0.1:"))
    });
    let address: std::net::SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let fetch = || {
        let mut client = Raw::connect(address);
        client.send("GET /proxy.pac HTTP/1.1\r\nHost: p.corp\r\n\r\n");
        client.read_answer().text()
    };
    let pac = fetch();
    let orders: std::collections::BTreeSet<String> = (0..20)
        .map(|n| format!("h{n}.good.example"))
        .map(|host| find_proxy(&pac, &format!("https://{host}/"), &host))
        .collect();
    assert_eq!(orders.len(), 2, "each port is first for some hosts, and the other follows: {orders:?}");
    for order in &orders {
        assert_eq!(order.matches("PROXY p.corp:").count(), 2, "{order}");
        assert!(order.contains(&format!("PROXY p.corp:{}", address.port())), "{order}");
    }
    proxy.reload(&lanes(false), "ok");
    let one = find_proxy(&fetch(), "https://a.good.example/", "a.good.example");
    assert!(!one.contains(';'), "{one}");
}

/// Three proxies, and agents at many addresses of this machine: each has its own order, everywhere and
/// always the same; without one of the proxies only its own agents begin elsewhere.
#[test]
fn each_client_has_an_order_of_its_own() {
    let config = |names: &[&str]| {
        let proxies: Vec<String> =
            names.iter().flat_map(|name| [format!("https://{name}:3129"), format!("{name}:3128")]).collect();
        format!(
            "{POLICY}[proxy]\nlisten = [\"127.0.0.1:0\"]\nadvertise = {proxies:?}\n[pac]\nspread = \"client\"\n"
        )
    };
    let all = ["p1.corp", "p2.corp", "p3.corp"];
    let (one, other) =
        (Proxy::start(&config(&all)), Proxy::start(&config(&["p3.corp", "p1.corp", "p2.corp"])));
    let order = |proxy: &Proxy, agent: u8, path: &str| {
        let mut client = Raw::connect_from([127, 0, 1, agent].into(), proxy.http());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: p.corp\r\n\r\n"));
        let answer = client.read_answer();
        assert_eq!(answer.field("cache-control"), Some("no-cache"), "nobody may share it unasked");
        let order = find_proxy(&answer.text(), "https://a.good.example/", "a.good.example");
        let words: Vec<&str> = order.split("; ").collect();
        assert_eq!(words.len(), 6, "{order}");
        let pairs: Vec<String> = words
            .chunks(2)
            .map(|pair| {
                let name =
                    pair[0].strip_prefix("HTTPS ").and_then(|word| word.strip_suffix(":3129")).unwrap();
                assert_eq!(pair[1], format!("PROXY {name}:3128"));
                name.to_owned()
            })
            .collect();
        pairs
    };
    let before: Vec<_> = (1..60).map(|agent| order(&one, agent, "/proxy.pac")).collect();
    for (agent, before) in (1..60).zip(&before) {
        assert_eq!(&order(&other, agent, "/wpad.dat"), before);
        assert_eq!(&order(&one, 200, &format!("/proxy.pac?key=127.0.1.{agent}")), before);
        let asked = ccpgate(Some(&config(&all)), &["pac", "--key", &format!("127.0.1.{agent}")]).expect(0);
        assert!(asked.stdout.contains(&format!("LISTED = \"HTTPS {}:3129", before[0])));
        let admin = one.get(&format!("/proxy.pac?key=127.0.1.{agent}")).text();
        assert!(admin.contains(&format!("LISTED = \"HTTPS {}:3129", before[0])));
    }
    assert!(all.iter().all(|name| before.iter().any(|order| order[0] == *name)), "{before:?}");
    // One address, many keys.
    let by_key: std::collections::BTreeSet<_> =
        (0..30).map(|desk| order(&one, 1, &format!("/proxy.pac?key=desk-{desk}"))).collect();
    assert!(by_key.len() > 3, "{by_key:?}");
    one.reload(
        &config(&["p1.corp", "p3.corp"]).replace("\"127.0.0.1:0\"", &format!("\"{}\"", one.http())),
        "ok",
    );
    for (agent, before) in (1..60).zip(&before) {
        let mut client = Raw::connect_from([127, 0, 1, agent].into(), one.http());
        client.send("GET /proxy.pac HTTP/1.1\r\nHost: p.corp\r\n\r\n");
        let pac = client.read_answer().text();
        let left: Vec<&String> = before.iter().filter(|name| *name != "p2.corp").collect();
        assert!(pac.contains(&format!("LISTED = \"HTTPS {}:3129", left[0])), "{before:?}");
    }
}

#[test]
fn a_list_that_does_not_fit_the_listeners_is_told_wherever_it_is_news() {
    let secured = Secured::new();
    let tls = secured.section("").replace("127.0.0.1:0", "127.0.0.1:3129");
    let config = format!("[proxy]\nadvertise = [\"proxy1.corp:3128\"]\n{tls}");
    let warning = "browsers speak to the proxy in clear; put \"https://proxy1.corp:3129\" first";
    for command in [&["pac"][..], &["config", "check"]] {
        let ran = ccpgate(Some(&config), command).expect(0);
        assert!(ran.stderr.contains("warning: tls.listen is set"), "{}", ran.stderr);
        assert!(ran.stderr.contains(warning), "{}", ran.stderr);
        assert!(!ran.stdout.contains("in clear"), "{}", ran.stdout);
    }
    let quiet = ccpgate(Some(&config), &["allowlist"]).expect(0);
    assert!(!quiet.stderr.contains("advertise"), "{}", quiet.stderr);
    let note = ccpgate(Some("[proxy]\nadvertise = [\"proxy1.corp:80\"]"), &["pac"]).expect(0);
    assert!(note.stderr.contains("note: proxy.advertise names \"proxy1.corp:80\""), "{}", note.stderr);

    // At start, and when a reload brings it.
    let listening = secured.section("");
    let fits = format!("[proxy]\nadvertise = [\"https://proxy1.corp:3129\"]\n{listening}");
    let proxy = Proxy::start(&fits);
    assert!(!proxy.log_so_far().iter().any(|line| line["event"] == "pac_warning"));
    proxy.reload(&format!("[proxy]\nadvertise = [\"proxy1.corp:3128\"]\n{listening}"), "ok");
    let line = proxy.log_line("the warning", |line| line["event"] == "pac_warning");
    assert!(line["message"].as_str().unwrap().contains("in clear"), "{line}");
}
