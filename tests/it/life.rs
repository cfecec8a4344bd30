//! What is served by path, and what happens to listeners: queries, readiness, reloads that move
//! addresses, an end that is announced, starts that fail, output that can't be written.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::Request;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Answer, H2, Port, Proxy, Raw, Secured, Upstream, ccpgate, ccpgate_with, eventually};

const TARGET: &str = "good.example:443";
const SUCCESSFUL: &str = "ccpgate_config_last_reload_successful";
const TLS_FILES: &str = "ccpgate_tls_files_last_load_successful";

fn rules(upstream: &Upstream) -> String {
    format!("[[allow]]\npattern = \"good.example\"\n{}", upstream.for_targets(&[TARGET]))
}

fn at(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut client = Raw::connect(address);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"));
    if method == "HEAD" { client.read_head() } else { client.read_answer() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_path_alone_decides_on_every_listener() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    let mut multiplexed = H2::connect(&proxy, &agent).await;
    let long = format!("?{}", "x".repeat(8 * 1024));
    for (path, found) in [
        ("/proxy.pac", true),
        ("/wpad.dat", true),
        ("/readyz", true),
        ("/proxy.pac/", false),
        ("//proxy.pac", false),
        ("/PROXY.PAC", false),
        ("/proxy.pac%3Fv=2", false),
    ] {
        for query in
            ["", "?", "?v=2", "?location=/office/1", "?a=1&b=http://x/?y", "?/proxy.pac", long.as_str()]
        {
            let asked = format!("{path}{query}");
            let expected = if found { 200 } else { 404 };
            let shown: String = asked.chars().take(60).collect();
            assert_eq!(at(proxy.http(), "GET", &asked).status, expected, "plain {shown}");
            let request = Request::get(format!("https://127.0.0.1{asked}")).body(()).unwrap();
            let (parts, _) = multiplexed.ask(request, true).await.unwrap();
            assert_eq!(parts.status, expected, "HTTP/2 {shown}");
            // The name for WPAD is one of the proxy listeners alone.
            let expected = if path == "/wpad.dat" { 404 } else { expected };
            assert_eq!(at(proxy.admin(), "GET", &asked).status, expected, "admin {shown}");
        }
    }
    // A fragment is the client's own; some send it all the same.
    for address in [proxy.http(), proxy.admin()] {
        assert_eq!(at(address, "GET", "/proxy.pac#x").status, 200);
        assert_eq!(at(address, "DELETE", "/readyz?x").status, 405);
        assert_eq!(at(address, "HEAD", "/readyz?x").status, 200);
        assert_eq!(
            at(address, "GET", "/?/proxy.pac").status,
            if address == proxy.admin() { 200 } else { 404 }
        );
    }
    let line = proxy.log_line("the wrong address", |line| line["event"] == "wrong_pac_address");
    assert!(!line.to_string().contains("location="), "no query in the log: {line}");
    let lines = proxy.log_so_far().iter().filter(|line| line["event"] == "wrong_pac_address").count();
    assert!(lines <= 5, "{lines} lines");
}

#[test]
fn readiness_is_for_clients_and_a_refused_head_has_no_body() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&rules(&upstream));
    assert_eq!(at(proxy.http(), "GET", "/readyz").text(), at(proxy.admin(), "GET", "/readyz").text());
    for request in ["OPTIONS / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"] {
        assert_eq!(proxy.ask(request).status, 404, "{request}");
    }
    assert_eq!(proxy.ask("GET /readyz HTTP/1.0\r\n\r\n").status, 200, "as HAProxy asks");
    proxy.reload(&format!("[proxy]\nclients = [\"192.0.2.0/24\"]\n{}", rules(&upstream)), "ok");
    assert_eq!(at(proxy.http(), "GET", "/readyz").proxy_status("details"), Some("client"));
    for target in ["/readyz", "http://good.example/", "/nothing"] {
        let mut client = proxy.connect();
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let head = client.read_head();
        assert_eq!(head.status, 403, "{}", head.head);
        assert_ne!(head.field("content-length"), Some("0"), "that of the GET: {}", head.head);
        client.expect_closed();
    }
}

#[test]
fn a_renewed_certificate_does_not_hide_a_failed_reload() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let good = secured.policy(&upstream, "", "");
    let state = || (proxy.metric(SUCCESSFUL), proxy.metric(TLS_FILES));
    proxy.reload("[policy]\nmode = \"lax\"\n", "error");
    assert_eq!(state(), (0.0, 1.0));
    let renew = || {
        let before = proxy.metric("ccpgate_reloads_total{result=\"ok\"}");
        secured.renew(|_| {});
        proxy.metric_eventually("ccpgate_reloads_total{result=\"ok\"}", before + 1.0);
    };
    renew();
    assert_eq!(state(), (0.0, 1.0), "the file is still broken");
    let status: Value = serde_json::from_slice(&proxy.get("/api/status").body).unwrap();
    assert_eq!(status["last_reload_successful"], false, "{status}");
    assert_eq!(status["tls_files_last_load_successful"], true, "{status}");
    // A broken certificate that is repaired says nothing of the file either.
    secured.replace("proxy.pem", "");
    proxy.metric_eventually(TLS_FILES, 0.0);
    renew();
    assert_eq!(state(), (0.0, 1.0));
    proxy.reload(&good, "ok");
    assert_eq!(state(), (1.0, 1.0));
    // And the other way round: only the files are broken, and mended.
    secured.replace("proxy.pem", "");
    proxy.metric_eventually(TLS_FILES, 0.0);
    assert_eq!(state(), (0.0, 0.0));
    renew();
    assert_eq!(state(), (1.0, 1.0));
}

#[test]
fn a_listener_moves_to_an_overlapping_address_and_back() {
    let upstream = Upstream::echo();
    for (narrow, wide) in [("127.0.0.1", "0.0.0.0"), ("[::1]", "[::]")] {
        let port = Port::keep();
        let with = |host: &str| format!("[proxy]\nlisten = [\"{host}:{port}\"]\n{}", rules(&upstream));
        let proxy = Proxy::start(&with(narrow));
        let local: SocketAddr = format!("{narrow}:{port}").parse().unwrap();
        let mut moves = 0.0;
        for host in [wide, narrow, wide, narrow, wide] {
            // What waits in the queue when the signal comes was made to the old socket.
            proxy.signal(Signal::STOP);
            proxy.rewrite_config(&with(host));
            let mut waiting: Vec<Raw> = (0..50).map(|_| Raw::connect(local)).collect();
            proxy.signal(Signal::HUP);
            proxy.signal(Signal::CONT);
            for client in &mut waiting {
                assert_eq!(client.connect_target(TARGET).status, 200);
            }
            moves += 1.0;
            proxy.metric_eventually("ccpgate_reloads_total{result=\"ok\"}", moves);
            assert_eq!(Raw::connect(local).connect_target(TARGET).status, 200);
        }
        if wide == "0.0.0.0" {
            let mut client = Raw::connect((Ipv4Addr::new(127, 0, 0, 9), port.number()).into());
            assert_eq!(client.connect_target(TARGET).status, 200, "on every address now");
            proxy.reload(&with(narrow), "ok");
            assert!(
                TcpStream::connect((Ipv4Addr::new(127, 0, 0, 9), port.number())).is_err(),
                "and closed again"
            );
        }
        assert_eq!(proxy.metric("ccpgate_reloads_total{result=\"error\"}"), 0.0);
    }
}

#[test]
fn a_move_that_fails_in_part_changes_nothing() {
    let upstream = Upstream::echo();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, busy) = (Port::keep(), taken.local_addr().unwrap());
    let with = |listen: &str| format!("[proxy]\nlisten = {listen}\n{}", rules(&upstream));
    let proxy = Proxy::start(&with(&format!("[\"127.0.0.1:{port}\"]")));
    let waiting = Raw::connect(proxy.http());
    proxy.reload(&with(&format!("[\"0.0.0.0:{port}\", \"{busy}\"]")), "error");
    let line = proxy.log_line("the address", |line| line["event"] == "reload_failed");
    let error = line["error"].as_str().unwrap();
    assert!(error.contains(&busy.to_string()) && error.contains("another process"), "{error}");
    for mut client in [waiting, Raw::connect(proxy.http())] {
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(b"as before");
    }
    assert!(
        TcpStream::connect((Ipv4Addr::new(127, 0, 0, 9), port.number())).is_err(),
        "nothing is left of it"
    );
    // An address that a listener which stays was given by the kernel.
    let admin = proxy.admin();
    proxy.reload(&with(&format!("[\"127.0.0.1:{port}\", \"0.0.0.0:{}\"]", admin.port())), "error");
    proxy.log_line("who holds it", |line| {
        line["event"] == "reload_failed"
            && line["error"]
                .as_str()
                .unwrap()
                .contains(&format!("held by this process, which listens on {admin} for admin.listen"))
    });
}

#[test]
fn addresses_are_exchanged_between_listeners() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let kept = [Port::keep(), Port::keep(), Port::keep()];
    let [one, two, three] = kept.each_ref().map(Port::number);
    let with = |http: u16, https: u16, admin: u16| {
        let tls = secured.section("").replace("127.0.0.1:0", &format!("127.0.0.1:{https}"));
        format!(
            "[proxy]\nlisten = [\"127.0.0.1:{http}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{tls}\n{}",
            rules(&upstream)
        )
    };
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let proxy = Proxy::start(&with(one, two, three));
    let mut live = proxy.tunnel(TARGET);
    let agent = secured.agent();
    for (http, https, admin) in [(two, one, three), (three, one, two), (one, two, three)] {
        proxy.rewrite_config(&with(http, https, admin));
        proxy.signal(Signal::HUP);
        eventually("the exchange", || {
            let mut client = Raw::connect(local(admin));
            client.send("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            client.read_to_end().ok().filter(|got| got.ends_with(b"\r\n\r\nready\n"))
        });
        eventually("the plain listener", || {
            let mut client = Raw::connect(local(http));
            client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n"));
            client.try_read_exactly(12).filter(|got| got == b"HTTP/1.1 200")
        });
        eventually("the TLS listener", || {
            let mut client = agent.try_connect(local(https)).ok()?;
            (client.connect_target(TARGET).status == 200).then_some(())
        });
        live.expect_echo(b"a live tunnel goes on");
    }
    assert!(!proxy.log_so_far().iter().any(|line| line["event"] == "reload_failed"));
}

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

#[test]
fn a_start_that_fails_is_an_object_where_the_log_is_json() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("proxy.listen=[\"{}\"]", taken.local_addr().unwrap());
    let json = [("CCPGATE_LOG__FORMAT", "json")];
    let flag: &[&str] = &["serve", "--set", "log.format=json"];
    let admin = ["--set", "admin.listen=127.0.0.1:0"];
    let in_file = "[log]\nformat = \"json\"\n";
    for (file, arguments, variables, said) in [
        (None, [&["serve", "--set", &busy], &admin[..]].concat(), &json[..], "in use"),
        (None, [flag, &["--set", &busy], &admin[..]].concat(), &[], "in use"),
        (Some(in_file.to_owned()), [&["serve", "--set", &busy], &admin[..]].concat(), &[], "in use"),
        (
            Some(format!("{in_file}[limits]\nconnectoins = 1\nrequest_header = \"x\"\n")),
            vec!["serve"],
            &[],
            "connectoins",
        ),
        (
            Some(format!("{in_file}[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"no.pem\"\n")),
            vec!["serve"],
            &[],
            "no.pem",
        ),
        (Some(format!("{in_file}[limits]\nconnections =\n")), vec!["serve"], &[], "TOML"),
        (Some("[limits\n".to_owned()), vec!["serve"], &json[..], "TOML"),
        (None, vec!["serve", "-c", "missing.toml"], &json[..], "missing.toml"),
        (None, vec!["serve", "--frobnicate"], &json[..], "--frobnicate"),
    ] {
        let ran = ccpgate_with(file.as_deref(), &arguments, variables).expect(2);
        let lines: Vec<Value> = ran
            .stderr
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {arguments:?}: {}", ran.stderr))
            })
            .collect();
        let last = lines.last().unwrap_or_else(|| panic!("no line: {arguments:?}"));
        assert_eq!((&last["event"], &last["level"]), (&"start_failed".into(), &"error".into()), "{last}");
        assert!(last["error"].as_str().unwrap().contains(said) && last["time"].is_string(), "{last}");
    }
    // For people it stays a plain line, and other commands never speak JSON there.
    let ran = ccpgate(Some("[limits]\nconnectoins = 1\n"), &["serve"]).expect(2);
    assert!(ran.stderr.starts_with("ccpgate: "), "{}", ran.stderr);
    let ran = ccpgate_with(Some("[limits]\nconnectoins = 1\n"), &["config", "check"], &json).expect(2);
    assert!(ran.stderr.starts_with("ccpgate: "), "{}", ran.stderr);
}

fn printing(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_ccpgate"))
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    (ran.status.code().unwrap_or(-1), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_leaves_is_none() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for arguments in [
        &["pac"][..],
        &["allowlist", "--json"],
        &["allowlist"],
        &["explain", "acme.my.connect.aws"],
        &["config", "show"],
        &["config", "schema"],
        &["config", "check"],
        &["version"],
        &["--version"],
        &["--help"],
    ] {
        let (code, said) = printing(arguments, full(), Stdio::piped());
        assert!(code == 2 && said.contains("No space left"), "{arguments:?}: {code}, {said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, said) = printing(arguments, writer, Stdio::piped());
        assert!(code == 0 && !said.contains("can't write"), "{arguments:?}: {code}, {said}");
        // Warnings that nobody can take don't spoil the answer.
        assert_eq!(printing(arguments, Stdio::null(), full()).0, 0, "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(printing(&["explain", "evil.example"], writer, Stdio::null()).0, 1, "the verdict stands");
}

#[test]
fn the_first_lines_are_true() {
    let upstream = Upstream::echo();
    let port = Port::keep();
    let proxy = Proxy::start(&format!(
        "[proxy]\nlisten = [\"0.0.0.0:{port}\"]\n[policy]\nmode = \"report\"\n{}",
        rules(&upstream)
    ));
    let starting = proxy.log_line("starting", |line| line["event"] == "starting");
    let said = starting["message"].as_str().unwrap();
    assert!(said.contains("report mode") && !said.contains("denies"), "{said}");
    let pac = proxy.log_line("ready", |line| line["event"] == "ready")["pac"].as_str().unwrap().to_owned();
    let address: SocketAddr = pac
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_suffix("/proxy.pac"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(!address.ip().is_unspecified() && address.port() == port.number(), "{pac}");
    // Reached, whether or not that address is one of proxy.clients.
    assert!(matches!(at(address, "GET", "/proxy.pac").status, 200 | 403));

    let advertised = Proxy::start(&format!(
        "[proxy]\nlisten = [\"[::]:0\"]\nadvertise = [\"https://p1.corp:3129\", \"p1.corp:3128\"]\n{}",
        rules(&upstream)
    ));
    let ready = advertised.log_line("ready", |line| line["event"] == "ready");
    assert_eq!(ready["pac"], "http://p1.corp:3128/proxy.pac");
    let line = advertised.log_line("IPv6 alone", |line| line["event"] == "ipv6_only");
    assert!(line["message"].as_str().unwrap().contains("0.0.0.0"), "{line}");
    let port = Port::keep();
    let both = Proxy::start(&format!(
        "[proxy]\nlisten = [\"[::]:{port}\", \"0.0.0.0:{port}\"]\n{}",
        rules(&upstream)
    ));
    both.log_line("ready", |line| line["event"] == "ready");
    assert!(!both.log_so_far().iter().any(|line| line["event"] == "ipv6_only"));
}

#[test]
fn rules_for_udp_have_no_series_of_tunnels() {
    let proxy = Proxy::start("");
    let metrics = proxy.metrics();
    for name in ["ccpgate_tunnels_active", "ccpgate_tunnels_total", "ccpgate_tunnel_bytes_total"] {
        let media = metrics.family(name).find(|(series, _)| series.contains("turnnlb"));
        assert_eq!(media, None);
        assert!(metrics.family(name).count() > 5);
    }
}
