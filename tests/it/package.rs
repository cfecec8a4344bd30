//! The Debian package on a real system: from its installation to a denied and an allowed CONNECT, an upgrade
//! with live tunnels, a removal that drains, a purge that leaves nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Machine, PATIENCE, Upstream, client_hello, eventually, have};

const HOST: &str = "acme.my.connect.aws";
/// Where the machine finds it: an address as the internet has them, in a network that ends at the machine.
const THERE: ([u8; 4], u16) = ([3, 5, 140, 9], 443);
const PROXY: ([u8; 4], u16) = ([127, 0, 0, 1], 3128);

/// Makes the package with the program under test, in a hurry, and a newer one of the same content.
fn packages(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package.sh");
    let (first, newer) = (folder.join("ccpgate.deb"), folder.join("newer.deb"));
    let made =
        Command::new(script).arg(env!("CARGO_BIN_EXE_ccpgate")).arg(&first).arg("--fast").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = "dpkg-deb -R \"$1\" \"$3\" && sed -i 's/^\\(Version: .*-\\)1$/\\12/' \"$3/DEBIAN/control\" && dpkg-deb -b -Znone \"$3\" \"$2\"";
    let unpacked = folder.join("unpacked");
    let made =
        Command::new("sh").args(["-ec", again, "sh"]).args([&first, &newer, &unpacked]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A tunnel that was opened as a browser does it.
struct Tunnel(TcpStream);

impl Tunnel {
    fn open() -> Option<Self> {
        let mut stream = TcpStream::connect(SocketAddr::from(PROXY)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let mut tunnel = head.starts_with(b"HTTP/1.1 200").then_some(Self(stream))?;
        tunnel.echoes(&client_hello(HOST)).then_some(tunnel)
    }

    fn echoes(&mut self, bytes: &[u8]) -> bool {
        let mut back = vec![0; bytes.len()];
        self.0.write_all(bytes).is_ok() && self.0.read_exact(&mut back).is_ok() && back == bytes
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
    machine.enter_network();
    let before = files(machine);
    let upstream = Upstream::serve_at(THERE.into(), |mut stream| {
        let mut from = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut stream);
    });
    three_commands(machine);
    an_upgrade_cuts_and_refuses_nothing(machine);
    a_removal_drains(machine);
    a_purge_leaves_nothing(machine, &before);
    drop(upstream);
}

/// The packages, and what a machine has that has packages.
fn deliver(machine: &Machine) {
    let folder = machine.path("/root/ccpgate");
    packages(&folder);
    if have("lintian") {
        let mut lintian = Command::new("lintian");
        let ran =
            lintian.args(["--allow-root", "--fail-on", "error"]).arg(folder.join("ccpgate.deb")).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    }
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
    machine.must("systemctl is-enabled ccpgate && systemctl is-active ccpgate");
    machine.must("ccpgate config check && ccpgate status && systemctl reload ccpgate");
    machine.must(
        "test -e /usr/share/man/man1/ccpgate-check.1.gz -a -e /usr/share/bash-completion/completions/ccpgate",
    );
    machine.must("test -e /usr/share/doc/ccpgate/docs/fleet.md && ccpgate -c /usr/share/doc/ccpgate/examples/ccpgate.example.toml config show > /dev/null");
}

fn main_process(machine: &Machine) -> String {
    machine.must("systemctl show -p MainPID --value ccpgate").trim().to_owned()
}

fn an_upgrade_cuts_and_refuses_nothing(machine: &Machine) {
    let mut tunnels: Vec<Tunnel> = (0..20).map(|_| Tunnel::open().expect("a tunnel")).collect();
    let process = main_process(machine);
    let (stop, opened, refused) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (end, good, bad) = (stop.clone(), opened.clone(), refused.clone());
    let browsers = std::thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let counter = if Tunnel::open().is_some() { &good } else { &bad };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    machine.must("printf '\\n[ledger]\\nended = 77\\n' >> /etc/ccpgate/ccpgate.toml");
    let said = machine.must("DEBIAN_FRONTEND=noninteractive apt-get install -y ./newer.deb");
    assert!(said.contains("so that no call is cut"), "{said}");
    let so_far = opened.load(Ordering::Relaxed);
    eventually("tunnels after the upgrade", || (opened.load(Ordering::Relaxed) > so_far + 20).then_some(()));
    stop.store(true, Ordering::Relaxed);
    browsers.join().unwrap();
    assert_eq!(refused.load(Ordering::Relaxed), 0, "of {}", opened.load(Ordering::Relaxed));
    for tunnel in &mut tunnels {
        assert!(tunnel.echoes(b"through the whole upgrade"));
    }
    assert_eq!(main_process(machine), process, "nothing was restarted");
    // What the administrator had changed stays his.
    machine
        .must("grep -q 'ended = 77' /etc/ccpgate/ccpgate.toml && dpkg -s ccpgate | grep -q 'Version: .*-2'");
    // The program that waits is started when the administrator says so.
    drop(tunnels);
    machine.must("systemctl restart ccpgate && systemctl is-active ccpgate");
}

fn a_removal_drains(machine: &Machine) {
    let mut tunnel = Tunnel::open().expect("a tunnel");
    let said = machine.must("DEBIAN_FRONTEND=noninteractive apt-get remove -y ccpgate");
    assert!(said.contains("systemctl kill -s SIGTERM ccpgate.service"), "{said}");
    machine.must("test ! -e /usr/bin/ccpgate -a -e /etc/ccpgate/ccpgate.toml");
    eventually("no new connections", || Tunnel::open().is_none().then_some(()));
    // Also when other packages make systemd read its units again.
    machine.must("systemctl daemon-reload");
    let limit = machine.must("systemctl show -p TimeoutStopUSec --value ccpgate");
    assert_eq!(limit.trim(), "10h 10min");
    assert!(tunnel.echoes(b"a removal ends no call"));
    drop(tunnel);
    machine.eventually("systemctl is-active ccpgate || true", "inactive\n");
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
