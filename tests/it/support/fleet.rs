//! Agents in numbers, each with one session for several connections at once.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::Secured;

/// OpenSSL, by Python: unlike rustls it uses one TLS 1.3 session for as many connections as it
/// likes. Prints connections and how many of them resumed, first visits left out.
const FLEET: &str = r#"
import socket, ssl, sys, concurrent.futures as futures
doors, ca, clients, rounds, at_once, version = sys.argv[1].split(","), sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6]
def knock(door):
    if not door.startswith("/"):
        return socket.create_connection(door.rsplit(":", 1), timeout=30)
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(door)
    return unix
def connect(context, session, door):
    with knock(door) as tcp:
        with context.wrap_socket(tcp, server_hostname="proxy.corp.example", session=session) as tls:
            tls.sendall(b"GET /proxy.pac HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while chunk := tls.recv(65536):
                answer += chunk
            assert answer.startswith(b"HTTP/1.1 200"), answer[:100]
            return tls.session, tls.session_reused
def agent(number):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    session, reused = connect(context, None, doors[number % len(doors)])
    assert not reused
    with futures.ThreadPoolExecutor(at_once) as six:
        for turn in range(rounds):
            if number == 0 and turn == rounds // 2:
                print("half", flush=True)
                sys.stdin.readline()
            # All at once, with the one session of the first visit.
            made = six.map(lambda i: connect(context, session, doors[(number + i) % len(doors)]), range(at_once))
            yield from (reused for _, reused in made)
results = []
for number in range(clients):
    results += agent(number)
print(len(results), sum(results))
"#;

/// Runs agents that keep one session each and reconnect in rounds, several connections at once, to
/// these addresses or paths of sockets in turn.
/// `half_way` is called in the middle of the first agent's rounds. Returns connections, and how many
/// resumed.
pub(crate) fn fleet(
    secured: &Secured,
    doors: &[String],
    (clients, rounds, at_once): (usize, usize, usize),
    version: &str,
    half_way: impl FnOnce(),
) -> (usize, usize) {
    let mut python = Command::new("python3")
        .args(["-c", FLEET, &doors.join(",")])
        .arg(secured.path("ca.pem"))
        .args([clients, rounds, at_once].map(|n| n.to_string()))
        .arg(version)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "half");
    half_way();
    python.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let last = lines.next().unwrap_or_else(|| panic!("python failed: {:?}", python.wait())).unwrap();
    assert!(python.wait().unwrap().success());
    let (all, resumed) = last.split_once(' ').unwrap();
    (all.parse().unwrap(), resumed.parse().unwrap())
}
