//! SIGTERM: no new work, live tunnels run on for `limits.drain`, and browsers find the next proxy of
//! their PAC file, because the port refuses.

use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::support::{PATIENCE, Proxy, Raw, Upstream, eventually, have, on_one_processor};

const TARGET: &str = "good.example:443";

fn start(upstream: &Upstream, more: &str) -> Proxy {
    Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n{more}\n{}",
        upstream.for_targets(&[TARGET])
    ))
}

/// Waits until the proxy port refuses.
#[track_caller]
fn expect_refusing(proxy: &Proxy) {
    let address = proxy.http();
    eventually("the listener's end", || {
        let error = TcpStream::connect(address).err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn without_tunnels_it_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Upstream::echo();
        let mut proxy = start(&upstream, "");
        let idle = proxy.connect();
        let begun = Instant::now();
        proxy.signal(signal);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert!(begun.elapsed() < PATIENCE / 2, "an idle connection holds up no exit");
        drop(idle);
    }
}

#[test]
fn live_tunnels_run_on_and_the_last_one_ends_the_process() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let (mut first, mut second) = (proxy.tunnel(TARGET), proxy.tunnel(TARGET));
    proxy.signal(Signal::TERM);
    expect_refusing(&proxy);

    // The admin listener stays, to be watched.
    assert_eq!(proxy.get("/readyz").status, 503);
    assert_eq!(proxy.get("/healthz").status, 200);
    assert_eq!(proxy.metric("ccpgate_draining"), 1.0);
    assert_eq!(proxy.metric("ccpgate_tunnels_active{domain=\"good.example\",category=\"extra\"}"), 2.0);

    first.expect_echo(b"still talking");
    first.finish();
    first.expect_closed();
    second.expect_echo(b"still talking");
    assert!(proxy.is_running());
    second.finish();
    second.expect_closed();
    let begun = Instant::now();
    assert_eq!(proxy.wait_exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "ends soon after the last tunnel");
    // The last line is not lost in a buffer.
    let tunnels = proxy.log_so_far().iter().filter(|line| line["event"] == "tunnel").count();
    assert_eq!(tunnels, 2);
}

#[test]
fn after_limits_drain_what_remains_is_cut() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "[limits]\ndrain = \"1s\"");
    let mut client = proxy.tunnel(TARGET);
    client.expect_echo(b"x");
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    client.expect_gone();
    assert!(begun.elapsed() >= Duration::from_millis(900), "cut too soon: {:?}", begun.elapsed());
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"drained".into(), &"proxy".into()), "{line}");
    assert_eq!((&line["sent"], &line["received"]), (&1.into(), &1.into()), "{line}");
    let cut = proxy.log_line("the cut", |line| line["event"] == "cutting");
    assert_eq!(cut["tunnels"], 1, "{cut}");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn signals_that_other_servers_rotate_logs_by_end_nothing() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::WINCH] {
        proxy.signal(signal);
    }
    client.expect_echo(b"still talking");
    proxy.tunnel(TARGET).expect_echo(b"and new ones");
    assert!(proxy.is_running());
}

#[test]
fn a_second_signal_ends_it_now() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    proxy.signal(Signal::TERM);
    expect_refusing(&proxy);
    client.expect_echo(b"draining");
    proxy.signal(Signal::TERM);
    client.expect_gone();
    proxy.wait_exit();
}

#[test]
fn a_connection_kept_alive_is_closed_or_told() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let mut tunnel = proxy.tunnel(TARGET);
    let mut kept = proxy.connect();
    kept.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 200);
    proxy.signal(Signal::TERM);
    expect_refusing(&proxy);
    kept.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n"));
    let got = String::from_utf8(kept.read_to_end().unwrap_or_default()).unwrap();
    if !got.is_empty() {
        assert!(got.starts_with("HTTP/1.1 503"), "{got}");
        let head = got.to_ascii_lowercase();
        assert!(
            head.contains("error=proxy_internal_response") && head.contains("connection: close"),
            "{got}"
        );
        assert!(head.contains("details=\"draining\""), "{got}");
    }
    tunnel.expect_echo(b"unharmed");
    tunnel.finish();
    tunnel.expect_closed();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn what_a_draining_proxy_refuses_is_named() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let mut tunnel = proxy.tunnel(TARGET);
    let rows = [
        (format!("CONNECT {TARGET}"), Some(TARGET)),
        ("CONNECT agent:S3cret@good.example:443".to_owned(), Some(TARGET)),
        ("GET http://idp.corp/login?token=S3cret".to_owned(), Some("http://idp.corp")),
        ("HEAD /proxy.pac".to_owned(), None),
    ];
    let mut kept: Vec<Raw> = rows.iter().map(|_| proxy.connect()).collect();
    for (client, (line, _)) in kept.iter_mut().zip(&rows) {
        // The next request comes with the first one, and is whole only within the drain.
        client.send(format!("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n{line}"));
        assert_eq!(client.read_answer().status, 200);
    }
    tunnel.expect_echo(b"a while later");
    proxy.signal(Signal::TERM);
    expect_refusing(&proxy);
    for (client, (line, shown)) in kept.iter_mut().zip(&rows) {
        client.send(" HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = if line.starts_with("HEAD") { client.read_head() } else { client.read_answer() };
        assert_eq!((answer.status, answer.proxy_status("details")), (503, Some("draining")), "{line}");
        let Some(shown) = shown else { continue };
        assert!(answer.text().starts_with(&format!("ccpgate refused {shown}\n")), "{}", answer.text());
        assert_eq!(proxy.access_line("denied", shown)["reason"], "draining");
    }
    tunnel.finish();
    tunnel.expect_closed();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_request_that_was_under_way_is_answered() {
    // A connection that was accepted, or waited in the queue, before the listener closed.
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let mut begun: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut begun {
        client.send("CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n");
    }
    proxy.signal(Signal::TERM);
    for client in &mut begun {
        let status = client.read_answer_to_connect().status;
        assert!(matches!(status, 200 | 503), "{status}");
    }
    drop(begun);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_reload_while_draining_brings_nothing_back() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    proxy.signal(Signal::TERM);
    expect_refusing(&proxy);
    proxy.signal(Signal::HUP);
    client.expect_echo(b"unharmed");
    std::thread::sleep(Duration::from_millis(200));
    expect_refusing(&proxy);
    client.expect_echo(b"unharmed");
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_new_process_binds_at_once_where_another_was_killed() {
    // The connections of the old one still linger in the kernel.
    let upstream = Upstream::echo();
    let mut killed = start(&upstream, "");
    let (address, mut client) = (killed.http(), killed.tunnel(TARGET));
    client.expect_echo(b"live");
    killed.signal(Signal::KILL);
    killed.wait_exit();
    let proxy = start(&upstream, &format!("[proxy]\nlisten = [\"{address}\"]"));
    assert_eq!(proxy.http(), address);
    proxy.tunnel(TARGET).expect_echo(b"again");
}

/// A listener that lacked a descriptor a moment ago pauses; its queue isn't dropped for that.
#[test]
fn whoever_waits_in_the_queue_of_a_listener_that_pauses_is_answered() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    let allow = |files| {
        let limit = Rlimit { current: Some(files), maximum: Some(1000) };
        prlimit(Some(proxy.id()), Resource::Nofile, limit).unwrap();
    };
    allow(120);
    let mut greedy: Vec<Raw> = (0..150).map(|_| proxy.connect()).collect();
    for client in &mut greedy {
        client.send("CONNECT go");
    }
    proxy.log_line("the pause", |line| line["event"] == "accept_failed");
    let mut waiting: Vec<Raw> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut waiting {
        client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    allow(1000);
    proxy.signal(Signal::TERM);
    for client in &mut waiting {
        assert_eq!(client.read_answer_to_connect().status, 200);
    }
    drop((waiting, greedy));
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

/// Clients that wait to be accepted, at nine o'clock or at the moment of a signal, get an answer and no reset.
#[test]
fn whoever_waits_in_the_queue_is_answered() {
    let upstream = Upstream::echo();
    let mut proxy = start(&upstream, "");
    proxy.signal(Signal::STOP);
    let mut waiting: Vec<Raw> = (0..300).map(|_| proxy.connect()).collect();
    for client in &mut waiting {
        client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    for client in &mut waiting {
        assert_eq!(client.read_answer_to_connect().status, 200);
    }
    drop(waiting);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

/// A process that takes all the time there is, until it is dropped.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// On a machine that has its hands full, the thread that hears the signal gets ahead of the workers, which have
/// accepted nobody yet.
#[test]
fn whoever_waits_in_the_queue_is_answered_though_the_workers_come_late() {
    if !have("taskset") || !have("chrt") {
        return;
    }
    let upstream = Upstream::echo();
    let toml = format!("[[allow]]\npattern = \"good.example\"\n{}", upstream.for_targets(&[TARGET]));
    let mut proxy = Proxy::start_by(&toml, on_one_processor(env!("CARGO_BIN_EXE_ccpgate")));
    let busy = Busy(on_one_processor("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    for thread in std::fs::read_dir(format!("/proc/{}/task", proxy.id().as_raw_nonzero())).unwrap() {
        let thread = thread.unwrap();
        if std::fs::read_to_string(thread.path().join("comm")).unwrap().starts_with("worker") {
            let last = ["--idle", "--pid", "0"];
            let set = Command::new("chrt").args(last).arg(thread.file_name()).status().unwrap();
            assert!(set.success());
        }
    }
    let mut waiting: Vec<Raw> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut waiting {
        client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    proxy.signal(Signal::TERM);
    proxy.log_line("the drain", |line| line["event"] == "draining");
    drop(busy);
    for client in &mut waiting {
        assert_eq!(client.read_answer_to_connect().status, 200);
    }
    drop(waiting);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}
