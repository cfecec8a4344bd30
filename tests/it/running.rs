//! Commands that ask the running proxy: where nobody answers, where something else does, and what they
//! make of the answers.

use std::io::Write;
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Proxy, Ran, Raw, Refusing, Upstream, ccpgate, ccpgate_with, eventually, read_request};

/// Something that answers each request with these bytes, `more` without end behind them.
fn answers(bytes: Vec<u8>, more: &'static [u8]) -> Upstream {
    Upstream::serve(move |mut stream| {
        read_request(&mut stream);
        let mut written = stream.write_all(&bytes);
        while written.is_ok() && !more.is_empty() {
            written = stream.write_all(more);
        }
    })
}

fn answers_json(value: &Value) -> Upstream {
    let body = value.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    answers([head.as_bytes(), body.as_bytes()].concat(), b"")
}

fn ask(address: SocketAddr, arguments: &[&str]) -> Ran {
    ccpgate(None, &[arguments, &["--admin", &format!("http://{address}")]].concat())
}

const COMMANDS: [&[&str]; 5] =
    [&["status"], &["tunnels"], &["denied"], &["learned"], &["explain", "acme.my.connect.aws"]];

#[test]
fn where_nobody_answers_the_address_is_told() {
    let refusing = Refusing::new();
    let address = refusing.address().to_string();
    for arguments in COMMANDS {
        let ran = ccpgate(None, &[arguments, &["--admin", &format!("http://{address}")]].concat()).expect(2);
        assert!(ran.stderr.contains(&address) && ran.stderr.contains("nobody answers"), "{}", ran.stderr);
    }
    // By the configuration; an unspecified address is asked on this machine.
    let config = format!("[admin]\nlisten = \"0.0.0.0:{}\"\n", refusing.address().port());
    let ran = ccpgate(Some(&config), &["tunnels"]).expect(2);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
    let ran = ccpgate(Some("[admin]\nlisten = \"127.0.0.1:0\"\n"), &["denied"]).expect(2);
    assert!(ran.stderr.contains("--admin"), "{}", ran.stderr);
    // A broken configuration is nothing to a command that is told where to ask.
    let broken = Some("[connect]\nregions = [\"nowhere\"]\n");
    let ran = ccpgate(broken, &["status", "--admin", &address]).expect(2);
    assert!(ran.stderr.contains("nobody answers"), "{}", ran.stderr);
    for wrong in ["https://127.0.0.1:1", "127.0.0.1", "http://127.0.0.1:1/api"] {
        let ran = ccpgate(None, &["status", "--admin", wrong]).expect(2);
        assert!(ran.stderr.contains("http://127.0.0.1:9128"), "{}", ran.stderr);
    }
}

#[test]
fn what_is_not_ccpgate_is_told_so_and_steers_no_terminal() {
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let page = "<html>\u{1b}[2JWelcome\u{9b}</html>";
    let deep = "[".repeat(100_000);
    let refusing =
        format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{page}", page.len()).into_bytes();
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    static CHUNK: &[u8] = &{
        let mut chunk = [b' '; 0x10000 + 9];
        let head = *b"10000\r\n";
        let mut at = 0;
        while at < head.len() {
            chunk[at] = head[at];
            at += 1;
        }
        chunk[0x10000 + 7] = b'\r';
        chunk[0x10000 + 8] = b'\n';
        chunk
    };
    let rows: [(Vec<u8>, &'static [u8], &str); 8] = [
        (ok(page), b"", "isn't ccpgate's"),
        (ok("{}"), b"", "/api/"),
        (ok(&deep), b"", "isn't ccpgate's"),
        (refusing, b"", "403"),
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), b"", "broke off"),
        (
            b"HTTP/1.1 200 OK\r\nX: ".to_vec(),
            b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "broke off",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[".to_vec(), b"", "broke off"),
        (chunked, CHUNK, "broke off"),
    ];
    for (bytes, more, why) in rows {
        let other = answers(bytes, more);
        let address = other.address();
        for arguments in [&["tunnels"][..], &["tunnels", "--json"], &["status"]] {
            // An empty object is one.
            if why == "/api/" && arguments.contains(&"--json") {
                continue;
            }
            let ran = ask(address, arguments).expect(2);
            assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
            assert!(ran.stderr.contains(&address.to_string()), "{}", ran.stderr);
            assert!(!ran.stderr.trim_end().contains(char::is_control), "{:?}", ran.stderr);
        }
    }
}

#[test]
fn answers_with_control_characters_reach_no_terminal() {
    let evil = "a\u{1b}]0;x\u{7}\u{9b}2J\u{202e}.example";
    let row = json!({ "id": evil, "client": evil, "target": evil, "category": evil, "domain": evil,
        "since": "2026-11-27T09:00:00Z", "idle_s": 1, "sent": 1, "received": 1,
        "outcome": evil, "ended_by": evil, "ended": "2026-11-27T09:00:01Z", "stranger": [evil] });
    let denied = json!([{ "target": evil, "reason": evil, "count": 1, "clients": 1, "first": "2026-11-27T09:00:00Z",
        "last": "2026-11-27T09:00:00Z", "nearest": { "rule": evil, "why": evil }, "elsewhere": evil }]);
    let learned = json!([{ "host": evil, "rule": evil, "clients": 9, "first": "2026-11-27T09:00:00Z",
        "last": "2026-11-27T09:00:00Z", "sent": 1, "received": 1 }]);
    let status = json!({ "state": "failed", "summary": evil, "findings": [{ "cause": evil, "agent_sees": evil,
        "networks": [evil], "since": evil }] });
    for (command, answer, code) in [
        ("tunnels", json!({ "live": [row], "ended": [row] }), 0),
        ("denied", denied, 0),
        ("learned", learned, 0),
        ("status", status, 1),
    ] {
        let other = answers_json(&answer);
        for arguments in [&[command][..], &[command, "--json"]] {
            let out = ask(other.address(), arguments).expect(code).stdout;
            let steers = |c: char| c.is_control() && c != '\n';
            assert!(!out.contains(steers), "{out:?}");
            assert!(out.contains("example"), "{out}");
        }
    }
    let other = answers_json(&json!([{ "host": "a\"\n[policy]", "rule": "x", "clients": 9,
        "first": "2026-11-27T09:00:00Z", "last": "2026-11-27T09:00:00Z", "sent": 1, "received": 1 }]));
    let entries = ask(other.address(), &["learned"]);
    let table: toml::Table = entries.expect(0).stdout.parse().unwrap();
    assert!(table.is_empty(), "{table}");
}

#[test]
fn the_status_is_said_in_words_and_by_the_exit_code() {
    let finding = json!({ "cause": "not_configured", "category": "telecom", "since": "2026-11-27T09:00:00Z",
        "clients_failing": 3, "clients_active": 40, "networks": ["10.4.0.0/16"], "owner": "configuration",
        "agent_sees": "calls fail", "remedy": "add eu-west-2", "changed": ["reload at 08:59"] });
    let status = json!({ "schema_version": 1, "state": "degraded", "summary": "3 of 40 clients fail", "findings": [finding] });
    let ran = ask(answers_json(&status).address(), &["status"]).expect(1);
    for part in
        ["3 of 40 clients", "not_configured", "10.4.0.0/16", "calls fail", "add eu-west-2", "reload at 08:59"]
    {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
    assert!(ran.stdout.starts_with("3 of 40 clients fail\n"), "{}", ran.stdout);
    assert_eq!(ask(answers_json(&status).address(), &["status", "--json"]).expect(1).json(), status);
    let well = json!({ "schema_version": 1, "state": "ok", "summary": "all is well", "findings": [] });
    assert_eq!(ask(answers_json(&well).address(), &["status"]).expect(0).stdout, "all is well\n");
}

/// As the health check of a container asks.
#[test]
fn whether_it_is_ready_is_said_by_the_exit_code() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&["acme.my.connect.aws:443"]));
    let mut live = proxy.tunnel("acme.my.connect.aws:443");
    assert_eq!(ask(proxy.admin(), &["status", "--ready"]).expect(0).stdout, "ready\n");
    assert_eq!(ask(proxy.admin(), &["status", "--ready", "--json"]).expect(0).json()["ready"], true);
    proxy.signal(rustix::process::Signal::TERM);
    eventually("the drain", || (ask(proxy.admin(), &["status", "--ready"]).code == 1).then_some(()));
    let ran = ask(proxy.admin(), &["status", "--ready", "--json"]).expect(1);
    assert_eq!(ran.json(), json!({ "schema_version": 1, "ready": false }));
    let ran = ask(proxy.admin(), &["status"]);
    assert!(ran.stdout.starts_with("This process drains: it takes no new connections"), "{}", ran.stdout);
    live.expect_echo(b"draining");
    // Somebody else's server is not an unready proxy.
    let other = answers(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), b"");
    let ran = ask(other.address(), &["status", "--ready"]).expect(2);
    assert!(ran.stderr.contains(&format!("{}/readyz", other.address())), "{}", ran.stderr);
}

/// A proxy goes on when its file breaks, and so does what asks whether it is well: the health check of a
/// container would have it started anew.
#[test]
fn a_broken_file_hides_no_running_proxy() {
    let upstream = Upstream::echo();
    let policy = upstream.for_targets(&["acme.my.connect.aws:443"]);
    let proxy = Proxy::start(&policy);
    let mut live = proxy.tunnel("acme.my.connect.aws:443");
    let (file, url) = (proxy.config_file(), format!("http://{}", proxy.admin()));
    let file = file.to_str().unwrap();
    let address = proxy.admin().to_string();
    let by_variable = [("CCPGATE_ADMIN__LISTEN", address.as_str())];
    // It took a port from the kernel; a file as it would be names it.
    proxy.rewrite_config(&format!("{policy}\n[admin]\nlisten = \"{}\"\n", proxy.admin()));
    let sound = std::fs::read_to_string(file).unwrap();
    assert_eq!(ccpgate(None, &["status", "-c", file]).expect(0).stderr, "");
    let garbage = format!("{sound}\n[[allow]]\npattern = \"half a li");
    // An empty file doesn't name the address any more; the environment, which is stronger, still may.
    let rows: [(&str, &[(&str, &str)]); 2] = [(garbage.as_str(), &[]), ("", &by_variable)];
    for (text, variables) in rows {
        proxy.rewrite_config_raw(text);
        let run = |arguments: &[&str]| ccpgate_with(None, &[arguments, &["-c", file]].concat(), variables);
        let ran = run(&["status", "--ready"]).expect(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("ready\n", ""));
        let ran = run(&["status"]).expect(0);
        assert!(ran.stdout.starts_with("All is well"), "{}", ran.stdout);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        for part in ["ccpgate: warning: ", file, "goes on with what it had", url.as_str()] {
            assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
        }
        let ran = run(&["tunnels", "--json"]).expect(0);
        assert_eq!(ran.json()["live"].as_array().unwrap().len(), 1, "{}", ran.stdout);
        assert!(ran.stderr.contains("goes on with what it had"), "{}", ran.stderr);
    }
    live.expect_echo(b"live");
    // Where nobody answers, the health check says what may be why.
    let refusing = Refusing::new();
    let broken = format!("[admin]\nlisten = \"{}\"\n[proxy]\nnaem = 1\n", refusing.address());
    let ran = ccpgate(Some(&broken), &["status", "--ready"]).expect(2);
    assert!(ran.stderr.contains("naem") && ran.stderr.contains("nobody answers"), "{}", ran.stderr);
    // A flag that was typed wrong is the user's to correct.
    let ran = ccpgate(None, &["status", "--set", "admin.listen=nowhere"]).expect(2);
    assert!(ran.stderr.contains("admin.listen") && !ran.stderr.contains("asked at"), "{}", ran.stderr);
}

#[test]
fn the_status_of_a_running_proxy_is_taken_from_it() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&["acme.my.connect.aws:443"]));
    let _live = proxy.tunnel("acme.my.connect.aws:443");
    let ran = ask(proxy.admin(), &["status"]).expect(0);
    assert!(ran.stdout.starts_with("All is well"), "{}", ran.stdout);
    proxy.reload("[proxy]\nlissten = []\n", "error");
    let ran = ask(proxy.admin(), &["status"]).expect(0);
    assert!(ran.stdout.starts_with("The last reload, of the configuration or of files"), "{}", ran.stdout);
    assert!(ran.stdout.contains("Otherwise all is well"), "{}", ran.stdout);
    // Three desks ask for a region that the configuration lacks.
    for last in 2..8 {
        for _ in 0..2 {
            let mut desk = Raw::connect_from(std::net::Ipv4Addr::new(127, 0, 0, last).into(), proxy.http());
            let status = desk.connect_target("participant.connect.eu-west-2.amazonaws.com:443").status;
            assert_eq!(status, 403);
        }
    }
    let ran = eventually("the finding", || {
        let ran = ask(proxy.admin(), &["status"]);
        (ran.code == 1).then_some(ran)
    });
    assert!(ran.stdout.contains("not_configured") && ran.stdout.contains("eu-west-2"), "{}", ran.stdout);
}

#[test]
fn an_agents_log_is_joined_with_what_the_proxy_saw_of_that_desk() {
    const HOST: &str = "a.transport.connect.us-west-2.amazonaws.com:443";
    let upstream = Upstream::resetter();
    let proxy = Proxy::start(&upstream.for_targets(&[HOST]));
    let mut desk = Raw::connect_from("127.0.0.2".parse().unwrap(), proxy.http());
    assert_eq!(desk.connect_target(HOST).status, 200);
    desk.send("hello");
    desk.expect_gone();
    let line = proxy.access_line("tunnel", HOST);
    assert_eq!(line["outcome"], "upstream_reset", "{line}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent-log.txt");
    let name = file.to_str().unwrap();
    // A desk whose clock is 15 s behind, at so many seconds after now.
    let write = |after: i64| {
        let time = |seconds: i64| {
            let time = Timestamp::now() + SignedDuration::from_secs(seconds - 15);
            time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
        };
        let log = json!([
            { "time": time(after - 10), "level": "TRACE", "text": "GET_AGENT_SNAPSHOT succeeded.",
              "objects": [{ "snapshot": { "skew": 15000 } }] },
            { "time": time(after), "component": "softphone", "level": "ERROR", "exception": null, "objects": [],
              "text": " 7f3a SESSION Failed handshaking with signaling server Timeout" },
        ]);
        std::fs::write(&file, log.to_string()).unwrap();
    };
    let explain = |client: &str, code| {
        ask(proxy.admin(), &["explain", "--json", "--log", name, "--client", client]).expect(code).json()
    };
    write(1);
    let error = explain("127.0.0.2", 1)["errors"][0].clone();
    assert_eq!((&error["verdict"], &error["tunnels"]), (&"network".into(), &json!([line["id"]])), "{error}");
    assert!(error["sentence"].as_str().unwrap().contains("was reset by AWS's side at "), "{error}");
    // The proxy was only just started: that it saw nothing of another desk proves nothing yet.
    let error = explain("127.0.0.3", 1)["errors"][0].clone();
    assert!(error["sentence"].as_str().unwrap().contains("remembers all tunnels only since"), "{error}");
    write(120);
    let error = explain("127.0.0.3", 1)["errors"][0].clone();
    assert_eq!((&error["verdict"], &error["tunnels"]), (&"proxy".into(), &json!([])), "{error}");
    assert!(error["sentence"].as_str().unwrap().contains("the browser went past the proxy"), "{error}");

    for wrong in [
        &["explain", "--client", "127.0.0.2", "acme.my.connect.aws"][..],
        &["explain", "--log", name, "--client", "desk-7"],
        &["explain", "--log", name, "--admin", "http://127.0.0.1:1"],
    ] {
        ccpgate(None, wrong).expect(2);
    }
}

#[test]
fn explain_adds_what_the_proxy_saw_of_a_target() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&["acme.my.connect.aws:443"]));
    for _ in 0..2 {
        let mut client = proxy.tunnel("acme.my.connect.aws:443");
        client.finish();
        client.expect_closed();
    }
    let _live = proxy.tunnel("acme.my.connect.aws:443");
    proxy.connect().connect_target("crm.example:443");
    let config = Some("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n");
    let admin = format!("http://{}", proxy.admin());
    let explain = |rest: &[&str], code| {
        ccpgate(
            config,
            &[&["explain", "--admin", &admin, "acme.my.connect.aws", "crm.example"], rest].concat(),
        )
        .expect(code)
    };
    let text = eventually("both ends", || {
        let text = explain(&[], 1).stdout;
        text.contains("1 tunnel live, 2 ended (ok 2), the last at ").then_some(text)
    });
    assert!(text.contains("denied      no_rule: 1 time, by 1 client, last at "), "{text}");
    let json = explain(&["--json"], 1).json();
    assert_eq!(json[0]["lately"]["live"], 1, "{json}");
    assert_eq!(
        (&json[0]["lately"]["outcomes"]["ok"], &json[1]["lately"]["denied"][0]["count"]),
        (&2.into(), &1.into())
    );
    let alone = ccpgate(config, &["explain", "--json", "acme.my.connect.aws"]).expect(0).json();
    assert_eq!(alone["lately"], Value::Null);
}
