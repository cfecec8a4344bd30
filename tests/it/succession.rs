//! What comes between two processes one of which takes over, moment by moment: a signal to end, descriptors
//! that are scarce, a reload; and what is told by a process that ends just as it is asked.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::support::{Line, Proxy, Upstream, ccpgate_with, eventually};

const TARGET: &str = "good.example:443";
const RELOADS: &str = "ccpgate_reloads_total{result=\"ok\"}";

fn config(upstream: &Upstream, more: &str) -> String {
    format!("[[allow]]\npattern = \"good.example\"\n{more}\n{}", upstream.for_targets(&[TARGET]))
}

#[test]
fn a_process_that_is_told_to_end_lets_its_successor_go_on_at_once() {
    for lame_duck in ["0s", "1h"] {
        let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
        let toml = config(&upstream, &format!("[limits]\nlame_duck = \"{lame_duck}\""));
        let old = Proxy::start_in(folder.path(), &toml, false);
        let mut live = old.tunnel(TARGET);
        let mut successor = Line::takes_over(&old, folder.path());
        old.signal(Signal::TERM);
        let begins = if lame_duck == "0s" { "draining" } else { "lame_duck" };
        old.log_line("it leaves", |line| line["event"] == begins);
        successor.say("\"ready\"");
        let begun = Instant::now();
        assert!(successor.hear_bytes().is_err(), "{lame_duck}: nothing more is said to it");
        // A successor that hears nothing gives it up after ten.
        assert!(begun.elapsed() < Duration::from_secs(5), "{lame_duck}: {:?}", begun.elapsed());
        let mut asked = Line::to(&old, folder.path());
        asked.say("\"who\"");
        assert_eq!(asked.hear().unwrap()["serves"], false, "{lame_duck}: it must not end then");
        // It has the admin port to itself, and there is nothing to announce any more.
        old.log_line("the drain", |line| line["event"] == "draining");
        let admin = old.admin();
        eventually("the admin listener's end", || TcpStream::connect(admin).is_err().then_some(()));
        live.expect_echo(b"unharmed");
        drop(successor);
    }
}

#[test]
fn a_process_that_can_not_go_on_without_its_successor_keeps_its_place() {
    let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
    let toml = config(&upstream, "");
    let old = Proxy::start_in(folder.path(), &toml, false);
    let mut live = old.tunnel(TARGET);
    let mut successor = Line::takes_over(&old, folder.path());
    let all = getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(3), maximum: all.maximum };
    let before = prlimit(Some(old.id()), Resource::Nofile, none).unwrap();
    successor.say("\"ready\"");
    // Whatever it says: that one dies now.
    let _ = successor.hear_bytes();
    successor.hang_up();
    old.log_line("the end of the attempt", |line| line["event"] == "takeover_failed" && line["pid"] == 1);
    prlimit(Some(old.id()), Resource::Nofile, before).unwrap();
    old.tunnel(TARGET).expect_echo(b"as before");
    live.expect_echo(b"unharmed");
    // And the next one may.
    let new = Proxy::start_in(folder.path(), &toml, true);
    old.log_line("the hand-over", |line| line["event"] == "handed_over");
    new.tunnel(TARGET).expect_echo(b"new");
}

/// A process that says so much and no more: who it is, changing from one question to the next; what else is asked is
/// counted, and its line closed.
fn told(folder: &Path, who: Vec<Value>) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(folder.join("ccpgate-1.sock")).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    thread::spawn(move || {
        let mut who = who.into_iter();
        let mut last = Value::Null;
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut question = String::new();
            stream.read_line(&mut question).unwrap();
            if question.trim_end() != "\"who\"" {
                counted.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            last = who.next().unwrap_or(last);
            let answer = last.to_string();
            let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
            stream.get_mut().write_all(&[&length, answer.as_bytes()].concat()).unwrap();
        }
    });
    asked
}

#[test]
fn one_that_is_told_to_end_as_it_is_asked_is_followed_and_not_waited_for() {
    let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
    let who = |serves| json!({"id": 7, "pid": 1, "serves": serves});
    let asked = told(folder.path(), vec![who(true), who(false)]);
    let new = Proxy::start_in(folder.path(), &config(&upstream, ""), true);
    new.tunnel(TARGET).expect_echo(b"served");
    assert!(asked.load(Ordering::Relaxed) > 0, "it was asked to hand over");
    assert_eq!(new.status()["generations"][0]["id"], "8");
}

#[test]
#[ignore = "takes eleven seconds, for it has to wait longer than a process waits for a question, and shorter than for a successor"]
fn a_reload_that_waits_for_its_turn_is_answered_however_long_that_takes() {
    let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start_in(folder.path(), &config(&upstream, ""), false);
    let mut successor = Line::takes_over(&proxy, folder.path());
    successor.say("\"ready\"");
    // What it hands over has come: it waits for the successor now.
    successor.hear_bytes().unwrap();
    successor.hear_bytes().unwrap();
    let mut asked = Line::to(&proxy, folder.path());
    asked.say(r#"{"reload":{"yes":false}}"#);
    // Each of them is within what a successor may take.
    thread::sleep(Duration::from_secs(8));
    successor.say("\"accepting\"");
    thread::sleep(Duration::from_secs(3));
    successor.hang_up();
    assert_eq!(asked.hear().unwrap()["reloaded"], true);
    assert_eq!(proxy.metric(RELOADS), 1.0);
}

#[test]
fn a_reload_whose_verdict_is_lost_is_asked_for_once() {
    let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
    // What answers at the admin address would reload, too.
    let proxy = Proxy::start(&config(&upstream, ""));
    proxy.rewrite_config(&config(&upstream, &format!("[admin]\nlisten = \"{}\"", proxy.admin())));
    let asked = told(folder.path(), vec![json!({"id": 1, "pid": 4711, "serves": true})]);
    let variables = [("RUNTIME_DIRECTORY", folder.path().to_str().unwrap())];
    let file = proxy.config_file();
    for form in [&["reload"][..], &["reload", "--yes"], &["reload", "--json"]] {
        let arguments = [form, &["-c", file.to_str().unwrap()]].concat();
        let before = asked.load(Ordering::Relaxed);
        let ran = ccpgate_with(None, &arguments, &variables).expect(2);
        assert!(ran.stderr.contains("process 4711 was asked to reload"), "{}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
        assert_eq!(asked.load(Ordering::Relaxed), before + 1);
    }
    assert_eq!(proxy.metric(RELOADS), 0.0);
}
