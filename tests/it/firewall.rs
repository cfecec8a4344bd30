//! `ccpgate firewall`: its rules in the real programs, judged by real packets between networks of our
//! own.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::{Network, Routed, ccpgate, eventually, have};

const CONFIG: &str = "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n";

/// In the media ranges of us-west-2.
const LISTED: [&str; 3] = ["15.193.0.7", "54.190.198.33", "2600:f0f2:7100::7"];
/// Right beside them, and elsewhere.
const OUTSIDE: [&str; 3] = ["15.193.32.0", "54.190.198.48", "2600:f0f2:7200::"];

fn file() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ip-ranges-2026.json").display().to_string()
}

fn rules(config: &str, more: &[&str]) -> String {
    ccpgate(Some(config), &[&["firewall", "--file", &file()][..], more].concat()).expect(0).stdout
}

/// Who listens at the server: every packet comes back.
fn echo(server: &Network, ports: &[u16]) {
    for address in LISTED.iter().chain(&OUTSIDE) {
        for port in ports {
            let at = SocketAddr::new(address.parse::<IpAddr>().unwrap(), *port);
            server.run(move || {
                let udp = UdpSocket::bind(at).unwrap();
                thread::spawn(move || {
                    let mut packet = [0; 64];
                    while let Ok((length, from)) = udp.recv_from(&mut packet) {
                        let _ = udp.send_to(&packet[..length], from);
                    }
                });
                let tcp = TcpListener::bind(at).unwrap();
                thread::spawn(move || {
                    for mut stream in tcp.incoming().flatten() {
                        let mut byte = [0];
                        let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
                    }
                });
            });
        }
    }
}

/// A socket of the client's for one peer.
fn socket(client: &Network, address: &str, port: u16) -> UdpSocket {
    let to = SocketAddr::new(address.parse().unwrap(), port);
    client.run(move || {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    })
}

/// Whether a packet comes back on this socket.
fn comes_back(socket: &UdpSocket) -> bool {
    let mut packet = [0; 8];
    socket.send(b"ping").is_ok() && socket.recv(&mut packet).is_ok()
}

/// A new flow passes; the first packets may get lost while neighbours find each other.
#[track_caller]
fn passes(client: &Network, address: &str, port: u16) {
    let socket = socket(client, address, port);
    eventually(&format!("an answer from {address}:{port}"), || comes_back(&socket).then_some(()));
}

/// What one counter of the table says.
fn count(network: &Network, name: &str) -> u64 {
    let shown = network.sh(&format!("nft list counter inet ccpgate {name}"));
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "packets").expect("a counter");
    words[at + 1].parse().unwrap()
}

/// A new flow is dropped: the counter of drops grows, and nothing comes back.
#[track_caller]
fn is_dropped(client: &Network, address: &str, port: u16, dropped: impl Fn() -> u64) {
    let before = dropped();
    let socket = socket(client, address, port);
    assert!(!comes_back(&socket), "{address}:{port} answers");
    eventually(&format!("the drop of a packet to {address}:{port}"), || (dropped() > before).then_some(()));
}

fn load(network: &Network, rules: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ccpgate.nft");
    std::fs::write(&path, rules).unwrap();
    network.sh(&format!("nft -f {}", path.display()));
}

fn routed() -> Option<Routed> {
    let all: Vec<&str> = LISTED.into_iter().chain(OUTSIDE).collect();
    have("nft").then(|| Routed::new(&all)).flatten()
}

#[test]
fn on_a_router_listed_addresses_pass_and_those_beside_them_do_not() {
    let Some(Routed { client, router, server }) = routed() else { return };
    echo(&server, &[3478, 53]);
    // All of it works without rules, so that what doesn't later is their doing.
    LISTED.iter().chain(&OUTSIDE).for_each(|address| passes(&client, address, 3478));
    load(&router, &rules(CONFIG, &["--hook", "forward"]));
    LISTED.iter().for_each(|address| passes(&client, address, 3478));
    assert!(count(&router, "media_udp_3478") >= 3);
    for address in OUTSIDE {
        is_dropped(&client, address, 3478, || count(&router, "dropped_udp_3478"));
        // Nothing else is dropped.
        passes(&client, address, 53);
    }
    // The same once more is the same, and counters go on.
    let (table, counted) = (router.sh("nft -s list table inet ccpgate"), count(&router, "media_udp_3478"));
    load(&router, &rules(CONFIG, &["--hook", "forward"]));
    assert_eq!(router.sh("nft -s list table inet ccpgate"), table);
    assert!(count(&router, "media_udp_3478") >= counted);
    // Without a hook again, nothing is dropped.
    load(&router, &rules(CONFIG, &[]));
    passes(&client, OUTSIDE[0], 3478);
}

#[test]
fn a_reload_cuts_no_live_flow() {
    let Some(Routed { client, router, server }) = routed() else { return };
    echo(&server, &[3478]);
    let config = rules(CONFIG, &["--hook", "forward"]);
    load(&router, &config);
    let calls: Vec<UdpSocket> = LISTED.iter().map(|address| socket(&client, address, 3478)).collect();
    for call in &calls {
        eventually("a call", || comes_back(call).then_some(()));
        call.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    for _ in 0..5 {
        load(&router, &config);
        assert!(calls.iter().all(comes_back), "a packet of a live call is lost");
    }
    // Its prefix leaves the list: the call goes on, and a new one doesn't begin.
    let gone = config.replace("    54.190.198.32/28,\n", "");
    assert_ne!(gone, config);
    load(&router, &gone);
    assert!(calls.iter().all(comes_back), "a packet of a live call is lost");
    is_dropped(&client, LISTED[1], 3478, || count(&router, "dropped_udp_3478"));
}

#[test]
fn on_a_desk_option_2_lets_tcp_443_through_by_address() {
    // The router is held, for its network goes with it.
    let Some(Routed { client, router: _router, server }) = routed() else { return };
    echo(&server, &[3478, 443]);
    let ec2 = "54.190.198.33";
    let reach = |address: &str| {
        let to: SocketAddr = SocketAddr::new(address.parse().unwrap(), 443);
        client.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(1500))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0]))
        })
    };
    eventually("TCP without rules", || reach(OUTSIDE[0]).ok());
    // An address of the media range, which the file of the test has as EC2's, too.
    let data = std::fs::read_to_string(file()).unwrap();
    let entry = |service: &str| {
        format!(
            r#"{{"ip_prefix": "54.190.198.32/28", "region": "us-west-2", "service": "{service}", "network_border_group": "us-west-2"}}"#
        )
    };
    assert!(data.contains(&entry("AMAZON_CONNECT")));
    let both = format!("{}, {}", entry("AMAZON_CONNECT"), entry("EC2"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.json");
    std::fs::write(&path, data.replace(&entry("AMAZON_CONNECT"), &both)).unwrap();
    let arguments = ["firewall", "--scope", "option2", "--hook", "output", "--stateless", "--file"];
    let ran = ccpgate(Some(CONFIG), &[&arguments[..], &[path.to_str().unwrap()]].concat()).expect(0);
    load(&client, &ran.stdout);
    eventually("TCP to a listed address", || reach(ec2).ok());
    assert!(reach(OUTSIDE[0]).is_err() && count(&client, "dropped_tcp_443") > 0);
    LISTED.iter().for_each(|address| passes(&client, address, 3478));
    // What came back was from the media ranges, to a port that browsers take.
    assert!(count(&client, "returned") > 0 && count(&client, "ec2_tcp_443") > 0);
    is_dropped(&client, OUTSIDE[2], 3478, || count(&client, "dropped_udp_3478"));
    // TCP to the media range that is nobody's else isn't part of it.
    assert!(reach(LISTED[0]).is_err());
}

#[test]
fn turn_by_name_is_kept_for_hours_and_survives_a_failed_answer() {
    let Some(Routed { client, router, server }) = routed() else { return };
    echo(&server, &[3478]);
    // Every name answers from here; none but the first has a public address.
    let allow = ccpgate(Some(CONFIG), &["allowlist", "--json"]).expect(0).json();
    let names: Vec<String> = allow
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["protocol"] == "udp")
        .map(|rule| rule["pattern"].as_str().unwrap().to_owned())
        .filter(|name| !name.contains('*'))
        .collect();
    assert!(names.len() > 2, "{names:?}");
    let hosts = |first: &str| {
        let lines: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(at, name)| format!("\"{name}\" = [\"{}\"]\n", if at == 0 { first } else { "127.0.0.1" }))
            .collect();
        format!("{CONFIG}[dns]\nservers = [\"127.0.0.1:9\"]\n[dns.hosts]\n{}", lines.concat())
    };
    let arguments = ["firewall", "--by-name", "--hook", "forward", "--file", &file()];
    let ran = ccpgate(Some(&hosts(OUTSIDE[0])), &arguments).expect(0);
    assert!(ran.stderr.contains("127.0.0.1, which is not a public address"), "{}", ran.stderr);
    load(&router, &ran.stdout);
    passes(&client, OUTSIDE[0], 3478);
    is_dropped(&client, OUTSIDE[1], 3478, || count(&router, "dropped_udp_3478"));
    // Nothing usable, and then nothing asked: what was there stays.
    load(&router, &ccpgate(Some(&hosts("127.0.0.1")), &arguments).expect(0).stdout);
    load(&router, &rules(CONFIG, &["--hook", "forward"]));
    passes(&client, OUTSIDE[0], 3478);
    let set = router.sh("nft list set inet ccpgate turn_by_name_v4");
    assert!(set.contains("timeout 2h expires") || set.contains("expires 1h59m"), "{set}");
    assert!(!set.contains("interval"), "{set}");
}

#[test]
fn iptables_and_ipset_do_the_same() {
    if !["iptables-restore", "ip6tables-restore", "ipset"].into_iter().all(have) {
        return;
    }
    let Some(Routed { client, router, server }) = routed() else { return };
    echo(&server, &[3478, 53]);
    let script = rules(CONFIG, &["--format", "iptables", "--hook", "forward"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ccpgate.sh");
    let run = |text: &str| {
        std::fs::write(&path, text).unwrap();
        router.sh(&format!("sh {}", path.display()));
    };
    run(&script);
    let shown = || router.sh("iptables -S; ip6tables -S; ipset save | sed 's/ initval.*//' | sort");
    let once = shown();
    run(&script);
    assert_eq!(shown(), once);
    let dropped = || -> u64 {
        let lines = router.sh("iptables -nvxL CCPGATE; ip6tables -nvxL CCPGATE");
        let counts = lines.lines().filter(|line| line.contains("DROP")).map(|line| {
            line.split_whitespace().next().and_then(|packets| packets.parse::<u64>().ok()).unwrap()
        });
        counts.sum()
    };
    LISTED.iter().for_each(|address| passes(&client, address, 3478));
    for address in OUTSIDE {
        is_dropped(&client, address, 3478, dropped);
        passes(&client, address, 53);
    }
    let call = socket(&client, LISTED[1], 3478);
    eventually("a call", || comes_back(&call).then_some(()));
    call.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    run(&script.replace("add ccpgate-media-v4-new 54.190.198.32/28\n", ""));
    assert!(comes_back(&call), "a packet of a live call is lost");
    is_dropped(&client, LISTED[1], 3478, dropped);
}

#[test]
fn every_choice_of_options_loads_after_every_other() {
    if !["nft", "iptables-restore", "ip6tables-restore", "ipset"].into_iter().all(have) {
        return;
    }
    let Some(network) = Network::new() else { return };
    let config = CONFIG.replace("[\"us-west-2\"]", "[\"*\"]\nfeatures = [\"video\"]");
    let folder = tempfile::tempdir().unwrap();
    for scope in ["media", "option2", "media"] {
        for hook in [&[][..], &["--hook", "forward"], &["--hook", "output"]] {
            for stateless in [&[][..], &["--stateless"]] {
                let options = [&["--scope", scope][..], hook, stateless].concat();
                load(&network, &rules(&config, &options));
                let path = folder.path().join("ccpgate.sh");
                std::fs::write(&path, rules(&config, &[&options[..], &["--format", "iptables"]].concat()))
                    .unwrap();
                network.sh(&format!("sh {}", path.display()));
                let lets_in =
                    "nft list chain inet ccpgate allow_in; iptables -S CCPGATE-IN; ip6tables -S CCPGATE-IN";
                let lets_in = network.sh(lets_in).contains("3478");
                assert_eq!(lets_in, !stateless.is_empty(), "{options:?}");
            }
        }
    }
    // The parts by themselves, as one who has another way to load them takes them.
    let script = rules(&config, &["--format", "iptables", "--scope", "option2"]);
    for (program, check) in
        [("iptables-restore", "--test --noflush"), ("ip6tables-restore", "--test --noflush")]
    {
        let part = script.split(&format!("{program} --noflush <<'END'\n")).nth(1).unwrap();
        let part = part.split("END\n").next().unwrap();
        assert!(part.starts_with("*filter\n") && part.ends_with("COMMIT\n"), "{part}");
        let path = folder.path().join("part");
        std::fs::write(&path, part).unwrap();
        network.sh(&format!("{program} {check} {}", path.display()));
    }
}

#[test]
fn json_and_txt_have_a_rule_for_each_prefix() {
    let json = ccpgate(Some(CONFIG), &["firewall", "--file", &file(), "--format", "json", "--stateless"]);
    let json = json.expect(0).json();
    let rules = json.as_array().unwrap();
    let out: Vec<_> = rules.iter().filter(|rule| rule["direction"] == "out").collect();
    assert_eq!(out.len(), 4);
    assert!(out.iter().all(|rule| rule["protocol"] == "udp" && rule["remote_ports"] == "3478"));
    assert!(out.iter().any(|rule| rule["remote"] == "15.193.0.0/19"));
    for ports in ["49152-65535", "32768-61000"] {
        let back = rules.iter().filter(|rule| rule["direction"] == "in" && rule["local_ports"] == ports);
        assert_eq!(back.count(), 4);
    }
    for rule in rules {
        for key in ["direction", "protocol", "remote", "remote_ports", "local_ports", "purpose"] {
            assert!(rule[key].is_string(), "{key}: {rule}");
        }
    }
    let text = ccpgate(Some(CONFIG), &["firewall", "--file", &file(), "--format", "txt"]).expect(0).stdout;
    assert_eq!(text.lines().next(), Some("out udp 15.193.0.0/19 3478 1-65535"));
}

#[test]
fn rules_that_would_cut_the_voice_are_not_printed() {
    let data = std::fs::read_to_string(file()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.json");
    std::fs::write(&path, data.replace("\"AMAZON_CONNECT\"", "\"AMAZON_OTHER\"")).unwrap();
    let run = |more: &[&str]| {
        ccpgate(Some(CONFIG), &[&["firewall", "--file", path.to_str().unwrap()][..], more].concat())
    };
    for format in ["nft", "iptables", "json", "txt"] {
        let ran = run(&["--format", format]).expect(2);
        assert!(ran.stderr.contains("no IPv4 prefix of AMAZON_CONNECT for us-west-2"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    let ran = ccpgate(Some(CONFIG), &["firewall"]).expect(2);
    assert!(ran.stderr.contains("ranges.file"), "{}", ran.stderr);
    let without = CONFIG.replace("instances", "media = false\ninstances");
    let ran = ccpgate(Some(&without), &["firewall", "--file", &file(), "--format", "json"]).expect(0);
    assert_eq!(ran.stdout, "[]\n");
    assert!(ran.stderr.contains("connect.media = false"), "{}", ran.stderr);
}
