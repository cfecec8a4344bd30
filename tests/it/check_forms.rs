//! What `check` prints besides its report: Regions by distance, and JUnit XML.

use std::net::{TcpListener, UdpSocket};

use serde_json::{Value, json};

use crate::support::ccpgate;
use crate::support::turn::{Turn, open};

/// Every name asks a resolver that refuses.
const NOWHERE: &str = "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"1s\"\n";

#[test]
fn regions_are_ranked_by_connections_and_those_without_one_come_last() {
    let near = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = near.local_addr().unwrap();
    let config = format!(
        "{NOWHERE}[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n\
         [egress]\nconnect_to = {{ \"*.eu-west-2.amazonaws.com:443\" = \"{to}\" }}\n"
    );
    let arguments = ["check", "--category", "media", "--regions", "all"];
    let report = ccpgate(Some(&config), &[&arguments[..], &["--json"]].concat()).expect(0).json();
    let regions = report["regions"].as_array().unwrap();
    assert_eq!(regions.len(), 12, "{report:#}");
    assert_eq!(regions[0]["region"], "eu-west-2", "{report:#}");
    assert!(regions[0]["rtt_ms"].as_u64().is_some_and(|ms| ms < 1000), "{report:#}");
    assert!(regions[1..].iter().all(|region| region["rtt_ms"] == Value::Null), "{report:#}");
    let text = ccpgate(Some(&config), &arguments).expect(0).stdout;
    assert!(text.contains("the desks' distance") && text.contains("eu-west-2"), "{text}");
    assert!(text.contains("no connection"), "{text}");
    for wrong in ["us-east-1", "", "ALL"] {
        assert!(ccpgate(Some(&config), &["check", "--regions", wrong]).expect(2).stderr.contains("all"));
    }
    // Without the option nothing is said of them.
    let report = ccpgate(Some(&config), &["check", "--category", "media", "--json"]).expect(0).json();
    assert_eq!(report["regions"], json!(null));
}

#[test]
fn junit_has_a_suite_a_category_and_a_case_an_endpoint() {
    let turn = Turn::start(open());
    let refusing = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let to = turn.address();
    let config = format!(
        "[dns]\nservers = [\"127.0.0.1:{refusing}\"]\ntimeout = \"1s\"\n\
         [connect]\nregions = [\"eu-west-2\"]\ninstances = [\"acme\"]\n\
         [egress]\nconnect_to = {{ \"*.elb.eu-west-2.amazonaws.com:3478\" = \"{to}\" }}\n"
    );
    let categories = ["--category", "media", "--category", "chat", "--category", "telecom"];
    let said = ccpgate(Some(&config), &[&["check", "--junit"][..], &categories].concat()).expect(1);
    let xml = &said.stdout;
    assert!(xml.starts_with("<?xml"), "{xml}");
    for suite in ["media", "chat", "telecom"] {
        assert!(xml.contains(&format!("<testsuite name=\"{suite}\"")), "{suite} in {xml}");
    }
    let case = |name: &str| {
        let begin =
            xml.find(&format!("<testcase name=\"{name}\"")).unwrap_or_else(|| panic!("no {name} in {xml}"));
        let rest = &xml[begin..];
        let end = rest[1..].find("<testcase").or(rest.find("</testsuite>")).unwrap();
        rest[..end].to_owned()
    };
    let failed = case("participant.connect.eu-west-2.amazonaws.com:443");
    assert!(failed.contains("<failure") && failed.contains("type=\"dns_timeout\""), "{failed}");
    let untested = case("rtc*.connect-telecom.eu-west-2.amazonaws.com:443");
    assert!(untested.contains("<skipped") && untested.contains("--host"), "{untested}");
    let open = case("turnnlb-1dc64a459ead57ea.elb.eu-west-2.amazonaws.com:3478/udp");
    assert!(!open.contains("<failure") && !open.contains("<skipped"), "{open}");
    let both = ccpgate(Some(&config), &["check", "--junit", "--json"]).expect(2).stderr;
    assert!(both.contains("--json"), "{both}");
}
