//! The voice path of `check`: media endpoints over UDP. An endpoint counts as silent after eight seconds,
//! so that networks are tested side by side.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::chain::{FAR, FAR_SIX, ROUTERS, ROUTERS_SIX, behind_routers};
use crate::support::turn::{Answers, Turn, open, own_loopback, reply, silent};
use crate::support::{Ran, ccpgate};

const ONE: &str = "turnnlb-1dc64a459ead57ea.elb.eu-west-2.amazonaws.com";
const OTHER: &str = "turnnlb-0c39b6a52bcdd446.elb.eu-west-2.amazonaws.com";

/// A configuration of a region with two media endpoints, at these addresses.
fn at(one: SocketAddr, other: SocketAddr, more: &str) -> String {
    format!(
        "[connect]\nregions = [\"eu-west-2\"]\ninstances = [\"acme\"]\n\
         [egress]\nconnect_to = {{ \"{ONE}:3478\" = \"{one}\", \"{OTHER}:3478\" = \"{other}\" }}\n{more}"
    )
}

fn check(config: &str, arguments: &[&str]) -> Ran {
    ccpgate(Some(config), &[&["check", "--category", "media", "--json"][..], arguments].concat())
}

fn endpoint<'a>(report: &'a Value, host: &str) -> &'a Value {
    let all = report["endpoints"].as_array().unwrap();
    all.iter().find(|endpoint| endpoint["host"] == host).unwrap_or_else(|| panic!("no {host} in {report:#}"))
}

/// A port of loopback that refuses datagrams.
fn refusing() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn detail<'a>(report: &'a Value, host: &str) -> &'a str {
    endpoint(report, host)["detail"].as_str().unwrap()
}

#[test]
fn open_endpoints_are_ok_and_asked_as_a_browser_asks() {
    let source = own_loopback();
    let more = format!("source_address = [\"{source}\"]\n");
    let (one, other) = (Turn::start(open()), Turn::start(open()));
    let begun = Instant::now();
    let ran = check(&at(one.address(), other.address(), &more), &[]).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let report = ran.json();
    assert_eq!((&report["verdict"], &report["cause"]), (&json!("ok"), &Value::Null), "{report:#}");
    assert_eq!(report["categories"]["media"]["status"], "ok");
    for (host, turn) in [(ONE, &one), (OTHER, &other)] {
        let found = endpoint(&report, host);
        assert_eq!((&found["protocol"], &found["port"]), (&json!("udp"), &json!(3478)), "{found:#}");
        assert_eq!((&found["status"], &found["cause"]), (&json!("ok"), &Value::Null), "{found:#}");
        assert_eq!(found["address"], turn.address().to_string());
        assert!(found["rtt_ms"].as_u64().is_some_and(|ms| ms < 1000), "{found:#}");
        assert_eq!(found["steps"]["connect_ms"], Value::Null);
        // Both questions at once, then eight Bindings.
        let heard = turn.heard();
        let asked: Vec<u8> = heard.iter().map(|(_, method)| *method).collect();
        assert_eq!(asked[..2], [1, 3], "{asked:?}");
        assert!(asked.len() >= 10 && asked[asked.len() - 8..] == [1; 8], "{asked:?}");
        assert!(heard.iter().all(|(from, _)| from.ip() == source), "{heard:?}");
    }
    let text =
        ccpgate(Some(&at(one.address(), other.address(), "")), &["check", "--category", "media"]).expect(0);
    assert!(text.stdout.contains(&format!("{ONE}:3478/udp")), "{}", text.stdout);
}

#[test]
fn networks_that_lose_voice_are_told_apart() {
    let first_line = |report: &Value| report["summary"].as_str().unwrap().to_owned();
    let lossy =
        || -> Answers { Box::new(|nth, packet| if nth % 4 == 3 { Vec::new() } else { vec![reply(packet)] }) };
    let hostile = || -> Answers {
        Box::new(|_, packet| {
            let good = reply(packet);
            let mut foreign = good.clone();
            foreign[19] ^= 1;
            let mut long = good.clone();
            long.resize(60_000, b'A');
            let words = b"\x1b]0;owned\x07\x1b[2J".to_vec();
            vec![Vec::new(), words, foreign, long, packet.to_vec(), good[..19].to_vec()]
        })
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let (one, other) = (Turn::start(silent()), Turn::start(silent()));
            let begun = Instant::now();
            let report = check(&at(one.address(), other.address(), ""), &[]).expect(1).json();
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            assert_eq!((&report["cause"], &report["owner"]), (&json!("udp_blocked"), &json!("firewall")));
            assert!(first_line(&report).starts_with("failed: udp_blocked at 2 of 2"), "{report:#}");
            for host in [ONE, OTHER] {
                assert_eq!(endpoint(&report, host)["status"], "failed");
                let detail = detail(&report, host);
                assert!(detail.contains("dropped on the way, or these endpoints answer nobody"), "{detail}");
                let remedy = endpoint(&report, host)["remedy"].as_str().unwrap();
                assert!(remedy.contains("no way over TCP"), "{remedy}");
            }
            let sees = report["categories"]["media"]["agent_sees"].as_str().unwrap();
            assert!(sees.contains("softphone"), "{sees}");
            // Six times both questions, as a browser asks within the panel's eight seconds.
            assert_eq!(one.heard().len(), 12);
        });
        scope.spawn(move || {
            let (one, other, control) = (Turn::start(silent()), Turn::start(silent()), Turn::start(open()));
            // The control, too, is reached by the proxy's own rules.
            let more = format!("allow_private = [\"{}/32\"]\n", control.address().ip());
            let to = control.address().to_string();
            let report =
                check(&at(one.address(), other.address(), &more), &["--stun-control", &to]).expect(1).json();
            assert_eq!(report["cause"], "udp_blocked");
            let detail = detail(&report, ONE);
            assert!(detail.contains("UDP as such works") && !detail.contains("either"), "{detail}");
        });
        scope.spawn(move || {
            let silent_one = Turn::start(silent());
            let more = "allow_private = [\"127.0.0.1/32\"]\n";
            let to = format!("stun:{}", refusing());
            let report =
                check(&at(refusing(), silent_one.address(), more), &["--stun-control", &to]).expect(1).json();
            assert_eq!((&report["cause"], &report["verdict"]), (&json!("udp_blocked"), &json!("failed")));
            let refused = detail(&report, ONE);
            assert!(refused.contains("refused by 127.0.0.1 (Connection refused)"), "{refused}");
            assert!(detail(&report, OTHER).contains("or the control is down"), "{report:#}");
        });
        scope.spawn(move || {
            let (one, other) = (Turn::start(open()), Turn::start(silent()));
            let report = check(&at(one.address(), other.address(), ""), &[]).expect(0).json();
            assert_eq!((&report["cause"], &report["verdict"]), (&json!("turn_partial"), &json!("degraded")));
            assert_eq!(endpoint(&report, ONE)["status"], "ok");
            assert_eq!(
                (&endpoint(&report, OTHER)["status"], &endpoint(&report, OTHER)["cause"]),
                (&json!("degraded"), &json!("turn_partial"))
            );
        });
        scope.spawn(move || {
            // One name with a dead address beside one that lives, on the port that AWS has.
            let (alive, dead) = (own_loopback(), own_loopback());
            let turn = Turn::start_at((alive, 3478).into(), open());
            let hole = Turn::start_at((dead, 3478).into(), silent());
            let config = format!(
                "[connect]\nregions = [\"eu-west-2\"]\ninstances = [\"acme\"]\n\
                 [dns]\nhosts = {{ \"{ONE}\" = [\"{alive}\", \"{dead}\"], \"{OTHER}\" = [\"{alive}\"] }}\n\
                 [egress]\nallow_private = [\"127.0.0.0/8\"]\n"
            );
            let report = check(&config, &[]).expect(0).json();
            assert_eq!(report["cause"], "turn_partial", "{report:#}");
            assert_eq!(endpoint(&report, ONE)["address"], hole.address().to_string());
            assert!(
                detail(&report, ONE).contains(&format!("no answer in 8 s from {dead}:3478")),
                "{report:#}"
            );
            assert_eq!(endpoint(&report, OTHER)["status"], "ok");
            // Without leave such addresses aren't asked at all.
            let before = turn.heard().len();
            let report = check(&config.replace("127.0.0.0/8", "10.9.9.0/24"), &[]).expect(1).json();
            assert_eq!((&report["cause"], turn.heard().len()), (&json!("dns_private"), before), "{report:#}");
        });
        scope.spawn(move || {
            let (one, other) = (Turn::start(lossy()), Turn::start(open()));
            let report = check(&at(one.address(), other.address(), ""), &[]).expect(0).json();
            assert_eq!((&report["cause"], &report["verdict"]), (&json!("turn_loss"), &json!("degraded")));
            assert!(detail(&report, ONE).contains("6 of 24 probes were lost"), "{report:#}");
            assert_eq!(endpoint(&report, OTHER)["status"], "ok");
        });
        scope.spawn(move || {
            let (one, other) = (Turn::start(hostile()), Turn::start(hostile()));
            let ran = check(&at(one.address(), other.address(), ""), &[]).expect(1);
            assert_eq!(ran.json()["cause"], "udp_blocked");
            assert!(
                detail(&ran.json(), ONE).contains("72 datagrams from there answered nothing"),
                "{}",
                ran.stdout
            );
            assert!(!ran.stdout.contains("owned") && !ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
        });
        scope.spawn(move || {
            // Through a proxy that is down: media never go through one.
            let (one, other) = (Turn::start(open()), Turn::start(open()));
            let via = format!("http://{}", refusing());
            let report = check(&at(one.address(), other.address(), ""), &["--via", &via]).expect(0).json();
            assert_eq!(report["verdict"], "ok", "{report:#}");
        });
    });
}

/// The last router that answers is the filter, or stands right before it.
#[test]
fn the_hop_after_which_packets_vanish_is_named() {
    let at_far = |port: u16| {
        at(format!("{FAR}:{port}").parse().unwrap(), format!("[{FAR_SIX}]:{port}").parse().unwrap(), "")
    };
    thread::scope(|scope| {
        let run = |port| move || behind_routers(&at_far(port), &["check", "--category", "media", "--json"]);
        let (dropped, refused) = (scope.spawn(run(3478)), scope.spawn(run(3479)));
        let (Some(dropped), Some(refused)) = (dropped.join().unwrap(), refused.join().unwrap()) else {
            return;
        };
        let report = dropped.expect(1).json();
        assert_eq!(report["cause"], "udp_blocked");
        for (host, router) in [(ONE, ROUTERS[2]), (OTHER, ROUTERS_SIX[2])] {
            let detail = detail(&report, host);
            assert!(detail.contains(&format!(": dropped after hop 3, {router}")), "{detail}");
        }
        let report = refused.expect(1).json();
        assert_eq!(report["cause"], "udp_blocked");
        for (host, router) in [(ONE, ROUTERS[1]), (OTHER, ROUTERS_SIX[1])] {
            let detail = detail(&report, host);
            assert!(detail.contains(&format!(": forbidden by a filter at {router}")), "{detail}");
        }
    });
}

#[test]
fn media_over_ipv6_and_endpoints_that_know_one_question_alone() {
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if UdpSocket::bind(six).is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let only = |method: u8| -> Answers {
        Box::new(move |_, packet| if packet[1] == method { vec![reply(packet)] } else { Vec::new() })
    };
    let (bindings, allocates) = (Turn::start_at(six, only(1)), Turn::start_at(six, only(3)));
    let report = check(&at(bindings.address(), allocates.address(), ""), &[]).expect(0).json();
    assert_eq!(report["verdict"], "ok", "{report:#}");
    assert!(detail(&report, ONE).contains("a STUN Binding"), "{report:#}");
    assert!(detail(&report, OTHER).contains("401, as expected"), "{report:#}");
}

#[test]
fn without_media_nothing_is_asked_and_a_wrong_control_is_wrong_usage() {
    let turn = Turn::start(open());
    let config = at(turn.address(), turn.address(), "").replace("instances", "media = false\ninstances");
    let report = check(&config, &[]).expect(0).json();
    assert_eq!(report["endpoints"], json!([]), "{report:#}");
    assert!(turn.heard().is_empty());
    for wrong in ["", "https://stun.example", "stun.example:port", "a b", "stun.example:0", "a..b"] {
        let said = check(&config, &["--stun-control", wrong]).expect(2).stderr;
        assert!(said.contains("--stun-control"), "{wrong}: {said}");
    }
}
