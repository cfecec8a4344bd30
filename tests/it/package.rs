//! The Debian package on a real system: from its installation to a denied and an allowed CONNECT, an upgrade
//! with live tunnels, a removal that drains, a purge that leaves nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::support::{Authority, Machine, PATIENCE, eventually, have, printed};

const HOST: &str = "acme.my.connect.aws";
/// Where the machine finds it: an address as the internet has them, in a network that ends at the machine.
const THERE: ([u8; 4], u16) = ([3, 5, 140, 9], 443);
const PROXY: ([u8; 4], u16) = ([127, 0, 0, 1], 3128);

/// Makes the package with the program under test, in a hurry, a newer one of the same content, and one whose
/// program ends at once.
fn packages(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package.sh");
    let first = folder.join("ccpgate.deb");
    let mut command = Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_ccpgate")).arg(&first);
    let made = command.args(["--fast", "--compress-system", "--compress-type=gz"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = "cd \"$1\"; dpkg-deb -R ccpgate.deb unpacked
        version() { sed -i \"s/^\\(Version: .*-\\).*$/\\1$1/\" unpacked/DEBIAN/control; }
        version 2; dpkg-deb -b -Znone unpacked newer.deb
        cp /usr/bin/true unpacked/usr/bin/ccpgate
        version 3; dpkg-deb -b -z1 unpacked broken.deb; rm -r unpacked";
    let made = Command::new("sh").args(["-ec", again, "sh"]).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// An agent's browser.
#[derive(Clone)]
struct Desk(Arc<ClientConfig>);

/// The panel's WebSocket, inside TLS, inside a tunnel.
struct Panel(WebSocket<StreamOwned<ClientConnection, TcpStream>>);

impl Desk {
    fn open(&self) -> Option<Panel> {
        let mut stream = TcpStream::connect(SocketAddr::from(PROXY)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 200") {
            return None;
        }
        let name = ServerName::try_from(HOST).unwrap();
        let tls = StreamOwned::new(ClientConnection::new(self.0.clone(), name).unwrap(), stream);
        let (socket, answer) = client(format!("wss://{HOST}/"), tls).ok()?;
        let mut panel = (answer.status() == 101).then_some(Panel(socket))?;
        panel.talks("hello").then_some(panel)
    }
}

impl Panel {
    /// Whether a message comes back.
    fn talks(&mut self, text: &str) -> bool {
        let message = Message::text(text);
        self.0.send(message.clone()).is_ok() && self.0.read().is_ok_and(|back| back == message)
    }
}

#[test]
fn the_package_from_its_installation_to_its_purge() {
    if !["cargo-deb", "dpkg-shlibdeps", "strip"].into_iter().all(have) {
        return;
    }
    let Some(machine) = Machine::boot_with_packages() else { return };
    // A thread of its own, since it never leaves the machine's network again.
    std::thread::spawn(move || story(&machine)).join().unwrap();
}

fn story(machine: &Machine) {
    deliver(machine);
    let lintian = have("lintian").then(|| lintian(machine.path("/root/ccpgate/broken.deb")));
    machine.enter_network();
    let before = files(machine);
    let authority = Authority::new();
    let desk = Desk(authority.client());
    let upstream = authority.websocket_echo_at(THERE.into(), &[HOST]);
    three_commands(machine);
    let panels = upgrades_cut_and_refuse_nothing(machine, &desk);
    a_removal_drains(machine, &desk, panels);
    machine.must(&printed("docs/backup.md", "## Back up")[0]);
    a_purge_leaves_nothing(machine, &before);
    a_backup_restores(machine, &desk);
    what_is_installed_beside_a_drain_starts_beside_it(machine, &desk);
    the_socket_holds_the_port(machine, &desk);
    a_removal_beside_the_socket_drains(machine, &desk);
    drop(upstream);
    if let Some(lintian) = lintian {
        let said = lintian.join().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    }
}

/// Debian's judge of packages, beside the story, of all but the program, which takes it half a minute:
/// scripts/release.sh has it judge that as well.
fn lintian(package: PathBuf) -> JoinHandle<Output> {
    std::thread::spawn(move || {
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(package).output().unwrap()
    })
}

/// The packages, and what a machine has that has packages.
fn deliver(machine: &Machine) {
    packages(&machine.path("/root/ccpgate"));
    std::fs::create_dir_all(machine.path("/var/lib/dpkg")).unwrap();
    let copied =
        Command::new("cp").arg("-a").arg("/var/lib/dpkg/.").arg(machine.path("/var/lib/dpkg")).status();
    assert!(copied.unwrap().success());
    // Nothing of this machine's other packages is to run.
    machine.write("/var/lib/dpkg/triggers/File", "");
    machine.write("/var/lib/dpkg/statoverride", "");
    machine.write("/etc/hosts", format!("127.0.0.1 localhost\n3.5.140.9 {HOST}\n"));
    machine.must(
        "mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt /etc/apt/apt.conf.d
         rm -f /usr/sbin/policy-rc.d
         ip link set lo up
         ip addr add 3.5.140.9/32 dev lo",
    );
}

/// All files whose names have to do with it.
fn files(machine: &Machine) -> String {
    machine.must(
        "find / -xdev \\( -path /root -o -path /proc -o -path /sys -o -path /tmp \\) -prune -o -name '*ccpgate*' -print
         find /run /usr/bin /usr/sbin /usr/lib /usr/share -name '*ccpgate*'; ls -d /etc/* /etc/systemd/system/*",
    )
}

/// From a bare system to a denied and an allowed CONNECT.
fn three_commands(machine: &Machine) {
    machine.must("DEBIAN_FRONTEND=noninteractive apt-get install -y ./ccpgate.deb");
    let connect = |host: &str| {
        machine
            .run(&format!(
                "curl -s -o /dev/null -w '%{{http_connect}}' -x http://127.0.0.1:3128 https://{host}/"
            ))
            .out
    };
    assert_eq!(connect("example.com"), "403");
    assert_eq!(connect(HOST), "200");
    // It comes back at the next boot, and everything is where one looks for it.
    machine.must("systemctl is-enabled ccpgate@a && systemctl is-active ccpgate@a");
    machine.must("ccpgate config check && ccpgate status && ccpgate reload && systemctl reload ccpgate@a");
    machine.must(
        "cd /usr/share; test -e man/man1/ccpgate-check.1.gz -a -e man/man1/ccpgate-upgrade.1.gz -a -e bash-completion/completions/ccpgate",
    );
    machine.must("ccpgate -c /usr/share/doc/ccpgate/examples/ccpgate.example.toml config show > /dev/null");
    // What its pages lead to is there, but for the source itself.
    let dead = machine.must(
        "cd /usr/share/doc/ccpgate
         for page in README.md */*.md; do
             grep -oE '\\]\\([^):# ]+[)#]' \"$page\" | tr -d '])(#' | while read -r to; do
                 test -e \"$(dirname \"$page\")/$to\" || echo \"$page $to\"
             done
         done",
    );
    let dead: Vec<&str> =
        dead.lines().filter(|link| !["../src", "../tests"].iter().any(|of| link.contains(of))).collect();
    assert_eq!(dead, Vec::<&str>::new());
    machine.must("test -e /usr/share/doc/ccpgate/docs/fleet.md");
}

#[track_caller]
fn expect_all_to_talk(panels: &mut [Panel], when: &str) {
    for panel in panels {
        assert!(panel.talks(when), "{when}");
    }
}

/// Agents whose panels open all the time, until this is told to end.
struct Flood {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    agents: JoinHandle<()>,
}

impl Flood {
    /// In the network of this thread.
    fn begin(desk: &Desk) -> Self {
        let desk = desk.clone();
        let (stop, opened, refused) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (end, good, bad) = (stop.clone(), opened.clone(), refused.clone());
        let agents = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let counter = if desk.open().is_some() { &good } else { &bad };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, opened, refused, agents }
    }

    /// Waits for some more of them. None was refused until then.
    fn goes_on(&self) {
        let so_far = self.opened.load(Ordering::Relaxed);
        eventually("more panels", || (self.opened.load(Ordering::Relaxed) > so_far + 20).then_some(()));
        assert_eq!(self.refused.load(Ordering::Relaxed), 0, "of {so_far}");
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.agents.join().unwrap();
        assert_eq!(self.refused.load(Ordering::Relaxed), 0);
    }
}

/// The states of ccpgate@a, b and c.
fn row(machine: &Machine) -> Vec<String> {
    let states = machine.run("systemctl is-active ccpgate@a ccpgate@b ccpgate@c").out;
    states.split_whitespace().map(str::to_owned).collect()
}

/// To a newer version, to one that doesn't start, and back; the panels from before it all, and from between.
fn upgrades_cut_and_refuse_nothing(machine: &Machine, desk: &Desk) -> Vec<Panel> {
    let mut panels: Vec<Panel> = (0..20).map(|_| desk.open().expect("a panel")).collect();
    let flood = Flood::begin(desk);
    machine.must("printf '\\n[ledger]\\nended = 77\\n' >> /etc/ccpgate/ccpgate.toml");
    let said = machine.must("DEBIAN_FRONTEND=noninteractive apt-get install -y ./newer.deb");
    assert!(said.contains("ccpgate@a keeps its live calls") && said.contains("ccpgate@b serves"), "{said}");
    assert_eq!(row(machine), ["deactivating", "active", "inactive"]);
    // What the administrator had changed stays his, and the new process has it.
    machine
        .must("grep -q 'ended = 77' /etc/ccpgate/ccpgate.toml && dpkg -s ccpgate | grep -q 'Version: .*-2'");
    machine.must("curl -fsS http://127.0.0.1:9128/api/status | grep -q '\"id\":\"2\"'");
    // And so it is at the next boot.
    assert_eq!(machine.run("systemctl is-enabled ccpgate@a ccpgate@b").out, "disabled\nenabled\n");
    flood.goes_on();
    expect_all_to_talk(&mut panels, "through an upgrade");
    panels.push(desk.open().expect("a panel of the second"));

    // A socket that is there but off: systemd would have the next one wait for the drain.
    machine.must(
        "cp /usr/share/doc/ccpgate/examples/ccpgate.socket /etc/systemd/system; systemctl daemon-reload",
    );
    let said = machine.run("ccpgate-upgrade");
    assert!(said.code == 1 && said.out.contains("ccpgate.socket is off"), "{}", said.out);
    machine.must("rm /etc/systemd/system/ccpgate.socket; systemctl daemon-reload");

    let said = machine.must("dpkg -i broken.deb");
    assert!(said.contains("ccpgate@b goes on") && said.contains("so that no call is cut"), "{said}");
    assert_eq!(row(machine), ["deactivating", "active", "inactive"]);
    flood.goes_on();
    expect_all_to_talk(&mut panels, "through an upgrade that failed");

    let said = machine.must("dpkg -i newer.deb");
    assert!(said.contains("ccpgate@c serves"), "{said}");
    assert_eq!(row(machine), ["deactivating", "deactivating", "active"]);
    flood.goes_on();
    flood.end();
    expect_all_to_talk(&mut panels, "through all upgrades");
    panels
}

fn a_removal_drains(machine: &Machine, desk: &Desk, mut panels: Vec<Panel>) {
    panels.push(desk.open().expect("a panel of the third"));
    let said = machine.must("DEBIAN_FRONTEND=noninteractive apt-get remove -y ccpgate");
    for one in ["a", "b", "c"] {
        assert!(
            said.contains(&format!("systemctl kill --kill-who=main -s SIGTERM ccpgate@{one}.service")),
            "{said}"
        );
    }
    machine.must("test ! -e /usr/bin/ccpgate -a -e /etc/ccpgate/ccpgate.toml");
    eventually("no new connections", || desk.open().is_none().then_some(()));
    // Also when other packages make systemd read its units again.
    machine.must("systemctl daemon-reload");
    let limit = machine.must("systemctl show -p TimeoutStopUSec --value ccpgate@c");
    assert_eq!(limit.trim(), "10h 10min");
    expect_all_to_talk(&mut panels, "a removal ends no call");
    drop(panels);
    for one in ["a", "b", "c"] {
        machine.eventually(&format!("systemctl is-active ccpgate@{one} || true"), "inactive\n");
    }
}

fn a_purge_leaves_nothing(machine: &Machine, before: &str) {
    machine.must("install -d -m 0750 /etc/ccpgate/keys && touch /etc/ccpgate/keys/ticket.key");
    machine.must("DEBIAN_FRONTEND=noninteractive apt-get purge -y ccpgate");
    let left: Vec<String> = {
        let after = files(machine);
        after.lines().filter(|line| !before.lines().any(|known| known == *line)).map(str::to_owned).collect()
    };
    let units = machine.must("systemctl --no-pager status 'ccpgate*' || true");
    assert_eq!(left, Vec::<String>::new(), "{units}");
}

fn a_backup_restores(machine: &Machine, desk: &Desk) {
    let mode = machine.must("stat -c %a /root/ccpgate-backup.tar.gz");
    assert_eq!(mode.trim(), "600", "there are keys in it");
    machine.must(&printed("docs/backup.md", "## Restore")[0].replace("apt install", "apt-get install -y"));
    machine.must("ccpgate config show | grep -q 'ended = 77'");
    desk.open().expect("a panel as before");
}

/// Removes it beside a panel, which goes on, while the port refuses.
fn remove(machine: &Machine, desk: &Desk) -> Panel {
    let mut panel = desk.open().expect("a panel");
    machine.must("DEBIAN_FRONTEND=noninteractive apt-get remove -y ccpgate");
    eventually("a refusal", || {
        let error = TcpStream::connect(SocketAddr::from(PROXY)).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    assert!(panel.talks("a removal ends no call"));
    panel
}

/// Somebody changes his mind while the last call of the removed one goes on.
fn what_is_installed_beside_a_drain_starts_beside_it(machine: &Machine, desk: &Desk) {
    let mut panel = remove(machine, desk);
    let said = machine.must("DEBIAN_FRONTEND=noninteractive apt-get install -y ./newer.deb");
    assert!(said.contains("to start the new program beside it: ccpgate-upgrade"), "{said}");
    machine.must("ccpgate-upgrade");
    assert_eq!(row(machine), ["deactivating", "active", "inactive"]);
    // One of them, at the next boot.
    assert_eq!(machine.run("systemctl is-enabled ccpgate@a ccpgate@b").out, "disabled\nenabled\n");
    desk.open().expect("a panel beside the drain");
    assert!(panel.talks("and the drain goes on"));
    drop(panel);
    machine.eventually("systemctl is-active ccpgate@a || true", "inactive\n");
    desk.open().expect("a panel after the drain");
}

fn the_socket_holds_the_port(machine: &Machine, desk: &Desk) {
    machine.must(&printed("docs/install.md", "### The socket")[0]);
    // Closed in between, were it the process's own.
    machine.must(
        "systemctl is-active ccpgate.socket ccpgate@a; systemctl kill --kill-who=main -s KILL ccpgate@a",
    );
    desk.open().expect("a panel that waited in the queue");
}

fn a_removal_beside_the_socket_drains(machine: &Machine, desk: &Desk) {
    drop(remove(machine, desk));
    for unit in ["ccpgate@a", "ccpgate.socket"] {
        machine.eventually(&format!("systemctl is-active {unit} || true"), "inactive\n");
    }
    assert!(TcpStream::connect(SocketAddr::from(PROXY)).is_err(), "and it starts nothing again");
}
