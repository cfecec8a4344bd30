//! Sessions that last a shift, end to end: real handshakes with the real process, and windows of a
//! few seconds. The edges of the window, to the second, are in `tests/sessions`, with a clock that
//! moves.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind};

use crate::support::{Agent, H2, Proxy, Secured, Upstream, eventually, fleet, handshakes, have};

const TARGET: &str = "good.example:443";

fn shift(seconds: u64) -> String {
    format!("[shift]\nlength = \"{seconds}s\"\nbreaks = \"0s\"\nlunch = \"0s\"\n")
}

#[test]
fn sessions_resume_inside_the_window_and_not_after_it() {
    const WINDOW: u64 = 5;
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", &shift(WINDOW));
    // The agents' clocks stand still: they would offer a session for ever.
    let agents = [&TLS13, &TLS12].map(|version| Agent::of_version(&secured.authority, version));
    let born = Instant::now();
    for agent in &agents {
        assert!(!agent.resumes(&proxy));
    }
    let all_born = Instant::now();
    // Resuming again and again prolongs nothing.
    while born.elapsed() < Duration::from_secs(WINDOW) / 2 {
        for agent in &agents {
            assert!(agent.resumes(&proxy), "after {:?}", born.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Birthdays count in whole seconds.
    while all_born.elapsed() < Duration::from_secs(WINDOW) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = handshakes(&proxy.metrics());
    for agent in &agents {
        assert!(!agent.resumes(&proxy), "past the window");
        assert!(agent.resumes(&proxy), "a new session has begun");
    }
    assert_eq!(handshakes(&proxy.metrics()), (before.0 + 2.0, before.1 + 2.0));
    // The ages that an administrator sees never reach the window.
    let sum = proxy.metric("ccpgate_tls_resumed_age_seconds_sum");
    let count = proxy.metric("ccpgate_tls_resumed_age_seconds_count");
    assert!(sum < count * WINDOW as f64, "{sum} s over {count} resumptions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_browser_over_http2_resumes_too() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent().alpn(&["h2"]);
    for visit in 0..4 {
        let mut client = H2::connect(&proxy, &agent).await;
        // After a round trip its tickets have come.
        client.tunnel(TARGET).await.expect_echo(b"hello").await;
        assert_eq!(client.resumed, visit > 0, "visit {visit}");
        // Its own farewell may come after the proxy's.
        let _ = client.ended().await;
    }
}

#[test]
fn what_an_agent_got_over_one_protocol_resumes_over_the_other() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    let client = agent.alpn(&["h2"]).connect(&proxy);
    assert!(client.resumed());
}

/// A load balancer's check, or a browser that connects in advance and then thinks better of it: its end comes
/// with the last of its handshake.
#[test]
fn a_client_that_ends_with_its_handshake_has_its_tickets_all_the_same() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    for protocol in ["http/1.1", "h2"] {
        let agent = secured.agent().alpn(&[protocol]);
        for visit in 0..3 {
            let name = ServerName::try_from("proxy.corp.example").unwrap();
            let mut tls = ClientConnection::new(agent.config(), name).unwrap();
            let mut stream = TcpStream::connect(proxy.https()).unwrap();
            tls.write_tls(&mut stream).unwrap();
            while tls.is_handshaking() {
                assert!(tls.read_tls(&mut stream).unwrap() > 0, "an end within the handshake");
                tls.process_new_packets().unwrap();
            }
            assert_eq!(tls.handshake_kind() == Some(HandshakeKind::Resumed), visit > 0, "{protocol}");
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
            while tls.read_tls(&mut stream).is_ok_and(|n| n > 0) {
                tls.process_new_packets().unwrap();
            }
        }
    }
}

#[test]
fn without_keys_a_restart_means_full_handshakes() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let first = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&first));
    assert!(agent.resumes(&first));
    drop(first);
    let second = secured.start(&upstream, "", "");
    assert!(!agent.resumes(&second), "its sessions went with the process");
}

#[test]
fn a_shorter_shift_ends_older_sessions_and_a_reload_alone_ends_none() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    proxy.hang_up("ok");
    assert!(agent.resumes(&proxy));
    let begun = Instant::now();
    proxy.reload(&secured.policy(&upstream, "", &shift(1)), "ok");
    while begun.elapsed() < Duration::from_millis(2100) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!agent.resumes(&proxy));
}

#[test]
fn one_session_serves_six_connections_at_once_and_again() {
    if !have("python3") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    for version in ["TLSv1_3", "TLSv1_2"] {
        let (all, resumed) = fleet(&secured, &[proxy.https().to_string()], (5, 5, 6), version, || ());
        assert_eq!((all, resumed), (150, 150), "{version}");
    }
    assert_eq!(handshakes(&proxy.metrics()), (10.0, 300.0));
    proxy.metric_eventually("ccpgate_tls_sessions", 10.0);
}

#[test]
fn a_full_cache_still_takes_the_newest_session() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[shift]\nsessions = 20");
    let early = secured.agent();
    assert!(!early.resumes(&proxy));
    for _ in 0..60 {
        // Junk: sessions that nobody comes back with.
        assert!(!secured.agent().resumes(&proxy));
    }
    let honest = secured.agent();
    assert!(!honest.resumes(&proxy));
    // The cache makes room in the background.
    eventually("the cache to be at its capacity", || {
        let sessions = proxy.metric("ccpgate_tls_sessions");
        (sessions > 0.0 && sessions <= 20.0).then_some(())
    });
    assert!(honest.resumes(&proxy), "the newest session resumes though the cache is full of junk");
    assert!(!early.resumes(&proxy), "the oldest made room");
}

/// Runs `openssl s_client` with these arguments against the proxy; its output.
fn s_client(proxy: &Proxy, secured: &Secured, arguments: &[&str]) -> String {
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.https().to_string(), "-servername", "proxy.corp.example"])
        .args(["-verify_return_error", "-ign_eof", "-CAfile"])
        .arg(secured.path("ca.pem"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The tickets of TLS 1.3 come behind the handshake: an answer makes sure that they were read.
    let request = "GET /proxy.pac HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    openssl.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    String::from_utf8_lossy(&openssl.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn openssl_resumes_from_a_file_and_is_told_the_window() {
    if !have("openssl") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[shift]\nlength = \"8h\"\nbreaks = \"1h\"\nlunch = \"1h\"");
    let session = secured.path("session.pem").display().to_string();
    for version in ["-tls1_3", "-tls1_2"] {
        let first = s_client(&proxy, &secured, &[version, "-sess_out", &session]);
        assert!(first.contains("New, TLSv1."), "{first}");
        assert!(first.contains("HTTP/1.1 200"), "{first}");
        let hint = first.lines().find(|line| line.contains("lifetime hint")).unwrap_or_default();
        let told: u64 = hint.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_default();
        assert!((35_990..=36_000).contains(&told), "{version}: {hint}");
        for _ in 0..3 {
            let next = s_client(&proxy, &secured, &[version, "-sess_in", &session]);
            assert!(next.contains("Reused, TLSv1."), "{version}: {next}");
        }
    }
    // Early data is never taken: a replayed CONNECT would open a second tunnel.
    let first = s_client(&proxy, &secured, &["-tls1_3", "-sess_out", &session]);
    assert!(first.contains("Max Early Data: 0"), "{first}");
}

#[test]
fn who_is_refused_leaves_no_session_behind() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[proxy]\nclients = [\"192.0.2.0/24\"]");
    for version in [&TLS13, &TLS12] {
        let agent = Agent::of_version(&secured.authority, version);
        for _ in 0..3 {
            let mut client = agent.connect(&proxy);
            let answer = client.connect_target(TARGET);
            assert_eq!(answer.proxy_status("details"), Some("client"), "{}", answer.head);
            assert!(!client.resumed(), "{version:?}");
        }
    }
    assert_eq!(handshakes(&proxy.metrics()), (6.0, 0.0));
    assert_eq!(proxy.metric("ccpgate_tls_sessions"), 0.0);
}

#[test]
fn the_cheaper_cipher_suite_is_chosen_and_the_others_are_taken() {
    if !have("openssl") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let shaken = |arguments: &[&str], expected: &str| {
        let said = s_client(&proxy, &secured, arguments);
        assert!(said.contains(&format!("Cipher is {expected}")), "{arguments:?}: {said}");
    };
    // OpenSSL offers AES-256 first.
    shaken(&["-tls1_3"], "TLS_AES_128_GCM_SHA256");
    shaken(&["-tls1_2"], "ECDHE-ECDSA-AES128-GCM-SHA256");
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        shaken(&["-tls1_3", "-ciphersuites", suite], suite);
    }
    for suite in ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"] {
        shaken(&["-tls1_2", "-cipher", suite], suite);
    }
}

#[test]
fn curl_goes_through_the_https_proxy() {
    if !have("curl") {
        return;
    }
    let secured = Secured::new();
    let (config, _) = secured.authority.server(&["good.example"]);
    let site = Upstream::serve(move |stream| {
        let Some(mut tls) = crate::support::accept(&config, stream) else { return };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if std::io::Read::read_exact(&mut tls, &mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nreached";
        tls.write_all(answer).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    });
    let proxy = secured.start(&site, "", "[policy]\ntls = \"sni\"");
    let ca = secured.path("ca.pem").display().to_string();
    let curl = |more: &[&str]| {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "15", "--noproxy", ""])
            .args(["--cacert", &ca, "--proxy-cacert", &ca])
            .args(["--proxy", &format!("https://localhost:{}", proxy.https().port())])
            .args(more)
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .output()
            .unwrap()
    };
    let ran = curl(&["https://good.example/"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "reached", "{}", String::from_utf8_lossy(&ran.stderr));
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["outcome"], "ok", "{line}");
    let ran = curl(&["--include", "https://evil.example/"]);
    assert_eq!(ran.status.code(), Some(56), "CONNECT refused: {}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stdout).to_ascii_lowercase();
    assert!(said.contains("proxy-status: ccpgate; error=http_request_denied"), "{said}");
    // A proxy with a certificate that curl doesn't know is not spoken to.
    let stranger = Secured::new();
    let ran = curl(&["--proxy-cacert", stranger.path("ca.pem").to_str().unwrap(), "https://good.example/"]);
    assert_eq!(ran.status.code(), Some(60), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// A process that has used all the tickets it got goes on with those of its resumptions.
#[test]
fn a_long_chain_of_resumptions_is_one_session() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = Arc::new(secured.agent());
    assert!(!agent.resumes(&proxy));
    for _ in 0..50 {
        assert!(agent.resumes(&proxy));
    }
    proxy.metric_eventually("ccpgate_tls_sessions", 1.0);
}
