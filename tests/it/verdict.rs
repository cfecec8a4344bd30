//! `ccpgate reload` says what the running proxy made of a file, and `config check --against-live` what
//! agents would lack.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Proxy, Ran, Raw, Secured, Upstream, ccpgate};

const SUCCESSFUL: &str = "ccpgate_config_last_reload_successful";

fn policy(names: &[&str], upstream: &Upstream) -> String {
    let rules: String = names.iter().map(|name| format!("[[allow]]\npattern = \"{name}\"\n")).collect();
    format!("{rules}{}", upstream.for_targets(&["old.example:443", "new.example:443"]))
}

/// Runs a command against this proxy.
fn run(proxy: &Proxy, arguments: &[&str]) -> Ran {
    let admin = format!("http://{}", proxy.admin());
    ccpgate(None, &[arguments, &["--admin", &admin]].concat())
}

#[test]
fn the_verdict_is_waited_for() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example"], &upstream));
    proxy.rewrite_config(&policy(&["old.example", "new.example"], &upstream));
    let said = run(&proxy, &["reload"]).expect(0).stdout;
    assert!(said.contains("reloaded") && said.contains("[[allow]] with pattern = \"new.example\""), "{said}");
    // It is in force by then.
    proxy.tunnel("new.example:443").expect_echo(b"x");
    let same = run(&proxy, &["reload", "--json"]).expect(0).json();
    assert_eq!((&same["reloaded"], &same["changed"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(proxy.metric("ccpgate_reloads_total{result=\"ok\"}"), 2.0);
}

#[test]
fn what_needs_a_restart_is_named_until_then() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let file = |more: &str| format!("{}{}{more}", policy(&["old.example"], &upstream), secured.section(""));
    let proxy = Proxy::start(&file(""));
    proxy.rewrite_config(&file("[log]\nformat = \"text\"\n[shift]\nsessions = 7\n"));
    let later = "\nnot in force before a restart: log.format, shift.sessions";
    let said = run(&proxy, &["reload"]).expect(0).stdout;
    assert!(said.contains("\n  log.format: ") && said.contains(later), "{said}");
    proxy.log_line("what needs a restart", |line| {
        line["event"] == "needs_restart" && line.to_string().contains("log.format, shift.sessions")
    });
    // Nothing differs from the file before, and the process runs on the old values all the same.
    let said = run(&proxy, &["reload"]).expect(0).stdout;
    assert!(said.contains("nothing differs") && said.contains(later), "{said}");
    let keys = |code| run(&proxy, &["reload", "--json"]).expect(code).json()["needs_restart"].clone();
    assert_eq!(keys(0), serde_json::json!(["log.format", "shift.sessions"]));
    proxy.rewrite_config_raw("[proxy]\nnaem = 1\n");
    assert_eq!(keys(1), serde_json::json!(["log.format", "shift.sessions"]), "of the running one");
    let said = run(&proxy, &["reload"]).expect(1).stdout;
    assert!(!said.contains("restart"), "{said}");
    proxy.rewrite_config(&file(""));
    let said = run(&proxy, &["reload"]).expect(0).stdout;
    assert!(said.contains("\n  log.format: ") && !said.contains("restart"), "{said}");
    assert_eq!(keys(0), serde_json::json!([]));
}

#[test]
fn the_first_tls_listener_brings_the_sessions_that_a_reload_gives_it() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let plain = policy(&["old.example"], &upstream);
    let proxy = Proxy::start(&plain);
    let keys = |toml: &str| {
        proxy.rewrite_config(toml);
        run(&proxy, &["reload", "--json"]).expect(0).json()["needs_restart"].clone()
    };
    let none = serde_json::json!([]);
    let file = |tls: &str, sessions: u32| format!("{plain}{tls}[shift]\nsessions = {sessions}\n");
    let tls = secured.section("");
    assert_eq!(keys(&file("", 6)), none, "there are no sessions yet");
    assert_eq!(keys(&file(&tls, 7)), none, "they begin with this");
    assert_eq!(keys(&file(&tls, 8)), serde_json::json!(["shift.sessions"]));
    assert_eq!(keys(&file(&tls, 7)), none);
}

#[test]
fn every_refusal_is_told_with_its_reason() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example"], &upstream));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[proxy]\nlisten = [\"{}\"]\n", taken.local_addr().unwrap());
    for (file, why) in [
        ("[proxy]\nnaem = 1\n", "naem"),
        ("[proxy\n", "ccpgate.toml"),
        ("", "the file is empty"),
        (&listen, "another process has it"),
        ("[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"missing.pem\"\n", "missing.pem"),
    ] {
        proxy.rewrite_config_raw(file);
        let ran = run(&proxy, &["reload"]).expect(1);
        assert!(ran.stdout.contains("refused") && ran.stdout.contains(why), "{file}: {}", ran.stdout);
        assert_eq!(run(&proxy, &["reload", "--yes"]).expect(1).stdout, ran.stdout, "no yes mends that");
        assert_eq!(proxy.metric(SUCCESSFUL), 0.0);
        // Whoever looks at the status is sent to the command that knows: `config check` binds no address.
        let status: Value = proxy.get("/api/status").json();
        let summary = status["summary"].as_str().unwrap();
        assert!(summary.contains("was refused") && summary.contains("`ccpgate reload`"), "{summary}");
        proxy.tunnel("old.example:443").expect_echo(b"as before");
    }
}

#[test]
fn the_admin_listener_is_found_in_a_broken_file() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example"], &upstream));
    let file = proxy.config_file();
    for broken in ["[proxy]\nnaem = 1\n", "[proxy]\nlisten = [\n"] {
        proxy.rewrite_config_raw(&format!("[admin]\nlisten = \"{}\"\n{broken}", proxy.admin()));
        let said = ccpgate(None, &["reload", "-c", file.to_str().unwrap()]).expect(1).stdout;
        assert!(said.contains("refused"), "{said}");
    }
}

#[test]
fn what_agents_use_is_not_taken_away_without_a_yes() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example", "new.example"], &upstream));
    let mut live = proxy.tunnel("old.example:443");
    live.expect_echo(b"live");
    // What ended is remembered as well.
    let mut gone = proxy.tunnel("new.example:443");
    gone.finish();
    gone.expect_closed();
    proxy.access_line("tunnel", "new.example:443");
    let file = proxy.config_file();
    let check =
        |proxy: &Proxy| run(proxy, &["config", "check", "--against-live", "-c", file.to_str().unwrap()]);
    assert!(check(&proxy).expect(0).stdout.contains("denies nothing that agents used since"));

    proxy.rewrite_config(&policy(&["old.example"], &upstream));
    let said = check(&proxy).expect(1).stdout;
    assert!(
        said.contains("1 target used by 1 agent since 20") && said.contains("new.example:443  no_rule"),
        "{said}"
    );
    let json = run(&proxy, &["config", "check", "--against-live", "--json", "-c", file.to_str().unwrap()]);
    let lost = &json.expect(1).json()["against_live"];
    assert_eq!((&lost["agents"], &lost["losses"][0]["reason"]), (&1.into(), &"no_rule".into()), "{lost}");
    assert_eq!(lost["losses"][0]["target"], "new.example:443");
    proxy.rewrite_config(&policy(&[], &upstream));
    let said = run(&proxy, &["reload"]).expect(1).stdout;
    assert!(said.contains("2 targets used by 1 agent since 20") && said.contains("--yes"), "{said}");
    assert_eq!(proxy.metric(SUCCESSFUL), 0.0);
    proxy.tunnel("old.example:443").expect_echo(b"as before");
    assert!(run(&proxy, &["reload", "--yes"]).expect(0).stdout.contains("[[allow]] without"));
    assert_eq!(proxy.metric(SUCCESSFUL), 1.0);
    assert_eq!(proxy.connect().connect_target("old.example:443").status, 403);
    live.expect_echo(b"live tunnels go on");
    // A signal asks nobody.
    proxy.reload(&policy(&["old.example", "new.example"], &upstream), "ok");
    proxy.tunnel("new.example:443").expect_echo(b"x");
    proxy.reload(&policy(&[], &upstream), "ok");
}

/// Clients are shown by their networks alone, and no network is one of the clients that `proxy.clients` has.
#[test]
fn with_anonymise_networks_are_judged_and_not_taken_for_agents() {
    let upstream = Upstream::echo();
    let file = |clients: &str| {
        format!(
            "{}[proxy]\nclients = [{clients}]\n[ledger]\nanonymise = true\n",
            policy(&["old.example"], &upstream)
        )
    };
    let proxy = Proxy::start(&file("\"127.0.0.128/25\", \"127.0.1.0/30\""));
    let tunnel = |client: &str| {
        let mut tunnel = Raw::connect_from(client.parse().unwrap(), proxy.http());
        assert_eq!(tunnel.connect_target("old.example:443").status, 200, "{client}");
        tunnel
    };
    let _live = ["127.0.0.130", "127.0.0.131", "127.0.1.2"].map(tunnel);
    let check = |clients: &str, code| {
        proxy.rewrite_config(&file(clients));
        let file = proxy.config_file();
        let arguments = ["config", "check", "--against-live", "-c", file.to_str().unwrap()];
        (run(&proxy, &arguments).expect(code), run(&proxy, &[&arguments[..], &["--json"]].concat()).json())
    };
    // The file in force takes nothing away, and says what it can't tell.
    let (said, json) = check("\"127.0.0.128/25\", \"127.0.1.0/30\"", 0);
    assert!(said.stdout.contains("denies nothing that agents used since"), "{}", said.stdout);
    assert!(said.stderr.contains("has a part of 2 networks that agents use"), "{}", said.stderr);
    let live = &json["against_live"];
    assert_eq!((&live["unjudged"], &live["agents"]), (&2.into(), &0.into()), "{live}");
    assert_eq!(live["clients_are_networks"], true);
    // A whole network that is shut out is one, however many agents are in it.
    let (said, json) = check("\"127.0.1.0/24\"", 1);
    let told =
        ["1 target used by agents of 1 network since 20", "old.example:443  client, agents of 1 network"];
    assert!(told.iter().all(|told| said.stdout.contains(told)), "{}", said.stdout);
    assert!(!said.stderr.contains("a part of"), "{}", said.stderr);
    assert_eq!((&json["against_live"]["unjudged"], &json["against_live"]["agents"]), (&0.into(), &1.into()));
    // What the networks don't tell, the proxy itself knows.
    let (said, _) = check("\"127.0.0.0/25\", \"127.0.1.0/24\"", 0);
    assert!(said.stderr.contains("a part of 1 network that"), "{}", said.stderr);
    let refused = run(&proxy, &["reload"]).expect(1).stdout;
    assert!(refused.contains("1 target used by 2 agents since 20"), "{refused}");
}

#[test]
fn what_never_worked_is_nothing_that_agents_use() {
    let upstream = Upstream::echo();
    let lost = format!(
        "[[allow]]\npattern = \"lost.example\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n{}",
        upstream.for_targets(&["x.example:443"])
    );
    let proxy = Proxy::start(&lost);
    assert!(matches!(proxy.connect().connect_target("lost.example:443").status, 502 | 504));
    proxy.rewrite_config(&policy(&[], &upstream));
    run(&proxy, &["reload"]).expect(0);
}

#[test]
fn only_this_machine_and_no_browser_may_ask() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example"], &upstream));
    let ask = |head: &str| {
        let mut client = Raw::connect(proxy.admin());
        client.send(format!("{head}Connection: close\r\n\r\n"));
        client.read_answer().status
    };
    let host = format!("Host: {}\r\n", proxy.admin());
    assert_eq!(ask(&format!("GET /api/reload HTTP/1.1\r\n{host}")), 405);
    assert_eq!(ask(&format!("POST /api/reload HTTP/1.1\r\n{host}Origin: https://evil.example\r\n")), 403);
    assert_eq!(ask("POST /api/reload HTTP/1.1\r\nHost: evil.example\r\n"), 403);
    assert_eq!(proxy.metric("ccpgate_reloads_total{result=\"ok\"}"), 0.0);
    assert_eq!(ask(&format!("POST /api/reload HTTP/1.1\r\n{host}")), 200);
}

#[test]
fn a_proxy_that_drains_takes_no_reload_and_no_proxy_is_said() {
    let upstream = Upstream::echo();
    let mut proxy = Proxy::start(&policy(&["old.example"], &upstream));
    let mut live = proxy.tunnel("old.example:443");
    proxy.signal(Signal::TERM);
    proxy.metric_eventually("ccpgate_draining", 1.0);
    let refused = run(&proxy, &["reload"]).expect(1).stdout;
    assert!(refused.contains("draining"), "{refused}");
    live.finish();
    live.expect_closed();
    proxy.wait_exit();
    let nobody = run(&proxy, &["reload"]).expect(2).stderr;
    assert!(nobody.contains(&proxy.admin().to_string()) && nobody.contains("nobody answers"), "{nobody}");
}
