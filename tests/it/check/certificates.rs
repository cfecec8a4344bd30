use std::io::Write;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::{check_site, endpoint, expect_cause, site};
use crate::support::{Authority, Region, now, read_request};

/// A site whose certificate is as these parameters say.
fn with_certificate(change: impl FnOnce(&mut CertificateParams)) -> Region {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["site.example".to_owned()]).unwrap();
    change(&mut params);
    let leaf = authority.issue(params, &key);
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    Region::with(authority, Arc::new(config), |mut tls| {
        while read_request(&mut tls).is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Length: 0\r\n\r\n", now());
            if tls.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn who_decrypts_is_named() {
    let region = Region::healthy();
    let unknown = region.check_with(&["--json"], &[]).expect(1).json();
    assert_eq!((&unknown["cause"], &unknown["verdict"]), (&"tls_intercepted".into(), &"failed".into()));
    let trusted = region.check_with(&["--json"], &[("SSL_CERT_FILE", region.ca())]).expect(0).json();
    assert_eq!((&trusted["cause"], &trusted["verdict"]), (&"tls_intercepted".into(), &"degraded".into()));
    assert_eq!(trusted["owner"], "security");
    for report in [&unknown, &trusted] {
        let detail = endpoint(report, "acme.my.connect.aws")["detail"].as_str().unwrap();
        assert!(detail.contains("issuer CN=authority") && detail.contains("SHA-256 "), "{detail}");
        let fingerprint = detail.split("SHA-256 ").nth(1).unwrap();
        assert_eq!(fingerprint.len(), 95, "{detail}");
        let certificate = &endpoint(report, "acme.my.connect.aws")["certificate"];
        assert_eq!((&certificate["sha256"], &certificate["public"]), (&fingerprint.into(), &false.into()));
    }
    assert_eq!(endpoint(&unknown, "acme.my.connect.aws")["steps"]["http_ms"], serde_json::Value::Null);
    assert!(endpoint(&trusted, "acme.my.connect.aws")["steps"]["http_ms"].is_u64());
}

#[test]
fn expired_early_and_wrong_names_are_told_apart() {
    let expired = with_certificate(|p| p.not_after = date_time_ymd(2020, 1, 1));
    let early = with_certificate(|p| p.not_before = date_time_ymd(2090, 1, 1));
    let other = with_certificate(|p| {
        p.subject_alt_names = vec![rcgen::SanType::DnsName("x.example".try_into().unwrap())]
    });
    for (region, cause) in [(expired, "tls_expired"), (early, "tls_expired"), (other, "tls_wrong_name")] {
        let config = site(&region.upstream().for_targets(&["site.example:443"]));
        let report = check_site(&config, &["--ca", region.ca()]);
        expect_cause(&report, "failed", cause, "security");
    }
}

/// A name in a certificate is anybody's text.
#[test]
fn control_characters_in_certificates_stay_off_the_terminal() {
    let region = with_certificate(|p| {
        p.distinguished_name.push(DnType::CommonName, "a\u{1b}]0;owned\u{7}\r\n\u{202e}b");
        p.subject_alt_names = vec![rcgen::SanType::DnsName("x.example".try_into().unwrap())];
    });
    let config = site(&region.upstream().for_targets(&["site.example:443"]));
    for arguments in
        [&["check", "--category", "extra", "--ca", region.ca()][..], &["check", "--category", "extra"]]
    {
        let ran = crate::support::ccpgate(Some(&config), arguments).expect(1);
        let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ran.stdout.contains(odd) && !ran.stderr.contains(odd), "{:?}", ran.stdout);
    }
}
