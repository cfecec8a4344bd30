//! `serve --takeover`: a new process takes over the listening sockets of the old one, which keeps its
//! tunnels. Nobody is refused, and to whoever asks they are one proxy.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Port, Proxy, Ran, Raw, Refusing, Secured, Upstream, ccpgate, ccpgate_with, clean, eventually, fleet,
};

const TARGET: &str = "good.example:443";
const ACTIVE: &str = "ccpgate_tunnels_active{domain=\"good.example\",category=\"extra\"}";
const ENDED: &str = "ccpgate_tunnels_total{domain=\"good.example\",category=\"extra\",outcome=\"ok\"}";
const SENT: &str =
    "ccpgate_tunnel_bytes_total{domain=\"good.example\",category=\"extra\",direction=\"sent\"}";

fn config(upstream: &Upstream, more: &str) -> String {
    format!("[[allow]]\npattern = \"good.example\"\n{more}\n{}", upstream.for_targets(&[TARGET]))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn json(proxy: &Proxy, path: &str) -> Value {
    proxy.get(path).json()
}

/// Waits until a process has let another one take over, and drains.
#[track_caller]
fn expect_handed_over(proxy: &Proxy) {
    proxy.log_line("the hand-over", |line| line["event"] == "handed_over");
    proxy.log_line("the drain", |line| line["event"] == "draining");
}

/// What a take-over says that can't be.
#[track_caller]
fn refused(folder: &Path, toml: &str) -> Ran {
    let variables = [("RUNTIME_DIRECTORY", folder.to_str().unwrap())];
    ccpgate_with(Some(toml), &["serve", "--takeover"], &variables).expect(2)
}

#[test]
fn two_processes_are_one_proxy_until_the_old_one_is_empty() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let toml = config(&upstream, "");
    let mut old = Proxy::start_in(folder.path(), &toml, false);
    let (mut first, mut second) = (old.tunnel(TARGET), old.tunnel(TARGET));
    first.expect_echo(b"123");
    second.expect_echo(b"45");
    second.finish();
    second.expect_closed();
    old.metric_eventually(ENDED, 1.0);
    assert_eq!(old.connect().connect_target("evil.example:443").status, 403);
    // Also what waits for its first request when the process changes is served.
    let mut waiting = old.connect();
    waiting.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(waiting.read_answer().status, 200);

    let new = Proxy::start_in(folder.path(), &toml, true);
    assert_eq!((new.http(), new.admin()), (old.http(), old.admin()));
    new.tunnel(TARGET).expect_echo(b"6789");
    assert_eq!(new.get("/readyz").status, 200);
    expect_handed_over(&old);
    let generations = json(&new, "/api/status")["generations"].clone();
    let shown = |key: &str| -> Vec<Value> {
        generations.as_array().unwrap().iter().map(|generation| generation[key].clone()).collect()
    };
    assert_eq!(shown("id"), ["2", "1"], "{generations}");
    assert_eq!(shown("draining"), [false, true]);
    assert_eq!(shown("pid")[1], u64::from(old.id().as_raw_nonzero().get().unsigned_abs()));
    assert!(shown("rss_bytes").iter().all(Value::is_u64), "{generations}");
    assert!(shown("predicted_end")[0].is_null() && shown("predicted_end")[1].is_string(), "{generations}");

    let mut third = new.tunnel(TARGET);
    third.expect_echo(b"x");
    new.metric_eventually(ENDED, 2.0);
    new.metric_eventually(ACTIVE, 2.0);
    assert_eq!(new.metric(SENT), 10.0);
    assert_eq!(new.metric("ccpgate_denied_total{reason=\"no_rule\"}"), 1.0);
    assert_eq!(new.metric("ccpgate_draining"), 0.0);
    let rules = json(&new, "/api/status")["rules"].clone();
    let rule =
        rules.as_array().unwrap().iter().find(|rule| rule["domain"] == "good.example").unwrap().clone();
    assert_eq!((&rule["active"], &rule["total"], &rule["sent"]), (&2.into(), &4.into(), &10.into()));
    let tunnels = json(&new, "/api/tunnels");
    let of = |list: &str| -> Vec<String> {
        let all = tunnels[list].as_array().unwrap().iter();
        all.map(|tunnel| tunnel["generation"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((of("live"), of("ended")), (vec!["2".into(), "1".into()], vec!["2".into(), "1".into()]));
    assert_eq!(json(&new, "/api/denied")[0]["target"], "evil.example:443");
    // A connection that was kept alive goes on, too.
    waiting.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n"));
    assert_eq!(waiting.read_answer_to_connect().status, 200);
    waiting.expect_echo(b"kept");
    waiting.finish();
    waiting.expect_closed();

    first.expect_echo(b"unharmed");
    first.finish();
    first.expect_closed();
    assert_eq!(old.wait_exit().code(), Some(0));
    // What it counted stays.
    assert_eq!((new.metric(ENDED), new.metric(ACTIVE), new.metric(SENT)), (4.0, 1.0, 22.0));
    assert_eq!(json(&new, "/api/status")["generations"].as_array().unwrap().len(), 1);
    assert_eq!(json(&new, "/api/tunnels")["ended"].as_array().unwrap().len(), 4);
    assert_eq!(json(&new, "/api/denied")[0]["count"], 1);
    assert_eq!(json(&new, "/api/tunnels?client=10.9.9.9")["ended"].as_array().unwrap().len(), 0);
    third.expect_echo(b"and on");
}

#[test]
fn the_sentence_counts_the_clients_of_all_processes_and_remarks_on_the_one_that_serves() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let toml = config(&upstream, "");
    let old = Proxy::start_in(folder.path(), &toml, false);
    let mut live = old.tunnel(TARGET);
    live.expect_echo(b"x");
    // What the old process was given is no matter once another one serves by a file of its own.
    old.reload("[proxy]\nnaem = 1\n", "error");
    let summary = |proxy: &Proxy| json(proxy, "/api/status")["summary"].as_str().unwrap().to_owned();
    assert!(summary(&old).contains("was refused"), "{}", summary(&old));
    let new = Proxy::start_in(folder.path(), &toml, true);
    expect_handed_over(&old);
    eventually("the old process in the status", || {
        (json(&new, "/api/status")["generations"][1]["draining"] == true).then_some(())
    });
    assert_eq!(summary(&new), "All is well: 1 active client, and nothing fails.");
    new.reload("[proxy]\nnaem = 1\n", "error");
    let said = summary(&new);
    assert!(said.contains("was refused") && said.ends_with("1 active client, and nothing fails."), "{said}");
    live.expect_echo(b"y");
}

/// An answer of several processes is put together of many small parts, by whichever thread the question meets, and
/// each thread has memory of its own.
#[test]
fn large_answers_of_two_processes_leave_no_memory_behind() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let gone = "\"gone.example:443\" = \"127.0.0.1:1\"\n";
    let toml = config(&upstream, "[[allow]]\npattern = \"gone.example\"\n") + gone;
    let old = Proxy::start_in(folder.path(), &toml, false);
    let mut live = old.tunnel(TARGET);
    for _ in 0..1500 {
        assert_eq!(old.connect().connect_target("gone.example:443").status, 502);
    }
    let new = Proxy::start_in(folder.path(), &toml, true);
    expect_handed_over(&old);
    let ask = || {
        let tunnels = json(&new, "/api/tunnels?limit=10000");
        assert!(tunnels["ended"].as_array().unwrap().len() >= 1500);
    };
    ask();
    let before = new.resident();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..4).for_each(|_| ask()));
        }
    });
    ask();
    let behind = new.resident();
    assert!(behind < before + 16 * 1024, "{before} KiB, then {behind} KiB");
    live.expect_echo(b"x");
}

/// A report of a desk check in which one host answered.
fn report(proxy: &Proxy) {
    let body = r#"{"took_ms":10,"hosts":[{"host":"acme.my.connect.aws","result":"answered","ms":8}]}"#;
    let head = format!("Host: x\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    assert_eq!(proxy.ask(format!("POST /check/report HTTP/1.1\r\n{head}\r\n\r\n{body}")).status, 200);
}

/// The page came from the old process before the upgrade, its tunnels went to the new one, and its report takes the
/// connection that was kept alive.
#[test]
fn a_desk_that_checks_across_an_upgrade_is_not_told_that_it_goes_past_the_proxy() {
    const HOST: &str = "acme.my.connect.aws";
    let (upstream, folder) = (Upstream::echo(), folder());
    let target = format!("{HOST}:443");
    let toml = format!("[connect]\nmedia = false\n{}", upstream.for_targets(&[&target]));
    let old = Proxy::start_in(folder.path(), &toml, false);
    let desk = "127.1.2.3".parse().unwrap();
    // A report closes its connection.
    let mut kept: Vec<Raw> = (0..3).map(|_| Raw::connect_from(desk, old.http())).collect();
    for one in &mut kept {
        one.send("GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        assert_eq!(one.read_answer().status, 200);
    }
    let mut reports = || {
        let body = format!("{{\"took_ms\":500,\"hosts\":[{{\"host\":\"{HOST}\",\"result\":\"answered\"}}]}}");
        let head = format!("Host: x\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        let mut one = kept.pop().unwrap();
        one.send(format!("POST /check/report HTTP/1.1\r\n{head}\r\n\r\n{body}"));
        one.read_answer().json::<Value>()["verdict"].clone()
    };
    // Before, the old process alone has tunnels, and knows.
    assert_eq!(reports(), "not_through_proxy");
    let new = Proxy::start_in(folder.path(), &toml, true);
    let mut tunnel = Raw::connect_from(desk, new.http());
    assert_eq!(tunnel.connect_target(&target).status, 200);
    assert_eq!(reports(), "ok", "while the successor proves itself");
    expect_handed_over(&old);
    assert_eq!(reports(), "ok", "while the old one drains");
}

#[test]
fn lists_of_failures_and_desks_and_the_past_are_those_of_all_processes() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let toml = config(&upstream, "");
    let mut old = Proxy::start_in(folder.path(), &toml, false);
    let mut live = old.tunnel(TARGET);
    let mut ended = old.tunnel(TARGET);
    ended.finish();
    ended.expect_closed();
    old.metric_eventually(ENDED, 1.0);
    for target in ["evil.example:443", "evil.example:443", "late.example:443"] {
        assert_eq!(old.connect().connect_target(target).status, 403);
    }
    report(&old);

    let allowed = format!("{toml}[[allow]]\npattern = \"late.example\"\n");
    let mut new = Proxy::start_in(folder.path(), &allowed, true);
    expect_handed_over(&old);
    assert_eq!(new.connect().connect_target("evil.example:443").status, 403);
    report(&new);
    let expect = |new: &Proxy, when: &str| {
        let failures = json(new, "/api/failures");
        let of = |target: &str| {
            let all = failures["failures"].as_array().unwrap().iter();
            all.filter(|row| row["target"] == target).cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            (&of("evil.example:443")[0]["count"], of("evil.example:443").len()),
            (&3.into(), 1),
            "{when}"
        );
        // By the rules that are in force, whoever denied it.
        assert_eq!(of("late.example:443")[0]["allowed_now"], true, "{when}: {failures}");
        assert_eq!(failures["reasons"], serde_json::json!(["no_rule"]), "{when}");
        assert_eq!(json(new, "/api/failures?limit=1")["left_out"], 1, "{when}");
        for (query, many) in
            [("host=late", 1), ("client=127.0.0.1", 2), ("client=10.9.9.9", 0), ("reason=port", 0)]
        {
            let found = json(new, &format!("/api/failures?{query}"));
            assert_eq!(found["failures"].as_array().unwrap().len(), many, "{when}, {query}");
        }
        let denied = json(new, "/api/denied");
        let late = denied.as_array().unwrap().iter().find(|row| row["target"] == "late.example:443").unwrap();
        assert_eq!(late["allowed_now"], true, "{when}");

        let desks = json(new, "/api/desks");
        let codes: Vec<&str> =
            desks.as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap()).collect();
        assert_eq!(codes.len(), 2, "{when}: {desks}");
        for code in codes {
            assert_eq!(json(new, &format!("/api/desks?code={code}")).as_array().unwrap().len(), 1, "{when}");
        }
        assert_eq!(json(new, "/api/desks?limit=1").as_array().unwrap().len(), 1, "{when}");

        let history = json(new, "/api/history?minutes=60&domain=good.example");
        let ended: i64 =
            history["categories"]["extra"].as_array().unwrap().iter().map(|p| p[1].as_i64().unwrap()).sum();
        let kinds = history["changes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|change| change["kind"] == "started")
            .count();
        (ended, kinds)
    };
    assert_eq!(expect(&new, "both live"), (1, 2));
    live.finish();
    live.expect_closed();
    assert_eq!(old.wait_exit().code(), Some(0));
    assert_eq!(expect(&new, "the old one has ended"), (2, 2));

    // What that one knew goes on to the next, too.
    let mut held = new.tunnel(TARGET);
    let third = Proxy::start_in(folder.path(), &allowed, true);
    expect_handed_over(&new);
    assert_eq!(expect(&third, "the second one drains"), (2, 3));
    held.finish();
    held.expect_closed();
    assert_eq!(new.wait_exit().code(), Some(0));
    assert_eq!(expect(&third, "both have ended"), (3, 3));
    assert_eq!(json(&third, "/api/tunnels")["ended"].as_array().unwrap().len(), 3);
}

#[test]
fn a_successor_that_anonymises_shows_no_address_that_an_older_process_tells() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let refusing = Refusing::new();
    let dead = format!("\"dead.example:443\" = \"{}\"\n", refusing.address());
    let toml = config(&upstream, "[[allow]]\npattern = \"dead.example\"\n") + &dead;
    let old = Proxy::start_in(folder.path(), &toml, false);
    old.reload(&format!("{toml}[proxy]\nclients = [\"127.0.0.0/8\", \"10.20.30.40\"]\n"), "ok");
    let mut live = old.tunnel(TARGET);
    assert_eq!(old.connect().connect_target("evil.example:443").status, 403);
    // A desk that fails alone.
    for _ in 0..60 {
        old.connect().connect_target("dead.example:443");
    }
    eventually("a finding", || {
        (json(&old, "/api/status")["findings"] != Value::from(vec![0; 0])).then_some(())
    });
    report(&old);
    let new = Proxy::start_in(folder.path(), &format!("{toml}[ledger]\nanonymise = true\n"), true);
    expect_handed_over(&old);
    live.expect_echo(b"x");
    for (path, list) in [("/api/tunnels", "/live"), ("/api/failures", "/failures"), ("/api/desks", "")] {
        let all = json(&new, path);
        assert_eq!(all.pointer(list).unwrap()[0]["client"], "127.0.0.0", "{path}: {all}");
        assert!(!all.to_string().contains("127.0.0.1\""), "{path}: {all}");
    }
    let status = json(&new, "/api/status");
    assert_eq!(status["findings"][0]["networks"], Value::from(vec!["127.0.0.0/24"]), "{status}");
    for (path, told) in [("/api/status", status), ("/api/history", json(&new, "/api/history"))] {
        let text = told.to_string();
        assert!(text.contains("10.20.30.0/24") && !text.contains("10.20.30.40"), "{path}: {text}");
        assert!(!text.contains("127.0.0.1)") && !text.contains("in 127.0.0.1\""), "{path}: {text}");
    }
}

#[test]
fn a_successor_that_can_not_start_changes_nothing() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let old = Proxy::start_in(folder.path(), &config(&upstream, ""), false);
    let mut live = old.tunnel(TARGET);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let listen = format!("[proxy]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"{taken}\"\n");
    for (toml, why) in [
        ("[proxy]\nnaem = 1\n".to_owned(), "naem"),
        ("[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"missing.pem\"\n".to_owned(), "missing.pem"),
        (listen, "another process has it"),
        // Another proxy's file, such as the default.
        ("[proxy]\nlisten = [\"127.0.0.1:1\"]\n".to_owned(), "is it the right file?"),
    ] {
        let said = refused(folder.path(), &toml).stderr;
        assert!(said.contains(why), "{said}");
        old.tunnel(TARGET).expect_echo(b"as before");
        live.expect_echo(b"unharmed");
    }
    assert_eq!(json(&old, "/api/status")["generations"].as_array().unwrap().len(), 1);
    // And the next one may.
    let new = Proxy::start_in(folder.path(), &config(&upstream, ""), true);
    expect_handed_over(&old);
    new.tunnel(TARGET).expect_echo(b"new");
}

/// A successor whose log nobody waits for.
fn spawn(folder: &Path, toml: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    clean(&mut command);
    command.args(["serve", "--takeover", "-c"]).arg(toml).env("RUNTIME_DIRECTORY", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn an_old_process_that_hangs_holds_up_nobody_but_who_asks_for_it() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let toml = config(&upstream, "");
    let old = Proxy::start_in(folder.path(), &toml, false);
    let mut live = old.tunnel(TARGET);
    live.expect_echo(b"x");
    let new = Proxy::start_in(folder.path(), &toml, true);
    expect_handed_over(&old);
    old.signal(Signal::STOP);
    // Pages that are open: what they show takes until the old one is given up, 2 s each time.
    let mut pages: Vec<Raw> = (0..4).map(|_| Raw::connect(new.admin())).collect();
    for page in &mut pages {
        page.send("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    }
    for page in &mut pages {
        assert_eq!(page.read_head().status, 200);
    }
    // The thread that answers a probe is the one that resolves names.
    let until = Instant::now() + Duration::from_secs(8);
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let asked = Instant::now();
        assert_eq!(new.get("/healthz").status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
    old.signal(Signal::CONT);
    live.expect_echo(b"unharmed");
}

#[test]
fn a_successor_that_is_killed_at_any_moment_leaves_the_old_one_serving() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let old = Proxy::start_in(folder.path(), &config(&upstream, ""), false);
    let mut live = old.tunnel(TARGET);
    let before = old.metric(SENT);
    for (at, moment) in ["handing_over", "handing_over", "takeover_failed"].into_iter().enumerate() {
        let mut next = spawn(folder.path(), &old.config_file());
        if moment == "handing_over" {
            old.log_line("the attempt", |line| {
                line["event"] == "handing_over" && line["pid"] == u64::from(next.id())
            });
            std::thread::sleep(Duration::from_millis(40) * at as u32);
        } else {
            // It accepts already.
            eventually("the successor", || {
                (json(&old, "/api/status")["generations"][0]["pid"] == u64::from(next.id())).then_some(())
            });
        }
        next.kill().unwrap();
        next.wait().unwrap();
        old.log_line("the end of the attempt", |line| {
            line["event"] == "takeover_failed" && line["pid"] == u64::from(next.id())
        });
        old.tunnel(TARGET).expect_echo(b"as before");
        live.expect_echo(b"unharmed");
        assert_eq!(json(&old, "/api/status")["generations"][0]["id"], "1");
    }
    assert!(old.metric(SENT) > before);
    let new = Proxy::start_in(folder.path(), &config(&upstream, ""), true);
    new.tunnel(TARGET).expect_echo(b"new");
    expect_handed_over(&old);
}

#[test]
fn three_processes_may_live_and_a_fourth_is_refused() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let toml = config(&upstream, "");
    let mut first = Proxy::start_in(folder.path(), &toml, false);
    let mut of_first = first.tunnel(TARGET);
    let second = Proxy::start_in(folder.path(), &toml, true);
    let mut of_second = second.tunnel(TARGET);
    expect_handed_over(&first);
    let third = Proxy::start_in(folder.path(), &toml, true);
    let mut of_third = third.tunnel(TARGET);
    expect_handed_over(&second);
    third.metric_eventually(ACTIVE, 3.0);

    let said = refused(folder.path(), &toml).stderr;
    let pids: Vec<String> = [&first, &second, &third].map(|p| p.id().as_raw_nonzero().to_string()).into();
    assert!(said.contains("3 processes live already") && pids.iter().all(|pid| said.contains(pid)), "{said}");
    for tunnel in [&mut of_first, &mut of_second, &mut of_third] {
        tunnel.expect_echo(b"unharmed");
    }
    third.tunnel(TARGET).expect_echo(b"it goes on");
    of_first.finish();
    of_first.expect_closed();
    first.wait_exit();
    third.metric_eventually(ENDED, 2.0);
    let fourth = Proxy::start_in(folder.path(), &toml, true);
    fourth.tunnel(TARGET).expect_echo(b"now it may");
    fourth.metric_eventually(ENDED, 3.0);
    expect_handed_over(&third);
    let ids: Vec<Value> = json(&fourth, "/api/status")["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|generation| generation["id"].clone())
        .collect();
    assert_eq!(ids, ["4", "3", "2"]);
    // One that is killed loses its tunnels, not what it had counted.
    fourth.metric_eventually(ACTIVE, 2.0);
    second.signal(Signal::KILL);
    fourth.metric_eventually(ACTIVE, 1.0);
    assert!(fourth.metric(SENT) >= 3.0 * 8.0);
    of_third.expect_echo(b"unharmed");
}

#[test]
fn signals_end_what_they_should() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let toml = config(&upstream, "");
    let mut old = Proxy::start_in(folder.path(), &toml, false);
    let mut live = old.tunnel(TARGET);
    let new = Proxy::start_in(folder.path(), &toml, true);
    // As `systemctl stop` of the old one, which may come at once.
    old.signal(Signal::TERM);
    expect_handed_over(&old);
    old.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    live.expect_echo(b"the first signal after a hand-over cuts nothing");
    new.tunnel(TARGET).expect_echo(b"new");
    old.signal(Signal::TERM);
    live.expect_gone();
    old.wait_exit();
    new.tunnel(TARGET).expect_echo(b"new");
}

#[test]
fn a_changed_configuration_takes_effect_with_the_successor() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let old = Proxy::start_in(folder.path(), &config(&upstream, ""), false);
    let mut live = old.tunnel(TARGET);
    let port = old.http().port();
    // The same port on all addresses, another one besides, another place for the admin listener.
    let kept = Port::keep();
    let admin = SocketAddr::from(([127, 0, 0, 1], kept.number()));
    let more =
        format!("[proxy]\nlisten = [\"0.0.0.0:{port}\", \"127.0.0.1:0\"]\n[admin]\nlisten = \"{admin}\"\n");
    let wide = config(&upstream, &more);
    let new = Proxy::start_in(folder.path(), &wide, true);
    assert_eq!(new.admin(), admin);
    expect_handed_over(&old);
    for at in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))] {
        let mut client = Raw::connect_from([127, 0, 0, 1].into(), at);
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(b"x");
    }
    live.expect_echo(b"unharmed");
    eventually("the old admin listener's end", || TcpStream::connect(old.admin()).err().map(drop));
    // A reload finds the newest one, wherever the file says that it is.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = taken.local_addr().unwrap().to_string();
    new.rewrite_config(&config(&upstream, &more.replace(&admin.to_string(), &elsewhere)));
    let variables = [("RUNTIME_DIRECTORY", folder.path().to_str().unwrap())];
    let file = new.config_file();
    let said = ccpgate_with(None, &["reload", "-c", file.to_str().unwrap()], &variables).stdout;
    assert!(said.contains("refused") && said.contains(&elsewhere), "{said}");
    new.rewrite_config(&wide);
    ccpgate_with(None, &["reload", "-c", file.to_str().unwrap()], &variables).expect(0);
    assert_eq!(new.metric("ccpgate_reloads_total{result=\"ok\"}"), 1.0);
}

#[test]
fn without_a_process_before_it_starts_as_usual_and_without_a_folder_it_says_so() {
    let (upstream, folder) = (Upstream::echo(), folder());
    let mut only = Proxy::start_in(folder.path(), &config(&upstream, ""), true);
    only.tunnel(TARGET).expect_echo(b"x");
    assert_eq!(json(&only, "/api/status")["generations"][0]["id"], "1");
    only.signal(Signal::KILL);
    only.wait_exit();
    // What a killed one left behind is in nobody's way.
    let next = Proxy::start_in(folder.path(), &config(&upstream, ""), true);
    next.tunnel(TARGET).expect_echo(b"x");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let said = ccpgate(Some(&config(&upstream, "")), &["serve", "--takeover"]).expect(2).stderr;
    assert!(said.contains("RUNTIME_DIRECTORY"), "{said}");
    // One that isn't there, or is none: the next process would find nobody.
    let file = next.config_file();
    for (wrong, why) in [(folder.path().join("none"), "No such file"), (file, "Not a directory")] {
        let said = refused(&wrong, &config(&upstream, "")).stderr;
        let told = said.contains(why) && said.contains("install -d -m 0700");
        assert!(told && said.contains(wrong.to_str().unwrap()), "{said}");
    }
}

#[test]
fn sessions_resume_with_the_successor() {
    let (upstream, folder) = (Upstream::echo(), folder());
    for version in ["TLSv1_3", "TLSv1_2"] {
        let secured = Secured::new();
        let toml = secured.policy(&upstream, "", "");
        let old = Proxy::start_in(folder.path(), &toml, false);
        let mut new = None;
        let doors = [old.https().to_string()];
        let (all, resumed) = fleet(&secured, &doors, (3, 4, 4), version, || {
            new = Some(Proxy::start_in(folder.path(), &toml, true));
        });
        assert_eq!((all, resumed), (48, 48), "{version}");
        expect_handed_over(&old);
    }
}
