//! The yardstick for DNS: the same servers are asked by glibc's getaddrinfo and by the proxy, and the
//! outcomes are compared: an address, none, or a failure. Where the two differ on purpose, the list
//! [`DIFFERENT`] says why. glibc knows port 53 alone, so all of it happens in a network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::{Answer, Dns, Proxy, Raw, Reply, eventually, in_a_network_of_its_own};

const ZONE: &str = "yard.example";
/// Each server has so long, here and there.
const SECONDS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Address,
    None,
    Failure,
}

type Difference = (fn(&Case) -> bool, Outcome, &'static str);

/// What differs on purpose: which cases, what the proxy makes of them, and why.
const DIFFERENT: &[Difference] = &[
    (
        |case| case.one(|mood| ADDRESS.contains(&mood), |_| true),
        Outcome::Address,
        "an address in one family is an address, whatever the other does, and glibc waits for it",
    ),
    (
        |case| {
            case.one(|mood| !DEFINITE.contains(&mood), |mood| !ADDRESS.contains(&mood)) && !case.is_unknown()
        },
        Outcome::Failure,
        "a family without a readable answer may have an address, and the cause is the failure",
    ),
    (
        |case| case.two(&["formerr", "overruns"], "answer"),
        Outcome::Address,
        "another server may understand the query, or give an answer that can be read",
    ),
    (
        |case| case.two(&["formerr", "overruns"], "mute") || case.two(&["formerr", "overruns"], "servfail"),
        Outcome::Failure,
        "the same, and the other one fails as well",
    ),
    (
        |case| case.servers.len() == 2 && case.servers[0] == ["announces"; 2],
        Outcome::Address,
        "fewer records than announced, and one of them is the address",
    ),
];

/// Moods that have an address, and moods that are definite.
const ADDRESS: &[&str] = &["answer", "truncated", "announces"];
const DEFINITE: &[&str] = &["answer", "truncated", "announces", "nxdomain", "nothing"];

struct Case {
    /// For each server what it does with A and with AAAA.
    servers: Vec<[&'static str; 2]>,
}

impl Case {
    fn name(&self) -> String {
        let labels: Vec<String> = self.servers.iter().map(|[four, six]| format!("{four}-{six}")).collect();
        format!("{}.{ZONE}", labels.join("."))
    }

    /// One server, which does the one for one family and the other for the other.
    fn one(&self, one: fn(&str) -> bool, other: fn(&str) -> bool) -> bool {
        matches!(&self.servers[..], [[a, b]] if one(a) && other(b) || one(b) && other(a))
    }

    /// One server says to A that there is no such name.
    fn is_unknown(&self) -> bool {
        self.servers[0][0] == "nxdomain"
    }

    /// Two servers, of which the first does one of these for both families, the second that.
    fn two(&self, first: &[&str], second: &str) -> bool {
        matches!(&self.servers[..], [[a, b], [c, d]] if a == b && first.contains(a) && *c == second && *d == second)
    }
}

/// A mood for each family; `four` tells which address there is.
fn reply(mood: &str, four: bool) -> Reply {
    let here = Reply::addresses(if four { &["127.0.0.1"] } else { &["::1"] });
    let bent = |bend: fn(&mut Vec<u8>)| Reply::Bent(bend, Box::new(here.clone()));
    match mood {
        "answer" => here,
        "mute" => Reply::Mute,
        "servfail" => Reply::Failure,
        "refused" => Reply::Refused,
        "formerr" => Reply::Code(1),
        "notimp" => Reply::Code(4),
        "nxdomain" => Reply::Code(3),
        "nothing" => Reply::Nothing,
        "lame" => Reply::Lame,
        "truncated" => Reply::Truncated(Box::new(here)),
        // More records are announced than there are.
        "announces" => bent(|packet| packet[7] = 9),
        // The record's data ends behind the packet.
        "overruns" => bent(|packet| packet.truncate(packet.len() - 2)),
        "questionless" => bent(|packet| {
            let name = 12 + packet[12..].iter().position(|b| *b == 0).unwrap() + 5;
            packet[5] = 0;
            packet.drain(12..name);
        }),
        "stranger" => bent(|packet| packet[0] ^= 0x55),
        other => panic!("no such mood: {other}"),
    }
}

const CROSSED: &[&str] =
    &["answer", "mute", "servfail", "nxdomain", "nothing", "truncated", "overruns", "questionless"];
const OTHERS: &[&str] = &["refused", "formerr", "notimp", "lame", "announces", "stranger"];

fn with_one_server() -> Vec<Case> {
    let crossed = CROSSED.iter().flat_map(|four| CROSSED.iter().map(move |six| [*four, *six]));
    let beside = OTHERS.iter().flat_map(|mood| [[*mood, "answer"], ["answer", *mood], [*mood, *mood]]);
    crossed.chain(beside).map(|moods| Case { servers: vec![moods] }).collect()
}

fn with_two_servers() -> Vec<Case> {
    let firsts = CROSSED.iter().chain(OTHERS);
    let of = |first: &'static str| {
        ["answer", "nxdomain", "mute", "servfail"]
            .map(|second| Case { servers: vec![[first, first], [second, second]] })
    };
    firsts.flat_map(|first| of(first)).collect()
}

/// What getaddrinfo says about each name.
fn by_glibc(servers: &[SocketAddr], names: &[String]) -> Vec<Outcome> {
    const ASK: &str = "\
import concurrent.futures, socket, sys
def ask(name):
    try:
        socket.getaddrinfo(name + '.', 443, type=socket.SOCK_STREAM)
        return 'Address'
    except socket.gaierror as error:
        return 'None' if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else 'Failure'
names = sys.stdin.read().split()
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print('\\n'.join(pool.map(ask, names)))
";
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("options timeout:{SECONDS} attempts:1\n");
    for server in servers {
        text.push_str(&format!("nameserver {}\n", server.ip()));
    }
    std::fs::write(folder.path().join("resolv.conf"), text).unwrap();
    std::fs::write(folder.path().join("nsswitch.conf"), "hosts: dns\n").unwrap();
    let mut asking = Command::new("unshare")
        .args(["--mount", "sh", "-c", "for f in resolv.conf nsswitch.conf; do mount --bind $f /etc/$f || exit 9; done; exec python3 -c \"$ASK\""])
        .env("ASK", ASK)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    asking.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    let said = asking.wait_with_output().unwrap();
    assert!(said.status.success(), "getaddrinfo: {}", said.status);
    let outcome = |line: &str| match line {
        "Address" => Outcome::Address,
        "None" => Outcome::None,
        _ => Outcome::Failure,
    };
    String::from_utf8(said.stdout).unwrap().lines().map(outcome).collect()
}

fn outcome(answer: &Answer) -> Outcome {
    let field = answer.field("proxy-status").unwrap_or_default().to_owned();
    match answer.proxy_status("error") {
        Some("dns_timeout") => Outcome::Failure,
        Some("dns_error") if field.contains("NXDOMAIN") => Outcome::None,
        Some("dns_error") if String::from_utf8_lossy(&answer.body).contains("has no address") => {
            Outcome::None
        }
        Some("dns_error") => Outcome::Failure,
        // Nobody listens where it was dialled.
        _ => Outcome::Address,
    }
}

/// What the proxy makes of each name, 32 at a time.
fn by_the_proxy(servers: &[SocketAddr], names: &[String]) -> Vec<Outcome> {
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.{ZONE}\"\n[dns]\nservers = {:?}\ntimeout = \"{SECONDS}s\"\n\
         [egress]\nallow_private = [\"127.0.0.1/32\", \"::1/128\"]",
        servers.iter().map(ToString::to_string).collect::<Vec<_>>()
    ));
    let http = proxy.http();
    let ask = |name: &String| outcome(&Raw::connect(http).connect_target(&format!("{name}:443")));
    let mut all = Vec::new();
    for some in names.chunks(32) {
        thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|name| scope.spawn(move || ask(name))).collect();
            all.extend(asked.into_iter().map(|asked| asked.join().unwrap()));
        });
    }
    all
}

/// The cases that turn out otherwise than they should.
fn compare(servers: &[&Dns], cases: &[Case], differed: &mut BTreeSet<usize>) -> BTreeMap<String, String> {
    let names: Vec<String> = cases.iter().map(Case::name).collect();
    for (case, name) in cases.iter().zip(&names) {
        for (dns, [four, six]) in servers.iter().zip(&case.servers) {
            dns.set(name, Reply::split(reply(four, true), reply(six, false)));
        }
    }
    let at: Vec<SocketAddr> = servers.iter().map(|dns| dns.address()).collect();
    let (theirs, ours) = (by_glibc(&at, &names), by_the_proxy(&at, &names));
    assert_eq!((theirs.len(), ours.len()), (cases.len(), cases.len()));
    let mut wrong = BTreeMap::new();
    for (((case, name), glibc), proxy) in cases.iter().zip(names).zip(theirs).zip(ours) {
        let exception = DIFFERENT.iter().position(|(fits, ..)| fits(case));
        let expected = exception.map_or(glibc, |at| DIFFERENT[at].1);
        differed.extend(exception.filter(|_| expected != glibc));
        if proxy != expected {
            wrong.insert(name, format!("proxy {proxy:?}, expected {expected:?}, glibc {glibc:?}"));
        }
    }
    wrong
}

#[test]
fn names_resolve_as_with_glibc() {
    in_a_network_of_its_own(&["unshare", "python3"], || {
        let at = |address: &str| Dns::start_at(address.parse().unwrap());
        let (first, second) = (at("127.0.0.2:53"), at("127.0.0.3:53"));
        let mut differed = BTreeSet::new();
        for (servers, cases) in
            [(&[&first][..], with_one_server()), (&[&first, &second][..], with_two_servers())]
        {
            let mut wrong = compare(servers, &cases, &mut differed);
            if !wrong.is_empty() {
                // A busy machine may have let a server's time pass: once more, without company.
                let again: Vec<Case> =
                    cases.into_iter().filter(|case| wrong.contains_key(&case.name())).collect();
                wrong = compare(servers, &again, &mut differed);
            }
            assert!(wrong.is_empty(), "{wrong:#?}");
        }
        let unneeded = (0..DIFFERENT.len()).filter(|at| !differed.contains(at)).map(|at| DIFFERENT[at].2);
        assert_eq!(unneeded.collect::<Vec<_>>(), [""; 0], "glibc does the same");
    });
}

/// `serve` with a resolv.conf and a hosts file of its own.
fn with_own_files(folder: &std::path::Path, toml: &str) -> Proxy {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "for f in resolv.conf hosts; do mount --bind \"$OWN/$f\" /etc/$f || exit 9; done; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_ccpgate"),
    ]);
    command.env("OWN", folder);
    Proxy::start_by(toml, command)
}

/// A search list would widen the policy: the name within it is another one, that no rule allows. And what
/// the hosts file says is judged like DNS.
#[test]
fn a_search_list_and_a_hosts_file_widen_nothing() {
    in_a_network_of_its_own(&["unshare", "python3"], || {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let dns = Dns::start_at("127.0.0.1:53".parse().unwrap());
        dns.addresses(&format!("acme.{ZONE}.corp.local"), &["127.0.0.1"]);
        write("resolv.conf", "nameserver 127.0.0.1\nsearch corp.local\noptions ndots:9\n");
        write("hosts", &format!("10.9.8.7 four.{ZONE}\nfd00::7 six.{ZONE}\n"));
        let proxy = with_own_files(folder.path(), &format!("[[allow]]\npattern = \"*.{ZONE}\"\n"));
        let ask = |name: &str| proxy.connect().connect_target(&format!("{name}.{ZONE}:443"));
        let answer = ask("acme");
        assert_eq!((answer.status, answer.proxy_status("rcode")), (502, Some("NXDOMAIN")), "{}", answer.head);
        assert!(dns.asked().iter().all(|name| *name == format!("acme.{ZONE}")), "{:?}", dns.asked());
        for name in ["four", "six"] {
            let answer = ask(name);
            assert_eq!(answer.proxy_status("details"), Some("private_address"), "{name}: {}", answer.head);
        }
    });
}

#[test]
fn the_machines_files_are_followed() {
    in_a_network_of_its_own(&["unshare", "python3"], || {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let at = |address: &str| Dns::start_at(address.parse().unwrap());
        // As libc has it: no server is the one on this machine.
        let (local, other) = (at("127.0.0.1:53"), at("127.0.0.4:53"));
        local.set_otherwise(Reply::addresses(&["127.0.0.1"]));
        other.set_otherwise(Reply::addresses(&["127.0.0.1"]));
        for nothing in ["", "# nothing\n", "search corp..local\n", "nameserver [::1]:53\n"] {
            write("resolv.conf", nothing);
            write("hosts", "");
            let proxy = with_own_files(
                folder.path(),
                &format!(
                    "[[allow]]\npattern = \"*.{ZONE}\"\n[dns]\ntimeout = \"1s\"\n[egress]\nallow_private = [\"127.0.0.1/32\"]"
                ),
            );
            let ask = |name: &str| outcome(&proxy.connect().connect_target(&format!("{name}.{ZONE}:443")));
            proxy.log_line("the warning", |line| {
                line["event"] == "resolver_warning" && line.to_string().contains("127.0.0.1 is asked")
            });
            assert_eq!(ask("one"), Outcome::Address, "{nothing:?}");
            local.set_otherwise(Reply::Mute);
            assert_eq!(ask("two"), Outcome::Failure);
            write("resolv.conf", "nameserver 127.0.0.4\n");
            let line = proxy.log_line("the change", |line| line["event"] == "resolver_changed");
            assert_eq!(line["servers"], "127.0.0.4:53", "{line}");
            assert_eq!(ask("two"), Outcome::Address);
            other.set(&format!("three.{ZONE}"), Reply::Code(3));
            assert_eq!(ask("three"), Outcome::None);
            write("hosts", &format!("127.0.0.1 localhost three.{ZONE}\n"));
            eventually("the hosts file", || (ask("three") == Outcome::Address).then_some(()));
            local.set_otherwise(Reply::addresses(&["127.0.0.1"]));
        }
    });
}
