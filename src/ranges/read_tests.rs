use super::*;
use crate::ranges::day;

const NEW: &[u8] = include_bytes!("../../tests/data/ip-ranges-2026.json");
const OLD: &[u8] = include_bytes!("../../tests/data/ip-ranges-2021.json");

fn refused(text: &str) -> String {
    read(text.as_bytes()).unwrap_err()
}

/// A file with these prefixes.
fn with(ipv4: &str, ipv6: &str) -> String {
    format!(
        "{{\"syncToken\": \"1\", \"createDate\": \"2026-08-22-15-17-05\",\n\"prefixes\": [{ipv4}],\n\"ipv6_prefixes\": [{ipv6}]}}"
    )
}

const ENTRY: &str = r#"{"ip_prefix": "15.193.0.0/19", "region": "GLOBAL", "service": "AMAZON_CONNECT"}"#;

#[test]
fn a_real_file_is_read() {
    for (bytes, token, date) in [(NEW, 1_787_411_825, "2026-08-22"), (OLD, 1_620_836_653, "2021-05-12")] {
        let ranges = read(bytes).unwrap();
        assert_eq!((ranges.sync_token, day(ranges.created).to_string()), (token, date.to_owned()));
        let media: Vec<_> =
            ranges.entries.iter().filter(|entry| ranges.service(entry) == "AMAZON_CONNECT").collect();
        assert!(media.len() >= 10);
        assert!(media.iter().any(|entry| entry.net.to_string() == "15.193.0.0/19"));
        assert!(ranges.knows_region("us-west-2") && !ranges.knows_region("moon-1"));
        assert!(ranges.of_service("AMAZON").ipv4_addresses() > 0);
        assert!(ranges.of_service("NONE").is_empty());
    }
}

#[test]
fn the_schema_before_2020_and_one_day_later_ones_are_read() {
    // Without network_border_group, one prefix of two services, and a mark at the front.
    let text = with(&format!("{ENTRY}, {}", ENTRY.replace("AMAZON_CONNECT", "EC2")), "");
    assert_eq!(read(text.as_bytes()).unwrap().entries.len(), 2);
    assert_eq!(read(format!("\u{feff}{text}").as_bytes()).unwrap().entries.len(), 2);
    let text = with(&ENTRY.replace('}', ", \"network_border_group\": \"x\", \"new\": [{\"a\": null}]}"), "");
    let text = text.replacen('{', "{\"more\": {\"deep\": [1, 2]}, ", 1);
    assert_eq!(read(text.as_bytes()).unwrap().entries.len(), 1);
    // An escape that JSON allows.
    let text = with(&ENTRY.replace("GLOBAL", "\\u0047LOBAL"), "");
    let ranges = read(text.as_bytes()).unwrap();
    assert_eq!(ranges.region(&ranges.entries[0]), "GLOBAL");
}

#[test]
fn what_is_malformed_is_refused_with_its_place() {
    for (from, to, place, why) in [
        ("15.193.0.0/19", "15.193.0.0/33", "line 2", "expected an IPv4 network"),
        ("15.193.0.0/19", "15.193.0.0", "line 2", "expected an IPv4 network"),
        ("15.193.0.0/19", "15.193.1.0/19", "line 2", "the network is 15.193.0.0/19"),
        ("15.193.0.0/19", "2600::/40", "line 2", "expected an IPv4 network"),
        ("15.193.0.0/19", "0.0.0.0/0", "line 2", "wider than any"),
        ("15.193.0.0/19", "14.0.0.0/7", "line 2", "wider than any"),
        ("\"15.193.0.0/19\"", "7", "line 2", "expected an IPv4 network"),
        ("GLOBAL", "us west", "line 2", "expected a name of letters"),
        ("GLOBAL", "", "line 2", "expected a name of letters"),
        ("\"region\": \"GLOBAL\", ", "", "line 2", "missing field `region`"),
        (ENTRY, r#"["15.193.0.0/19", "GLOBAL", "AMAZON_CONNECT"]"#, "line 2", "expected an object"),
        ("\"1\"", "\"-1\"", "line 1", "expected a syncToken"),
        ("\"1\"", "1", "line 1", "expected a syncToken"),
        ("2026-08-22-15-17-05", "2026-02-30-15-17-05", "line 1", "expected a createDate"),
        ("2026-08-22-15-17-05", "2026-8-22-15-17-05", "line 1", "expected a createDate"),
        ("2026-08-22-15-17-05", "", "line 1", "expected a createDate"),
        ("\"prefixes\"", "\"other\"", "line 3", "missing field `prefixes`"),
        ("\"ipv6_prefixes\"", "\"prefixes\"", "line 3", "duplicate field `prefixes`"),
        ("\"ipv6_prefixes\": []", "\"ipv6_prefixes\": null", "line 3", "invalid type: null"),
    ] {
        let text = with(ENTRY, "");
        assert!(text.contains(from), "{from}");
        let message = refused(&text.replacen(from, to, 1));
        assert!(message.starts_with(place) && message.contains(", column "), "{to}: {message}");
        assert!(message.contains(why), "{to}: {message}");
        assert!(message.contains(ADDRESS), "{to}: {message}");
    }
    let six = r#"{"ipv6_prefix": "2600:f0f2:7100::1/40", "region": "GLOBAL", "service": "X"}"#;
    assert!(refused(&with(ENTRY, six)).contains("the network is 2600:f0f2:7100::/40"));
    assert!(refused(&with("", "")).contains("no prefix in it"));
    assert!(refused(&format!("{} {{}}", with(ENTRY, ""))).contains("trailing characters"));
    assert!(read(&vec![b' '; LARGEST + 1]).unwrap_err().contains("32 MiB"));
}

#[test]
fn what_something_else_is_gets_told() {
    for (text, why) in [
        ("", "the file is empty"),
        (" \n ", "the file is empty"),
        ("\u{1f}", "expected value"),
        ("<html><head><TITLE>\n Blocked\u{7} by\tpolicy </TITLE>", "a web page, \"Blocked by policy\""),
        ("<?xml version=\"1.0\"?><Error/>", "a web page or XML"),
        ("{}", "missing field `syncToken`"),
        ("[]", "invalid type: sequence, expected an object"),
        ("null", "invalid type: null, expected an object"),
        ("syncToken: 5", "expected value"),
    ] {
        let message = refused(text);
        assert!(message.contains(why) && message.starts_with("line "), "{text:?}: {message}");
        assert!(!message.chars().any(char::is_control), "{text:?}: {message:?}");
    }
    assert!(read(b"\x1f\x8b\x08\x00").unwrap_err().contains("gzip"));
    assert!(read(b"\xff\xfe{\x00").unwrap_err().contains("UTF-16"));
    assert!(read(b"{\"syncToken\": \"\xff\"}").is_err());
}

#[test]
fn a_file_that_was_cut_short_anywhere_is_refused() {
    let mut cut = 0;
    while cut < NEW.trim_ascii_end().len() {
        let message = read(&NEW[..cut]).unwrap_err();
        assert!(cut == 0 || message.contains("cut short"), "{cut}: {message}");
        cut += 97;
    }
}

#[test]
fn no_control_character_of_a_file_gets_into_a_message() {
    let text = with(&ENTRY.replace("GLOBAL", "\\u001b[31m\\nx"), "");
    let message = refused(&text);
    assert!(!message.chars().any(char::is_control), "{message:?}");
    let text = with(&ENTRY.replace("\"region\"", "\"reg\\u001bion\""), "");
    assert!(!refused(&text).chars().any(char::is_control));
}
