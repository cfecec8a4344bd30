//! Socket activation: listening sockets come from the service manager, matched by their addresses.
//! The units are tried in `systemd`.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::Signal;

use crate::support::{Line, Port, Proxy, Ran, Raw, Upstream, ccpgate_by, eventually};

const TARGET: &str = "good.example:443";

/// Runs its arguments with descriptors passed as systemd passes them: python3's own from 3 on.
const PASS: &str = r#"
import os, sys
fds, names = [int(fd) for fd in sys.argv[1].split(",") if fd], sys.argv[2]
kept = [os.dup(fd) for fd in fds]
for at, fd in enumerate(kept):
    os.dup2(os.dup(fd) if fd < 3 + len(kept) else fd, 3 + at)
env = dict(os.environ, LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
os.execve(sys.argv[3], sys.argv[3:], env)
"#;

/// A command that passes these sockets to ccpgate.
fn passing(sockets: &[&dyn std::os::fd::AsFd], names: &str) -> Command {
    use std::os::fd::AsRawFd;
    let inheritable = |socket: &&dyn std::os::fd::AsFd| {
        let fd = socket.as_fd();
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
        fd.as_raw_fd().to_string()
    };
    let fds: Vec<String> = sockets.iter().map(inheritable).collect();
    let mut command = Command::new("python3");
    command.args(["-c", PASS, &fds.join(","), names, env!("CARGO_BIN_EXE_ccpgate")]);
    command
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn config(http: &[SocketAddr], admin: Option<SocketAddr>, upstream: &Upstream) -> String {
    let http: Vec<String> = http.iter().map(|address| format!("\"{address}\"")).collect();
    let admin = admin.map(|address| format!("[admin]\nlisten = \"{address}\"\n"));
    format!(
        "[[allow]]\npattern = \"good.example\"\n[proxy]\nlisten = [{}]\n{}{}",
        http.join(", "),
        admin.unwrap_or_default(),
        upstream.for_targets(&[TARGET])
    )
}

/// What a start says that fails.
fn refused(toml: &str, command: Command) -> Ran {
    ccpgate_by(command, Some(toml), &["serve"]).expect(2)
}

#[test]
fn passed_sockets_are_matched_by_address_and_keep_their_queue() {
    let upstream = Upstream::echo();
    let ((admin, admin_at), (proxy, proxy_at), (other, other_at)) = (listener(), listener(), listener());
    drop(other);
    // Before anybody accepts: it waits in the socket's own queue.
    let early = TcpStream::connect(proxy_at).unwrap();
    // In another order than the configuration's, and one address without a socket.
    let toml = config(&[other_at, proxy_at], Some(admin_at), &upstream);
    let running = Proxy::start_by(&toml, passing(&[&admin, &proxy], "admin:ccpgate.socket"));
    let mut early = Raw::of(early);
    assert_eq!(early.connect_target(TARGET).status, 200);
    early.expect_echo(b"waited");
    for address in [other_at, proxy_at] {
        let mut client = Raw::connect(address);
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(b"x");
    }
    assert_eq!(running.admin(), admin_at);
    assert_eq!(running.get("/readyz").status, 200);

    // An address that is configured no more would leave the manager's socket open, with nobody behind it.
    running.reload(&config(&[other_at], Some(admin_at), &upstream), "error");
    let told = running.log_line("the refusal", |line| line["event"] == "reload_failed");
    let why = told["error"].as_str().unwrap();
    assert!(why.contains(&proxy_at.to_string()) && why.contains("ccpgate.socket"), "{why}");
    running.reload(&toml, "ok");
    running.tunnel(TARGET).expect_echo(b"as before");
    // The manager's own descriptor goes on when the process ends.
    drop(running);
    TcpStream::connect(proxy_at).unwrap();
}

#[test]
fn sockets_that_do_not_fit_are_refused_by_name() {
    let upstream = Upstream::echo();
    let ((stray, stray_at), (free, free_at)) = (listener(), listener());
    drop(free);
    let toml = config(&[free_at], Some("127.0.0.1:0".parse().unwrap()), &upstream);
    let said = refused(&toml, passing(&[&stray], "stray.socket")).stderr;
    let named = said.contains("stray.socket") && said.contains(&stray_at.to_string());
    assert!(named && said.contains(&format!("proxy.listen {free_at}")), "{said}");

    // The same port on all addresses is another socket.
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = all.local_addr().unwrap().port();
    let one = SocketAddr::from(([127, 0, 0, 1], port));
    let said = refused(&config(&[one], None, &upstream), passing(&[&all], "all.socket")).stderr;
    assert!(said.contains("all.socket") && said.contains(&format!("0.0.0.0:{port}")), "{said}");

    let connected = TcpStream::connect(stray_at).unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unix = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
    let file = tempfile::tempfile().unwrap();
    for wrong in [&connected as &dyn std::os::fd::AsFd, &datagrams, &unix, &file] {
        let said = refused(&toml, passing(&[wrong], "wrong.socket")).stderr;
        assert!(said.contains("wrong.socket") && said.contains("no listening TCP socket"), "{said}");
    }
}

/// systemd opens `ListenStream=3128` for IPv6 and IPv4 together.
#[test]
fn a_socket_of_both_families_is_known_as_both() {
    let Ok(both) = TcpListener::bind("[::]:0") else { return };
    let at = both.local_addr().unwrap();
    let toml = format!(
        "[[allow]]\npattern = \"127.0.0.1\"\nports = [{port}]\n[egress]\nallow_private = [\"127.0.0.1/32\"]\n\
         [proxy]\nlisten = [\"{at}\"]\n",
        port = at.port()
    );
    let running = Proxy::start_by(&toml, passing(&[&both], "both.socket"));
    let here = SocketAddr::from(([127, 0, 0, 1], at.port()));
    let answer = Raw::connect(here).connect_target(&here.to_string());
    assert_eq!((answer.status, answer.proxy_status("error")), (403, Some("destination_ip_prohibited")));
    assert!(!running.log_so_far().iter().any(|line| line["event"] == "ipv6_only"));
}

#[test]
fn what_was_passed_to_another_process_is_left_alone() {
    let upstream = Upstream::echo();
    let (other, _) = listener();
    let toml = config(&["127.0.0.1:0".parse().unwrap()], None, &upstream);
    let variables = [("LISTEN_FDS", "1"), ("LISTEN_PID", "1"), ("LISTEN_FDNAMES", "x")];
    let running = Proxy::start_with_variables(&toml, &variables);
    running.tunnel(TARGET).expect_echo(b"x");
    drop(other);
}

/// A listening socket of a port that stays its own while it is shut.
fn manager(port: &Port) -> (TcpListener, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 128).unwrap();
    (socket.into(), address)
}

/// Passes a socket to a process of this folder.
fn start_in(folder: &Path, toml: &str, socket: &TcpListener) -> Proxy {
    let mut command = passing(&[socket], "ccpgate.socket");
    command.env("RUNTIME_DIRECTORY", folder);
    Proxy::start_by(toml, command)
}

#[track_caller]
fn expect_refusing(address: SocketAddr) {
    eventually("a refusal", || {
        let error = TcpStream::connect(address).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn the_managers_sockets_refuse_while_a_process_drains_and_listen_again_at_its_end() {
    let (upstream, folder, port) = (Upstream::echo(), tempfile::tempdir().unwrap(), Port::keep());
    let (socket, at) = manager(&port);
    let toml = config(&[at], None, &upstream);
    let mut first = start_in(folder.path(), &toml, &socket);
    let mut live = first.tunnel(TARGET);
    // Nobody would take it from the queue for as long as this tunnel lives.
    first.signal(Signal::TERM);
    expect_refusing(at);
    live.expect_echo(b"unharmed");

    // Started meanwhile, as by `systemctl start`.
    let mut second = start_in(folder.path(), &toml, &socket);
    let mut of_second = second.tunnel(TARGET);
    of_second.expect_echo(b"x");
    live.finish();
    live.expect_closed();
    assert_eq!(first.wait_exit().code(), Some(0));
    second.tunnel(TARGET).expect_echo(b"and no end of the first touches it");

    // Nobody comes after this one: the manager has its socket back, as it was.
    second.signal(Signal::TERM);
    expect_refusing(at);
    of_second.finish();
    of_second.expect_closed();
    assert_eq!(second.wait_exit().code(), Some(0));
    TcpStream::connect(at).unwrap();
    let mut third = start_in(folder.path(), &toml, &socket);
    third.tunnel(TARGET).expect_echo(b"x");
    // It ends with nothing to drain.
    third.signal(Signal::TERM);
    assert_eq!(third.wait_exit().code(), Some(0));
    TcpStream::connect(at).unwrap();
}

#[test]
fn what_starts_while_another_leaves_keeps_the_managers_socket() {
    let (upstream, folder, port) = (Upstream::echo(), tempfile::tempdir().unwrap(), Port::keep());
    let (socket, at) = manager(&port);
    let toml = config(&[at], None, &upstream);
    let leaving = format!("{toml}[limits]\nlame_duck = \"3s\"\n");
    let first = start_in(folder.path(), &leaving, &socket);
    let mut live = first.tunnel(TARGET);
    first.signal(Signal::TERM);
    first.log_line("it leaves", |line| line["event"] == "lame_duck");
    let second = start_in(folder.path(), &toml, &socket);
    first.log_line("the drain", |line| line["event"] == "draining");
    for _ in 0..20 {
        second.tunnel(TARGET).expect_echo(b"not refused");
        std::thread::sleep(Duration::from_millis(10));
    }
    live.expect_echo(b"unharmed");
}

#[test]
fn the_managers_sockets_wait_for_a_successor_and_refuse_once_it_has_gone() {
    let (upstream, folder, port) = (Upstream::echo(), tempfile::tempdir().unwrap(), Port::keep());
    let (socket, at) = manager(&port);
    let old = start_in(folder.path(), &config(&[at], None, &upstream), &socket);
    let mut live = old.tunnel(TARGET);
    let successor = Line::takes_over(&old, folder.path());
    old.signal(Signal::TERM);
    old.log_line("the drain", |line| line["event"] == "draining");
    // What comes now waits in the queue: the next one accepts it.
    for _ in 0..20 {
        TcpStream::connect(at).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    successor.hang_up();
    expect_refusing(at);
    live.expect_echo(b"unharmed");
}
