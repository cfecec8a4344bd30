//! What comes first on a listener: TLS or not, HTTP/2 or not, a client that refuses the certificate.
//! Each is counted by cause, told in the same words on both listeners, and never drowns out others.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::version::TLS12;
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore};

use crate::support::{
    Agent, Authority, Frames, NAME, Proxy, Raw, Secured, Upstream, eventually, handshakes, have, made_hello,
};

const TARGET: &str = "good.example:443";

fn failures(cause: &str) -> String {
    format!("ccpgate_tls_handshake_failures_total{{cause=\"{cause}\"}}")
}

#[test]
fn both_listeners_tell_what_came_in_the_same_words() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    for (bytes, words) in [
        (&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..], "a PROXY protocol line"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
            "a PROXY protocol header (version 2)",
        ),
        (b"\x05\x01\0", "a SOCKS greeting"),
        (b"\x04\x01\x01\xbb\xc0\0\x02\x01\0", "a SOCKS greeting"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "an SSH greeting"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 without TLS"),
        (b"\0\x03\0\x08\x21\x12\xa4\x42abcdefghijkl", "a STUN message"),
        (b"EHLO desk.example\r\n", "an SMTP greeting"),
        (b"USER anonymous\r\n", "an FTP or POP3 command"),
        (b"CAPA\r\n", "an FTP or POP3 command"),
        (b"a1 LOGIN agent secret\r\n", "an IMAP command"),
        (b"REGISTER sip:good.example SIP/2.0\r\n\r\n", "a SIP message"),
        (b"OPTIONS sip:good.example SIP/2.0\r\n\r\n", "a SIP message"),
    ] {
        let mut plain = proxy.connect();
        plain.send(bytes);
        assert_eq!(plain.read_answer().status, 400, "{words}");
        let on_plain = proxy
            .log_line(words, |line| line["event"] == "denied" && line["client"] == plain.local().to_string());
        let mut secure = Raw::connect(proxy.https());
        secure.send(bytes);
        let got = secure.read_to_end().unwrap();
        assert!(got.is_empty() || got[0] == 21, "{words}: {got:?}");
        let on_tls = proxy.log_line(words, |line| {
            line["event"] == "handshake_failed" && line["client"] == secure.local().to_string()
        });
        assert!(on_tls["error"].as_str().unwrap().starts_with(words), "{on_tls}");
        assert_eq!(on_plain["detail"], on_tls["error"]);
        assert_eq!(on_tls["cause"], "not_tls");
    }
    proxy.metric_eventually(&failures("not_tls"), 13.0);
    assert_eq!(proxy.metric(&failures("plain_http")), 0.0);
}

#[test]
fn a_client_that_refuses_the_certificate_is_told_of_and_counted() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    assert_eq!(proxy.metric(&failures("unknown_ca")), 0.0, "there from the start");
    let elsewhere = Agent::new(&Authority::new());
    assert!(elsewhere.try_connect(proxy.https()).is_err());
    let line = proxy.log_line("the refusal", |line| line["event"] == "handshake_failed");
    assert_eq!((&line["level"], &line["cause"]), (&"warn".into(), &"unknown_ca".into()), "{line}");
    assert!(line["error"].as_str().unwrap().contains("CA"), "{line}");
    proxy.metric_eventually(&failures("unknown_ca"), 1.0);
    // The name is wrong: rustls says bad_certificate.
    let name = ServerName::try_from("another.example").unwrap();
    let wrong =
        Raw::connect(proxy.https()).secure(ClientConnection::new(secured.agent().config(), name).unwrap());
    assert!(wrong.is_err());
    proxy.metric_eventually(&failures("bad_certificate"), 1.0);
    // No protocol in common; a client that leaves; one that never was.
    assert!(secured.agent().alpn(&["imap"]).try_connect(proxy.https()).is_err());
    proxy.metric_eventually(&failures("no_protocol"), 1.0);
    let mut cut = Raw::connect(proxy.https());
    cut.send(&crate::support::client_hello("x.example")[..20]);
    cut.finish();
    proxy.metric_eventually(&failures("closed"), 1.0);
    Raw::connect(proxy.https()).finish();
    assert_eq!(handshakes(&proxy.metrics()), (0.0, 0.0));
    let all: f64 = proxy.metrics().family("ccpgate_tls_handshake_failures_total").map(|(_, n)| n).sum();
    assert_eq!(all, 4.0, "a connection without a byte is no failure");
}

/// An old softphone lacks the extensions, too, that the TLS library asks for before it looks at the version.
#[test]
fn a_client_older_than_tls_1_2_is_told_that_it_is_its_version() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let of = |legacy: u8, extensions: &[(u16, Vec<u8>)]| {
        let mut hello = made_hello(extensions);
        // Behind the headers of the record and of the message.
        hello[10] = legacy;
        hello
    };
    const SUPPORTED_VERSIONS: u16 = 43;
    let old = [of(0, &[]), of(1, &[]), of(2, &[]), of(3, &[(SUPPORTED_VERSIONS, vec![4, 3, 2, 3, 1])])];
    for (n, hello) in (1..).zip(&old) {
        let mut client = Raw::connect(proxy.https());
        client.send(hello);
        assert_eq!(client.read_to_end().unwrap(), [21, 3, 1, 0, 2, 2, 70], "protocol_version");
        let line = proxy.log_line("its line", |line| {
            line["event"] == "handshake_failed" && line["client"] == client.local().to_string()
        });
        assert_eq!((&line["level"], &line["cause"]), (&"warn".into(), &"no_version".into()), "{line}");
        assert!(line["error"].as_str().unwrap().contains("neither TLS 1.2 nor TLS 1.3"), "{line}");
        proxy.metric_eventually(&failures("no_version"), f64::from(n));
    }
    // A client of today that says 1.0 where nobody looks any more.
    let mut client = Raw::connect(proxy.https());
    client.send(of(1, &[(SUPPORTED_VERSIONS, vec![4, 0x7a, 0x7a, 3, 4])]));
    assert_ne!(client.read_to_end().unwrap().last(), Some(&70));
    assert_eq!(proxy.metric(&failures("no_version")), 4.0);
}

#[test]
fn a_handshake_that_takes_too_long_is_counted() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nheader_timeout = \"200ms\"");
    let mut slow = Raw::connect(proxy.https());
    slow.send(&crate::support::client_hello("x.example")[..20]);
    slow.expect_gone();
    proxy.metric_eventually(&failures("timeout"), 1.0);
}

/// What every Go program does: it offers HTTP/2, agrees on it, and speaks HTTP/1.1.
#[test]
fn a_client_that_agrees_on_http2_and_speaks_http1_is_served() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent().alpn(&["h2", "http/1.1"]);
    let mut client = agent.connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.expect_echo(b"as if nothing had been agreed");
    let mut client = agent.connect(&proxy);
    client.send("POST /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.read_answer().status, 405, "P is not yet PRI");
    let mut client = agent.connect(&proxy);
    assert_eq!(client.connect_target("evil.example:443").status, 403);
    Frames::connect(&proxy, &secured.agent()).expect_alive();
}

/// The protocol that a client with these offers, from this address, agrees on.
fn agreed(config: ClientConfig, proxy: &Proxy, from: &str) -> Option<Vec<u8>> {
    let local: IpAddr = from.parse().unwrap();
    let client = Raw::connect_from(local, proxy.https());
    let name = ServerName::try_from(NAME).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = client.stream();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).ok()?;
    }
    tls.alpn_protocol().map(<[u8]>::to_vec)
}

fn offering(secured: &Secured, protocols: &[&str], first: &[CipherSuite]) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| first.iter().position(|wanted| *wanted == suite.suite()).unwrap_or(first.len()));
    let mut roots = RootCertStore::empty();
    roots.add(secured.authority.der()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

#[test]
fn the_protocol_is_what_is_configured_and_what_the_client_fares_well_with() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let firefox = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
    ];
    let clients = "[proxy]\nclients = [\"127.0.0.1\"]";
    let both = secured.start(&upstream, "", clients);
    let no_h2 = secured.start(&upstream, "alpn = [\"http/1.1\"]", clients);
    let h2_alone = secured.start(&upstream, "alpn = [\"h2\"]", clients);
    let browser = ["h2", "http/1.1"];
    let (us, stranger) = ("127.0.0.1", "127.0.0.9");
    for (proxy, offered, suites, from, expected) in [
        (&both, &browser[..], &[][..], us, Some("h2")),
        (&both, &browser, &firefox, us, Some("http/1.1")),
        (&both, &["h2"], &firefox, us, Some("h2")),
        (&both, &["http/1.0"], &[], us, Some("http/1.0")),
        (&both, &browser, &[], stranger, Some("http/1.1")),
        (&both, &["h2"], &[], stranger, Some("h2")),
        (&no_h2, &browser, &[], us, Some("http/1.1")),
        (&no_h2, &["h2"], &[], us, None),
        (&h2_alone, &browser, &firefox, us, Some("h2")),
        (&h2_alone, &["http/1.1"], &[], us, None),
    ] {
        let got = agreed(offering(&secured, offered, suites), proxy, from);
        let got = got.map(|p| String::from_utf8(p).unwrap());
        assert_eq!(got.as_deref(), expected, "{offered:?} from {from}");
    }
}

#[test]
fn curl_with_http_1_0_is_served() {
    if !have("curl") {
        return;
    }
    let secured = Secured::new();
    let upstream = secured.authority.echo(&["good.example"]);
    let proxy = secured.start(&upstream, "", "");
    let ran = Command::new("curl")
        .args([
            "--http1.0",
            "-sS",
            "--max-time",
            "10",
            "--proxy-insecure",
            "-o",
            "/dev/null",
            "-w",
            "%{http_connect}",
        ])
        .args(["-k", "-x", &format!("https://{}", proxy.https()), "https://good.example/"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "200", "{}", String::from_utf8_lossy(&ran.stderr));
}

/// One address sends what it can, and so do a hundred; the log is read as it comes, or slowly, so that lines
/// wait in the proxy; twenty denials of another address and its tunnels are all there.
#[test]
fn a_flood_takes_no_line_from_anybody_else() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let policy = secured.policy(&upstream, "", "");
    for proxy in [Proxy::start(&policy), Proxy::start_with_slow_log(&policy)] {
        flooded(&proxy, &secured);
    }
}

fn flooded(proxy: &Proxy, secured: &Secured) {
    let flooding = secured.agent();
    let mut frames = Frames::connect(proxy, &flooding);
    // A PING acknowledged that nobody sent: the h2 crate would write a line for each.
    let mut pings = Vec::new();
    for _ in 0..20_000 {
        pings.extend_from_slice(b"\0\0\x08\x06\x01\0\0\0\0ABCDEFGH");
    }
    frames.send_bytes(&pings);
    let address = proxy.http();
    let flood = std::thread::spawn(move || {
        for _ in 0..2_000 {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            let _ = stream.write_all(b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n");
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let _ = stream.read(&mut [0; 512]);
        }
    });
    let swarm = std::thread::spawn(move || {
        for number in 0..2_000_u16 {
            let from = std::net::Ipv4Addr::new(127, 0, 1, (number % 100) as u8 + 1);
            let mut client = Raw::connect_from(from.into(), address);
            client.send("EHLO desk.example\r\n");
            let _ = client.read_to_end();
        }
    });
    for number in 0..20 {
        let honest = || Raw::connect_from("127.0.0.77".parse().unwrap(), address);
        assert_eq!(honest().connect_target(&format!("honest-{number}.example:443")).status, 403);
        let mut tunnel = honest();
        assert_eq!(tunnel.connect_target(TARGET).status, 200);
        tunnel.finish();
        tunnel.expect_closed();
    }
    flood.join().unwrap();
    swarm.join().unwrap();
    frames.expect_alive();
    eventually("forty honest lines", || {
        let log = proxy.log_so_far();
        let honest =
            |line: &&serde_json::Value| line["client"].as_str().is_some_and(|c| c.starts_with("127.0.0.77:"));
        let (tunnels, denials): (Vec<_>, Vec<_>) =
            log.iter().filter(honest).partition(|l| l["event"] == "tunnel");
        (tunnels.len() == 20 && denials.len() == 20).then_some(())
    });
    assert_eq!(proxy.metric("ccpgate_log_lines_dropped_total"), 0.0, "all that was written was read");
    let log = proxy.log_so_far();
    let library = log.iter().filter(|line| line["event"] == "message").count();
    assert_eq!(library, 0, "lines of a library about a stranger's frames");
    let denied = proxy.metric("ccpgate_denied_total{reason=\"no_rule\"}");
    assert_eq!(denied, 2_020.0, "all are counted");
    let flooded = log.iter().filter(|line| line["target"] == "evil.example:443").count();
    assert!(flooded < 2_000, "{flooded} lines of one address");
}

/// As curl and browsers do: inner end, close_notify and FIN in one go, and nobody stays to hear more.
#[test]
fn an_orderly_end_over_tls_is_ok_though_the_client_waits_for_nothing() {
    let secured = Secured::new();
    let (tell, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    // Its last word comes when the client has gone, and its end behind that.
    let upstream = Upstream::serve(move |mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        wait.lock().unwrap().recv().unwrap();
        let _ = stream.write_all(&[21; 46]);
        std::thread::sleep(Duration::from_millis(50));
    });
    let proxy = secured.start(&upstream, "", "");
    for version in [&rustls::version::TLS13, &TLS12] {
        let mut client = Agent::of_version(&secured.authority, version).connect(&proxy);
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.send("the inner end");
        client.finish();
        drop(client);
        tell.send(()).unwrap();
        let before = if std::ptr::eq(version, &TLS12) { 2 } else { 1 };
        let ended = eventually("the end", || {
            let log = proxy.log_so_far();
            let ended: Vec<_> = log.into_iter().filter(|line| line["event"] == "tunnel").collect();
            (ended.len() == before).then_some(ended)
        });
        let line = &ended[before - 1];
        assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"client".into()), "{line}");
    }
}
