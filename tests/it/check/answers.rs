//! What answers in the service's place.

use std::io::{Read, Write};
use std::time::Duration;

use super::{check_site, endpoint, expect_cause, site};
use crate::support::{Authority, Region, Upstream, accept, now, read_request};

/// A server without TLS that says this to whoever comes.
fn in_clear(words: &'static [u8]) -> Upstream {
    Upstream::serve(move |mut stream| {
        let _ = stream.read(&mut [0; 16 * 1024]);
        let _ = stream.write_all(words);
    })
}

#[test]
fn what_speaks_no_tls_is_told_by_what_it_says() {
    let page: &[u8] =
        b"HTTP/1.1 403 Forbidden\r\n\r\n<html><title>x</title><body>Blocked \x1b[31mby \xe2\x80\xaerule 7</body>";
    for (words, cause, quoted) in [
        (page, "http_unexpected", "rule 7"),
        (b"<html>Blocked</html>", "http_unexpected", "Blocked"),
        (b"SSH-2.0-OpenSSH_9\r\n", "tls_failed", "SSH-2.0"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "tls_failed", "HandshakeFailure"),
        (b"", "tls_failed", "closed"),
    ] {
        let server = in_clear(words);
        let config = site(&server.for_targets(&["site.example:443"]));
        let report = check_site(&config, &[]);
        expect_cause(&report, "failed", cause, "security");
        let detail = endpoint(&report, "site.example")["detail"].as_str().unwrap();
        assert!(detail.contains(quoted), "{detail}");
        assert!(!detail.chars().any(|c| c.is_control() || c == '\u{202e}'), "{detail:?}");
        assert!(endpoint(&report, "site.example")["steps"]["http_ms"].is_null(), "{report:#}");
    }
    let resets = Upstream::resetter();
    let report = check_site(&site(&resets.for_targets(&["site.example:443"])), &[]);
    expect_cause(&report, "failed", "tcp_reset", "firewall");
}

/// A site with a public certificate may answer what it likes; a portal is known all the same.
#[test]
fn behind_a_public_certificate_every_status_is_the_services() {
    for status in ["200 OK", "204 No", "302 Found\r\nLocation: /x", "404 No", "500 No", "503 No"] {
        let region = Region::answering(move || format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        let report = region.check(&["--json"]).expect(0).json();
        assert_eq!(report["verdict"], "ok", "{status}: {report:#}");
    }
    for status in [
        "511 Network Authentication Required",
        "302 Found\r\nLocation: https://portal.hotel.example/\u{202e}x",
    ] {
        let region = Region::answering(move || format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        let report = region.check(&["--json"]).expect(1).json();
        assert_eq!(report["cause"], "http_unexpected", "{status}: {report:#}");
        assert!(!report.to_string().contains('\u{202e}'), "{report:#}");
    }
}

#[test]
fn a_block_page_behind_a_box_that_decrypts_is_no_answer() {
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 37\r\n\r\n<h1>Blocked</h1> by the web filter.  ";
    let region = Region::answering(move || page.to_owned());
    let trusted = [("SSL_CERT_FILE", region.ca())];
    let report = region.check_with(&["--json"], &trusted).expect(1).json();
    assert_eq!(report["cause"], "http_unexpected", "{report:#}");
    let acme = endpoint(&report, "acme.my.connect.aws")["detail"].as_str().unwrap();
    assert!(acme.contains("Blocked") && acme.contains("issuer CN=authority"), "{acme}");
    // AWS's own answer through the same box.
    let amazon = "HTTP/1.1 403 Forbidden\r\nx-amzn-RequestId: 1\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\nblocked";
    let region = Region::answering(move || amazon.to_owned());
    let report = region.check_with(&["--json"], &[("SSL_CERT_FILE", region.ca())]).expect(0).json();
    assert_eq!((&report["verdict"], &report["cause"]), (&"degraded".into(), &"tls_intercepted".into()));
}

/// Nothing that a server does can hang it or fill its memory.
#[test]
fn hostile_servers_are_failures_and_nothing_worse() {
    let drip = Region::serving(|mut tls| {
        for _ in 0..60 {
            if tls.write_all(b"H").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    });
    let endless = Region::serving(|mut tls| {
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nA: ");
        while tls.write_all(&[b'a'; 16 * 1024]).is_ok() {}
    });
    let early_hints =
        Region::serving(|mut tls| while tls.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").is_ok() {});
    let silent = Region::serving(|mut tls| {
        let _ = tls.read(&mut [0; 1024]);
        let _ = tls.read(&mut [0; 1024]);
        std::thread::sleep(Duration::from_secs(8));
    });
    let garbage = Region::serving(|mut tls| {
        let _ = tls.write_all(&[0xff; 4096]);
    });
    for region in [drip, endless, early_hints, silent, garbage] {
        let report = region.check(&["--json", "--category", "chat"]).expect(1).json();
        assert_eq!(report["cause"], "http_unexpected", "{report:#}");
    }
}

/// An answer that a cache kept for a day says so, and proves nothing against the clock.
#[test]
fn a_stored_answer_is_no_clock() {
    let old = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let old = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&old).unwrap();
    let region = Region::answering(move || {
        format!("HTTP/1.1 200 OK\r\nDate: {old}\r\nAge: 86400\r\nContent-Length: 0\r\n\r\n")
    });
    let report = region.check(&["--json"]).expect(0).json();
    assert_eq!(report["verdict"], "ok", "{report:#}");
}

/// One server of many whose clock is wrong is not this machine's trouble.
#[test]
fn one_servers_clock_is_not_ours() {
    let region = Region::healthy();
    let authority = Authority::new();
    let (config, _) = authority.server(&["other.example"]);
    let wrong = Upstream::serve(move |stream| {
        let Some(mut tls) = accept(&config, stream) else { return };
        if read_request(&mut tls).is_some() {
            let _ = tls.write_all(
                b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Jan 2012 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let mut both = tempfile::NamedTempFile::new().unwrap();
    both.write_all((authority.pem() + &region.authority().pem()).as_bytes()).unwrap();
    let config = format!(
        "{}\"other.example:443\" = \"{}\"\n[[allow]]\npattern = \"other.example\"\n",
        region.config(),
        wrong.address()
    );
    let ca = both.path().to_str().unwrap();
    let report = crate::support::ccpgate(Some(&config), &["check", "--json", "--ca", ca]).expect(0).json();
    assert_eq!(report["verdict"], "ok", "{report:#}");
    assert!(report["clock_skew_ms"].as_i64().unwrap().abs() < 5_000 && !now().is_empty(), "{report:#}");
}

/// Who decrypts answers for a connection that it resets; nobody else can have read the request.
#[test]
fn a_reset_behind_tls_is_told_by_who_could_read() {
    let resets = || {
        Region::serving(|mut tls| {
            let _ = read_request(&mut tls);
            let _ = rustix::net::sockopt::set_socket_linger(&tls.sock, Some(Duration::ZERO));
        })
    };
    let report = resets().check(&["--json", "--category", "chat"]).expect(1).json();
    assert_eq!((&report["cause"], &report["owner"]), (&"tcp_reset".into(), &"firewall".into()), "{report:#}");
    let region = resets();
    let trusted = [("SSL_CERT_FILE", region.ca())];
    let report = region.check_with(&["--json", "--category", "chat"], &trusted).expect(1).json();
    assert_eq!(report["cause"], "http_unexpected", "{report:#}");
}

/// An address from a file is no answer of DNS: whoever looks for the DNS filter looks in vain.
#[test]
fn an_address_from_a_file_is_not_blamed_on_dns() {
    let report = check_site(&site("[dns.hosts]\n\"site.example\" = [\"10.11.12.13\"]\n"), &[]);
    expect_cause(&report, "failed", "dns_private", "network");
    let detail = endpoint(&report, "site.example")["detail"].as_str().unwrap();
    assert!(detail.starts_with("dns.hosts of the configuration leads the name to 10.11.12.13"), "{detail}");
}
