//! ip-ranges.json kept current by the running proxy: fetched, judged, kept, accepted; and what happens when
//! each of these goes wrong.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::support::{Dns, Proxy, Region, Upstream, ccpgate, eventually, have, ip_ranges, read_request};

/// A mirror that gives what the test says.
struct Mirror {
    region: Region,
    answer: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    /// Who asks with the tag of the answer hears that it is still the same.
    fn start() -> Self {
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(Vec::new())));
        let (given, heads) = (answer.clone(), asked.clone());
        let region = Region::serving(move |mut tls| {
            while let Some(head) = read_request(&mut tls) {
                let answer = given.lock().unwrap().clone();
                let tag = answer.lines().find_map(|line| line.strip_prefix("ETag: "));
                let known = tag.is_some_and(|tag| head.contains(&format!("if-none-match: {tag}\r\n")));
                let answer = if known { "HTTP/1.1 304 Not Modified\r\n\r\n" } else { &answer };
                heads.lock().unwrap().push(head);
                if tls.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { region, answer, asked }
    }

    fn give(&self, file: &str) {
        self.answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{file}", file.len()));
    }

    fn give_tagged(&self, file: &str) {
        self.answer(&format!(
            "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: {}\r\n\r\n{file}",
            file.len()
        ));
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    /// Fetched every second, with more lines of `[ranges]`, then other sections.
    fn config(&self, more: &str) -> String {
        let (ca, to) = (self.region.ca(), self.region.upstream().for_targets(&["site.example:443"]));
        format!(
            "[ranges]\nurl = \"https://site.example/ip-ranges.json\"\nca = \"{ca}\"\nrefresh = \"1s\"\n{more}\n\
             {to}\n[dns]\nservers = [\"127.0.0.1:1\"]\n"
        )
    }
}

const MEDIA: &str = "GLOBAL AMAZON_CONNECT 15.193.0.0/19";
const BASE: &[&str] = &[
    MEDIA,
    "us-west-2 AMAZON_CONNECT 18.236.61.0/25",
    "us-west-2 AMAZON_CONNECT 54.190.198.32/28",
    "us-west-2 EC2 44.224.0.0/11",
    "us-west-2 AMAZON 0.0.0.0/8",
];

/// A version that AWS made so many hours ago.
fn version(hours_ago: i64, lines: &[&str]) -> (u64, String) {
    let made = Timestamp::now().checked_sub(SignedDuration::from_hours(hours_ago)).unwrap();
    (u64::try_from(made.as_second()).unwrap(), ip_ranges(made, lines))
}

fn ranges(proxy: &Proxy) -> Value {
    let status: Value = proxy.status();
    status["ranges"].clone()
}

fn in_force(proxy: &Proxy, token: u64) {
    proxy.metric_eventually("ccpgate_ranges_sync_token", token as f64);
}

/// Waits until the status names an error with these words.
fn error(proxy: &Proxy, words: &str) -> String {
    eventually(&format!("an error with {words:?}"), || {
        ranges(proxy)["error"].as_str().filter(|error| error.contains(words)).map(str::to_owned)
    })
}

fn tokens(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // A successor finds the running proxy by its socket.
        .filter(|name| !name.ends_with(".sock"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_newer_version_takes_effect_without_a_reload() {
    let mirror = Mirror::start();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let kept = format!("state = \"{}\"", state.display());
    let (first, text) = version(72, BASE);
    mirror.give(&text);
    let proxy = Proxy::start(&mirror.config(&kept));
    in_force(&proxy, first);
    let shown = ranges(&proxy);
    assert_eq!(
        (&shown["stale"], &shown["error"], &shown["aside"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!((&shown["pending"], &shown["next_deadline"]), (&json!([]), &Value::Null));
    assert!(proxy.metric("ccpgate_ranges_age_seconds") >= 72.0 * 3600.0);
    // A prefix more, of the two services that matter here.
    let more = [BASE, &["us-west-2 AMAZON_CONNECT 99.77.186.0/26", "us-west-2 EC2 35.80.0.0/12"]].concat();
    let (second, text) = version(1, &more);
    mirror.give(&text);
    in_force(&proxy, second);
    proxy.metric_eventually("ccpgate_ranges_pending_prefixes", 1.0);
    let shown = ranges(&proxy);
    let pending = &shown["pending"][0];
    assert_eq!((&pending["prefix"], &pending["promised"]), (&json!("99.77.186.0/26"), &json!(true)));
    assert_eq!(shown["next_deadline"], pending["safe_deadline"]);
    let admin = format!("http://{}", proxy.admin());
    let said = ccpgate(None, &["status", "--admin", &admin]).expect(0).stdout;
    let line = format!("by {} 99.77.186.0/26 (", pending["safe_deadline"].as_str().unwrap());
    assert!(said.contains("1 new prefix for the firewall") && said.contains(&line), "{said}");
    let due: Timestamp = format!("{}T00:00:00Z", shown["next_deadline"].as_str().unwrap()).parse().unwrap();
    assert_eq!(proxy.metric("ccpgate_ranges_next_deadline_timestamp_seconds"), due.as_second() as f64);
    let days = due.duration_since(Timestamp::now()).as_hours() as f64 / 24.0;
    assert!((25.0..28.0).contains(&days), "30 days after the version of three days ago: {days}");
    assert_eq!(shown["history"][0]["sync_token"], first.to_string());
    assert_eq!(proxy.metric("ccpgate_reloads_total{result=\"ok\"}"), 0.0);
    let names = [format!("ip-ranges-{first}.json"), format!("ip-ranges-{second}.json")];
    assert_eq!(tokens(&state), names);
    assert_eq!(std::fs::read_to_string(state.join(&names[1])).unwrap(), text, "as it came");
    // The next one starts from there, without a network, and knows as much.
    drop(proxy);
    mirror.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start(&mirror.config(&kept));
    proxy.log_line("in force before it listens", |line| {
        line["event"] == "ranges_taken" && line["sync_token"] == second
    });
    proxy.metric_eventually("ccpgate_ranges_pending_prefixes", 1.0);
    error(&proxy, "https://site.example/ip-ranges.json answers 503");
    in_force(&proxy, second);
}

#[test]
fn what_is_not_a_newer_version_changes_nothing_and_says_why() {
    let mirror = Mirror::start();
    let (token, good) = version(48, BASE);
    let (_, older) = version(72, BASE);
    let (_, future) = version(-48, BASE);
    let (_, other) = version(48, &BASE[1..]);
    let other = other.replace(other.split('"').nth(3).unwrap(), &token.to_string());
    // The token of a newer version with the date of an older one.
    let (newer, _) = version(1, BASE);
    let mixed = older.replace(older.split('"').nth(3).unwrap(), &newer.to_string());
    mirror.give(&good);
    let proxy = Proxy::start(&mirror.config(""));
    in_force(&proxy, token);
    let cut = |text: &str| text[..text.len() / 2].to_owned();
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (answer, words) in [
        (ok("<html><title>Blocked by policy</title></html>"), "a web page, \"Blocked by policy\""),
        (ok(&cut(&good)), "ends in the middle, as after a download that was cut short"),
        (ok("{}"), "missing field"),
        (ok(""), "the file is empty"),
        (ok(&older), "it is older"),
        (ok(&future), "lies ahead of this machine's clock"),
        (ok(&mixed), "two versions were mixed up"),
        (ok(&other), "another content"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned(), "answers 403 in place of 200"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://site.example/x\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "redirects to plain HTTP",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "it is compressed (gzip)",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n".to_owned(), "larger than 32 MiB"),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), "something else than HTTP"),
    ] {
        mirror.answer(&answer);
        let told = error(&proxy, words);
        assert!(told.starts_with("https://site.example/ip-ranges.json"), "{told}");
        assert_eq!(proxy.metric("ccpgate_ranges_sync_token"), token as f64);
        let line = proxy.log_line(words, |line| {
            line["event"] == "ranges_failed" && line["message"].as_str().is_some_and(|m| m.contains(words))
        });
        assert!(line["message"].as_str().unwrap().ends_with("stays in force"), "{line}");
        // It mends itself.
        mirror.give(&good);
        eventually("no error", || ranges(&proxy)["error"].is_null().then_some(()));
    }
    // Nobody who isn't known vouches for it.
    let stranger = Mirror::start();
    let config = mirror.config("").replace(mirror.region.ca(), stranger.region.ca());
    proxy.reload(&config, "ok");
    error(&proxy, "its certificate is from an authority that is unknown here");
    in_force(&proxy, token);
}

#[test]
fn a_version_that_loses_half_waits_for_a_person() {
    let mirror = Mirror::start();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display().to_string();
    let config = mirror.config(&format!("state = \"{state}\""));
    let (first, text) = version(72, BASE);
    mirror.give(&text);
    let proxy = Proxy::start(&config);
    in_force(&proxy, first);
    let (half, text) = version(2, &[BASE[0], BASE[3], BASE[4]]);
    mirror.give(&text);
    let aside =
        eventually("the version aside", || Some(ranges(&proxy)["aside"].clone()).filter(|a| !a.is_null()));
    assert_eq!(aside["sync_token"], half.to_string());
    assert!(
        aside["why"].as_str().unwrap().contains("media_udp_3478 loses 2 of its 3 IPv4 prefixes"),
        "{aside}"
    );
    let line = proxy.log_line("said loudly", |line| line["event"] == "ranges_aside");
    assert!(line["message"].as_str().unwrap().contains(&format!("ccpgate ranges accept {half}")), "{line}");
    proxy.metric_eventually("ccpgate_finding{cause=\"ranges_aside\",category=\"none\",owner=\"proxy\"}", 1.0);
    let status: Value = proxy.status();
    assert_eq!(status["state"], "degraded");
    let summary = status["summary"].as_str().unwrap();
    assert!(summary.starts_with("AWS's address ranges want attention since"), "{summary}");
    assert_eq!(status["findings"][0]["source"], "ranges");
    let said = ccpgate(None, &["status", "--admin", &format!("http://{}", proxy.admin())]).expect(1).stdout;
    assert!(said.contains("ranges_aside, by ip-ranges.json, since") && !said.contains("the watch"), "{said}");
    assert_eq!(proxy.metric("ccpgate_ranges_sync_token"), first as f64);
    assert_eq!(
        tokens(folder.path()),
        [format!("ip-ranges-{first}.json"), format!("ip-ranges-{half}.json.aside")]
    );
    // Another token, no token, another folder.
    let own = format!("[connect]\nregions = [\"us-west-2\"]\n{config}");
    let accept = |more: &[&str]| ccpgate(Some(&own), &[&["ranges", "accept"], more].concat());
    let ran = accept(&["17"]).expect(2);
    assert!(
        ran.stderr.contains(&format!(
            "{state}: there is no version with the syncToken 17 aside; expected one of {half}"
        )),
        "{}",
        ran.stderr
    );
    let ran = accept(&["half"]).expect(2);
    assert!(ran.stderr.contains("half") && ran.stderr.contains("expected a syncToken"), "{}", ran.stderr);
    let ran = accept(&[&first.to_string()]).expect(2);
    assert!(ran.stderr.contains("was taken already"), "{}", ran.stderr);
    let ran = accept(&["17", "--state", "/nowhere"]).expect(2);
    assert!(ran.stderr.contains("/nowhere: there is no such folder"), "{}", ran.stderr);
    let ran = ccpgate(None, &["ranges", "accept", "17"]).expect(2);
    assert!(ran.stderr.contains("--state"), "{}", ran.stderr);
    // A person takes it, and the running proxy notices.
    let ran = accept(&[&half.to_string()]).expect(0);
    assert!(ran.stdout.contains("media_udp_3478 loses 2 of its 3"), "{}", ran.stdout);
    in_force(&proxy, half);
    proxy.metric_eventually("ccpgate_finding{cause=\"ranges_aside\",category=\"none\",owner=\"proxy\"}", 0.0);
    assert_eq!(ranges(&proxy)["aside"], Value::Null);
    // A restart goes on from there.
    drop(proxy);
    mirror.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    in_force(&Proxy::start(&config), half);
}

#[test]
fn a_file_is_followed_and_never_leads_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("ip-ranges.json"), folder.path().join("state"));
    let config = format!(
        "[ranges]\nfile = \"{}\"\nstate = \"{}\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n",
        file.display(),
        state.display()
    );
    let replace = |text: &str| {
        let next = folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    // Without the file it serves all the same, and says so.
    let proxy = Proxy::start(&config);
    error(&proxy, "ip-ranges.json: can't be read");
    assert_eq!(proxy.metric("ccpgate_ranges_sync_token"), 0.0);
    proxy.metric_eventually("ccpgate_finding{cause=\"ranges_stale\",category=\"none\",owner=\"proxy\"}", 1.0);
    let ran = ccpgate(Some(&config), &["config", "check"]).expect(2);
    assert!(ran.stderr.contains("ranges.file"), "{}", ran.stderr);
    let (first, text) = version(48, BASE);
    replace(&text);
    in_force(&proxy, first);
    eventually("no error", || ranges(&proxy)["error"].is_null().then_some(()));
    let (second, text) = version(24, &BASE[..4]);
    replace(&text);
    eventually("aside: service AMAZON is gone", || {
        Some(ranges(&proxy)).filter(|r| r["aside"]["sync_token"].as_str() == Some(&*second.to_string()))
    });
    let (third, text) = version(12, BASE);
    replace(&text);
    in_force(&proxy, third);
    eventually("what is newer is good again", || ranges(&proxy)["aside"].is_null().then_some(()));
    replace("<html>");
    error(&proxy, "a web page");
    in_force(&proxy, third);
    // A restart with an older file goes on from the folder.
    drop(proxy);
    replace(&version(48, BASE).1);
    let proxy = Proxy::start(&config);
    in_force(&proxy, third);
    assert_eq!(ranges(&proxy)["error"], Value::Null);
}

#[test]
fn a_folder_that_cannot_be_used_is_said_and_the_ranges_are_there() {
    let mirror = Mirror::start();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::write(&state, "a file").unwrap();
    let (token, text) = version(48, BASE);
    mirror.give(&text);
    let proxy = Proxy::start(&mirror.config(&format!("state = \"{}\"", state.display())));
    in_force(&proxy, token);
    error(&proxy, &format!("ranges.state: {}: can't be read", state.display()));
    let line = proxy.log_line("said loudly", |line| line["event"] == "ranges_state");
    assert!(line["message"].as_str().unwrap().contains("no version is kept"), "{line}");
    // It is taken up as soon as it can be.
    std::fs::remove_file(&state).unwrap();
    let (next, text) = version(1, BASE);
    mirror.give(&text);
    in_force(&proxy, next);
    eventually("no error", || ranges(&proxy)["error"].is_null().then_some(()));
    eventually("kept", || tokens(&state).contains(&format!("ip-ranges-{next}.json")).then_some(()));
}

/// Nothing newer comes for days, and until then the next start would begin with nothing.
#[test]
fn a_folder_that_lacks_the_version_in_force_gets_it() {
    let mirror = Mirror::start();
    let folder = tempfile::tempdir().unwrap();
    let (token, text) = version(48, BASE);
    mirror.give_tagged(&text);
    let rarely = |more: &str| mirror.config(more).replace("\"1s\"", "\"1h\"");
    let proxy = Proxy::start(&rarely(""));
    in_force(&proxy, token);
    let kept = |state: &Path| {
        let name = format!("ip-ranges-{token}.json");
        eventually("kept", || (state.is_dir() && tokens(state) == [&*name]).then_some(()));
    };
    // A reload names it; another one names what can't be a folder yet.
    let (state, later) = (folder.path().join("state"), folder.path().join("later"));
    proxy.reload(&rarely(&format!("state = {state:?}")), "ok");
    kept(&state);
    std::fs::write(&later, "a file").unwrap();
    proxy.reload(&rarely(&format!("state = {later:?}")), "ok");
    error(&proxy, "ranges.state: ");
    std::fs::remove_file(&later).unwrap();
    kept(&later);
    drop(proxy);
    mirror.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start(&rarely(&format!("state = {state:?}")));
    in_force(&proxy, token);
    drop(proxy);
    // Somebody empties it, and the mirror has nothing new.
    mirror.give_tagged(&text);
    let _proxy = Proxy::start(&mirror.config(&format!("state = {state:?}")));
    let before = mirror.asked();
    eventually("asked for what is newer", || (mirror.asked() > before + 2).then_some(()));
    std::fs::remove_file(state.join(format!("ip-ranges-{token}.json"))).unwrap();
    kept(&state);
    let heads = mirror.asked.lock().unwrap();
    assert!(heads.iter().any(|head| head.contains("if-none-match: \"one\"")), "{heads:?}");
}

#[test]
fn a_reload_of_something_else_neither_fetches_nor_forgets() {
    let mirror = Mirror::start();
    let (token, text) = version(48, BASE);
    let config = |refresh: &str, more: &str| {
        format!("{}[limits]\nconnections = {more}\n", mirror.config("").replace("\"1s\"", refresh))
    };
    // Nothing is in force, and that stays wrong until a fetch is good.
    mirror.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start(&config("\"1h\"", "1000"));
    error(&proxy, "answers 503");
    let is_stale = |line: &Value, event: &str| line["event"] == event && line["cause"] == "ranges_stale";
    proxy.log_line("the finding", |line| is_stale(line, "finding"));
    for connections in ["1001", "1002", "1003"] {
        let before = mirror.asked();
        proxy.reload(&config("\"1h\"", connections), "ok");
        assert!(ranges(&proxy)["error"].is_string());
        // It may be the reload that mends it.
        eventually("asked once more", || (mirror.asked() > before).then_some(()));
        assert!(ranges(&proxy)["error"].is_string());
    }
    let log = proxy.log_so_far();
    assert!(!log.iter().any(|line| is_stale(line, "finding_over")), "{log:?}");
    assert_eq!(log.iter().filter(|line| line["event"] == "ranges_failed").count(), 1, "{log:?}");
    mirror.give_tagged(&text);
    proxy.reload(&config("\"1h\"", "1004"), "ok");
    in_force(&proxy, token);
    eventually("no error", || ranges(&proxy)["error"].is_null().then_some(()));
    // It is in force, and no reload asks for it before its time.
    let (asked, checked) = (mirror.asked(), ranges(&proxy)["checked"].clone());
    for connections in ["1005", "1006", "1007"] {
        proxy.reload(&config("\"1h\"", connections), "ok");
        assert_eq!(ranges(&proxy)["checked"], checked);
    }
    // Other settings begin anew.
    proxy.reload(&config("\"2h\"", "1007"), "ok");
    eventually("asked anew", || (mirror.asked() > asked).then_some(()));
    eventually("checked anew", || ranges(&proxy)["checked"].is_string().then_some(()));
    assert_eq!(mirror.asked(), asked + 1);
    in_force(&proxy, token);
}

/// What was wrong need not be the file, which looks as it did.
#[test]
fn a_reload_reads_a_file_again_that_could_not_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ip-ranges.json");
    // A few seconds more than a clock may be behind.
    let made = Timestamp::now().checked_add(SignedDuration::from_secs(10 * 60 + 6)).unwrap();
    std::fs::write(&file, ip_ranges(made, BASE)).unwrap();
    let proxy = Proxy::start(&format!("[ranges]\nfile = {file:?}\n"));
    error(&proxy, "set the clock right");
    eventually("the file in force", || {
        proxy.hang_up("ok");
        ranges(&proxy)["error"].is_null().then_some(())
    });
    in_force(&proxy, u64::try_from(made.as_second()).unwrap());
}

#[test]
fn a_folder_that_goes_away_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("ip-ranges.json"), folder.path().join("state"));
    let (first, text) = version(48, BASE);
    std::fs::write(&file, text).unwrap();
    let proxy = Proxy::start(&format!("[ranges]\nfile = {file:?}\nstate = {state:?}\n"));
    in_force(&proxy, first);
    std::fs::remove_dir_all(&state).unwrap();
    let (second, text) = version(1, BASE);
    std::fs::write(&file, text).unwrap();
    in_force(&proxy, second);
    eventually("kept", || state.is_dir().then(|| tokens(&state)).filter(|kept| !kept.is_empty()));
    assert_eq!(tokens(&state), [format!("ip-ranges-{second}.json")]);
    eventually("no error", || ranges(&proxy)["error"].is_null().then_some(()));
}

#[test]
fn a_full_disk_leaves_what_was_there_and_nothing_else() {
    if !have("mount") {
        return;
    }
    // A mount of the test's own: threads keep the namespace they are made in, and so do their children.
    let ended = std::thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            eprintln!("skipped: no mount namespace: {error}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mount = |options: &[&str]| {
            let at = folder.path().to_str().unwrap();
            assert!(Command::new("mount").args(options).arg(at).status().unwrap().success(), "{options:?}");
        };
        let private = Command::new("mount").args(["--make-rprivate", "/"]).status().unwrap();
        assert!(private.success());
        mount(&["-t", "tmpfs", "-o", "size=16k", "tmpfs"]);
        let mirror = Mirror::start();
        let (first, text) = version(48, BASE);
        mirror.give(&text);
        let config = mirror.config(&format!("state = \"{}\"", folder.path().display()));
        let proxy = Proxy::start(&config);
        in_force(&proxy, first);
        let (second, text) = version(1, BASE);
        mirror.give(&format!("{text}{}", " ".repeat(32 << 10)));
        let told = error(&proxy, "No space left on device");
        assert!(told.contains(&format!("ip-ranges-{second}.json: can't be written")), "{told}");
        let line = proxy.log_line("said loudly", |line| line["event"] == "ranges_state");
        assert!(line["message"].as_str().unwrap().ends_with("stays in force"), "{line}");
        assert_eq!(proxy.metric("ccpgate_ranges_sync_token"), first as f64);
        assert_eq!(tokens(folder.path()), [format!("ip-ranges-{first}.json")]);
        // A larger disk.
        mount(&["-o", "remount,size=1m"]);
        in_force(&proxy, second);
        eventually("no error", || ranges(&proxy)["error"].is_null().then_some(()));
        drop(proxy);
        // The same of a version in a file, which doesn't change again.
        let (elsewhere, full) = (tempfile::tempdir().unwrap(), folder.path().join("full"));
        let file = elsewhere.path().join("ip-ranges.json");
        std::fs::write(&file, text).unwrap();
        let proxy = Proxy::start(&format!("[ranges]\nfile = {file:?}\nstate = {:?}\n", folder.path()));
        in_force(&proxy, second);
        let _ = std::fs::write(&full, vec![0; 2 << 20]);
        let (third, text) = version(0, BASE);
        std::fs::write(&file, format!("{text}{}", " ".repeat(32 << 10))).unwrap();
        error(&proxy, "No space left on device");
        std::fs::remove_file(&full).unwrap();
        in_force(&proxy, third);
        drop(proxy);
        assert!(Command::new("umount").arg(folder.path()).status().unwrap().success());
    });
    ended.join().unwrap();
}

/// A parent proxy that leads every tunnel to one place; what it was asked for.
fn parent(to: SocketAddr) -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let parent = Upstream::serve(move |mut client| {
        let Some(head) = read_request(&mut client) else { return };
        kept.lock().unwrap().push(head);
        let mut server = TcpStream::connect(to).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = std::thread::spawn(move || {
            // It ends with either side.
            let _ = std::io::copy(&mut from, &mut back);
            let _ = back.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Both);
        up.join().unwrap();
    });
    (parent, asked)
}

#[test]
fn it_is_fetched_through_the_parent_proxy() {
    let mirror = Mirror::start();
    let (token, text) = version(48, BASE);
    mirror.give(&text);
    let (parent, asked) = parent(mirror.region.upstream().address());
    let ca = mirror.region.ca();
    let proxy = Proxy::start(&format!(
        "[ranges]\nurl = \"https://site.example/ip-ranges.json?key=S3cret\"\nca = \"{ca}\"\n\
         [egress]\nproxy = \"http://{}\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n",
        parent.address()
    ));
    in_force(&proxy, token);
    assert!(asked.lock().unwrap()[0].starts_with("CONNECT site.example:443 HTTP/1.1\r\n"));
    // What follows the path of an address may be a secret.
    assert_eq!(ranges(&proxy)["sources"], json!(["https://site.example/ip-ranges.json"]));
    assert!(proxy.log_so_far().iter().all(|line| !line.to_string().contains("S3cret")));
}

#[test]
fn commands_work_with_what_the_proxy_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let (old, text) = version(48, BASE);
    std::fs::write(folder.path().join(format!("ip-ranges-{old}.json")), text).unwrap();
    let (new, text) = version(24, BASE);
    std::fs::write(folder.path().join(format!("ip-ranges-{new}.json")), text).unwrap();
    std::fs::write(folder.path().join(format!("ip-ranges-{}.json", new + 1)), "{").unwrap();
    let config = format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n[ranges]\nstate = \"{}\"\n\
         url = \"https://ip-ranges.amazonaws.com/ip-ranges.json\"\n",
        folder.path().display()
    );
    let ran = ccpgate(Some(&config), &["ranges", "show", "--json"]).expect(0);
    assert_eq!(ran.json()["sync_token"], new.to_string());
    assert!(ran.stderr.contains("cut short"), "{}", ran.stderr);
    ccpgate(Some(&config), &["firewall"]).expect(0);
    ccpgate(Some(&config), &["config", "check"]).expect(0);
    let (file, none) = (folder.path().join("file"), folder.path().join("none"));
    std::fs::write(&file, "").unwrap();
    let at = |what: &str, path: &Path| format!("{config}{what} = \"{}\"\n", path.display());
    for (config, words) in [
        (at("ca", &none), "ranges.ca: "),
        (at("ca", &file), "ranges.ca: "),
        (config.replace(&folder.path().display().to_string(), &file.display().to_string()), "ranges.state: "),
        (config.replace(&folder.path().display().to_string(), "/nowhere/at/all"), "ranges.state: /nowhere"),
    ] {
        let ran = ccpgate(Some(&config), &["config", "check"]).expect(2);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

#[test]
fn old_ranges_are_a_finding_and_due_prefixes_too() {
    let mirror = Mirror::start();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    // Known for 29 days: due tomorrow.
    for (hours, lines) in [(30 * 24, &BASE[1..]), (29 * 24, BASE)] {
        let (token, text) = version(hours, lines);
        std::fs::write(state.join(format!("ip-ranges-{token}.json")), text).unwrap();
    }
    mirror.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let more = format!("state = \"{}\"\nmax_age = \"20d\"", state.display());
    let proxy = Proxy::start(&mirror.config(&more));
    proxy.metric_eventually("ccpgate_finding{cause=\"ranges_stale\",category=\"none\",owner=\"proxy\"}", 1.0);
    proxy.metric_eventually(
        "ccpgate_finding{cause=\"ranges_due\",category=\"media\",owner=\"firewall\"}",
        1.0,
    );
    proxy.metric_eventually("ccpgate_ranges_pending_prefixes", 1.0);
    let shown = ranges(&proxy);
    assert_eq!((&shown["stale"], &shown["pending"][0]["prefix"]), (&json!(true), &json!("15.193.0.0/19")));
    proxy.log_line("said", |line| line["event"] == "finding" && line["cause"] == "ranges_due");
}

#[test]
fn a_media_name_outside_the_list_is_a_finding() {
    let mirror = Mirror::start();
    let dns = Dns::start();
    let (token, text) = version(48, BASE);
    mirror.give(&text);
    let turn = turn_names();
    assert!(turn.len() > 2, "{turn:?}");
    // The resolver stands before a translator.
    for name in &turn {
        dns.addresses(name, &["15.193.3.4", "64:ff9b::15.193.3.4"]);
    }
    dns.addresses(&turn[0], &["15.193.3.4", "203.0.113.9"]);
    dns.addresses(&turn[1], &["15.193.3.4", "64:ff9b::203.0.113.9"]);
    let here = format!("\"{}\"", dns.address());
    let config = mirror.config("").replace("\"127.0.0.1:1\"", &here);
    let proxy = Proxy::start(&config);
    in_force(&proxy, token);
    let series = "ccpgate_finding{cause=\"outside_ranges\",category=\"media\",owner=\"network\"}";
    proxy.metric_eventually(series, 1.0);
    let strays = json!([
        {"name": turn[0], "address": "203.0.113.9"},
        {"name": turn[1], "address": "64:ff9b::cb00:7109"},
    ]);
    assert_eq!(ranges(&proxy)["strays"], strays);
    let line = proxy.log_line("said", |line| line["event"] == "ranges_stray");
    assert_eq!((&line["name"], &line["address"]), (&turn[0].as_str().into(), &"203.0.113.9".into()));
}

/// The TURN names of us-west-2.
fn turn_names() -> Vec<String> {
    let list = ccpgate(
        Some("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n"),
        &["allowlist", "--format", "json"],
    );
    let list = list.expect(0).json();
    let media = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["protocol"] == "udp" && rule["category"] == "media");
    media
        .map(|rule| rule["pattern"].as_str().unwrap().to_owned())
        .filter(|name| !name.contains('*'))
        .collect()
}
