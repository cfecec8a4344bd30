use serde_json::{Value, json};

use super::read::read;
use super::*;

fn entry(second: u32, level: &str, text: &str) -> Value {
    let time = format!("2026-11-27T09:{:02}:{:02}.120Z", second / 60, second % 60);
    json!({ "time": time, "component": "softphone", "level": level, "text": text, "exception": null,
            "objects": [], "line": 0 })
}

fn snapshot(second: u32, skew: i64) -> Value {
    let mut entry = entry(second, "TRACE", "GET_AGENT_SNAPSHOT succeeded.");
    entry["objects"] =
        json!([{ "snapshot": { "state": { "name": "Available" }, "skew": skew }, "nextToken": "x" }]);
    entry
}

fn reported(entries: &[Value], desk: Option<&Desk>) -> Report {
    report(read(serde_json::to_string_pretty(entries).unwrap().as_bytes()).unwrap(), desk)
}

#[track_caller]
fn verdicts(entries: &[Value], expected: &[Side]) -> Report {
    let report = reported(entries, None);
    let verdicts: Vec<Side> = report.errors.iter().map(|e| e.verdict).collect();
    assert_eq!(verdicts, expected, "{report}");
    report
}

#[test]
fn udp_that_gets_no_answer_is_one_failure() {
    let report = verdicts(
        &[
            snapshot(0, 120),
            entry(8, "WARN", " 7f3a SESSION ICE collection timed out"),
            entry(8, "ERROR", " 7f3a SESSION No ICE candidate"),
            entry(
                8,
                "ERROR",
                " Softphone error occurred :  ice_collection_timeout Ice collection timedout. ",
            ),
        ],
        &[Side::Network],
    );
    let error = &report.errors[0];
    assert!(error.sentence.contains("UDP 3478 gets no answer"), "{report}");
    assert_eq!((error.lines, &error.categories[..]), (3, &[Category::Media][..]));
    assert!(report.is_negative());
}

#[test]
fn no_candidate_at_once_is_the_desk() {
    let report = verdicts(
        &[
            entry(0, "ERROR", " 7f3a SESSION No ICE candidate"),
            entry(
                0,
                "ERROR",
                " Softphone error occurred :  ice_collection_timeout Ice collection timedout. ",
            ),
        ],
        &[Side::Desk],
    );
    assert!(report.errors[0].sentence.contains("DNS"), "{report}");
    assert!(!report.is_negative());
    assert!(report.to_string().contains("uncorrected"));
}

#[test]
fn the_exception_tells_aws_from_the_way() {
    let handshake = " 7f3a SESSION Failed handshaking with signaling server ";
    let published = " Softphone error occurred :  signalling_handshake_failure Handshaking with Signalling Server null failed. ";
    verdicts(
        &[
            entry(0, "ERROR", &format!("{handshake}Timeout")),
            entry(0, "ERROR", published),
            entry(300, "ERROR", &format!("{handshake}InternalServerException")),
            entry(300, "ERROR", published),
            entry(600, "ERROR", " 7f3a SESSION User Busy, possibly multiple CCP windows open BusyException"),
        ],
        &[Side::Network, Side::Aws, Side::Desk],
    );
}

#[test]
fn repetition_is_one_failure_and_other_stories_are_their_own() {
    let mut log: Vec<Value> =
        (0..20).map(|at| entry(at * 35, "ERROR", "Failed to get agent data.")).collect();
    log.push(entry(30, "WARN", "AMZ_WEB_SOCKET_MANAGER: Heartbeat response not received"));
    log.push(entry(900, "INFO", "Sending heartbeat"));
    let report = verdicts(&log, &[Side::Network, Side::Network]);
    assert_eq!(report.errors[0].lines, 20);
    assert_eq!(report.errors[1].categories, [Category::Signalling]);
    verdicts(&[entry(0, "INFO", "AWSClient: <-- Operation 'getAgentSnapshot' succeeded")], &[]);
}

#[test]
fn what_follows_from_a_failure_of_the_network_does_not_hide_it() {
    let mut handshake = entry(5, "ERROR", "Failed handshaking with signaling server");
    handshake["exception"] = json!({ "type": "Timeout" });
    for after in ["Call not found. One of the participant probably hungup.", "User Busy"] {
        let report = verdicts(&[handshake.clone(), entry(17, "ERROR", after)], &[Side::Network]);
        assert!(report.is_negative(), "{after}: {report}");
    }
}

#[test]
fn an_exception_counts() {
    let mut failed = entry(0, "ERROR", "'acceptContact' API request failed");
    failed["exception"] = json!({ "type": "NetworkingError", "message": "Network Failure", "stack": [] });
    let report = verdicts(&[failed], &[Side::Network]);
    assert!(report.errors[0].text.ends_with("NetworkingError Network Failure"), "{report}");
}

#[test]
fn the_clock_is_corrected_and_judged() {
    let report = reported(
        &[snapshot(0, -12_000), entry(60, "ERROR", "Failed handshaking with signaling server Timeout")],
        None,
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["errors"][0]["time"], "2026-11-27T09:01:00.120Z");
    assert_eq!(json["errors"][0]["corrected_time"], "2026-11-27T09:00:48.120Z");
    assert_eq!((&json["skew_ms"], &json["clock"]["cause"]), (&(-12_000).into(), &"clock_skew".into()));
    assert_eq!(json["clock"]["severity"], "degraded");
    assert!(report.to_string().contains("12 s ahead of AWS's"), "{report}");
    assert!(reported(&[snapshot(0, 9_999)], None).clock.is_none());
    // The clock was set: each failure by the skew that held then.
    let report = reported(
        &[
            snapshot(0, 60_000),
            entry(1, "ERROR", "Failed handshaking with signaling server Timeout"),
            snapshot(100, 0),
            entry(101, "ERROR", "Failed handshaking with signaling server Timeout"),
        ],
        None,
    );
    let corrected: Vec<String> =
        report.errors.iter().map(|e| e.corrected_time.unwrap().to_string()).collect();
    assert_eq!(corrected, ["2026-11-27T09:01:01.12Z", "2026-11-27T09:01:41.12Z"]);
}

#[test]
fn the_tunnels_of_the_desk_decide() {
    let log = [snapshot(0, 10_000), entry(181, "ERROR", "Failed handshaking with signaling server Timeout")];
    let tunnel = join::Tunnel {
        id: "9dfe726f792d".into(),
        host: "a.transport.connect.us-west-2.amazonaws.com".into(),
        category: Category::Signalling,
        began: "2026-11-27T08:00:00Z".parse().unwrap(),
        moved: "2026-11-27T09:02:38Z".parse().unwrap(),
        end: Some(join::End {
            at: "2026-11-27T09:03:02Z".parse().unwrap(),
            by: join::EndedBy::Upstream,
            outcome: "upstream_reset".into(),
        }),
    };
    let desk = |tunnels| Desk { tunnels, ..Desk::default() };
    let report = reported(&log, Some(&desk(vec![tunnel])));
    let error = &report.errors[0];
    assert_eq!((error.verdict, &error.tunnels[..]), (Side::Network, &["9dfe726f792d".to_owned()][..]));
    assert!(error.sentence.ends_with("was silent from 09:02:38Z and was reset by AWS's side at 09:03:02Z"));
    let without = reported(&log, Some(&desk(Vec::new())));
    assert_eq!(without.errors[0].verdict, Side::Proxy);
    assert!(without.errors[0].sentence.contains("went past the proxy"));
    let late = Desk { complete_since: Some("2026-11-27T10:00:00Z".parse().unwrap()), ..Desk::default() };
    let unknown = reported(&log, Some(&late));
    assert_eq!(unknown.errors[0].verdict, Side::Network, "as the text itself says");
    assert!(unknown.errors[0].sentence.contains("only since"), "{}", unknown.errors[0].sentence);
}

#[test]
fn a_browser_that_closes_another_host_is_not_to_blame() {
    let log = [snapshot(0, 0), entry(191, "ERROR", "'acceptContact' API request failed")];
    let time = |text: &str| format!("2026-11-27T{text}Z").parse().unwrap();
    let tunnel = |host: &str, moved, end| join::Tunnel {
        id: host.into(),
        host: host.into(),
        category: Category::Login,
        began: time("08:00:00"),
        moved: time(moved),
        end,
    };
    let closed = join::End { at: time("09:02:30"), by: join::EndedBy::Client, outcome: "ok".into() };
    let cut = tunnel("acme.my.connect.aws", "09:02:38", None);
    let other = tunnel("us-west-2.signin.aws.amazon.com", "09:02:30", Some(closed));
    let desk = |tunnels| Desk { tunnels, ..Desk::default() };
    let report = reported(&log, Some(&desk(vec![cut, other.clone()])));
    let error = &report.errors[0];
    assert_eq!((error.verdict, &error.tunnels[0][..]), (Side::Network, "acme.my.connect.aws"));
    assert!(error.sentence.ends_with("silent from 09:02:38Z: its line was cut without a word"), "{report}");
    assert!(report.is_negative());
    // The proxy refused the instance's host, and the identity provider is well.
    let provider = tunnel("login.idp.example", "09:03:08", None);
    let report = reported(&log, Some(&desk(vec![provider, other])));
    assert_eq!((report.errors[0].verdict, report.is_negative()), (Side::Proxy, true), "{report}");
}

#[test]
fn what_is_no_log_says_where() {
    for (text, place, why) in [
        ("", "line 1, column 1", "EOF"),
        ("[\n  {\"text\": \"x\"},\n  oops]", "line 3, column 3", "expected value"),
        ("{\"a\": 1}", "line 1, column 1", "invalid type"),
        ("[1, 2]", "line 1, column 2", "invalid type"),
        ("[{\"a\": 1}]", "line 1, column 1", "no entry has a `text`"),
        ("[{\"text\": 5}]", "line 1, column", "expected a string"),
        ("[{\"text\": \"x\"}", "line 1, column", "EOF"),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(error.starts_with(place) && error.contains(why), "{text:?}: {error}");
        assert!(error.contains("Download logs"), "{error}");
    }
    assert!(read(b"\xff\xfe[\0]\0").unwrap_err().contains("UTF-16"));
}

#[test]
fn odd_logs_are_read() {
    assert_eq!(read(b"[]").unwrap(), []);
    let deep = format!("[{{\"text\": \"x\", \"objects\": [{}{}]}}]", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(read(deep.as_bytes()).unwrap().len(), 1);
    let odd = "\u{feff}[{\"time\": 1795770000120, \"level\": null, \"text\": \"a\\u001b[31m\\ud83d \
               Heartbeat response not received\", \"exception\": [1], \"objects\": {\"a\": 1}}, {\"text\": null}]";
    let entries = read(odd.as_bytes()).unwrap();
    assert!(entries[0].time.is_some() && !entries[0].text.contains('\u{1b}'), "{entries:?}");
    assert_eq!(report(entries, None).errors.len(), 1);
}
