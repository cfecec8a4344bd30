//! A parent proxy, `egress.proxy`: what it is asked, what becomes of each answer, and that it is
//! asked for nothing else. Parents are scripts, a second ccpgate, and Squid.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{
    Answer, Blackhole, Dns, H2, Proxy, Refusing, Secured, Upstream, accept, assert_same_bytes, ccpgate,
    client_hello, eventually, expect_refusal, have, payload,
};

const TARGET: &str = "good.example:443";
const OK: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

fn config(parent: &str, more: &str) -> String {
    format!(
        "[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"*.good.example\"\n[egress]\nproxy = \"{parent}\"\n{more}"
    )
}

/// Reads a request's head and says it; what follows stays in the stream.
fn request(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn echo(stream: &mut (impl Read + Write)) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// A parent that reads a request, answers with these bytes and closes; what it was asked is kept.
fn parent_that_says(answer: impl Into<Vec<u8>>) -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let (answer, asked) = (answer.into(), Arc::new(Mutex::new(Vec::new())));
    let kept = asked.clone();
    let parent = Upstream::serve(move |mut stream| {
        kept.lock().unwrap().push(request(&mut stream));
        // A proxy that has heard enough may close within a long answer.
        let _ = stream.write_all(&answer);
    });
    (parent, asked)
}

/// A parent that opens a tunnel to an echo.
fn echoing_parent() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let parent = Upstream::serve(move |mut stream| {
        kept.lock().unwrap().push(request(&mut stream));
        if stream.write_all(OK).is_ok() {
            echo(&mut stream);
        }
    });
    (parent, asked)
}

fn url(parent: &Upstream) -> String {
    format!("http://{}", parent.address())
}

/// A tunnel that fails at the parent: its answer and its line.
#[track_caller]
fn expect_failure(proxy: &Proxy, status: u16, error: &str) -> (Answer, Value) {
    let mut client = proxy.connect();
    let answer = client.connect_target(TARGET);
    let line = expect_refusal(proxy, &mut client, &answer, (status, error, "connect"));
    assert_eq!((&line["event"], &line["outcome"]), (&"tunnel".into(), &"connect".into()), "{line}");
    assert_eq!(line["stage"], "connect", "{line}");
    (answer, line)
}

#[test]
fn a_tunnel_is_asked_for_by_connect_and_nothing_is_resolved_here() {
    let ((parent, asked), dns) = (echoing_parent(), Dns::start());
    let proxy = Proxy::start(&format!("{}{}", config(&url(&parent), ""), dns.as_config()));
    let mut client = proxy.tunnel(TARGET);
    let bytes = payload();
    client.send(&bytes[..300_000]);
    assert_same_bytes(&client.read_exactly(300_000), &bytes[..300_000]);
    client.finish();
    client.expect_closed();

    let asked = asked.lock().unwrap().join("");
    let mut lines = asked.split("\r\n");
    assert_eq!(lines.next(), Some("CONNECT good.example:443 HTTP/1.1"));
    assert!(lines.any(|line| line == "Host: good.example:443"), "{asked}");
    assert!(!asked.contains("Proxy-Authorization"), "{asked}");
    assert_eq!(dns.asked(), [""; 0], "the parent resolves");
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["upstream"], parent.address().to_string(), "{line}");
    assert_eq!(line["outcome"], "ok", "{line}");
    assert!(line["dns_ms"].is_null() && line["connect_ms"].is_number(), "{line}");
    // What that means is said at the start.
    let said = proxy.log_line("the parent", |line| line["event"] == "parent");
    let said = said.to_string();
    assert!(said.contains(&url(&parent)) && said.contains("all hosts") && said.contains("judged"), "{said}");
}

#[test]
fn what_is_denied_never_gets_to_the_parent() {
    let (parent, asked) = echoing_parent();
    let proxy = Proxy::start(&config(&url(&parent), ""));
    for target in ["evil.example:443", "good.example:444", "192.0.2.1:443", "127.1:443"] {
        assert_eq!(proxy.connect().connect_target(target).status, 403, "{target}");
    }
    // An address that is allowed as a target needs no resolving and is judged as ever.
    let literal = "[[allow]]\npattern = \"169.254.169.254\"\n";
    proxy.reload(&format!("{literal}{}", config(&url(&parent), "")), "ok");
    let answer = proxy.connect().connect_target("169.254.169.254:443");
    assert_eq!(answer.proxy_status("details"), Some("private_address"), "{}", answer.head);
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn bytes_behind_the_parents_answer_reach_the_client() {
    // In one segment with the head; and so many that no single look shows them.
    for early in [b"220 hello\r\n".to_vec(), payload()[..200_000].to_vec()] {
        let mut said =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nX-Odd : y\r\nContent-Length: 5\r\n\r\n"
                .to_vec();
        said.extend(&early);
        let (parent, _) = parent_that_says(said);
        let proxy = Proxy::start(&config(&url(&parent), ""));
        let mut client = proxy.tunnel(TARGET);
        client.finish();
        assert_same_bytes(&client.read_to_end().unwrap(), &early);
    }
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_an_answer() {
    let parent = Upstream::serve(|mut stream| {
        stream.set_nodelay(true).unwrap();
        request(&mut stream);
        for byte in OK.iter().chain(b"early") {
            stream.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        echo(&mut stream);
    });
    let proxy = Proxy::start(&config(&url(&parent), ""));
    let mut client = proxy.tunnel(TARGET);
    assert_eq!(client.read_exactly(5), b"early");
    client.expect_echo(b"and on");
}

#[test]
fn the_guard_stands_before_the_parent_too() {
    let (parent, _) = echoing_parent();
    let proxy = Proxy::start(&format!("{}[policy]\ntls = \"sni\"\n", config(&url(&parent), "")));
    let hello = client_hello("good.example");
    let mut client = proxy.tunnel(TARGET);
    client.send(&hello);
    assert_eq!(client.read_exactly(hello.len()), hello);
    let mut client = proxy.tunnel(TARGET);
    client.send(client_hello("evil.example"));
    client.expect_reset();
}

#[test]
fn a_parents_refusal_is_told_in_its_words() {
    let page = "<html><head><style>h1 { color: red }</style></head><body><h1>Access Denied</h1>by rule 7</body></html>";
    for (said, told) in [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\nno such app".to_owned(),
            "403 Forbidden: no such app",
        ),
        (
            format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            ),
            "403 Forbidden: Access Denied by rule 7",
        ),
        (
            "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntry \r\n5\r\nlater\r\n0\r\n\r\n"
                .to_owned(),
            "503 Busy: try later",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n".to_owned(), "502 Bad Gateway"),
        ("HTTP/1.0 404 \r\n\r\n".to_owned(), "404"),
        ("HTTP/1.1 302 Found\r\nLocation: http://login.corp/\r\n\r\n".to_owned(), "302 Found"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(), "101 Switching Protocols"),
        (
            "HTTP/1.1 403 No\r\n\r\nlook:\r\n\x1b[2J\u{202e}x\"y\r\nSet-Cookie: z".to_owned(),
            "403 No: look: [2J\\u{202e}x\"y Set-Cookie: z",
        ),
    ] {
        let (parent, _) = parent_that_says(said);
        let proxy = Proxy::start(&config(&url(&parent), ""));
        let (answer, line) = expect_failure(&proxy, 502, "connection_refused");
        let expected = format!("the parent proxy {} answered {told}", url(&parent));
        assert!(answer.text().contains(&expected), "{expected}\n{}", answer.text());
        assert!(line["detail"].as_str().unwrap().starts_with(&expected), "{line}");
        assert_eq!(answer.proxy_status("received-status"), Some(&told[..3]), "{}", answer.head);
        assert_eq!(line["upstream"], parent.address().to_string(), "{line}");
        let series = "ccpgate_tunnels_total{domain=\"good.example\",category=\"extra\",outcome=\"connect\"}";
        proxy.metric_eventually(series, 1.0);
    }
    // However much it says.
    let long = format!("HTTP/1.1 403 {}\r\n\r\n{}", "a".repeat(5000), "b".repeat(100_000));
    let (parent, _) = parent_that_says(long);
    let proxy = Proxy::start(&config(&url(&parent), ""));
    expect_failure(&proxy, 502, "connection_refused");
}

#[test]
fn answers_that_are_none() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000)).into_bytes();
    let endless = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    for (said, error, told) in [
        (Vec::new(), "connection_terminated", "without an answer"),
        (b"HTTP/1.1 200 O".to_vec(), "connection_terminated", "within its answer"),
        (large, "http_response_header_section_size", "too large a header"),
        (many, "http_response_header_section_size", "too large a header"),
        (endless, "http_response_header_section_size", "too large a header"),
        (b"SSH-2.0-OpenSSH_9\r\n".to_vec(), "http_protocol_error", "SSH-2.0-OpenSSH_9"),
        (b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), "http_protocol_error", "https://"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00".to_vec(), "http_protocol_error", "HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n".to_vec(), "http_protocol_error", "HTTP/2 200"),
    ] {
        let (parent, _) = parent_that_says(said);
        let proxy = Proxy::start(&config(&url(&parent), ""));
        let (answer, line) = expect_failure(&proxy, 502, error);
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert!(line["detail"].as_str().unwrap().contains(told), "{line}");
    }
}

#[test]
fn a_parent_that_is_slow_or_away() {
    // Never an answer; an answer in time; one that dribbles for ever.
    let mute = Upstream::serve(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = Proxy::start(&config(&url(&mute), "connect_timeout = \"1s\"\n"));
    let started = Instant::now();
    let (answer, _) = expect_failure(&proxy, 504, "connection_timeout");
    assert!(answer.text().contains("no whole answer within 1s"), "{}", answer.text());
    assert!(started.elapsed() >= Duration::from_secs(1));

    let dribbles = Upstream::serve(|mut stream| {
        while stream.write_all(b"H").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    proxy.reload(&config(&url(&dribbles), "connect_timeout = \"1s\"\n"), "ok");
    assert!(matches!(proxy.connect().connect_target(TARGET).status, 502 | 504));

    let slow = Upstream::serve(|mut stream| {
        request(&mut stream);
        std::thread::sleep(Duration::from_millis(700));
        stream.write_all(OK).unwrap();
        echo(&mut stream);
    });
    proxy.reload(&config(&url(&slow), ""), "ok");
    proxy.tunnel(TARGET).expect_echo(b"in time");

    let (refusing, blackhole) = (Refusing::new(), Blackhole::new());
    for (address, status, error) in
        [(refusing.address(), 502, "connection_refused"), (blackhole.address(), 504, "connection_timeout")]
    {
        proxy.reload(&config(&format!("http://{address}"), "connect_timeout = \"1s\"\n"), "ok");
        let (answer, _) = expect_failure(&proxy, status, error);
        assert!(answer.text().contains("the parent proxy"), "{}", answer.text());
    }
}

#[test]
fn a_client_that_leaves_lets_the_parent_go() {
    let parent = Upstream::recorder();
    let proxy = Proxy::start(&config(&url(&parent), "connect_timeout = \"60s\"\n"));
    let mut client = proxy.connect();
    client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n"));
    eventually("the parent to be asked", || (!parent.received().is_empty()).then_some(()));
    client.reset();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["stage"]), (&"client_reset".into(), &"connect".into()), "{line}");
}

#[test]
fn credentials_are_sent_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parent.credentials");
    std::fs::write(&file, "agent:S3cret pa$$\n").unwrap();
    let more = format!("proxy_credentials = {file:?}\n");
    let (parent, asked) = echoing_parent();
    let proxy = Proxy::start(&config(&url(&parent), &more));
    proxy.tunnel(TARGET).expect_echo(b"with credentials");
    // `agent:S3cret pa$$` in base64.
    let expected = "Proxy-Authorization: Basic YWdlbnQ6UzNjcmV0IHBhJCQ=\r\n";
    assert!(asked.lock().unwrap()[0].contains(expected));

    // A parent that prints what it refuses; and one that wants others, or another scheme.
    for (said, told) in [
        ("HTTP/1.1 403 No\r\n\r\nYou sent YWdlbnQ6UzNjcmV0IHBhJCQ= (agent:S3cret pa$$)", "You sent ..."),
        (
            "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "Negotiate, NTLM, and only Basic",
        ),
        (
            "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
            "egress.proxy_credentials don't pass",
        ),
    ] {
        let (parent, _) = parent_that_says(said);
        proxy.reload(&config(&url(&parent), &more), "ok");
        let (answer, _) = expect_failure(&proxy, 502, "connection_refused");
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
    }
    let (stranger, _) =
        parent_that_says("HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n");
    proxy.reload(&config(&url(&stranger), ""), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "connection_refused");
    assert!(answer.text().contains("egress.proxy_credentials is not set"), "{}", answer.text());
    assert_eq!(answer.field("proxy-authenticate"), None, "browsers are not asked");

    // A reload reads the file again, and a file that is missing changes nothing.
    std::fs::write(&file, "agent:0ther\r\n").unwrap();
    proxy.reload(&config(&url(&parent), &more), "ok");
    proxy.tunnel(TARGET).expect_echo(b"with others");
    assert!(asked.lock().unwrap()[1].contains("Basic YWdlbnQ6MHRoZXI=\r\n"));
    std::fs::remove_file(&file).unwrap();
    proxy.hang_up("error");
    proxy.tunnel(TARGET).expect_echo(b"as before");
    let told = proxy.log_line("the failed reload", |line| line["event"] == "reload_failed");
    let told = told["error"].as_str().unwrap();
    assert!(told.contains("egress.proxy_credentials") && told.contains("parent.credentials"), "{told}");

    for line in proxy.log_so_far() {
        let line = line.to_string();
        for secret in ["S3cret", "0ther", "YWdlbnQ6"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn no_command_shows_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c");
    let with_file = config("http://parent.corp:8080", &format!("proxy_credentials = {file:?}\n"));
    for (text, told) in [
        (None, "can't be read: No such file"),
        (Some("S3cret"), "holds no user:password"),
        (Some("agent:S3cret\nmore:S3cret\n"), "more than one line"),
        (Some("agent:S3cret\u{7}"), "control characters"),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let ran = ccpgate(Some(&with_file), &["config", "check"]).expect(2);
        assert!(
            ran.stderr.contains("egress.proxy_credentials") && ran.stderr.contains(told),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("S3cret"), "{}", ran.stderr);
    }
    std::fs::write(&file, "agent:S3cret\n").unwrap();
    ccpgate(Some(&with_file), &["config", "check"]).expect(0);
    let shown = ccpgate(Some(&with_file), &["config", "show"]).expect(0).stdout;
    assert!(shown.contains("http://parent.corp:8080") && !shown.contains("S3cret"), "{shown}");
    for wrong in [
        "http://agent:S3cret@parent.corp:8080",
        "agent:S3cret@parent.corp",
        "a@S3cret@b",
        "http://a@S3cret/@b:1",
    ] {
        for ran in [
            ccpgate(Some(&config(wrong, "")), &["config", "check"]),
            ccpgate(None, &["config", "show", "--set", &format!("egress.proxy={wrong}")]),
        ] {
            let told = ran.expect(2).stderr;
            assert!(told.contains("egress.proxy_credentials") && !told.contains("S3cret"), "{told}");
        }
    }
    // What systemd gives to the service alone is no reason to refuse a reload.
    let kept = config("http://p:1", "proxy_credentials = \"/run/credentials/none.service/parent\"\n");
    let told = ccpgate(Some(&kept), &["config", "check"]).expect(0).stderr;
    assert!(told.contains("egress.proxy") && told.contains("only the service may read"), "{told}");
    // What has no effect is said.
    let alone = "[egress]\nproxy_for = [\"*.example.com\"]\n";
    let told = ccpgate(Some(alone), &["config", "check"]).expect(0).stderr;
    assert!(told.contains("egress.proxy_for has no effect"), "{told}");
}

#[test]
fn patterns_say_which_hosts_go_through_it_and_connect_to_wins() {
    let ((parent, asked), straight, dns) = (echoing_parent(), Upstream::echo(), Dns::start());
    let port = straight.address().port();
    dns.addresses("straight.good.example", &["127.0.0.1"]);
    let hosts = format!("[[allow]]\npattern = \"*.good.example\"\nports = [443, {port}]\n");
    let proxy = Proxy::start(&format!(
        "{hosts}[egress]\nproxy = \"{}\"\nproxy_for = [\"far.good.example\", \"pinned.good.example\"]\n\
         allow_private = [\"127.0.0.1\"]\n{}{}",
        url(&parent),
        straight.for_targets(&["pinned.good.example:443"]),
        dns.as_config(),
    ));
    proxy.tunnel("far.good.example:443").expect_echo(b"by the parent");
    proxy.tunnel(&format!("straight.good.example:{port}")).expect_echo(b"straight");
    proxy.tunnel("pinned.good.example:443").expect_echo(b"by connect_to");
    assert_eq!((parent.accepted(), straight.accepted()), (1, 2));
    assert!(asked.lock().unwrap()[0].starts_with("CONNECT far.good.example:443 "));
    let said = proxy.log_line("the parent", |line| line["event"] == "parent").to_string();
    assert!(said.contains("far.good.example, pinned.good.example"), "{said}");
}

#[test]
fn a_parents_name_is_resolved_here_and_dialled_from_the_source_address() {
    let dns = Dns::start();
    let parent = Upstream::serve(|mut stream| {
        request(&mut stream);
        let from = stream.peer_addr().unwrap().ip().to_string();
        stream.write_all(OK).and_then(|()| stream.write_all(from.as_bytes())).unwrap();
    });
    dns.addresses("parent.corp", &["127.0.0.1"]);
    let of = |name: &str| {
        let url = format!("http://{name}:{}", parent.address().port());
        format!("{}{}", config(&url, "source_address = [\"127.0.0.9\"]\n"), dns.as_config())
    };
    let proxy = Proxy::start(&of("parent.corp"));
    assert_eq!(proxy.tunnel(TARGET).read_to_end().unwrap(), b"127.0.0.9");
    assert!(dns.asked().iter().all(|name| name == "parent.corp"), "{:?}", dns.asked());

    proxy.reload(&of("nowhere.corp"), "ok");
    let mut client = proxy.connect();
    let answer = client.connect_target(TARGET);
    let line = expect_refusal(&proxy, &mut client, &answer, (502, "dns_error", "dns"));
    assert!(line["detail"].as_str().unwrap().contains("http://nowhere.corp"), "{line}");
    assert_eq!(answer.proxy_status("rcode"), Some("NXDOMAIN"), "{}", answer.head);
}

#[test]
fn the_proxy_is_not_its_own_parent() {
    let listen = "[proxy]\nlisten = [\"0.0.0.0:0\"]\n";
    let proxy = Proxy::start(&format!("{}{listen}", config("http://127.0.0.1:1", "")));
    let own = format!("http://127.0.0.7:{}", proxy.http().port());
    proxy.reload(&format!("{}{listen}", config(&own, "")), "ok");
    let mut client = proxy.connect();
    let answer = client.connect_target(TARGET);
    let expected = (403, "destination_ip_prohibited", "private_address");
    let line = expect_refusal(&proxy, &mut client, &answer, expected);
    let told = line["detail"].as_str().unwrap();
    assert!(told.contains("egress.proxy leads to") && told.contains("this proxy itself"), "{told}");
}

/// A parent over TLS with the authority's certificate, which then serves.
fn secure_parent(
    secured: &Secured,
    serve: impl Fn(&mut rustls::StreamOwned<rustls::ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> Upstream {
    let config = secured.authority.server(&["127.0.0.1"]).0;
    Upstream::serve(move |stream| {
        if let Some(mut tls) = accept(&config, stream) {
            serve(&mut tls);
            tls.conn.send_close_notify();
            let _ = tls.flush();
            let _ = tls.sock.shutdown(Shutdown::Write);
            let _ = tls.sock.read_to_end(&mut Vec::new());
        }
    })
}

#[test]
fn a_parent_over_tls() {
    let secured = Secured::new();
    let ca = format!("proxy_ca = {:?}\n", secured.path("ca.pem"));
    let parent = secure_parent(&secured, |tls| {
        assert!(request(tls).starts_with("CONNECT good.example:443 "));
        // With early bytes in the record of the answer.
        tls.write_all(&[OK, b"early"].concat()).unwrap();
        echo(tls);
    });
    let url = format!("https://{}", parent.address());
    let proxy = Proxy::start(&format!("{}[policy]\ntls = \"off\"\n", config(&url, &ca)));
    let mut client = proxy.tunnel(TARGET);
    assert_eq!(client.read_exactly(5), b"early");
    // Far more than any buffer on the way, in both directions at once.
    let bytes = payload();
    let mut writing = client.stream().try_clone().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || writing.write_all(&sent).unwrap());
    assert_same_bytes(&client.read_exactly(bytes.len()), &bytes);
    writer.join().unwrap();
    client.finish();
    client.expect_closed();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(
        (&line["outcome"], &line["upstream"]),
        (&"ok".into(), &parent.address().to_string().into()),
        "{line}"
    );

    // The guard's first write goes through TLS as well.
    proxy.reload(&format!("{}[policy]\ntls = \"sni\"\n", config(&url, &ca)), "ok");
    let mut client = proxy.tunnel(TARGET);
    let hello = client_hello("good.example");
    client.send(&hello);
    assert_eq!(client.read_exactly(5), b"early");
    assert_eq!(client.read_exactly(hello.len()), hello);
}

#[test]
fn a_parent_over_tls_that_fails() {
    let secured = Secured::new();
    let ca = format!("proxy_ca = {:?}\n", secured.path("ca.pem"));
    let refusing = secure_parent(&secured, |tls| {
        request(tls);
        tls.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
    });
    let secure = |address: std::net::SocketAddr| format!("https://{address}");
    let proxy = Proxy::start(&config(&secure(refusing.address()), &ca));
    let (answer, _) = expect_failure(&proxy, 502, "connection_refused");
    assert!(answer.text().contains("403 Forbidden: no"), "{}", answer.text());

    // An authority that nobody here knows.
    let stranger = Secured::new();
    let other = format!("proxy_ca = {:?}\n", stranger.path("ca.pem"));
    proxy.reload(&config(&secure(refusing.address()), &other), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "tls_certificate_error");
    assert!(answer.text().contains("name that in egress.proxy_ca"), "{}", answer.text());

    // A name that the certificate has not.
    let hosts = "[dns]\nhosts = { \"parent.corp\" = [\"127.0.0.1\"] }\n";
    let named = format!("https://parent.corp:{}", refusing.address().port());
    proxy.reload(&format!("{}{hosts}", config(&named, &ca)), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "tls_certificate_error");
    assert!(answer.text().contains("parent.corp"), "{}", answer.text());

    // A plain parent.
    let plain = Upstream::serve(|mut stream| {
        let _ = stream.read(&mut [0; 64 * 1024]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    proxy.reload(&config(&secure(plain.address()), &ca), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "tls_protocol_error");
    assert!(answer.text().contains("begin with http://"), "{}", answer.text());

    // No handshake at all, within the one limit.
    let mute = Upstream::recorder();
    proxy.reload(&config(&secure(mute.address()), &format!("{ca}connect_timeout = \"1s\"\n")), "ok");
    expect_failure(&proxy, 504, "connection_timeout");

    let missing = config("https://parent.corp:1", "proxy_ca = \"no.pem\"\n");
    let told = ccpgate(Some(&missing), &["config", "check"]).expect(2).stderr;
    assert!(told.contains("egress.proxy_ca") && told.contains("no.pem"), "{told}");
}

#[test]
fn a_ccpgate_is_the_parent_of_another() {
    // A branch and the head office, plain and over TLS, the agents over HTTP/1.1 and HTTP/2.
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let office = secured.start(&upstream, "", "");
    let ca = format!("proxy_ca = {:?}\n", secured.path("ca.pem"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for url in [format!("http://{}", office.http()), format!("https://{}", office.https())] {
        let branch = Proxy::start(&format!("{}{}", config(&url, &ca), secured.section("")));
        let mut client = branch.tunnel(TARGET);
        client.expect_echo(b"through both");
        client.finish();
        client.expect_closed();
        runtime.block_on(async {
            let mut agent = H2::connect(&branch, &secured.agent()).await;
            let mut tunnel = agent.tunnel(TARGET).await;
            for chunk in payload()[..600_000].chunks(100_000) {
                tunnel.expect_echo(chunk).await;
            }
        });
        // What the office denies, the branch tells.
        let mut client = branch.connect();
        let answer = client.connect_target("other.good.example:443");
        assert_eq!(answer.status, 502, "{}", answer.head);
        let body = answer.text();
        assert!(body.contains("answered 403 Forbidden") && body.contains("reason: no_rule"), "{body}");
    }
}

/// Squid in a folder of its own, on a port that was free a moment ago.
struct Squid {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Squid {
    fn start(rules: &str) -> Self {
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let file = folder.path().join("squid.conf");
            let at = folder.path().display();
            let text = format!(
                "http_port 127.0.0.1:{port}\npid_filename none\ncache_log {at}/cache.log\naccess_log none\n\
                 coredump_dir {at}\ncache deny all\nshutdown_lifetime 0 seconds\nvisible_hostname squid.test\n{rules}"
            );
            std::fs::write(&file, text).unwrap();
            // As root it changes to a user of its own.
            std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
                .unwrap();
            let mut child = Command::new("squid")
                // A name of its own, since shared memory is called by it.
                .args(["-N", "-d", "0", "-n", &format!("ccpgate{port}"), "-f"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let listens = eventually("Squid to listen or to end", || match child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true),
            });
            if listens {
                return Self { child, port, _folder: folder };
            }
            let said: Vec<_> =
                BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok).collect();
            eprintln!("Squid ended: {}", said.join("\n"));
        }
        panic!("Squid does not start");
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // In order, so that it takes its shared memory away.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn squid_is_a_parent() {
    if !have("squid") {
        return;
    }
    let upstream = Upstream::echo();
    let port = upstream.address().port();
    let squid = Squid::start(
        "acl good dst 127.0.0.1\nacl bad dstdomain denied.good.example\nhttp_access deny bad\nhttp_access allow good\nhttp_access deny all\n",
    );
    // A name that Squid resolves by the hosts file.
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"localhost\"\nports = [{port}]\n[[allow]]\npattern = \"*.good.example\"\n[egress]\nproxy = \"http://127.0.0.1:{}\"\n",
        squid.port
    ));
    let target = format!("localhost:{port}");
    let mut client = proxy.tunnel(&target);
    let bytes = payload();
    client.send(&bytes[..100_000]);
    assert_same_bytes(&client.read_exactly(100_000), &bytes[..100_000]);
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.access_line("tunnel", &target)["upstream"], format!("127.0.0.1:{}", squid.port));

    let mut client = proxy.connect();
    let answer = client.connect_target("denied.good.example:443");
    assert_eq!(answer.status, 502, "{}", answer.head);
    let body = answer.text();
    assert!(body.contains("answered 403 Forbidden") && body.contains("Access Denied"), "{body}");
}
