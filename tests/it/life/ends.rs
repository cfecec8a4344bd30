//! An end that is announced by a lame duck.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

use super::{TARGET, at, rules};
use crate::support::{Answer, Proxy, Raw, Upstream, ccpgate, eventually, ip_ranges};

#[test]
fn a_lame_duck_says_no_and_serves_on() {
    let upstream = Upstream::echo();
    let mut proxy =
        Proxy::start(&format!("[limits]\nlame_duck = \"2s\"\ndrain = \"1s\"\n{}", rules(&upstream)));
    let mut kept = proxy.connect();
    kept.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 200);
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.log_line("the lame duck", |line| line["event"] == "lame_duck");
    for address in [proxy.http(), proxy.admin()] {
        assert_eq!(at(address, "GET", "/readyz?x").status, 503);
    }
    kept.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 503, "a connection kept alive is told, too");
    assert_eq!(proxy.metric("ccpgate_draining"), 1.0);
    let mut late = proxy.tunnel(TARGET);
    late.expect_echo(b"served meanwhile");
    let address = proxy.http();
    eventually("the listener's end", || TcpStream::connect(address).is_err().then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    // The drain counts from the signal, and is over with the lame duck.
    late.expect_gone();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_lame_duck() {
    let upstream = Upstream::echo();
    let mut proxy = Proxy::start(&format!("[limits]\nlame_duck = \"1h\"\n{}", rules(&upstream)));
    let mut client = proxy.tunnel(TARGET);
    proxy.signal(Signal::TERM);
    proxy.log_line("the lame duck", |line| line["event"] == "lame_duck");
    client.expect_echo(b"served");
    proxy.signal(Signal::TERM);
    client.expect_gone();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

/// A configuration with the addresses of a process.
fn same_addresses(proxy: &Proxy, upstream: &Upstream) -> String {
    format!(
        "[proxy]\nlisten = [\"{}\"]\n[admin]\nlisten = \"{}\"\n{}",
        proxy.http(),
        proxy.admin(),
        rules(upstream)
    )
}

#[test]
fn a_process_that_starts_while_another_one_drains_gets_its_admin_port() {
    let upstream = Upstream::echo();
    let mut old = Proxy::start(&rules(&upstream));
    let mut live = old.tunnel(TARGET);
    let toml = same_addresses(&old, &upstream);
    // One that serves leaves nothing, whoever asks.
    let vacate = "POST /api/vacate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n";
    assert_eq!(ask_admin(&old, vacate), 409);
    let said =
        ccpgate(Some(&toml.replace(&old.http().to_string(), "127.0.0.1:0")), &["serve"]).expect(2).stderr;
    assert!(said.contains("admin.listen") && said.contains(&old.admin().to_string()), "{said}");
    old.signal(Signal::TERM);
    old.log_line("the drain", |line| line["event"] == "draining");
    assert_eq!(at(old.admin(), "GET", "/readyz").status, 503, "until then it says that it drains");
    assert_eq!(at(old.admin(), "GET", "/api/vacate").status, 405);
    assert_eq!(ask_admin(&old, &format!("{vacate}Origin: http://evil.example\r\n")), 403);
    assert_eq!(ask_admin(&old, &vacate.replace("127.0.0.1", "evil.example")), 403);

    let new = Proxy::start(&toml);
    assert_eq!(new.get("/readyz").status, 200);
    new.tunnel(TARGET).expect_echo(b"served");
    live.expect_echo(b"unharmed");
    live.finish();
    live.expect_closed();
    assert_eq!(old.wait_exit().code(), Some(0));
    assert_eq!(new.get("/readyz").status, 200);
}

#[test]
fn in_a_common_folder_it_tells_of_the_one_that_drains_as_well() {
    for take_over in [false, true] {
        let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
        let mut old = Proxy::start_in(folder.path(), &rules(&upstream), false);
        let mut live = old.tunnel(TARGET);
        live.expect_echo(b"123");
        old.signal(Signal::TERM);
        old.log_line("the drain", |line| line["event"] == "draining");
        let new = Proxy::start_in(folder.path(), &same_addresses(&old, &upstream), take_over);
        new.tunnel(TARGET).expect_echo(b"45");
        let generations = || {
            let status: serde_json::Value = new.status();
            status["generations"].as_array().unwrap().len()
        };
        assert_eq!(generations(), 2, "{take_over}");
        live.finish();
        live.expect_closed();
        assert_eq!(old.wait_exit().code(), Some(0));
        assert_eq!(generations(), 1, "{take_over}");
        // What it counted stays.
        const SENT: &str =
            "ccpgate_tunnel_bytes_total{domain=\"good.example\",category=\"extra\",direction=\"sent\"}";
        assert_eq!(new.metric(SENT), 5.0);
    }
}

/// Without a folder, and with one that both find each other in.
#[test]
fn a_process_that_starts_in_a_lame_duck_ends_it_and_serves() {
    for way in [None, Some(false), Some(true)] {
        let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
        let toml = format!("[limits]\nlame_duck = \"1h\"\n{}", rules(&upstream));
        let start = |toml: &str, take_over| match way {
            None => Proxy::start(toml),
            Some(_) => Proxy::start_in(folder.path(), toml, take_over),
        };
        let mut old = start(&toml, false);
        let mut live = old.tunnel(TARGET);
        old.signal(Signal::TERM);
        old.log_line("the lame duck", |line| line["event"] == "lame_duck");
        let new = start(&same_addresses(&old, &upstream), way.unwrap_or(false));
        new.tunnel(TARGET).expect_echo(b"served");
        assert_eq!(new.get("/readyz").status, 200, "{way:?}");
        let generations = new.status()["generations"].as_array().unwrap().len();
        assert_eq!(generations, if way.is_some() { 2 } else { 1 }, "{way:?}");
        live.expect_echo(b"unharmed");
        live.finish();
        live.expect_closed();
        assert_eq!(old.wait_exit().code(), Some(0));
    }
}

/// Whoever has a port that a process has left is somebody else: what that has still is no help.
#[test]
fn a_process_that_drains_keeps_its_admin_port_where_another_program_has_the_others() {
    let upstream = Upstream::echo();
    let old = Proxy::start(&rules(&upstream));
    let mut live = old.tunnel(TARGET);
    old.signal(Signal::TERM);
    let other = eventually("the port", || std::net::TcpListener::bind(old.http()).ok());
    // The old process itself sees a moment later that its socket has closed; port 1 it never had.
    let missing = || refused_to_leave(&old, &format!("{},127.0.0.1:1", old.http()));
    eventually("its end", || missing().contains(&old.http().to_string()).then_some(()));
    let said = ccpgate(Some(&same_addresses(&old, &upstream)), &["serve"]).expect(2).stderr;
    assert!(said.contains("proxy.listen") && said.contains("another process has it"), "{said}");
    assert_eq!(at(old.admin(), "GET", "/readyz").status, 503);
    live.expect_echo(b"unharmed");
    drop(other);
}

#[test]
fn a_lame_duck_goes_on_where_a_start_would_lack_a_port_that_another_program_has() {
    let upstream = Upstream::echo();
    let old = Proxy::start(&format!("[limits]\nlame_duck = \"1h\"\n{}", rules(&upstream)));
    old.signal(Signal::TERM);
    old.log_line("the lame duck", |line| line["event"] == "lame_duck");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let own = format!("listen = [\"{}\"", old.http());
    let toml = same_addresses(&old, &upstream).replace(&own, &format!("{own}, \"{taken}\""));
    let said = ccpgate(Some(&toml), &["serve"]).expect(2).stderr;
    assert!(said.contains("another process has it"), "{said}");
    assert!(refused_to_leave(&old, &taken.to_string()).contains(&taken.to_string()));
    old.tunnel(TARGET).expect_echo(b"served");
    assert_eq!(at(old.admin(), "GET", "/readyz").status, 503);
    assert_eq!(ask_admin(&old, "POST /api/vacate?wanted=3128 HTTP/1.1\r\nHost: 127.0.0.1\r\n"), 400);
}

#[test]
fn files_that_hang_hold_up_no_end() {
    let upstream = Upstream::echo();
    let folder = tempfile::tempdir().unwrap();
    let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RWXU).unwrap();
    let (file, state) = (folder.path().join("ip-ranges.json"), folder.path().join("state"));
    std::fs::write(&file, ip_ranges(Timestamp::now(), &["us-west-2 AMAZON_CONNECT 18.236.61.0/25"])).unwrap();
    std::fs::create_dir(&state).unwrap();
    let start = |key: &str, path: &Path| {
        Proxy::start(&format!("[ranges]\n{key} = \"{}\"\n{}", path.display(), rules(&upstream)))
    };
    // As on a server that is gone: a thread waits for this one's bytes for ever.
    let mut proxy = start("file", &file);
    std::fs::remove_file(&file).unwrap();
    pipe(&file);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let held = eventually("a thread that reads it", || rustix::fs::open(&file, flags, Mode::empty()).ok());
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit().code(), Some(0), "ranges.file");
    drop(held);
    // What is read and written once more at the end.
    let mut proxy = start("state", &state);
    pipe(&state.join("edl-consumers"));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit().code(), Some(0), "ranges.state");
}

fn ask_admin(proxy: &Proxy, head: &str) -> u16 {
    answer_of_admin(proxy, head).status
}

/// Why a process that was told to end doesn't leave these addresses to another one.
fn refused_to_leave(proxy: &Proxy, wanted: &str) -> String {
    let head = format!("POST /api/vacate?wanted={wanted} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    let answer = answer_of_admin(proxy, &head);
    assert_eq!(answer.status, 409, "{}", answer.text());
    answer.text()
}

fn answer_of_admin(proxy: &Proxy, head: &str) -> Answer {
    let mut client = Raw::connect_from([127, 0, 0, 1].into(), proxy.admin());
    client.send(format!("{head}\r\n"));
    client.read_answer()
}
