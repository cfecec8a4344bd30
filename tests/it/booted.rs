//! The shipped units on a real systemd, and the commands of deploy/README.md as they are printed: what
//! happens at a start, at a reload, when an address is late, and when the machine goes down.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{self, Machine, Over, PATIENCE, Secured, Upstream, eventually};

const TARGET: &str = "good.example:443";
const HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 3128);
/// Of the test's machine, in place of a minute.
const REBOOT: Duration = Duration::from_secs(4);

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The commands of deploy/README.md below a heading.
#[track_caller]
fn printed(heading: &str) -> Vec<String> {
    support::printed("deploy/README.md", &format!("## {heading}"))
}

/// As `eventually`, for what a growing pause lies before.
fn in_the_end(what: &str, mut ask: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !ask() {
        assert!(Instant::now() < until, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_active(machine: &Machine) -> bool {
    machine.run("systemctl is-active ccpgate").out.trim() == "active"
}

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n\
         [[allow]]\npattern = \"good.example\"\n[policy]\ntls = \"off\"\n\
         [egress]\nconnect_to = {{ \"{TARGET}\" = \"{}\" }}\n{more}",
        upstream.address()
    )
}

/// A tunnel without any expectation of how it goes on.
struct Tunnel(TcpStream);

impl Tunnel {
    #[track_caller]
    fn open(proxy: impl Into<SocketAddr>) -> Self {
        let mut stream = TcpStream::connect_timeout(&proxy.into(), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Whether a message comes back.
    fn talks(&mut self) -> bool {
        let mut byte = [0];
        self.0.write_all(b"x").is_ok() && self.0.read_exact(&mut byte).is_ok()
    }

    /// Talks, as an agent's panel does, until it can't any more; when that was. Gives up when the
    /// proxy doesn't.
    fn talk_to_the_end(mut self) -> Instant {
        let until = Instant::now() + REBOOT + 2 * PATIENCE;
        while self.talks() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
        }
        Instant::now()
    }

    /// Waits in silence for the end; when that was.
    fn wait_for_the_end(mut self) -> Instant {
        self.0.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        let _ = self.0.read(&mut [0]);
        Instant::now()
    }
}

#[test]
fn the_units_on_a_real_machine() {
    let Some(machine) = Machine::boot() else { return };
    // A thread of its own, since it never leaves the machine's network again.
    std::thread::spawn(move || story(machine)).join().unwrap();
}

/// What stands in both files twice can't drift apart.
#[test]
fn the_two_units_differ_in_what_makes_a_row() {
    let read = |name: &str| fs::read_to_string(repository().join("deploy").join(name)).unwrap();
    let settings = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|l| !l.starts_with('#') && !OF_A_ROW.iter().any(|key| l.starts_with(key)));
        lines
            .map(|l| l.replace(" (%i)", "").replace("--takeover ", "").replace("ccpgate-row", "ccpgate"))
            .collect()
    };
    const OF_A_ROW: [&str; 3] = ["Sockets=", "NonBlocking=", "RuntimeDirectoryPreserve="];
    let (one, pair) = (read("ccpgate.service"), read("ccpgate@.service"));
    assert!(OF_A_ROW.iter().all(|key| pair.contains(key) && !one.contains(key)));
    assert_eq!(settings(&one), settings(&pair));
    assert_ne!(settings(&one), settings(&pair.replace("UMask=0077", "UMask=0022")));
}

fn story(mut machine: Machine) {
    machine.enter_network();
    let upstream = Upstream::echo();
    deliver(&machine, &upstream);
    it_starts_when_it_serves(&machine);
    units_are_sound(&machine);
    the_journal_knows_levels(&machine);
    a_reload_takes_a_change_and_refuses_a_mistake(&machine, &upstream);
    a_mistake_fails_once_with_its_reason(&machine, &upstream);
    what_may_pass_is_tried_again(&machine);
    a_crash_is_followed_by_a_start(&machine);
    a_second_signal_ends_the_drain(&machine);
    an_address_may_come_late(&machine, &upstream);
    https_from_nothing(&machine);
    ports_below_1024(&machine, &upstream);
    a_row_in_place_of_the_one(&machine, &upstream);
    a_row_that_stops_refuses(&machine);
    https_of_a_row(&machine, &upstream);
    let of_an_old_one = an_upgrade_cuts_nothing(&machine);
    the_machine_goes_down(&mut machine, of_an_old_one);
}

/// What an administrator has in front of him before he reads the page.
fn deliver(machine: &Machine, upstream: &Upstream) {
    fs::copy(env!("CARGO_BIN_EXE_ccpgate"), machine.path("/root/ccpgate/ccpgate")).unwrap();
    machine.write("/root/ccpgate/ccpgate.toml", config(upstream, ""));
    for file in ["README.md", "ccpgate.service", "ccpgate@.service", "ccpgate.socket", "ccpgate-upgrade"] {
        let text = fs::read(repository().join("deploy").join(file)).unwrap();
        machine.write(&format!("/root/ccpgate/deploy/{file}"), text);
    }
}

fn it_starts_when_it_serves(machine: &Machine) {
    // Ends with /readyz, at once after the start.
    machine.must(&printed("Install")[0]);
    for _ in 0..5 {
        machine.must("systemctl restart ccpgate; curl -fsS http://127.0.0.1:9128/readyz");
    }
    let mut tunnel = Tunnel::open(HTTP);
    assert!(tunnel.talks());
    machine.eventually("systemctl status ccpgate", "Status: \"serving, 1 tunnel\"");
}

fn units_are_sound(machine: &Machine) {
    machine.must("install -m 0644 deploy/ccpgate@.service deploy/ccpgate.socket /etc/systemd/system/; systemctl daemon-reload");
    for unit in ["ccpgate.service", "ccpgate@a.service", "ccpgate.socket"] {
        let said = machine.run(&format!("systemd-analyze verify --man=no {unit}")).out;
        let known = |line: &&str| !line.contains("RestartSteps") && !line.contains("RestartMaxDelaySec");
        let complaints: Vec<&str> = said.lines().filter(|l| l.contains("ccpgate")).filter(known).collect();
        assert!(complaints.is_empty(), "{unit}: {complaints:?}");
    }
    let page = machine.must("systemctl show -P Documentation ccpgate");
    let page = page.trim().strip_prefix("file://").expect("a file");
    assert!(machine.path(page).is_file(), "{page} is what `systemctl help ccpgate` shows");
    // Out of 10; systemd calls up to 2 "OK" and counts the network, which a proxy needs.
    for unit in ["ccpgate.service", "ccpgate@.service"] {
        let said = machine
            .run(&format!("systemd-analyze security --no-pager --offline=true deploy/{unit} | tail -1"));
        let exposure: f64 = said.out.split_whitespace().find_map(|w| w.parse().ok()).expect("a figure");
        assert!(exposure <= 1.5, "{}", said.out);
    }
}

fn the_journal_knows_levels(machine: &Machine) {
    let mut stranger = TcpStream::connect(SocketAddr::from(HTTP)).unwrap();
    stranger.write_all(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    let all = machine.eventually("journalctl -u ccpgate -o cat", "target=evil.example:443");
    assert!(!all.contains("<4>") && !all.contains("<6>"), "the journal takes the level off: {all}");
    let denied = all.lines().find(|line| line.contains("target=evil.example:443")).unwrap();
    assert!(denied.starts_with("denied "), "the time is the journal's: {denied}");
    let warnings = machine.must("journalctl -u ccpgate -p warning -o cat");
    assert!(warnings.contains("policy_warning") && !warnings.contains("INFO"), "{warnings}");
    assert!(!warnings.contains("denied "), "{warnings}");
}

fn reloads(machine: &Machine, event: &str) -> usize {
    machine.run("journalctl -u ccpgate -o cat").out.matches(&format!("event=\"{event}\"")).count()
}

fn a_reload_takes_a_change_and_refuses_a_mistake(machine: &Machine, upstream: &Upstream) {
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, "[proxy]\nname = \"renamed\""));
    machine.must("systemctl reload ccpgate");
    eventually("the reload", || (reloads(machine, "reloaded") == 1).then_some(()));
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, "[proxy]\nnaem = \"x\""));
    assert_ne!(machine.run("systemctl reload ccpgate").code, 0);
    machine.eventually("journalctl -u ccpgate -o cat", "naem");
    assert_eq!(machine.must("systemctl is-active ccpgate").trim(), "active");
    // The signal by hand, without the check before it.
    machine.must("systemctl kill --kill-who=main -s HUP ccpgate");
    machine.eventually("systemctl status ccpgate", "the last reload was refused");
    assert_eq!(machine.must("systemctl is-active ccpgate").trim(), "active");
}

fn a_mistake_fails_once_with_its_reason(machine: &Machine, upstream: &Upstream) {
    let begun = Instant::now();
    assert_ne!(machine.run("systemctl restart ccpgate").code, 0, "a start that failed must say so");
    assert!(begun.elapsed() < PATIENCE);
    let shown = machine.must("systemctl show -p ActiveState,NRestarts ccpgate");
    assert!(shown.contains("ActiveState=failed") && shown.contains("NRestarts=0"), "{shown}");
    let status = machine.run("systemctl status ccpgate").out;
    assert!(status.contains("Status: \"") && status.contains("naem"), "{status}");
    machine.eventually("journalctl -u ccpgate -p err -o cat", "naem");
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, ""));
    machine.must("systemctl start ccpgate");
}

fn what_may_pass_is_tried_again(machine: &Machine) {
    machine.must("systemctl stop ccpgate");
    // Six pauses of the shipped length are six seconds.
    machine.write("/etc/systemd/system/ccpgate.service.d/haste.conf", "[Service]\nRestartSec=100ms\n");
    machine.must("systemctl daemon-reload");
    let other = TcpListener::bind(SocketAddr::from(HTTP)).unwrap();
    assert_ne!(machine.run("systemctl start ccpgate").code, 0);
    // The next start, a moment later, begins with no status.
    machine.eventually("systemctl status ccpgate || true", "Address already in use");
    // As often as exhausts systemd's start limit.
    let restarts = || machine.must("systemctl show -P NRestarts ccpgate").trim().parse::<u32>().unwrap();
    in_the_end("the sixth start", || restarts() >= 5);
    drop(other);
    in_the_end("a start that succeeds", || is_active(machine));
    machine.must("curl -fsS http://127.0.0.1:9128/readyz");
    machine.must("rm -r /etc/systemd/system/ccpgate.service.d; systemctl daemon-reload");
}

fn a_crash_is_followed_by_a_start(machine: &Machine) {
    let id = || machine.must("systemctl show -P MainPID ccpgate").trim().to_owned();
    let before = id();
    machine.must("systemctl kill --kill-who=main -s KILL ccpgate");
    eventually("the next process", || (!["0", before.as_str()].contains(&id().as_str())).then_some(()));
    in_the_end("the start", || is_active(machine));
    machine.must("curl -fsS http://127.0.0.1:9128/readyz");
}

fn a_second_signal_ends_the_drain(machine: &Machine) {
    let mut tunnel = Tunnel::open(HTTP);
    machine.must("systemctl stop --no-block ccpgate");
    machine.eventually("systemctl status ccpgate || true", "draining, 1 tunnel left");
    assert!(tunnel.talks());
    machine.must("systemctl kill --kill-who=main -s SIGTERM ccpgate");
    tunnel.wait_for_the_end();
    machine.eventually("systemctl is-active ccpgate || true", "inactive");
    machine.must("systemctl start ccpgate");
}

fn an_address_may_come_late(machine: &Machine, upstream: &Upstream) {
    let listen = "[proxy]\nlisten = [\"127.0.0.1:3128\", \"10.99.0.5:3128\", \"[fd99::5]:3128\"]\n";
    let clients = "clients = [\"0.0.0.0/0\", \"::/0\"]";
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, &format!("{listen}{clients}")));
    machine.must("systemctl restart ccpgate");
    let warnings = machine.eventually("journalctl -u ccpgate -p warning -o cat", "[fd99::5]:3128");
    for late in ["10.99.0.5:3128", "[fd99::5]:3128"] {
        let told = |line: &&str| line.contains("doesn't have yet") && line.contains(late);
        assert_eq!(warnings.lines().filter(told).count(), 1, "{late}: {warnings}");
    }
    machine.must("ip addr add 10.99.0.5/32 dev lo; ip addr add fd99::5/128 dev lo nodad");
    for late in ["10.99.0.5:3128", "[fd99::5]:3128"] {
        assert!(Tunnel::open(late.parse::<SocketAddr>().unwrap()).talks());
    }
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, ""));
    machine.must("systemctl start ccpgate");
}

fn https_from_nothing(machine: &Machine) {
    let secured = Secured::new();
    for file in ["proxy.pem", "proxy.key", "ca.pem"] {
        machine.write(&format!("/root/ccpgate/{file}"), fs::read(secured.path(file)).unwrap());
    }
    let said = machine.run("ccpgate ticket-key /etc/ccpgate/keys/ticket.key");
    assert!(said.code == 2 && said.out.contains("install -d -m 0700 /etc/ccpgate/keys"), "{}", said.out);
    let scripts = printed("HTTPS proxy under systemd, from nothing");
    let fetch = "curl -fsS --cacert ca.pem https://localhost:3129/proxy.pac";
    machine.must(&scripts[0]);
    assert!(machine.must(fetch).contains("FindProxyForURL"));
    // The service itself reads its credentials.
    let before = reloads(machine, "reloaded");
    machine.must("systemctl reload ccpgate");
    eventually("the reload", || (reloads(machine, "reloaded") > before).then_some(()));
    assert!(machine.must(fetch).contains("FindProxyForURL"));

    machine.must(&scripts[1]);
    assert!(machine.must(fetch).contains("FindProxyForURL"));
    secured.renew(|_| {});
    for (file, to) in [("proxy.key", "keys/proxy.key"), ("proxy.pem", "proxy.pem")] {
        machine.write(&format!("/root/ccpgate/{file}"), fs::read(secured.path(file)).unwrap());
        machine.must(&format!("cat {file} > /etc/ccpgate/{to}"));
    }
    eventually("the renewed certificate", || (reloads(machine, "certificate_reloaded") > 0).then_some(()));
    assert!(machine.must(fetch).contains("FindProxyForURL"));
}

fn ports_below_1024(machine: &Machine, upstream: &Upstream) {
    let listen = "[proxy]\nlisten = [\"127.0.0.1:3128\", \"127.0.0.1:80\"]";
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, listen));
    machine.must("echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start || true");
    assert_ne!(machine.run("systemctl restart ccpgate").code, 0);
    let errors = machine.eventually("journalctl -u ccpgate -p err -o cat", "CAP_NET_BIND_SERVICE");
    assert!(errors.contains("can't listen on 127.0.0.1:80: Permission denied"), "{errors}");
    machine.must(&printed("Ports below 1024")[0]);
    machine.must("curl -fsS http://127.0.0.1/wpad.dat");
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, ""));
    machine.must("systemctl restart ccpgate");
}

fn a_row_in_place_of_the_one(machine: &Machine, upstream: &Upstream) {
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, ""));
    let setting = format!("[Service]\nEnvironment=CCPGATE_LIMITS__REBOOT_DRAIN={}s\n", REBOOT.as_secs());
    machine.write("/etc/systemd/system/ccpgate@.service.d/reboot.conf", setting);
    machine.must(&printed("Upgrade without an outage")[0]);
    machine.must("curl -fsS http://127.0.0.1:9128/readyz");
    // A socket that the configuration doesn't know.
    machine.must("systemctl stop ccpgate.socket 'ccpgate@*'");
    machine
        .write("/etc/systemd/system/ccpgate.socket.d/more.conf", "[Socket]\nListenStream=127.0.0.1:4000\n");
    machine.must("systemctl daemon-reload; systemctl start ccpgate.socket");
    assert_ne!(machine.run("systemctl start ccpgate@a").code, 0);
    let status = machine.run("systemctl status ccpgate@a").out;
    assert!(status.contains("127.0.0.1:4000"), "{status}");
    machine.must("systemctl stop ccpgate.socket 'ccpgate@*'; rm -r /etc/systemd/system/ccpgate.socket.d; systemctl daemon-reload");
    machine.must("systemctl start ccpgate.socket ccpgate@a");
}

/// systemd has the port for as long as calls go on, and yet nobody waits in it.
fn a_row_that_stops_refuses(machine: &Machine) {
    let refuses = || {
        eventually("a refusal", || {
            let error = TcpStream::connect(SocketAddr::from(HTTP)).err()?;
            (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
        });
    };
    let mut of_a = Tunnel::open(HTTP);
    assert!(of_a.talks());
    machine.must("systemctl stop --no-block ccpgate@a");
    refuses();
    assert!(of_a.talks());
    // Somebody changes his mind.
    machine.must("systemctl start ccpgate@b");
    let mut of_b = Tunnel::open(HTTP);
    assert!(of_a.talks() && of_b.talks());
    drop(of_a);
    machine.eventually("systemctl is-active ccpgate@a || true", "inactive");
    assert!(Tunnel::open(HTTP).talks() && of_b.talks());
    machine.must("systemctl stop --no-block ccpgate.socket 'ccpgate@*'");
    refuses();
    assert!(of_b.talks());
    drop(of_b);
    machine.eventually("systemctl is-active ccpgate@b || true", "inactive");
    machine.must("systemctl stop ccpgate.socket; systemctl start ccpgate.socket ccpgate@a");
}

/// The drop-in of a single unit, in a row's folder, and an upgrade in place of a restart.
fn https_of_a_row(machine: &Machine, upstream: &Upstream) {
    let steps = printed("HTTPS proxy under systemd, from nothing")[0]
        .replace("ccpgate.service.d", "ccpgate@.service.d");
    let (steps, restart) = steps.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(restart, "systemctl restart ccpgate");
    let mut before = Tunnel::open(HTTP);
    assert!(before.talks());
    machine.must(&format!("rm -r /etc/ccpgate/keys\n{steps}\nccpgate-upgrade"));
    let page = machine.must("curl -fsS --cacert ca.pem https://localhost:3129/proxy.pac");
    assert!(page.contains("FindProxyForURL") && before.talks());
    drop(before);
    machine.eventually("systemctl is-active ccpgate@a || true", "inactive");
    // Back.
    machine.write("/etc/ccpgate/ccpgate.toml", config(upstream, ""));
    machine.must(
        "rm /etc/systemd/system/ccpgate@.service.d/keys.conf; systemctl daemon-reload; ccpgate-upgrade",
    );
    machine.eventually("systemctl is-active ccpgate@b || true", "inactive");
    assert!(machine.run("curl -fsS --cacert ca.pem https://localhost:3129/proxy.pac").code != 0);
    // A row counts its processes from the first on: the next chapter begins anew.
    machine.must("systemctl stop ccpgate.socket 'ccpgate@*'; systemctl start ccpgate.socket ccpgate@a");
}

/// From a to b and c, and back to a. A tunnel of c, which has handed over.
fn an_upgrade_cuts_nothing(machine: &Machine) -> Tunnel {
    let scripts = printed("Upgrade without an outage");
    let mut of_a = Tunnel::open(HTTP);
    assert!(of_a.talks());
    // Somebody tries to get in all the time, by proxy port and admin port.
    let stop = AtomicBool::new(false);
    let (attempts, of_c) = std::thread::scope(|scope| {
        let attempts = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(Tunnel::open(HTTP).talks());
                count += 1;
            }
            count
        });
        let over = Over(&stop);
        fs::copy(env!("CARGO_BIN_EXE_ccpgate"), machine.path("/root/ccpgate/ccpgate-new")).unwrap();
        machine.must(&scripts[1]);
        let mut of_b = Tunnel::open(HTTP);
        assert!(of_a.talks() && of_b.talks());
        let states = machine.run("systemctl is-active ccpgate@a ccpgate@b").out;
        assert_eq!(states.split_whitespace().collect::<Vec<_>>(), ["deactivating", "active"]);
        machine.must("curl -fsS http://127.0.0.1:9128/api/status | grep -q '\"id\":\"2\"'");
        machine.must("systemctl reload ccpgate@b");

        // A binary that fails at its start: b goes on, and the next upgrade finds its place free.
        machine.must("mv /usr/local/bin/ccpgate ccpgate-good; printf '#!/bin/sh\\nexit 3\\n' > /usr/local/bin/ccpgate; chmod +x /usr/local/bin/ccpgate");
        let said = machine.run("ccpgate-upgrade");
        assert!(said.code == 1 && said.out.contains("ccpgate@b goes on"), "{}", said.out);
        machine.must("mv ccpgate-good /usr/local/bin/ccpgate");
        assert!(of_a.talks() && of_b.talks());

        // Both live, so it is c's turn; then nobody's.
        machine.must("ccpgate-upgrade");
        let mut of_c = Tunnel::open(HTTP);
        assert!(of_a.talks() && of_b.talks() && of_c.talks());
        let full = machine.run("ccpgate-upgrade");
        assert!(full.code == 1 && full.out.contains("the oldest must end first"), "{}", full.out);
        assert!(of_a.talks() && of_b.talks() && of_c.talks());
        drop((of_a, of_b));
        machine.eventually("systemctl is-active ccpgate@a || true", "inactive");
        machine.eventually("systemctl is-active ccpgate@b || true", "inactive");
        assert!(of_c.talks());
        machine.must("ccpgate-upgrade; systemctl is-enabled ccpgate@a");
        assert!(of_c.talks());
        drop(over);
        (attempts.join().unwrap(), of_c)
    });
    assert!(attempts > 20, "{attempts}");
    of_c
}

/// `old` is of an instance that has handed over already when the machine goes down; the other hasn't.
fn the_machine_goes_down(machine: &mut Machine, mut old: Tunnel) {
    machine.eventually("systemctl status ccpgate@c || true", "handed over to a successor, 1 tunnel left");
    let (mut talker, mut quiet) = (Tunnel::open(HTTP), Tunnel::open(HTTP));
    assert!(talker.talks() && quiet.talks());
    std::thread::sleep(REBOOT + Duration::from_secs(1));
    assert!(old.talks() && talker.talks(), "a plain stop waits for limits.drain");

    let begun = Instant::now();
    machine.must("systemctl poweroff");
    let (old, talker, quiet) = std::thread::scope(|scope| {
        let old = scope.spawn(|| old.talk_to_the_end());
        let talker = scope.spawn(|| talker.talk_to_the_end());
        let quiet = scope.spawn(|| quiet.wait_for_the_end());
        [old, talker, quiet].map(|tunnel| tunnel.join().unwrap() - begun).into()
    });
    assert!(quiet < talker, "the quiet tunnel first: {quiet:?}, {talker:?}");
    assert!(quiet >= REBOOT / 2 - Duration::from_millis(500), "not before half the time: {quiet:?}");
    for tunnel in [old, talker] {
        assert!(tunnel >= REBOOT - Duration::from_millis(500), "a talking tunnel has its time: {tunnel:?}");
        assert!(tunnel < REBOOT + PATIENCE, "cut too late: {tunnel:?}");
    }
    eventually("the machine to be off", || machine.is_off().then_some(()));
    assert!(begun.elapsed() < REBOOT + 2 * PATIENCE, "{:?}", begun.elapsed());
}
