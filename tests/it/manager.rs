//! What a service manager sees and does, without one: the words on its socket, the journal's form of
//! the log, the signal that the machine goes down, an address that isn't there yet. The units
//! themselves are tried in `systemd`.

use std::io::{Read, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{PATIENCE, Proxy, Raw, Upstream, ccpgate, ccpgate_with};

const TARGET: &str = "good.example:443";

fn config(upstream: &Upstream, more: &str) -> String {
    format!("[[allow]]\npattern = \"good.example\"\n{more}\n{}", upstream.for_targets(&[TARGET]))
}

/// The manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").to_str().unwrap().to_owned()
    }

    /// The next message that isn't a mere sentence, by its assignments.
    #[track_caller]
    fn told(&self) -> Vec<String> {
        loop {
            let said = self.any();
            if said.iter().any(|assignment| !assignment.starts_with("STATUS=")) {
                return said;
            }
        }
    }

    #[track_caller]
    fn any(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let n = self.socket.recv(&mut buffer).expect("a message to the service manager");
        String::from_utf8_lossy(&buffer[..n]).lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let (manager, upstream) = (Manager::new(), Upstream::echo());
    let config = config(&upstream, "");
    let mut proxy = Proxy::start_with_variables(&config, &[("NOTIFY_SOCKET", &manager.path())]);
    assert_eq!(manager.told(), ["READY=1", "STATUS=serving, 0 tunnels"]);
    let mut tunnel = proxy.tunnel(TARGET);
    while manager.any() != ["STATUS=serving, 1 tunnel"] {}

    proxy.reload(&config, "ok");
    let reloading = manager.told();
    assert_eq!(reloading[0], "RELOADING=1");
    let clock = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("systemd wants the clock beside it");
    assert!(clock.parse::<u64>().unwrap() > 0, "{reloading:?}");
    assert_eq!(manager.told(), ["READY=1", "STATUS=serving, 1 tunnel"]);

    proxy.rewrite_config_raw("[proxy]\nnaem = 1\n");
    proxy.hang_up("error");
    assert_eq!(manager.told()[0], "RELOADING=1");
    let refused = manager.told();
    assert!(refused[0] == "READY=1" && refused[1].contains("the last reload was refused"), "{refused:?}");

    proxy.signal(Signal::TERM);
    let stopping = manager.told();
    assert_eq!(stopping, ["STOPPING=1", "STATUS=draining, 1 tunnel left; no new connections"]);
    tunnel.expect_echo(b"unharmed");
    tunnel.finish();
    tunnel.expect_closed();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_manager_that_hangs_holds_up_nothing() {
    // Nobody reads its socket, which the kernel fills up after a few messages.
    let (manager, upstream) = (Manager::new(), Upstream::echo());
    let config = config(&upstream, "");
    let mut proxy = Proxy::start_with_variables(&config, &[("NOTIFY_SOCKET", &manager.path())]);
    for _ in 0..40 {
        proxy.hang_up("ok");
    }
    proxy.tunnel(TARGET).expect_echo(b"unharmed");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_start_that_may_succeed_later_is_told_from_a_mistake() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("[proxy]\nlisten = [\"{}\"]\n", taken.local_addr().unwrap());
    let cases = [
        (busy.as_str(), 75, "Address already in use"),
        ("[proxy]\nnaem = 1\n", 2, "naem"),
        ("[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"missing.pem\"\n", 2, "missing.pem"),
    ];
    for (config, code, why) in cases {
        let manager = Manager::new();
        let ran = ccpgate_with(Some(config), &["serve"], &[("NOTIFY_SOCKET", &manager.path())]).expect(code);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
        let told = manager.any();
        assert!(told.len() == 1 && told[0].starts_with("STATUS=") && told[0].contains(why), "{told:?}");
        // Without a manager that would start it again, as ever.
        ccpgate(Some(config), &["serve"]).expect(2);
    }
}

/// What `serve` writes to a standard error that is the journal's, or isn't quite.
fn written(format: &str, is_the_journal: bool) -> String {
    let upstream = Upstream::echo();
    let (mut log, stderr) = pipe().unwrap();
    let stat = rustix::fs::fstat(stderr.as_fd()).unwrap();
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino + u64::from(!is_the_journal));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ccpgate.toml");
    let listen = "[proxy]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&file, config(&upstream, &format!("{listen}[log]\nformat = \"{format}\""))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ccpgate"))
        .args(["serve", "-c"])
        .arg(&file)
        .env("JOURNAL_STREAM", stream)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut read_until = |end: &str| {
        while !(text.contains(end) && text.ends_with('\n')) {
            let mut buffer = [0; 4096];
            let n = log.read(&mut buffer).unwrap();
            assert!(n > 0, "no {end:?} in:\n{text}");
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        text.clone()
    };
    let started = read_until("ready; point browsers");
    let line = started.lines().find(|line| line.contains("listening") && line.contains("http")).unwrap();
    let at = line.split("127.0.0.1:").nth(1).unwrap();
    let port: u16 = at[..at.find(|c: char| !c.is_ascii_digit()).unwrap_or(at.len())].parse().unwrap();
    let mut stranger = Raw::connect(([127, 0, 0, 1], port).into());
    stranger.send("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(stranger.read_answer().status, 403);
    read_until("evil.example");
    // A reload that fails tells of several problems in several lines.
    std::fs::write(&file, "[proxy]\nnaem = 1\n[limits]\nconnectoins = 1\n").unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, Signal::HUP).unwrap();
    read_until("connectoins");
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    read_until("stopped")
}

#[test]
fn the_journal_gets_levels_and_no_time() {
    let text = written("text", true);
    for line in text.lines() {
        let rest = line.strip_prefix('<').and_then(|l| l.split_once('>'));
        let (level, rest) = rest.unwrap_or_else(|| panic!("a line without a level: {line}"));
        assert!(["3", "4", "6"].contains(&level), "{line}");
        assert!(!rest.starts_with("20"), "a time before the journal's: {line}");
    }
    let level_of = |part: &str| text.lines().find(|l| l.contains(part)).map(|l| &l[..3]);
    assert_eq!(level_of("target=evil.example"), Some("<6>"));
    assert_eq!(level_of("event=\"policy_warning\""), Some("<4>"));
    assert_eq!((level_of("naem"), level_of("connectoins")), (Some("<3>"), Some("<3>")));

    for line in written("json", true).lines() {
        let object = line.get(3..).and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
        assert!(object.is_some_and(|o| o["time"].is_string()), "{line}");
    }
}

#[test]
fn another_standard_error_gets_what_it_always_got() {
    // The variable is inherited where the output isn't the journal any more.
    let text = written("text", false);
    assert!(text.lines().next().unwrap().starts_with("20"), "{text}");
    assert!(!text.contains("<6>") && !text.contains("<4>"), "{text}");
    for line in written("json", false).lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_machine_that_goes_down_ends_quiet_tunnels_before_those_that_talk() {
    const REBOOT: Duration = Duration::from_secs(4);
    // Told before or after SIGTERM, or alone; what comes twice changes nothing.
    for signals in [&[Signal::TERM, Signal::POWER][..], &[Signal::POWER, Signal::TERM, Signal::POWER]] {
        let upstream = Upstream::echo();
        // The proxy looks four times within that silence whether there is any: a look is no talk.
        let limits = format!("[limits]\nidle_timeout = \"5s\"\nreboot_drain = \"{}s\"", REBOOT.as_secs());
        let mut proxy = Proxy::start(&config(&upstream, &limits));
        let (mut quiet, mut talker) = (proxy.tunnel(TARGET), proxy.tunnel(TARGET));
        quiet.expect_echo(b"before");
        let begun = Instant::now();
        for signal in signals {
            proxy.signal(*signal);
        }
        let quiet = std::thread::spawn(move || {
            quiet.expect_gone();
            begun.elapsed()
        });
        let last = loop {
            std::thread::sleep(Duration::from_millis(100));
            talker.send("x");
            if talker.try_read_exactly(1).is_none() {
                break begun.elapsed();
            }
        };
        let quiet = quiet.join().unwrap();
        assert!(quiet >= REBOOT / 2 - REBOOT / 20, "{signals:?}: {quiet:?}");
        assert!(quiet + REBOOT / 4 < last, "{signals:?}: {quiet:?}, {last:?}");
        assert!(last >= REBOOT - REBOOT / 20, "{signals:?}: {last:?}");
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let drained = proxy.log_so_far().iter().filter(|line| line["outcome"] == "drained").count();
        assert_eq!(drained, 2);
    }
}

#[test]
fn a_shorter_drain_stays_shorter_and_an_idle_proxy_ends_at_once() {
    let upstream = Upstream::echo();
    let mut proxy = Proxy::start(&config(&upstream, "[limits]\ndrain = \"1s\"\nreboot_drain = \"1h\""));
    let mut tunnel = proxy.tunnel(TARGET);
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::POWER);
    tunnel.expect_gone();
    assert_eq!(proxy.wait_exit().code(), Some(0));

    let mut proxy = Proxy::start(&config(&upstream, ""));
    proxy.signal(Signal::POWER);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn an_address_that_is_not_there_yet_is_listened_on_and_told_once() {
    // Of the networks for documentation (RFC 5737, RFC 3849), so no machine has them.
    for late in ["192.0.2.1:0", "[2001:db8::1]:0"] {
        let upstream = Upstream::echo();
        let listen = format!("[proxy]\nlisten = [\"127.0.0.1:0\", \"{late}\"]");
        let proxy = Proxy::start(&config(&upstream, &listen));
        let told = proxy.log_line("the warning", |line| line["event"] == "address_missing");
        assert_eq!((&told["level"], &told["address"]), (&"warn".into(), &late.into()));
        let count = proxy.log_so_far().iter().filter(|line| line["event"] == "address_missing").count();
        assert_eq!(count, 1);
        let here = proxy.log_line("the other address", |line| {
            line["event"] == "listening"
                && line["listener"] == "http"
                && line["address"].as_str().is_some_and(|a| a.starts_with("127."))
        });
        let mut client = Raw::connect(here["address"].as_str().unwrap().parse().unwrap());
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(b"the other address works");
    }
}
