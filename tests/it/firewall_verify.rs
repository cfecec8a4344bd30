//! `ccpgate firewall verify`: real packets from a desk over a router that closes what a test says, to servers
//! at addresses of the published ranges. An address counts as silent after eight seconds, so that networks
//! are tested side by side.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::turn::{Turn, open, silent};
use crate::support::{Authority, Dns, Ran, Reply, Routed, accept, ccpgate, have, ip_ranges, read_request};

const CONFIG: &str = "[connect]\nregions = [\"us-east-1\", \"us-west-2\"]\ninstances = [\"acme\"]\n";

/// Media servers that answer; one that doesn't beside one of them; one outside the ranges.
const EAST: &str = "15.193.6.7";
const WEST: &str = "15.193.7.8";
const DEAD: &str = "15.193.7.7";
const THIRD: &str = "18.236.61.9";
const OUTSIDE: &str = "15.194.1.9";
/// Behind TCP 443.
const EC2: &str = "52.0.1.1";
const CLOUDFRONT: &str = "13.32.0.9";

const LINES: [&str; 8] = [
    "us-west-2 AMAZON_CONNECT 15.193.7.0/24",
    "us-west-2 AMAZON_CONNECT 18.236.61.0/25",
    // No name leads there.
    "us-west-2 AMAZON_CONNECT 54.190.198.32/28",
    "us-east-1 EC2 52.0.0.0/16",
    "us-west-2 EC2 54.200.0.0/16",
    "GLOBAL CLOUDFRONT 13.32.0.0/15",
    "us-east-1 S3 52.216.0.0/15",
    "us-east-1 AMAZON 52.0.0.0/16",
];

/// A desk, a router and AWS.
struct World {
    routed: Routed,
    dns: Dns,
    media: Vec<String>,
    folder: TempDir,
    _turns: Vec<Turn>,
}

impl World {
    fn new() -> Option<Self> {
        if !have("ip") || !have("nft") {
            return None;
        }
        let all = [EAST, WEST, DEAD, THIRD, OUTSIDE, EC2, CLOUDFRONT];
        let routed = Routed::new(&all)?;
        let turns = [(EAST, true), (WEST, true), (DEAD, false), (THIRD, true), (OUTSIDE, true)];
        let turns = turns.map(|(address, answers)| {
            let at = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 3478);
            routed.server.run(move || Turn::start_at(at, if answers { open() } else { silent() }))
        });
        let rules = ccpgate(Some(CONFIG), &["allowlist", "--json"]).expect(0).json();
        let names = |protocol: &str| -> Vec<String> {
            let of = rules.as_array().unwrap().iter().filter(|rule| rule["protocol"] == protocol);
            let names = of.map(|rule| rule["pattern"].as_str().unwrap().to_owned());
            names.filter(|name| !name.contains('*')).collect()
        };
        let (media, hosts) = (names("udp"), names("tcp"));
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (config, _) = authority.server(&hosts);
        routed.server.run(move || {
            let listener = TcpListener::bind("0.0.0.0:443").unwrap();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let config = Arc::clone(&config);
                    thread::spawn(move || {
                        let Some(mut tls) = accept(&config, stream) else { return };
                        while read_request(&mut tls).is_some() {
                            let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
                            if tls.write_all(answer).is_err() {
                                return;
                            }
                        }
                    });
                }
            });
        });
        // Without TCP, whose thread only a connection from within that network would wake at the end.
        let dns = routed.client.run(Dns::start_without_tcp);
        let world = Self { routed, dns, media, folder, _turns: turns.into() };
        world.lead(0, &[EAST]);
        for at in 1..world.media.len() {
            world.lead(at, if at % 2 == 0 { &[THIRD] } else { &[DEAD, WEST] });
        }
        world.dns.set_otherwise(Reply::addresses(&[EC2]));
        for host in hosts.iter().filter(|host| host.ends_with("cloudfront.net")) {
            world.dns.addresses(host, &[CLOUDFRONT]);
        }
        let days = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
        let with =
            |line: &str| LINES.iter().copied().chain([line.to_owned().leak() as &str]).collect::<Vec<_>>();
        world.write("history/old.json", &ip_ranges(days(15), &LINES));
        let new = with("us-east-1 AMAZON_CONNECT 15.193.6.0/24");
        world.write("new.json", &ip_ranges(days(5), &new));
        Some(world)
    }

    /// Where the nth media name leads.
    fn lead(&self, nth: usize, addresses: &[&str]) {
        self.dns.addresses(&self.media[nth], addresses);
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Rules for what the router passes on.
    fn nft(&self, rules: &str) {
        let chain = "chain forward {\ntype filter hook forward priority 0\n";
        self.write("rules.nft", &format!("table inet f {{\n{chain}{rules}}}\n}}\n"));
        self.routed.router.sh(&format!("nft -f {}", self.path("rules.nft")));
    }

    fn verify(&self, more: &[&str]) -> Ran {
        let translator = "[egress]\nallow_private = [\"64:ff9b::/96\"]\n";
        let config = format!("{CONFIG}{translator}{}", self.dns.as_config());
        let (file, ca) = (self.path("new.json"), self.path("ca.pem"));
        let arguments = ["firewall", "verify", "--file", &file, "--ca", &ca];
        let arguments: Vec<String> = arguments.iter().chain(more).map(|word| (*word).to_owned()).collect();
        self.routed.client.run(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            ccpgate(Some(&config), &arguments)
        })
    }
}

fn row<'a>(report: &'a Value, prefix: &str) -> &'a Value {
    let all = report["prefixes"].as_array().unwrap();
    all.iter().find(|row| row["prefix"] == prefix).unwrap_or_else(|| panic!("no {prefix} in {report:#}"))
}

#[test]
fn open_holes_are_proven_and_what_no_name_leads_to_is_not_tried() {
    let Some(world) = World::new() else { return };
    let ran = world.verify(&["--json"]).expect(0);
    let report = ran.json();
    assert_eq!((&report["schema_version"], &report["verdict"]), (&json!(1), &json!("open")), "{report:#}");
    assert_eq!((&report["open"], &report["tried"]), (&json!(3), &json!(3)), "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.starts_with("3 of 3 open; TLS: 4 of 4 hosts open"), "{summary}");
    let east = row(&report, "15.193.6.0/24");
    assert_eq!((&east["status"], &east["address"]), (&json!("open"), &json!(EAST)));
    assert_eq!(east["names"], json!([world.media[0]]));
    assert!(east["rtt_ms"].as_u64().is_some_and(|ms| ms < 8000), "{east:#}");
    // One server of a prefix may be down.
    let west = row(&report, "15.193.7.0/24");
    assert_eq!((&west["status"], &west["address"]), (&json!("open"), &json!(WEST)));
    assert!(west["detail"].as_str().unwrap().contains(DEAD), "{west:#}");
    let nobody = row(&report, "54.190.198.32/28");
    assert_eq!((&nobody["status"], &nobody["address"]), (&json!("not_tried"), &Value::Null));
    let sets: Vec<&str> =
        report["hosts"].as_array().unwrap().iter().map(|host| host["set"].as_str().unwrap()).collect();
    assert_eq!(sets, ["ec2_tcp_443", "ec2_tcp_443", "cloudfront_tcp_443", "cloudfront_tcp_443"]);
    assert!(!ran.stderr.contains("testing"), "no progress where there is no terminal: {}", ran.stderr);
    // The media path alone asks no host.
    let report = world.verify(&["--json", "--scope", "media"]).expect(0).json();
    assert_eq!(report["hosts"], json!([]));
}

#[test]
fn a_closed_prefix_is_named_with_hop_deadline_owner_and_remedy() {
    let Some(world) = World::new() else { return };
    world.nft("ip daddr 15.193.6.0/24 udp dport 3478 drop\n");
    let ran = world.verify(&["--json", "--history", &world.path("history")]).expect(1);
    let report = ran.json();
    let old = Timestamp::now() - SignedDuration::from_hours(24 * 15);
    let day = (old + SignedDuration::from_hours(24 * 30)).strftime("%-d %B");
    let summary = report["summary"].as_str().unwrap();
    let (until, year) = summary.split_once("; TLS").unwrap();
    let expected = format!("2 of 3 open; 15.193.6.0/24 closed after hop 1; due {day}");
    assert!(until.starts_with(&expected), "{summary}, not {expected}: {year}");
    let east = row(&report, "15.193.6.0/24");
    assert_eq!(
        (&east["status"], &east["after_hop"], &east["router"], &east["owner"]),
        (&json!("closed"), &json!(1), &json!("10.77.0.1"), &json!("firewall")),
        "{east:#}"
    );
    assert!(
        east["remedy"].as_str().unwrap().contains("UDP 3478 out from the agents' networks to 15.193.6.0/24")
    );
    assert_eq!(east["due"], (old + SignedDuration::from_hours(24 * 30)).strftime("%F").to_string());
    assert_eq!(row(&report, "15.193.7.0/24")["status"], "open");
    // Without earlier versions no day is made up; and a router that keeps silent leaves the hop unknown.
    world.routed.router.sh("nft add chain inet f output '{ type filter hook output priority 0; }'
         nft add rule inet f output icmp type time-exceeded drop");
    let ran = world.verify(&["--scope", "media"]).expect(1);
    let first = ran.stdout.lines().next().unwrap();
    assert!(first.starts_with("2 of 3 open; 15.193.6.0/24 closed (after which hop is not known)"), "{first}");
    assert!(!ran.stdout.contains("due 1") && ran.stdout.contains("Deadlines aren't known"), "{}", ran.stdout);
    assert!(ran.stdout.contains("To do (firewall): let UDP 3478 out"), "{}", ran.stdout);
}

#[test]
fn tcp_strays_and_names_without_an_address_count_too() {
    let Some(world) = World::new() else { return };
    // A name that leads out of the ranges, and one that leads nowhere.
    world.lead(1, &[OUTSIDE]);
    world.dns.set(&world.media[2], Reply::Code(3));
    let report = world.verify(&["--json", "--scope", "media"]).expect(1).json();
    assert_eq!(report["verdict"], "unproven", "{report:#}");
    let stray = &report["outside"][0];
    assert_eq!(
        (&stray["prefix"], &stray["address"], &stray["status"]),
        (&Value::Null, &json!(OUTSIDE), &json!("open"))
    );
    // It may not be AWS's: nobody is asked to open it.
    assert_eq!(stray["owner"], "network");
    assert!(stray["remedy"].as_str().unwrap().starts_with("ask another resolver"), "{stray:#}");
    let gone = &report["unresolved"][0];
    assert_eq!((&gone["name"], &gone["cause"]), (&json!(world.media[2]), &json!("dns_nxdomain")));
    // A filter that says so, a way that this machine itself lacks, and TCP that is refused.
    world.lead(1, &[WEST]);
    world.nft(
        "ip daddr 15.193.6.0/24 udp dport 3478 reject with icmpx type admin-prohibited
         ip daddr 13.32.0.0/15 tcp dport 443 reject with tcp reset\n",
    );
    world.routed.client.sh("ip route add unreachable 18.236.61.0/25");
    let report = world.verify(&["--json"]).expect(1).json();
    assert_eq!(
        (&report["open"], &report["tried"], &report["verdict"]),
        (&json!(1), &json!(3), &json!("closed"))
    );
    let detail = |prefix: &str| row(&report, prefix)["detail"].as_str().unwrap().to_owned();
    assert!(detail("15.193.6.0/24").contains("forbidden by a filter at 10.77.0.1"), "{report:#}");
    assert!(detail("18.236.61.0/25").contains("no route"), "{report:#}");
    assert_eq!(row(&report, "18.236.61.0/25")["after_hop"], Value::Null);
    let hosts = report["hosts"].as_array().unwrap();
    let refused: Vec<&Value> = hosts.iter().filter(|host| host["status"] == "closed").collect();
    assert!(
        refused.len() == 2
            && refused.iter().all(|host| host["set"] == "cloudfront_tcp_443"
                && host["cause"] == "tcp_refused"
                && host["owner"] == "firewall"),
        "{report:#}"
    );
}

#[test]
fn a_prefix_is_asked_through_a_translator_where_there_is_no_other_way() {
    let Some(world) = World::new() else { return };
    // Its addresses are the server's, as behind a translator. The desk has a way to them and none over IPv4.
    for address in [EAST, WEST] {
        world.routed.server.sh(&format!("ip -6 addr add 64:ff9b::{address}/128 dev lo nodad"));
    }
    world.routed.router.sh("ip -6 route add 64:ff9b::/96 via fd78::2");
    world.routed.client.sh("ip route del default");
    let behind = |address: &str| format!("64:ff9b::{address}").parse::<IpAddr>().unwrap().to_string();
    let _turns = [EAST, WEST].map(|address| {
        let at = SocketAddr::new(behind(address).parse().unwrap(), 3478);
        world.routed.server.run(move || Turn::start_at(at, open()))
    });
    for at in 0..world.media.len() {
        // More addresses than are asked, of which those over IPv4 come first.
        let of: &[&str] = if at == 0 { &[EAST, "15.193.6.1", "15.193.6.2", "15.193.6.3"] } else { &[WEST] };
        let both: Vec<String> = of.iter().map(|one| (*one).to_owned()).chain([behind(of[0])]).collect();
        world.lead(at, &both.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let report = world.verify(&["--json", "--scope", "media"]).expect(0).json();
    assert_eq!((&report["open"], &report["tried"]), (&json!(2), &json!(2)), "{report:#}");
    assert_eq!(report["outside"], json!([]), "{report:#}");
    for (prefix, address) in [("15.193.6.0/24", EAST), ("15.193.7.0/24", WEST)] {
        let row = row(&report, prefix);
        assert_eq!((&row["status"], &row["address"]), (&json!("open"), &json!(behind(address))), "{row:#}");
    }
    // One that a firewall on the way there closes is closed, and nothing else is said of the other family.
    world.nft(&format!("ip6 daddr {} udp dport 3478 drop\n", behind(EAST)));
    let report = world.verify(&["--json", "--scope", "media"]).expect(1).json();
    let row = row(&report, "15.193.6.0/24");
    assert_eq!((&row["status"], &row["owner"]), (&json!("closed"), &json!("firewall")), "{report:#}");
    assert!(!row["detail"].as_str().unwrap().contains("no route"), "{row:#}");
}

#[test]
fn bad_input_is_told_before_a_packet_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = path("good.json");
    std::fs::write(&good, ip_ranges(Timestamp::now(), &LINES)).unwrap();
    std::fs::write(path("page.json"), "<html>blocked</html>").unwrap();
    let ahead = Timestamp::now() + SignedDuration::from_hours(72);
    std::fs::write(path("ahead.json"), ip_ranges(ahead, &LINES)).unwrap();
    std::fs::write(path("east.json"), ip_ranges(Timestamp::now(), &["eu-west-2 EC2 52.0.0.0/16"])).unwrap();
    for (arguments, said) in [
        (vec![], "ranges.file"),
        (vec!["--file", &path("none.json")], "none.json: can't be read"),
        (vec!["--file", &path("page.json")], "page.json"),
        (vec!["--file", &path("ahead.json")], "clock"),
        (vec!["--file", &path("east.json")], "it has nothing of us-east-1, us-west-2"),
        (vec!["--file", &good, "--history", &path("nowhere")], "nowhere: can't be read"),
        (vec!["--file", &good, "--ca", &path("page.json")], "--ca"),
        (vec!["--file", &good, "--scope", "all"], "media, option2"),
        (vec!["--file", &good, "--format", "nft"], "--format"),
    ] {
        let ran = ccpgate(Some(CONFIG), &[&["firewall", "verify"][..], &arguments].concat()).expect(2);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    // Rules and their test are two things.
    let ran = ccpgate(Some(CONFIG), &["firewall", "--format", "nft", "verify", "--file", &good]).expect(2);
    assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
}
