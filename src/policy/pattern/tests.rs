//! Normal forms, corrections, and what one pattern matches.

use super::*;

fn normal(text: &str) -> String {
    Pattern::parse(text).map_or_else(|error| error.to_string(), |p| p.to_string())
}

fn host(text: &str) -> Host {
    Host::parse(text.as_bytes()).unwrap()
}

fn matched(pattern: &str, text: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(&host(text))
}

#[test]
fn normal_form() {
    for (text, expected) in [
        (" Login.IDP.Example. ", "login.idp.example"),
        ("B\u{dc}cher.example", "xn--bcher-kva.example"),
        ("*.b\u{fc}cher\u{3002}example", "*.xn--bcher-kva.example"),
        ("rtc*.connect-telecom.us-west-2.amazonaws.com", "rtc*.connect-telecom.us-west-2.amazonaws.com"),
        ("localhost", "localhost"),
        ("_x.example", "_x.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("*.*.example.com", "*.*.example.com"),
    ] {
        assert_eq!(normal(text), expected);
    }
}

#[test]
fn refused_with_the_correction() {
    for (text, part) in [
        ("", "empty"),
        ("https://X.example/", "write \"x.example\""),
        ("wss://x.example:8443/ccp", "write \"x.example\""),
        ("x.example/", "write \"x.example\""),
        ("x.example/path", "write \"x.example\""),
        ("x.example:8443", "write \"x.example\" with `ports = [8443]`"),
        ("x.example:", "write \"x.example\" with `ports = [443]`"),
        ("[::1]:443", "write \"[::1]\" with `ports = [443]`"),
        ("user@x.example", "write \"x.example\""),
        ("10.0.0.0/8", "address range"),
        ("fd00::/8", "address range"),
        ("**.x.example", "write \"*.x.example\""),
        ("**/x.example", "path"),
        ("*", "too broad"),
        ("*.", "too broad"),
        ("x?.example", "`?`"),
        ("x[ab].example", "`[`"),
        ("{a,b}.example", "`{`"),
        ("!x.example", "`!`"),
        ("x\\.example", "`\\\\`"),
        ("x y.example", "` `"),
        ("x:y.example", "`:`"),
        ("b\u{fc}*.example", "punycode"),
        ("\u{ff0a}.example.com", "internationalised"),
        ("a..b", "empty label"),
        (".a.b", "write \"*.a.b\" for the names below it, \"a.b\" for that name itself, or both"),
        (".idp.example/", "write \"*.idp.example\" for the names below it, \"idp.example\""),
        (".example.com:443", "write \"*.example.com\" for the names below it, \"example.com\""),
        ("https://.idp.example/", "write \"*.idp.example\" for the names below it"),
        ("*.*", "too broad"),
        ("..", "empty label"),
        ("a..b", "write \"a.b\""),
        ("x.example:99999", "write \"x.example\""),
        ("https://127.1/", "a URL, and patterns are hosts"),
        ("127.1", "ends in a number"),
        ("0x7f000001", "ends in a number"),
        ("*.0.0.1", "ends in a number"),
        ("10.0.0.*", "ends in a number"),
    ] {
        assert!(normal(text).contains(part), "{text:?}: {}", normal(text));
    }
    let long = "a".repeat(64);
    assert!(normal(&format!("{long}.example")).contains("63"));
    assert!(normal(&"abc.".repeat(100)).contains("253"));
}

proptest::proptest! {
    #[test]
    fn every_correction_is_a_pattern(text in "\\PC{0,40}|(https?://|//|)(u@|)[.*]{0,3}[a-z0-9.*-]{0,12}(:[0-9]{0,6}|)(/[a-z?*]{0,3}|)") {
        if let Err(error) = Pattern::parse(&text) {
            for write in error.corrections() {
                proptest::prop_assert!(Pattern::parse(write).is_ok(), "{} for {}", write, text);
                let quoted = format!("{:?}", write);
                proptest::prop_assert!(error.to_string().contains(&quoted));
            }
        }
    }
}

#[test]
fn broad_patterns_are_read_and_recognised() {
    for text in ["*.com", "shop*.com", "*.*.com", "example.*"] {
        assert!(Pattern::parse(text).unwrap().too_broad().is_some(), "{text}");
    }
    for text in ["*.idp.example", "x.com", "rtc*.a.example"] {
        assert!(Pattern::parse(text).unwrap().too_broad().is_none(), "{text}");
    }
    assert!(matched("*.zip", "a.b.zip"));
    assert!(matched("example.*", "example.test"));
    assert!(Pattern::parse("*").is_err());
}

#[test]
fn a_star_stays_in_its_label() {
    let rtc = "rtc*.connect-telecom.us-west-2.amazonaws.com";
    for (text, expected) in [
        ("rtc.connect-telecom.us-west-2.amazonaws.com", true),
        ("rtc1-a.connect-telecom.us-west-2.amazonaws.com", true),
        ("RTC9.Connect-Telecom.us-west-2.amazonaws.com.", true),
        ("rt.connect-telecom.us-west-2.amazonaws.com", false),
        ("xrtc.connect-telecom.us-west-2.amazonaws.com", false),
        ("rtc.evil.com.connect-telecom.us-west-2.amazonaws.com", false),
        ("a.rtc.connect-telecom.us-west-2.amazonaws.com", false),
        ("rtc.connect-telecom.us-west-2.amazonaws.com.evil.com", false),
        ("rtc.connect-telecom.us-west-2xamazonaws.com", false),
    ] {
        assert_eq!(matched(rtc, text), expected, "{text}");
    }
    assert!(matched("a*b*c.example.com", "abc.example.com"));
    assert!(matched("a*b*c.example.com", "axxbybzc.example.com"));
    assert!(!matched("a*b*c.example.com", "acb.example.com"));
    assert!(matched("s3.*.example.com", "s3.x.example.com"));
    assert!(!matched("s3.*.example.com", "s3.x.y.example.com"));
    assert!(!matched("s3.*.example.com", "s3.example.com"));
}

#[test]
fn a_leading_star_is_one_or_more_labels() {
    for (text, expected) in [
        ("acme.my.connect.aws", true),
        ("a.b.my.connect.aws", true),
        ("my.connect.aws", false),
        ("evilmy.connect.aws", false),
        ("my.connect.aws.evil.com", false),
        ("xn--a.my.connect.aws", true),
    ] {
        assert_eq!(matched("*.my.connect.aws", text), expected, "{text}");
    }
    assert!(matched("*.a*.example.com", "x.y.ab.example.com"));
    assert!(!matched("*.a*.example.com", "ab.example.com"));
    assert!(matched("*.*.example.com", "a.b.c.example.com"));
    assert!(!matched("*.*.example.com", "a.example.com"));
}

#[test]
fn literals_match_only_themselves() {
    assert!(matched("192.0.2.1", "192.0.2.1"));
    assert!(!matched("192.0.2.1", "192.0.2.10"));
    assert!(matched("2001:db8::1", "[2001:DB8:0::1]"));
    assert!(!matched("192.0.2.1", "[::ffff:192.0.2.1]"));
    assert!(!matched("*.example.com", "192.0.2.1"));
    assert!(!Pattern::parse("x*.2a").unwrap().matches(&host("192.0.2.1")));
}

#[test]
fn parts() {
    let suffix = |text| Pattern::parse(text).unwrap().literal_suffix().to_owned();
    assert_eq!(suffix("rtc*.a.b"), "a.b");
    assert_eq!(suffix("*.a.b"), "a.b");
    assert_eq!(suffix("a.b*"), "");
    assert_eq!(suffix("a.b"), "a.b");
    assert!(Pattern::parse("*.a.b").unwrap().is_subdomains());
    assert!(!Pattern::parse("*.*.a.b").unwrap().is_subdomains());
}
