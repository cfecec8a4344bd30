//! Upgrades under load: agents come in by both listeners all the time and WebSockets live on, while
//! the process changes twice, the configuration three times, and two successors fail. Nobody is
//! refused, nothing is cut, every byte arrives and is counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept, client};

use crate::support::{Agent, Metrics, Over, Proxy, Raw, Secured, Upstream, ccpgate_with, clean, eventually};

const ECHO: &str = "good.example:443";
const SOCKETS: &str = "socket.example:443";
const THREADS: usize = 6;

/// A stream that counts what the tunnel carries.
struct Counting<'a> {
    stream: TcpStream,
    load: &'a Load,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.load.received.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.stream.write(bytes)?;
        self.load.sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// What the agents do, and how often they did.
struct Load {
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    attempts: AtomicUsize,
    tunnels: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    over: AtomicBool,
}

impl Load {
    /// One attempt: a tunnel with a message, or the PAC file, over one of the listeners. Anything but
    /// what an agent expects fails the test.
    fn attempt(&self, number: usize, agent: &Agent) {
        let mut connection = match number % 2 {
            0 => Raw::connect(self.http),
            _ => agent.try_connect(self.https).expect("a handshake"),
        };
        if number % 4 < 2 {
            assert_eq!(connection.connect_target(ECHO).status, 200);
            let message = format!("message {number} ").repeat(1 + number % 40);
            connection.expect_echo(message.as_bytes());
            self.sent.fetch_add(message.len() as u64, Ordering::Relaxed);
            self.received.fetch_add(message.len() as u64, Ordering::Relaxed);
            self.tunnels.fetch_add(1, Ordering::Relaxed);
            connection.finish();
            connection.expect_closed();
        } else {
            connection.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = connection.read_answer();
            assert!(answer.status == 200 && answer.text().contains("FindProxyForURL"));
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Attempts until the upgrades are over, and at least this share of all.
    fn attempts(&self, first: usize, least: usize, agent: &Agent) {
        let mut number = first;
        while !self.over.load(Ordering::Relaxed) || number < least && !std::thread::panicking() {
            self.attempt(number, agent);
            number += THREADS;
        }
    }

    /// A WebSocket that says something again and again until the upgrades are over.
    fn socket<'a>(&'a self, number: usize) -> WebSocket<Counting<'a>> {
        let mut tunnel = Raw::connect(self.http);
        assert_eq!(tunnel.connect_target(SOCKETS).status, 200);
        let stream = Counting { stream: tunnel.stream().try_clone().unwrap(), load: self };
        let (mut socket, _) =
            client("ws://socket.example/", stream).unwrap_or_else(|e| panic!("{number}: {e}"));
        self.talk(&mut socket, number);
        socket
    }

    fn talk(&self, socket: &mut WebSocket<Counting<'_>>, number: usize) {
        let message = Message::text(format!("socket {number}"));
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }

    /// Scrapes all the time; no counter may step back, and no scrape fail.
    fn scrapes(&self) -> usize {
        let mut last: Option<Metrics> = None;
        let mut count = 0;
        while !self.over.load(Ordering::Relaxed) {
            let mut connection = Raw::connect(self.admin);
            connection
                .send(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin));
            let answer = connection.read_answer();
            assert_eq!(answer.status, 200);
            let now = Metrics::parse(&answer.text());
            if let Some(last) = &last {
                let is_counter = |name: &str| {
                    ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end))
                };
                let before = last.all().filter(|(series, _)| is_counter(series.split('{').next().unwrap()));
                for (series, before) in before {
                    let now = now.get(series).unwrap_or_else(|| panic!("{series} is gone"));
                    assert!(now >= before, "{series} stepped back from {before} to {now}");
                }
            }
            last = Some(now);
            count += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        count
    }
}

/// A successor whose log nobody reads.
fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    clean(&mut command);
    command.args(["serve", "--takeover"]).args(arguments).env("RUNTIME_DIRECTORY", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn generations(proxy: &Proxy) -> usize {
    let status: Value = proxy.status();
    status["generations"].as_array().unwrap().len()
}

/// The story: `attempts` at least, beside `sockets` WebSockets.
fn upgrades(attempts: usize, sockets: usize) {
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let echo = Upstream::echo();
    let websockets = Upstream::serve(|stream| {
        let Ok(mut socket) = accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
    let secured = Secured::new();
    let toml = |name: &str| {
        format!(
            "[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"socket.example\"\n{}\n\
             [proxy]\nname = \"{name}\"\n[limits]\nconnections_per_client = 10000\n[egress]\n\
             connect_to = {{ \"{ECHO}\" = \"{}\", \"{SOCKETS}\" = \"{}\" }}\n",
            secured.section(""),
            echo.address(),
            websockets.address(),
        )
    };
    let reload = |proxy: &Proxy, name: &str| {
        proxy.rewrite_config(&toml(name));
        let variables = [("RUNTIME_DIRECTORY", folder.path().to_str().unwrap())];
        ccpgate_with(None, &["reload"], &variables).expect(0);
    };
    let mut first = Proxy::start_in(folder.path(), &toml("one"), false);
    let load = Load {
        http: first.http(),
        https: first.https(),
        admin: first.admin(),
        attempts: AtomicUsize::new(0),
        tunnels: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        received: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let (mut second, third, scrapes) = std::thread::scope(|scope| {
        let load = &load;
        let over = Over(&load.over);
        let agents = (0..THREADS).map(|at| {
            let agent = secured.agent();
            scope.spawn(move || load.attempts(at, attempts, &agent))
        });
        let agents: Vec<_> = agents.collect();
        let talkers = (0..4).map(|part| {
            scope.spawn(move || {
                let mine = (part..sockets).step_by(4);
                let mut all: Vec<_> = mine.map(|number| (number, load.socket(number))).collect();
                while !load.over.load(Ordering::Relaxed) {
                    for (number, socket) in &mut all {
                        load.talk(socket, *number);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                for (number, socket) in &mut all {
                    load.talk(socket, *number);
                    socket.close(None).unwrap();
                    while socket.read().is_ok() {}
                }
                all.len()
            })
        });
        let talkers: Vec<_> = talkers.collect();
        let scraper = scope.spawn(|| load.scrapes());
        let progress = |share: usize| {
            let wanted = attempts * share / 100;
            while load.attempts.load(Ordering::Relaxed) < wanted
                && agents.iter().all(|agent| !agent.is_finished())
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        progress(10);
        reload(&first, "two");
        progress(20);
        // A binary that fails at its start.
        let file = first.config_file();
        let file = file.to_str().unwrap();
        let mut fails = spawn(folder.path(), &["-c", file, "--set", "tls.certificate=/missing.pem"]);
        assert_eq!(fails.wait().unwrap().code(), Some(2));
        progress(30);
        // One that is killed as it takes over.
        let mut killed = spawn(folder.path(), &["-c", file]);
        first.log_line("the attempt", |line| {
            line["event"] == "handing_over" && line["pid"] == u64::from(killed.id())
        });
        std::thread::sleep(Duration::from_millis(30));
        killed.kill().unwrap();
        killed.wait().unwrap();
        first.log_line("its end", |line| {
            line["event"] == "takeover_failed" && line["pid"] == u64::from(killed.id())
        });
        progress(40);
        let second = Proxy::start_in(folder.path(), &toml("three"), true);
        first.log_line("the hand-over", |line| line["event"] == "handed_over");
        // So that it lives until the end, as the first one does by its WebSockets.
        let mut of_second = second.tunnel(ECHO);
        progress(55);
        reload(&second, "four");
        progress(65);
        let third = Proxy::start_in(folder.path(), &toml("five"), true);
        second.log_line("the hand-over", |line| line["event"] == "handed_over");
        progress(80);
        reload(&third, "six");
        progress(90);
        assert_eq!(generations(&third), 3);
        of_second.expect_echo(b"kept");
        of_second.finish();
        of_second.expect_closed();
        load.tunnels.fetch_add(1, Ordering::Relaxed);
        load.sent.fetch_add(4, Ordering::Relaxed);
        load.received.fetch_add(4, Ordering::Relaxed);
        drop(over);
        let scrapes = scraper.join().unwrap();
        agents.into_iter().for_each(|agent| agent.join().unwrap());
        let lived: usize = talkers.into_iter().map(|talker| talker.join().unwrap()).sum();
        assert_eq!(lived, sockets);
        (second, third, scrapes)
    });
    // The old ones have nothing left, and what they counted is the newest one's.
    assert_eq!([first.wait_exit().code(), second.wait_exit().code()], [Some(0), Some(0)]);
    assert_eq!(generations(&third), 1);
    let tunnels = load.tunnels.load(Ordering::Relaxed) + sockets as u64;
    let ok = |metrics: &Metrics| -> f64 {
        let ended = metrics.family("ccpgate_tunnels_total");
        ended.filter(|(series, _)| series.contains("outcome=\"ok\"")).map(|(_, value)| value).sum()
    };
    eventually("the end of all tunnels", || (ok(&third.metrics()) == tunnels as f64).then_some(()));
    let metrics = third.metrics();
    assert_eq!(metrics.sum("ccpgate_tunnels_total"), tunnels as f64, "none ended otherwise");
    let moved = |direction: &str| -> f64 {
        let bytes = metrics.family("ccpgate_tunnel_bytes_total");
        bytes.filter(|(series, _)| series.contains(direction)).map(|(_, value)| value).sum()
    };
    assert_eq!(moved("\"sent\""), load.sent.load(Ordering::Relaxed) as f64);
    assert_eq!(moved("\"received\""), load.received.load(Ordering::Relaxed) as f64);
    assert_eq!(metrics.sum("ccpgate_denied_total"), 0.0);
    eprintln!(
        "{} attempts, {sockets} WebSockets, {scrapes} scrapes, {:.0?}: none refused, reset or cut; {} bytes sent, {} received",
        load.attempts.load(Ordering::Relaxed),
        begun.elapsed(),
        load.sent.load(Ordering::Relaxed),
        load.received.load(Ordering::Relaxed),
    );
}

#[test]
fn nobody_notices_upgrades() {
    upgrades(1_000, 12);
}

#[test]
#[ignore = "takes minutes; docs/upgrade.md has its result"]
fn the_whole_figure() {
    upgrades(20_000, 300);
}
