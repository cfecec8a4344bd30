//! `policy.ranges` and `policy.ip_targets`: addresses judged by AWS's published ranges.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Dns, Proxy, Upstream, ccpgate, client_hello, client_hello_without_name, eventually, expect_refusal,
    in_a_network_of_its_own, ip_ranges,
};

/// A name of the catalogue, and one that the administrator adds.
const LISTED: &str = "acme.my.connect.aws";
const ADDED: &str = "login.idp.example";

/// ip-ranges.json of so many days ago with these lines, in a folder that lives as long.
fn file(days_ago: i64, lines: &[&str]) -> (TempDir, PathBuf) {
    let made = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days_ago)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ip-ranges.json");
    std::fs::write(&path, ip_ranges(made, lines)).unwrap();
    (folder, path)
}

/// 127.0.0.0/24 is AWS's and some of it Connect's, the rest of this machine is nobody's.
const LINES: &[&str] =
    &["us-west-2 AMAZON 127.0.0.0/24", "us-west-2 AMAZON_CONNECT 127.0.0.0/28", "us-west-2 EC2 127.0.0.0/25"];
const INSIDE: &str = "127.0.0.5";
const OUTSIDE: &str = "127.0.1.5";

/// Every address of this machine answers on port 443; names resolve by this server.
struct Site {
    dns: Dns,
    upstream: Upstream,
    file: PathBuf,
    _folder: TempDir,
}

impl Site {
    fn new(days_ago: i64, lines: &[&str]) -> Self {
        let (folder, file) = file(days_ago, lines);
        let upstream = Upstream::serve_at((Ipv6Addr::UNSPECIFIED, 443).into(), |mut stream| {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = std::io::Read::read(&mut stream, &mut buffer) {
                if std::io::Write::write_all(&mut stream, &buffer[..count]).is_err() {
                    return;
                }
            }
        });
        let dns = Dns::start();
        for name in [LISTED, ADDED] {
            dns.addresses(name, &[OUTSIDE]);
        }
        Self { dns, upstream, file, _folder: folder }
    }

    /// With these lines of `[policy]` and `[egress]`.
    fn config(&self, policy: &str, egress: &str) -> String {
        format!(
            "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n\
             [policy]\n{policy}\n[ranges]\nfile = \"{}\"\n[[allow]]\npattern = \"{ADDED}\"\n\
             [egress]\nallow_private = [\"127.0.0.0/8\"]\n{egress}\n{}",
            self.file.display(),
            self.dns.as_config()
        )
    }
}

/// A CONNECT that is refused because no address of the name is AWS's; its log line.
#[track_caller]
fn expect_outside(proxy: &Proxy, target: &str) -> Value {
    let mut client = proxy.connect();
    let answer = client.connect_target(target);
    let line =
        expect_refusal(proxy, &mut client, &answer, (403, "destination_ip_prohibited", "outside_ranges"));
    let text = answer.text();
    assert!(text.contains(&format!("the name resolves to {OUTSIDE}, which isn't AWS's")), "{text}");
    line
}

#[track_caller]
fn expect_tunnel(proxy: &Proxy, target: &str) -> Value {
    let mut client = proxy.tunnel(target);
    client.expect_echo(b"through");
    client.finish();
    client.expect_closed();
    proxy.access_line("tunnel", target)
}

const REPORTED: &str = "ccpgate_reported_total{reason=\"outside_ranges\"}";
const DENIED: &str = "ccpgate_denied_total{reason=\"outside_ranges\"}";

#[test]
fn a_name_of_aws_leads_into_its_ranges() {
    in_a_network_of_its_own(&[], || {
        let site = Site::new(1, LINES);
        let listed = format!("{LISTED}:443");
        let proxy = Proxy::start(&site.config("ranges = \"enforce\"", ""));
        let line = expect_outside(&proxy, &listed);
        assert_eq!((&line["cause"], &line["domain"]), (&"outside_ranges".into(), &LISTED.into()), "{line}");
        assert_eq!(proxy.metric(DENIED), 1.0);
        assert_eq!(site.upstream.accepted(), 0, "nothing was dialled");
        // A name that the administrator adds isn't known to be AWS's.
        expect_tunnel(&proxy, &format!("{ADDED}:443"));
        // Of several addresses those inside are dialled.
        let both = "acme.awsapps.com";
        site.dns.addresses(both, &[OUTSIDE, INSIDE]);
        let line = expect_tunnel(&proxy, &format!("{both}:443"));
        assert_eq!(line["upstream"], format!("{INSIDE}:443"));
        assert_eq!(proxy.metric(REPORTED), 0.0);
        // What the administrator fixed is not judged.
        let to = site.upstream.address().port();
        let fixed = format!("connect_to = {{ \"{LISTED}:443\" = \"{OUTSIDE}:{to}\" }}");
        proxy.reload(&site.config("ranges = \"enforce\"", &fixed), "ok");
        expect_tunnel(&proxy, &listed);
        let fixed = format!("[dns.hosts]\n\"{LISTED}\" = [\"{OUTSIDE}\"]\n");
        proxy.reload(&format!("{}{fixed}", site.config("ranges = \"enforce\"", "")), "ok");
        expect_tunnel(&proxy, &listed);
        assert_eq!((proxy.metric(DENIED), proxy.metric(REPORTED)), (1.0, 0.0));
        // A check goes the same way.
        let config = site.config("ranges = \"enforce\"", "");
        let report = ccpgate(Some(&config), &["check", "--category", "login", "--json"]).expect(1).json();
        let endpoints = report["endpoints"].as_array().unwrap();
        let endpoint = endpoints.iter().find(|endpoint| endpoint["host"] == LISTED).unwrap();
        assert_eq!(endpoint["cause"], "outside_ranges", "{endpoint}");
        // So does a rehearsal, which begins with the panel's files.
        let files = ccpgate(Some(&config), &["check", "--category", "static", "--json"]).json();
        for endpoint in files["endpoints"].as_array().unwrap() {
            site.dns.addresses(endpoint["host"].as_str().unwrap(), &[OUTSIDE]);
        }
        let report = ccpgate(Some(&config), &["rehearse", "--calls", "1", "--json"]).json();
        assert_eq!(report["causes"]["outside_ranges"], 1, "{report}");
    });
}

#[test]
fn warn_lets_through_and_counts_and_off_does_neither() {
    in_a_network_of_its_own(&[], || {
        let site = Site::new(1, LINES);
        let listed = format!("{LISTED}:443");
        let proxy = Proxy::start(&site.config("ranges = \"warn\"", ""));
        let line = expect_tunnel(&proxy, &listed);
        assert_eq!((&line["would_deny"], &line["domain"]), (&"outside_ranges".into(), &LISTED.into()));
        assert_eq!(proxy.metric(REPORTED), 1.0);
        expect_tunnel(&proxy, &format!("{ADDED}:443"));
        assert_eq!(proxy.metric(REPORTED), 1.0);
        proxy.reload(&site.config("ranges = \"off\"", ""), "ok");
        expect_tunnel(&proxy, &listed);
        assert_eq!((proxy.metric(DENIED), proxy.metric(REPORTED)), (0.0, 1.0));
    });
}

/// Networks of translators and of tunnels; an address in each that stands for one inside the ranges, and one that
/// stands for one outside; and whether that counts.
const EMBEDDED: [(&str, &str, &str, bool); 5] = [
    ("64:ff9b::/96", "64:ff9b::7f00:5", "64:ff9b::7f00:105", true),
    ("64:ff9b:1:7::/64", "64:ff9b:1:7:7f:0:500:0", "64:ff9b:1:7:7f:1:500:0", true),
    ("64:ff9b:1::/48", "64:ff9b:1:7f00:0:500::", "64:ff9b:1:7f00:1:500::", true),
    // Whoever has a network chooses such an address, and the host behind a tunnel is another one.
    ("fd00::/8", "fd00::5efe:7f00:5", "fd00::5efe:7f00:105", false),
    ("2002::/16", "2002:7f00:5::1", "2002:7f00:105::1", false),
];

#[test]
fn a_translators_address_counts_as_the_ipv4_address_in_it() {
    in_a_network_of_its_own(&[], || {
        // All addresses of these networks lead here, as if the translators did.
        for network in ["64:ff9b::/32", "2002::/16", "fd00::/8"] {
            let route = ["-6", "route", "add", "local", network, "dev", "lo"];
            assert!(Command::new("ip").args(route).status().unwrap().success());
        }
        let site = Site::new(1, LINES);
        let names = |kind: &str| (0..EMBEDDED.len()).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
        let instances = [names("in"), names("out")].concat();
        let networks: Vec<_> = EMBEDDED.iter().map(|(network, ..)| network).collect();
        let with = |mode: &str, more: &str| {
            let config = site.config(&format!("ranges = \"{mode}\"\nip_targets = \"ranges\""), "");
            let config = config.replace("[\"acme\"]", &format!("{instances:?}"));
            config.replace("[\"127.0.0.0/8\"]", &format!("[\"127.0.0.0/8\"{more}]"))
        };
        let allowed = format!(", {}", format!("{networks:?}").trim_matches(['[', ']']));
        let enforces = Proxy::start(&with("enforce", &allowed));
        let warns = Proxy::start(&with("warn", &allowed));
        let without = Proxy::start(&with("enforce", ""));
        let refused = |proxy: &Proxy, target: &str, reason: &str| {
            let mut client = proxy.connect();
            let answer = client.connect_target(target);
            let error =
                if reason == "ip_literal" { "http_request_denied" } else { "destination_ip_prohibited" };
            expect_refusal(proxy, &mut client, &answer, (403, error, reason));
            answer.text()
        };
        let mut strays = 0.0;
        for (at, (network, inside, outside, counts)) in EMBEDDED.into_iter().enumerate() {
            for (kind, address, is_inside) in [("in", inside, counts), ("out", outside, false)] {
                let name = format!("{kind}{at}.my.connect.aws");
                site.dns.addresses(&name, &[address]);
                let (target, literal) = (format!("{name}:443"), format!("[{address}]:443"));
                // What `allow_private` doesn't open stays closed, wherever it leads.
                assert!(refused(&without, &target, "private_address").contains(address), "{network}");
                let counted = expect_tunnel(&warns, &target)["would_deny"].clone();
                if is_inside {
                    assert_eq!(expect_tunnel(&enforces, &target)["upstream"], literal, "{network}");
                    assert_eq!(counted, Value::Null, "{network}");
                    assert_eq!(enforces.connect().connect_target(&literal).status, 200, "{network}");
                    assert_eq!(without.connect().connect_target(&literal).status, 403, "{network}");
                } else {
                    assert!(refused(&enforces, &target, "outside_ranges").contains(address), "{network}");
                    assert_eq!(counted, "outside_ranges", "{network}");
                    strays += 1.0;
                    refused(&enforces, &literal, "ip_literal");
                }
            }
        }
        assert_eq!((warns.metric(REPORTED), enforces.metric(DENIED)), (strays, strays));
        for (address, code, said) in [
            ("64:ff9b::7f00:5", 0, "127.0.0.0/28 AMAZON_CONNECT us-west-2"),
            ("64:ff9b::7f00:105", 1, "none holds it: it isn't AWS's"),
            ("fd00::5efe:7f00:5", 1, "none holds it: it isn't AWS's"),
        ] {
            let config = with("enforce", &allowed);
            let ran = ccpgate(Some(&config), &["explain", &format!("[{address}]:443")]).expect(code);
            assert!(ran.stdout.contains(said), "{address}: {}", ran.stdout);
        }
    });
}

#[test]
fn stale_ranges_refuse_nobody_and_say_so() {
    in_a_network_of_its_own(&[], || {
        for (days, lines) in [(31, LINES), (1, &LINES[1..])] {
            let site = Site::new(days, lines);
            let proxy = Proxy::start(&site.config("ranges = \"enforce\"", ""));
            expect_tunnel(&proxy, &format!("{LISTED}:443"));
            proxy.log_line("said loudly", |line| {
                line["event"] == "ranges_not_enforced" && line["level"] == "error"
            });
            let status: Value = proxy.status();
            let policy = &status["ranges"]["policy"];
            assert_eq!((&policy["configured"], &policy["in_force"]), (&"enforce".into(), &"warn".into()));
            // Service AMAZON is missing in the second: there is nothing to count by either.
            assert_eq!(proxy.metric(REPORTED), if days == 31 { 1.0 } else { 0.0 });
        }
    });
}

#[test]
fn an_address_counts_as_its_service() {
    in_a_network_of_its_own(&[], || {
        let site = Site::new(1, LINES);
        let inside = format!("{INSIDE}:443");
        let proxy = Proxy::start(&site.config("ip_targets = \"ranges\"\ntls = \"sni\"", ""));
        // A name on the list, and none.
        for hello in [client_hello(LISTED), client_hello(ADDED), client_hello_without_name()] {
            let mut client = proxy.tunnel(&inside);
            client.expect_echo(&hello);
            client.finish();
            client.expect_closed();
        }
        let series = "domain=\"ec2_tcp_443\",category=\"api\",outcome=";
        proxy.metric_eventually(&format!("ccpgate_tunnels_total{{{series}\"ok\"}}"), 3.0);
        assert_eq!(proxy.access_line("tunnel", &inside)["domain"], "ec2_tcp_443");
        // Nobody would lose it by a reload that keeps the key, and everybody by one that doesn't.
        let admin = format!("http://{}", proxy.admin());
        for (policy, code, said) in [
            ("ip_targets = \"ranges\"", 0, "denies nothing that agents used"),
            ("ip_targets = \"off\"", 1, "127.0.0.5:443  ip_literal"),
        ] {
            let arguments = ["config", "check", "--against-live", "--admin", &admin];
            let ran = ccpgate(Some(&site.config(policy, "")), &arguments).expect(code);
            assert!(ran.stdout.contains(said), "{}", ran.stdout);
        }
        let ran = ccpgate(None, &["reload", "--admin", &admin]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        // A name that isn't on it, and a name of another region.
        for name in ["evil.example", "acme.my.connect.aws.evil.example"] {
            let mut client = proxy.tunnel(&inside);
            client.send(client_hello(name));
            client.expect_reset();
        }
        proxy.metric_eventually(&format!("ccpgate_tunnels_total{{{series}\"sni_mismatch\"}}"), 2.0);
        // Outside the sets for TCP, though inside AMAZON; outside all; another port; denied.
        for target in ["127.0.0.200:443", "127.0.1.5:443", "127.0.0.5:8443"] {
            let mut client = proxy.connect();
            let answer = client.connect_target(target);
            expect_refusal(&proxy, &mut client, &answer, (403, "http_request_denied", "ip_literal"));
        }
        let denied = format!("ip_targets = \"ranges\"\ndeny = [\"{INSIDE}\"]");
        proxy.reload(&site.config(&denied, ""), "ok");
        let answer = proxy.connect().connect_target(&inside);
        assert!(answer.text().contains("deny_rule"), "{}", answer.text());
        proxy.reload(&site.config("ip_targets = \"off\"", ""), "ok");
        let answer = proxy.connect().connect_target(&inside);
        assert!(answer.text().contains("ip_literal"), "{}", answer.text());
        // What is said without a proxy is what the proxy does.
        for (policy, target, code, said) in [
            ("ip_targets = \"ranges\"", INSIDE, 0, "names a host of the allow list, or none"),
            ("ip_targets = \"ranges\"\ntls = \"off\"", INSIDE, 0, "any first bytes"),
            ("ip_targets = \"ranges\"", "127.0.0.5:8443", 1, "127.0.0.0/28 AMAZON_CONNECT us-west-2"),
            ("ip_targets = \"ranges\"", "127.0.0.200", 1, "in none of them"),
            ("ip_targets = \"ranges\"", OUTSIDE, 1, "none holds it: it isn't AWS's"),
            ("ip_targets = \"off\"", INSIDE, 1, "policy.ip_targets = \"ranges\", as one of ec2_tcp_443"),
            (&*denied, INSIDE, 1, "deny_rule"),
        ] {
            let ran = ccpgate(Some(&site.config(policy, "")), &["explain", target]).expect(code);
            assert!(ran.stdout.contains(said), "{target}: {}", ran.stdout);
        }
        let ran = ccpgate(Some(&site.config("ip_targets = \"ranges\"", "")), &["explain", &inside, "--json"]);
        let json = ran.expect(0).json();
        assert_eq!((&json["decision"], &json["rule"]), (&"allowed".into(), &"ec2_tcp_443".into()));
        assert_eq!(json["ranges"]["prefixes"][1]["prefix"], "127.0.0.0/25");
        assert_eq!(json["ranges"]["set"], "ec2_tcp_443");
    });
}

#[test]
fn what_is_said_of_a_denied_address_follows_the_ranges() {
    in_a_network_of_its_own(&[], || {
        let site = Site::new(2, LINES);
        let inside = format!("{INSIDE}:443");
        let proxy = Proxy::start(&site.config("ip_targets = \"off\"", ""));
        assert_eq!(proxy.connect().connect_target(&inside).status, 403);
        let allowed_now = || -> Value {
            let all: Value = serde_json::from_slice(&proxy.get("/api/denied").body).unwrap();
            assert_eq!(all[0]["target"], inside);
            all[0]["allowed_now"].clone()
        };
        assert_eq!(allowed_now(), false);
        proxy.reload(&site.config("ip_targets = \"ranges\"", ""), "ok");
        assert_eq!(allowed_now(), true);
        let failures: Value = serde_json::from_slice(&proxy.get("/api/failures").body).unwrap();
        assert_eq!(failures["failures"][0]["allowed_now"], true, "{failures}");
        // AWS gives most of the prefix away, and that address with it: no reload, the same configuration.
        let (_folder, newer) = file(1, &[LINES[0], LINES[1], "us-west-2 EC2 127.0.0.64/26"]);
        std::fs::rename(newer, &site.file).unwrap();
        eventually("the newer version to count", || (allowed_now() == false).then_some(()));
        assert_eq!(proxy.connect().connect_target(&inside).status, 403);
    });
}

#[test]
fn a_reload_for_other_regions_judges_addresses_by_them_at_once() {
    in_a_network_of_its_own(&[], || {
        let other = "us-east-1 EC2 127.0.0.128/26";
        let site = Site::new(1, &[LINES, &[other]].concat());
        let (west, east) = (format!("{INSIDE}:443"), "127.0.0.130:443");
        let config = site.config("ip_targets = \"ranges\"", "");
        let proxy = Proxy::start(&config);
        assert_eq!(proxy.connect().connect_target(east).status, 403);
        let mut live = proxy.tunnel(&west);
        live.expect_echo(&client_hello_without_name());
        // Agents use what the other region doesn't have.
        let elsewhere = config.replace("us-west-2", "us-east-1");
        proxy.rewrite_config(&elsewhere);
        let admin = format!("http://{}", proxy.admin());
        let ran = ccpgate(None, &["reload", "--admin", &admin]).expect(1);
        assert!(ran.stdout.contains(&format!("{west}  ip_literal")), "{}{}", ran.stdout, ran.stderr);
        assert_eq!(proxy.connect().connect_target(east).status, 403);
        // A person takes it, and the first request after the verdict is judged by it.
        for (config, allowed, denied) in [(&elsewhere, east, &*west), (&config, &*west, east)] {
            proxy.rewrite_config(config);
            ccpgate(None, &["reload", "--yes", "--admin", &admin]).expect(0);
            assert_eq!(proxy.connect().connect_target(denied).status, 403);
            assert_eq!(proxy.connect().connect_target(allowed).status, 200);
        }
    });
}

#[test]
fn without_ranges_there_is_nothing_to_judge_by() {
    for (policy, key) in
        [("ranges = \"enforce\"", "policy.ranges"), ("ip_targets = \"ranges\"", "policy.ip_targets")]
    {
        let ran = ccpgate(Some(&format!("[policy]\n{policy}\n")), &["config", "check"]).expect(2);
        for words in [key, "test.toml:2", "ranges.url = \"https://ip-ranges.amazonaws.com/ip-ranges.json\""] {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
    }
    for (ranges, words) in [
        ("url = \"http://mirror.corp.example/x\"", "plain HTTP"),
        ("url = \"https://me:S3cret@mirror.corp.example/x\"", "expected \"https://HOST/PATH\""),
        ("url = \"ip-ranges.json\"", "expected \"https://HOST/PATH\""),
        ("refresh = \"500ms\"", "at least 1s"),
    ] {
        let ran = ccpgate(Some(&format!("[ranges]\n{ranges}\n")), &["config", "check"]).expect(2);
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("S3cret"), "{}", ran.stderr);
    }
}
