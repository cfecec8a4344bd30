//! What a rehearsal holds against the network: nothing that is its own doing, and nothing that this machine lacks.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use crate::simulate;
use crate::support::turn::{Turn, open};
use crate::support::{
    Authority, Dns, Region, Reply, ccpgate, ccpgate_with, in_a_network_of_its_own, now, read_request,
};

/// A signalling host that all calls share, as a real one is.
const SIGNALLING: &str = "agents.transport.connect.us-east-1.amazonaws.com";

/// Calls over a region of another process; `code` is the exit code.
#[track_caller]
fn rehearse(region: &simulate::Region, file: &str, more: &[&str], code: i32) -> Value {
    let arguments = ["rehearse", "--json", "-c", file, "--ca", region.ca()];
    ccpgate(None, &[&arguments[..], more].concat()).expect(code).json()
}

/// A hundred connections to one host begin within ten seconds, of which a call waits for five in the middle.
#[test]
fn the_pace_of_connections_is_no_time_of_the_network() {
    let region = simulate::Region::start(&[]);
    let file = region.configuration();
    let file = file.to_str().unwrap();
    let url = format!("wss://{SIGNALLING}/");
    // Without an instance's own host it is the signalling that all calls wait for.
    let unnamed = ["--set", "connect.instances=[\"*\"]", "--set", "connect.signin=[]"];
    std::thread::scope(|scope| {
        for (phase, more) in [
            ("api", &["--ws-url", &url][..]),
            ("signalling", &[&["--ws-url", &url], &unnamed[..]].concat()),
            ("api", &["--host", SIGNALLING]),
            ("signalling", &[&["--host", SIGNALLING], &unnamed[..]].concat()),
        ] {
            let arguments = [&["--calls", "100", "--concurrency", "100"], more].concat();
            let region = &region;
            scope.spawn(move || {
                let report = rehearse(region, file, &arguments, 0);
                assert_eq!((&report["calls"], &report["failed"]), (&json!(100), &json!(0)), "{report:#}");
                assert!(report["seconds"].as_f64() > Some(9.5), "nobody waited: {report:#}");
                assert_eq!(report["phases"][phase]["count"], 100, "{report:#}");
                for (phase, times) in report["phases"].as_object().unwrap() {
                    assert!(times["p50_ms"].as_f64() < Some(2000.0), "{phase}: {report:#}");
                }
                // On a busy machine one or the other may be slow indeed.
                assert!(report["degraded"]["ws_slow"].as_u64().unwrap_or(0) < 40, "{report:#}");
            });
        }
    });
}

/// A region whose media endpoints are reached by name, at these addresses.
fn with_media_at(region: &simulate::Region, addresses: &[&str]) -> (tempfile::TempDir, String, usize) {
    let printed = fs::read_to_string(region.configuration()).unwrap();
    let (media, rest): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.contains(":3478\" = "));
    let names = media.iter().map(|line| line.trim_start_matches('"').split(':').next().unwrap());
    // A wildcard of the list is nobody's name.
    let names: Vec<_> = names.filter(|name| !name.contains('*')).collect();
    let hosts: String = names.iter().map(|name| format!("{name:?} = {addresses:?}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("media.toml");
    fs::write(&file, format!("{}\n\n[dns.hosts]\n{hosts}", rest.join("\n"))).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file, names.len())
}

/// An address of AWS's, to which there is no route in a network of its own.
const SIX: &str = "2600:1f14::1";

#[test]
fn a_machine_without_ipv6_lacks_nothing_for_a_call() {
    in_a_network_of_its_own(&[], || {
        let region = simulate::Region::start(&[]);
        let four = ["127.0.0.8", "127.0.0.9"];
        let turns = four.map(|one| Turn::start_at(format!("{one}:3478").parse().unwrap(), open()));
        let (_folder, file, endpoints) = with_media_at(&region, &[SIX, four[0], four[1]]);
        assert!(endpoints > 0);
        let calls = 6 * endpoints;
        let report = rehearse(&region, &file, &["--calls", &calls.to_string()], 0);
        assert_eq!((&report["calls"], &report["failed"]), (&json!(calls), &json!(0)), "{report:#}");
        assert_eq!(report["phases"]["media"]["count"], calls, "{report:#}");
        assert_eq!(report["degraded"]["turn_partial"], Value::Null, "{report:#}");
        // Each call asks all that there are. Two of one port after each other count as one.
        let heard = turns.map(|turn| {
            let mut callers: Vec<_> = turn.heard().into_iter().map(|(from, _)| from).collect();
            callers.sort_unstable();
            callers.dedup();
            callers.len()
        });
        assert!(heard.iter().all(|heard| (calls / 2 + 1..=calls).contains(heard)), "{heard:?} of {calls}");
    });
}

#[test]
fn a_dead_address_beside_a_good_one_fails_no_call() {
    in_a_network_of_its_own(&[], || {
        let region = simulate::Region::start(&[]);
        let both = ["127.0.0.8", "127.0.0.9"];
        let at = |one: &str| format!("{one}:3478").parse().unwrap();
        let _good = Turn::start_at(at(both[0]), open());
        let _dead = Turn::start_at(at(both[1]), Box::new(|_, _| Vec::new()));
        let (_folder, file, endpoints) = with_media_at(&region, &both);
        // Each address is the first one for half of them.
        let calls = 2 * endpoints;
        let arguments = ["--calls", &calls.to_string(), "--concurrency", &calls.to_string()];
        let report = rehearse(&region, &file, &arguments, 0);
        assert_eq!((&report["calls"], &report["failed"]), (&json!(calls), &json!(0)), "{report:#}");
        assert_eq!(report["degraded"]["turn_partial"], calls, "{report:#}");
        // Nobody waits for the dead one before it goes on.
        assert!(report["phases"]["media"]["max_ms"].as_f64() < Some(5000.0), "{report:#}");
    });
}

#[test]
fn an_alias_without_a_name_is_the_configurations() {
    let (region, dns) = (Region::healthy(), Dns::start());
    dns.set("acme.my.connect.aws", Reply::Code(3));
    let config = region.config().replace("\"127.0.0.1:1\"", &format!("\"{}\"", dns.address()));
    // All names but the instance's own lead to the region.
    let lines = config.lines().filter(|line| !line.starts_with("\"*.my.connect.aws:443\""));
    let config = lines.collect::<Vec<_>>().join("\n");
    let url = format!("wss://{}/", SIGNALLING.replace("us-east-1", "us-west-2"));
    for more in [&["--ws-url", &url][..], &[]] {
        let arguments = [&["rehearse", "--json", "--calls", "3", "--ca", region.ca()], more].concat();
        let report = ccpgate_with(Some(&config), &arguments, &[]).expect(1).json();
        assert_eq!(report["causes"], json!({ "instance_unknown": 3 }), "{report:#}");
        let failure = &report["failures"][0];
        assert_eq!((&failure["phase"], &failure["owner"]), (&json!("api"), &json!("configuration")));
        let told = failure["detail"].as_str().unwrap();
        assert!(told.contains("is acme the alias of the instance?"), "{told}");
    }
}

#[test]
fn where_nothing_can_be_sent_nobody_is_said_to_be_silent() {
    in_a_network_of_its_own(&[], || {
        let region = simulate::Region::start(&[]);
        let (_folder, file, _) = with_media_at(&region, &[SIX, "2600:1f14::2"]);
        let report = rehearse(&region, &file, &["--calls", "4"], 1);
        assert_eq!((&report["failed"], &report["causes"]), (&json!(4), &json!({ "udp_blocked": 4 })));
        let told = report["failures"][0]["detail"].as_str().unwrap();
        let all = format!(
            "nothing can be sent to [{SIX}]:3478, [2600:1f14::2]:3478: this machine has no route there"
        );
        assert_eq!(told, all);
        // Nor does a server that cannot be asked prove anything.
        let check = ["check", "--json", "-c", &file, "--category", "media"];
        let unasked = [&check[..], &["--stun-control", "[2600:1f14::9]:3478"]].concat();
        let report = ccpgate(None, &unasked).expect(1).json();
        let told = report["endpoints"][0]["detail"].as_str().unwrap();
        let control = "the control [2600:1f14::9]:3478 was not asked: this machine has no route there";
        assert!(told.starts_with(&all) && told.ends_with(control), "{told}");
        // A server that is asked beside them counts by the addresses that it can be asked at.
        let _turn = Turn::start_at("127.0.0.9:3478".parse().unwrap(), open());
        let six: Vec<_> = (1..=4).map(|last| format!("2600:1f14::{last}")).collect();
        let control = format!("\"turn.example\" = {:?}\n", [&six[..], &["127.0.0.9".to_owned()]].concat());
        fs::write(&file, fs::read_to_string(&file).unwrap() + &control).unwrap();
        let asked = [&check[..], &["--stun-control", "turn.example:3478"]].concat();
        let report = ccpgate(None, &asked).expect(1).json();
        let told = report["endpoints"][0]["detail"].as_str().unwrap();
        assert!(told.starts_with(&all) && told.contains("since turn.example:3478 answers"), "{told}");
    });
}

/// Certificates of one key: one for the files, another one for all other hosts.
#[derive(Debug)]
struct Shown {
    files: Arc<CertifiedKey>,
    rest: Arc<CertifiedKey>,
    /// Whether the next handshake hangs, as one does whose packets were lost.
    hangs: AtomicBool,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if self.hangs.swap(false, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(8));
        }
        let of_files = hello.server_name().is_some_and(|name| name.ends_with("cloudfront.net"));
        Some(if of_files { self.files.clone() } else { self.rest.clone() })
    }
}

/// A region whose certificates were valid in these years; the answers of each host come from when its own is.
fn region(files: [i32; 2], rest: [i32; 2], hangs: bool) -> Region {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let names = [
        "*.my.connect.aws",
        "*.awsapps.com",
        "signin.aws.amazon.com",
        "*.signin.aws.amazon.com",
        "*.cloudfront.net",
        "*.transport.connect.us-west-2.amazonaws.com",
    ];
    let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let signing = default_provider().key_provider.load_private_key(private).unwrap();
    let valid = |[from, to]: [i32; 2]| {
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 12, 31);
        let leaf = authority.issue(params, &key);
        Arc::new(CertifiedKey::new(vec![leaf.der().clone()], signing.clone()))
    };
    let shown = Shown { files: valid(files), rest: valid(rest), hangs: hangs.into() };
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    Region::with(authority, Arc::new(config), move |mut tls| {
        while read_request(&mut tls).is_some() {
            let of_files = tls.conn.server_name().is_some_and(|name| name.ends_with("cloudfront.net"));
            let date = match if of_files { files } else { rest } {
                OLD => "Mon, 15 Jun 2020 12:00:00 GMT".to_owned(),
                _ => now(),
            };
            let answer = format!("HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
            if tls.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Years ago, as far as a certificate can say.
const OLD: [i32; 2] = [2020, 2020];
const VALID: [i32; 2] = [2020, 2090];

#[test]
fn a_wrong_clock_is_no_fault_of_a_certificate() {
    let url = format!("wss://{}/", SIGNALLING.replace("us-east-1", "us-west-2"));
    // Where files have a valid certificate and this time, it is not the clock that is wrong.
    for (files, cause) in [(OLD, "clock_skew"), (VALID, "tls_expired")] {
        let region = region(files, OLD, false);
        for more in [&["--ws-url", &url][..], &[]] {
            let arguments = [&["rehearse", "--json", "--calls", "3", "--ca", region.ca()], more].concat();
            let report = ccpgate_with(Some(&region.config()), &arguments, &[]).expect(1).json();
            assert_eq!(report["causes"], json!({ cause: 3 }), "{report:#}");
            let told = report["failures"][0]["detail"].as_str().unwrap();
            let clock = "ahead of the Date of the answer, by which the certificate is valid";
            assert!(told.contains(clock), "{told}");
            assert_eq!(told.contains("other answers agree"), cause == "tls_expired", "{told}");
        }
    }
}

#[test]
fn a_handshake_that_hung_before_another_one_succeeded_is_in_the_time() {
    let region = region(VALID, VALID, true);
    let arguments = ["rehearse", "--json", "--calls", "1", "--ca", region.ca()];
    let report = ccpgate_with(Some(&region.config()), &arguments, &[]).expect(0).json();
    assert!(report["phases"]["static"]["p50_ms"].as_f64() >= Some(5000.0), "{report:#}");
}
