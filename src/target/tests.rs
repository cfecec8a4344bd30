//! The adversarial authorities of other proxies, what people type, and agreement with `http::Uri`.

use super::*;
use proptest::prelude::*;

fn wire(text: &str) -> Result<String, TargetError> {
    Target::parse_authority(text.as_bytes()).map(|target| target.to_string())
}

fn human(text: &str) -> Result<String, TargetError> {
    Target::parse_human(text).map(|target| target.to_string())
}

#[test]
fn accepted_on_the_wire() {
    for (text, normal) in [
        ("acme.my.connect.aws:443", "acme.my.connect.aws:443"),
        ("GoOdHoSt:443", "goodhost:443"),
        ("goodhost.:443", "goodhost:443"),
        ("_sip._tls.example:1", "_sip._tls.example:1"),
        ("-a-.b--c.example:65535", "-a-.b--c.example:65535"),
        ("xn--a.example:443", "xn--a.example:443"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("127.0.0.1.:80", "127.0.0.1:80"),
        ("[::1]:443", "[::1]:443"),
        ("[2600:F0F2:7100:0::1]:443", "[2600:f0f2:7100::1]:443"),
        ("[::ffff:169.254.169.254]:443", "[::ffff:169.254.169.254]:443"),
    ] {
        assert_eq!(wire(text).as_deref(), Ok(normal), "{text}");
    }
}

#[test]
fn malformed_on_the_wire() {
    use TargetError as E;
    for (text, error) in [
        ("", E::EmptyHost),
        ("host", E::MissingPort),
        ("host:", E::MissingPort),
        ("host:0", E::Port),
        ("host:65536", E::Port),
        ("host:99999", E::Port),
        ("host:4294967739", E::Port),
        ("host:-1", E::Port),
        ("host:+443", E::Port),
        ("host:4 43", E::Port),
        ("host:443 ", E::Port),
        ("host:0x1bb", E::Port),
        ("host:https", E::Port),
        ("host:४४३", E::Port),
        ("host:0443", E::Port),
        ("host:00000000443", E::Port),
        ("host:443/", E::Port),
        (":443", E::EmptyHost),
        (".:443", E::EmptyLabel),
        ("user@host:443", E::Userinfo),
        ("good:443@evil.com:443", E::Userinfo),
        ("[goodhost]:443", E::Ipv6),
        ("[::1%25.my.connect.aws]:443", E::Ipv6),
        ("[::1%eth0]:443", E::Ipv6),
        ("[127.0.0.1]:443", E::Ipv6),
        ("::1:443", E::Brackets),
        ("[::1:443", E::Brackets),
        ("::1]:443", E::Brackets),
        ("[[::1]]:443", E::Ipv6),
        ("[]:443", E::Ipv6),
        ("[::1]443", E::Brackets),
        ("[::1]", E::MissingPort),
        ("x[::1]:443", E::Brackets),
        ("goodhost..:443", E::EmptyLabel),
        (".goodhost:443", E::EmptyLabel),
        ("a..b:443", E::EmptyLabel),
        ("%67oodhost:443", E::Character(b'%')),
        ("host%00.evil:443", E::Character(b'%')),
        ("goodhost%2eevil.com:443", E::Character(b'%')),
        ("\u{f6}.example:443", E::Character(0xc3)),
        ("\u{ff41}.example:443", E::Character(0xef)),
        ("a\u{3002}example:443", E::Character(0xe3)),
        ("a\u{200b}.example:443", E::Character(0xe2)),
        ("a\0.example:443", E::Character(0)),
        ("a\t.example:443", E::Character(b'\t')),
        ("a\x7f.example:443", E::Character(0x7f)),
        ("a\\b:443", E::Character(b'\\')),
        ("a|b:443", E::Character(b'|')),
        ("a\"b:443", E::Character(b'"')),
        ("a<b:443", E::Character(b'<')),
        ("a b:443", E::Character(b' ')),
        ("*.my.connect.aws:443", E::Wildcard),
        ("rtc*.connect-telecom.us-west-2.amazonaws.com:443", E::Wildcard),
        ("*", E::Wildcard),
        ("/", E::Character(b'/')),
        ("//good", E::Character(b'/')),
        ("http://good/", E::SchemeBeforeHost),
        ("https://good:443/", E::SchemeBeforeHost),
        ("good/", E::Character(b'/')),
        ("good?x", E::Character(b'?')),
        ("good#x", E::Character(b'#')),
    ] {
        assert_eq!(wire(text), Err(error), "{text:?}");
    }
}

#[test]
fn lengths() {
    let label = "a".repeat(63);
    assert!(wire(&format!("{label}.example:443")).is_ok());
    assert_eq!(wire(&format!("a{label}.example:443")), Err(TargetError::LabelTooLong));
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(longest.len(), MAX_NAME);
    assert!(wire(&format!("{longest}:443")).is_ok());
    assert!(wire(&format!("{longest}.:443")).is_ok());
    assert_eq!(wire(&format!("{longest}b:443")), Err(TargetError::NameTooLong));
    assert_eq!(wire(&format!("{}:443", "a.".repeat(32768))), Err(TargetError::NameTooLong));
}

#[test]
fn names_that_a_resolver_reads_as_addresses() {
    for text in [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "017700000001",
        "1.2.3.4.5",
        "0X",
        "127.0.0.0x1",
        "256.0.0.1",
        "a.1",
        "0x7f000001.",
    ] {
        let target = Target::parse_authority(format!("{text}:443").as_bytes()).unwrap();
        assert!(target.host.is_numeric_name(), "{text}");
    }
    for text in ["1.example", "0xg", "1a", "x0", "0x.example"] {
        let target = Target::parse_authority(format!("{text}:443").as_bytes()).unwrap();
        assert!(!target.host.is_numeric_name(), "{text}");
    }
}

#[test]
fn typed_by_people() {
    for (text, normal) in [
        (" Acme.my.connect.aws ", "acme.my.connect.aws:443"),
        ("acme.my.connect.aws:8443", "acme.my.connect.aws:8443"),
        ("https://acme.my.connect.aws/ccp-v2?x=1#y", "acme.my.connect.aws:443"),
        ("WSS://acme.my.connect.aws", "acme.my.connect.aws:443"),
        // What a browser would open without TLS isn't allowed because it is with TLS.
        ("http://acme.my.connect.aws", "acme.my.connect.aws:80"),
        ("WS://acme.my.connect.aws/x", "acme.my.connect.aws:80"),
        ("http://acme.my.connect.aws:443", "acme.my.connect.aws:443"),
        ("ws://acme.my.connect.aws:80/", "acme.my.connect.aws:80"),
        ("https://[::1]/", "[::1]:443"),
        ("[::1]", "[::1]:443"),
        ("::1", "[::1]:443"),
        ("127.0.0.1", "127.0.0.1:443"),
        ("b\u{fc}cher.example", "xn--bcher-kva.example:443"),
        ("B\u{dc}CHER\u{3002}example.:8443", "xn--bcher-kva.example:8443"),
        ("\u{ff41}.example", "a.example:443"),
    ] {
        assert_eq!(human(text).as_deref(), Ok(normal), "{text}");
    }
}

#[test]
fn not_typed_by_people() {
    use TargetError as E;
    for (text, error) in [
        ("", E::EmptyHost),
        ("https://", E::EmptyHost),
        ("https:///path", E::EmptyHost),
        ("ftp://host/", E::Scheme),
        ("://host", E::Scheme),
        ("host/path", E::Path),
        ("https://user@host/", E::Userinfo),
        ("https://user:secret@host/", E::Userinfo),
        ("user@b\u{fc}cher.example", E::Userinfo),
        ("host:", E::MissingPort),
        ("host:0443", E::Port),
        ("b\u{fc}cher.example:4\u{ff14}3", E::Port),
        ("*.example.com", E::Wildcard),
        ("\u{ff0a}.example.com", E::Wildcard),
        ("a b", E::Character(b' ')),
        ("https:host", E::Port),
        ("https://ho\\st", E::Character(b'\\')),
    ] {
        assert_eq!(human(text), Err(error), "{text:?}");
    }
    assert!(human("\u{fffd}.example").is_err());
}

/// What the strict parser accepts, `http::Uri` reads the same way.
fn agrees_with_http(bytes: &[u8]) {
    let Ok(target) = Target::parse_authority(bytes) else {
        return;
    };
    let uri = http::Uri::try_from(bytes).expect("an authority");
    assert_eq!(uri.port_u16(), Some(target.port));
    let host = uri.host().unwrap().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    match &target.host {
        Host::Name(name) => assert_eq!(&**name, host),
        Host::Ip(IpAddr::V4(address)) => assert_eq!(address.to_string(), host),
        Host::Ip(IpAddr::V6(address)) => {
            let inner = host.trim_start_matches('[').trim_end_matches(']');
            assert_eq!(inner.parse::<Ipv6Addr>().as_ref(), Ok(address));
        }
    }
    // The normal form is a fixed point.
    let normal = target.to_string();
    assert_eq!(Target::parse_authority(normal.as_bytes()), Ok(target.clone()));
    assert_eq!(Target::parse_human(&normal), Ok(target));
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        agrees_with_http(&bytes);
    }

    #[test]
    fn near_authorities(text in r"\[?[a-zA-Z0-9:.*%@\[\]_-]{0,20}\]?\.?:[0-9+-]{0,6}") {
        agrees_with_http(text.as_bytes());
    }

    #[test]
    fn likely_authorities(text in r"([a-zA-Z0-9_-]{1,8}\.){0,4}[a-zA-Z0-9]{1,4}\.?:[1-9][0-9]{0,4}") {
        agrees_with_http(text.as_bytes());
    }

    #[test]
    fn any_text(text in any::<String>()) {
        let _ = Target::parse_human(&text);
    }
}

#[test]
fn ice_servers_are_read_as_panels_log_them() {
    for (text, target) in [
        (
            "turn:TurnNlb-1.elb.us-west-2.amazonaws.com:3478?transport=udp",
            "turnnlb-1.elb.us-west-2.amazonaws.com:3478",
        ),
        ("TURN:x.example", "x.example:3478"),
        ("turns:x.example?transport=tcp", "x.example:5349"),
        ("stun:[2001:db8::1]:19302", "[2001:db8::1]:19302"),
        ("stuns://x.example", "x.example:5349"),
        ("turn:443", "turn:443"),
        ("turn.example:443", "turn.example:443"),
    ] {
        assert_eq!(Target::parse_human(text).map(|read| read.to_string()).as_deref(), Ok(target), "{text}");
    }
    assert!(Target::parse_human("turn:a b").is_err());
}

#[test]
fn a_target_has_one_of_four_forms() {
    let url = |tls| Form::Absolute { tls };
    for (target, form) in [
        ("/", Form::Origin),
        ("//good.example:443", Form::Origin),
        ("*", Form::Asterisk),
        ("good.example:443", Form::Authority),
        ("[2001:db8::1]:443", Form::Authority),
        ("192.0.2.1:80", Form::Authority),
        ("http://good.example/", url(false)),
        ("HTTPS://good.example", url(true)),
        ("wss://good.example:443/x", url(true)),
        ("ftp://agent:secret@good.example/", url(false)),
        ("urn:example", url(false)),
        ("good.example", Form::None),
        ("good.example/path", Form::None),
        ("good.example/path:x", Form::None),
        ("**", Form::None),
        ("?x", Form::None),
        ("http:", Form::None),
        ("agent@good.example:443", Form::None),
        ("", Form::None),
    ] {
        assert_eq!(Form::of(target), form, "{target}");
    }
}
