//! The lists that firewalls fetch by themselves, on the admin listener and on listeners of their own, and
//! what is remembered of who fetched them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Answer, Proxy, Raw, Secured, ccpgate, eventually};

/// ip-ranges.json in a folder of its own, which may change.
struct Ranges {
    folder: tempfile::TempDir,
    text: String,
}

impl Ranges {
    fn new() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ip-ranges-2026.json");
        let ranges =
            Self { folder: tempfile::tempdir().unwrap(), text: std::fs::read_to_string(data).unwrap() };
        ranges.publish(20, "");
        ranges
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ip-ranges.json")
    }

    /// A version of so many days ago, with `more` prefixes.
    fn publish(&self, days: i64, more: &str) {
        let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let date = TimeZone::UTC.to_datetime(at).strftime("%Y-%m-%d-%H-%M-%S").to_string();
        let text = self.text.replace("2026-08-22-15-17-05", &date);
        let text = text.replace("1787411825", &at.as_second().to_string());
        std::fs::write(self.path(), text.replacen("\"prefixes\": [", &format!("\"prefixes\": [{more}"), 1))
            .unwrap();
    }

    fn config(&self) -> String {
        format!("[ranges]\nfile = {:?}\n", self.path())
    }
}

fn prefix(prefix: &str, region: &str) -> String {
    format!(
        "{{\"ip_prefix\": \"{prefix}\", \"region\": \"{region}\", \"service\": \"AMAZON_CONNECT\", \
         \"network_border_group\": \"{region}\"}},"
    )
}

/// One request; over HTTP, or what `secure` makes of the connection.
fn ask(mut to: Raw, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    to.send(format!("{method} {path} HTTP/1.1\r\nHost: edl.corp\r\nConnection: close\r\n{fields}\r\n"));
    if method == "HEAD" { to.read_head() } else { to.read_answer() }
}

fn get(proxy: &Proxy, path: &str, fields: &[(&str, &str)]) -> Answer {
    ask(Raw::connect(proxy.admin()), "GET", path, fields)
}

/// A list, once there is one.
fn listed(proxy: &Proxy, path: &str) -> Answer {
    eventually(path, || Some(get(proxy, path, &[])).filter(|answer| answer.status == 200))
}

fn edl(proxy: &Proxy) -> SocketAddr {
    let line =
        proxy.log_line("listening, edl", |line| line["event"] == "listening" && line["listener"] == "edl");
    line["address"].as_str().unwrap().parse().unwrap()
}

/// What is told of a consumer and a list.
fn told(proxy: &Proxy, consumer: &str, list: &str) -> Value {
    let status = proxy.status();
    let rows = status["edl"]["consumers"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["consumer"] == consumer && row["list"] == list);
    row.unwrap_or_else(|| panic!("no {consumer} with {list} in {rows:#?}")).clone()
}

#[test]
fn lists_are_served_as_firewalls_take_them() {
    let ranges = Ranges::new();
    let proxy = Proxy::start(&ranges.config());
    let media = listed(&proxy, "/edl/media-udp-3478-v4.txt");
    assert_eq!((media.status, media.field("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(media.text(), "15.193.0.0/19\n18.236.61.0/25\n54.190.198.32/28\n");
    let both = get(&proxy, "/edl/media-udp-3478.txt", &[]).text();
    assert_eq!(both, format!("{}2600:f0f2:7100::/40\n", media.text()));
    assert_eq!(get(&proxy, "/edl/media-udp-3478-v6.txt", &[]).text(), "2600:f0f2:7100::/40\n");
    for list in [
        "ec2-443",
        "cloudfront-443",
        "s3-443-v4",
        "paloalto-urls",
        "checkpoint-domains",
        "umbrella",
        "domains",
    ] {
        let answer = get(&proxy, &format!("/edl/{list}.txt"), &[]);
        assert!(answer.status == 200 && answer.body.len() > 10 && answer.body.ends_with(b"\n"), "{list}");
        assert!(!answer.text().contains(['#', '\r']), "{list}: {}", answer.text());
    }
    assert!(get(&proxy, "/edl/paloalto-urls.txt", &[]).text().contains("acme.my.connect.aws/\n"));
    assert!(
        get(&proxy, "/edl/domains.txt", &[]).text().contains("*.connect-telecom.us-west-2.amazonaws.com\n")
    );
    // With the marks of its entries, and then another text altogether.
    let commented = get(&proxy, "/edl/umbrella.txt?comments=1", &[]);
    assert!(
        commented.text().starts_with("# ") && commented.text().contains("# widened: "),
        "{}",
        commented.text()
    );
    assert_ne!(commented.field("etag"), get(&proxy, "/edl/umbrella.txt", &[]).field("etag"));
    // HEAD, 304, and what is no list.
    let head = ask(Raw::connect(proxy.admin()), "HEAD", "/edl/media-udp-3478-v4.txt", &[]);
    assert_eq!((head.status, head.field("content-length")), (200, media.field("content-length")));
    let (tag, date) = (media.field("etag").unwrap(), media.field("last-modified").unwrap());
    assert!(tag.starts_with('"') && date.ends_with(" GMT"), "{tag} {date}");
    for (fields, expected) in [
        (vec![("If-None-Match", tag)], 304),
        (vec![("If-None-Match", "\"other\", W/\"x\"")], 200),
        (vec![("If-None-Match", &*format!("\"other\", W/{tag}"))], 304),
        (vec![("If-None-Match", "*")], 304),
        (vec![("If-Modified-Since", date)], 304),
        (vec![("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")], 200),
        // The tag counts before the date.
        (vec![("If-None-Match", "\"other\""), ("If-Modified-Since", date)], 200),
    ] {
        let answer = ask(Raw::connect(proxy.admin()), "GET", "/edl/media-udp-3478-v4.txt", &fields);
        assert_eq!((answer.status, answer.field("etag")), (expected, Some(tag)), "{fields:?}");
        assert_eq!(answer.body.is_empty(), expected == 304, "{fields:?}");
    }
    for (path, expected) in
        [("/edl/video-udp-3478.txt", 404), ("/edl/nothing.txt", 404), ("/edl/", 200), ("/edl", 404)]
    {
        assert_eq!(get(&proxy, path, &[]).status, expected, "{path}");
    }
    let post = ask(Raw::connect(proxy.admin()), "POST", "/edl/domains.txt", &[("Content-Length", "0")]);
    assert_eq!((post.status, post.field("allow")), (405, Some("GET, HEAD")));
    let metrics = proxy.metrics();
    let count = |list: &str, code: &str| {
        metrics.get(&format!("ccpgate_edl_requests_total{{code=\"{code}\",list=\"{list}\"}}")).unwrap_or(-1.0)
    };
    assert_eq!((count("media-udp-3478-v4", "304"), count("media-udp-3478-v4", "503")), (4.0, 0.0));
    assert_eq!((count("none", "404"), count("domains", "405"), count("domains", "200")), (1.0, 1.0, 2.0));
}

#[test]
fn no_list_is_ever_empty() {
    let ranges = Ranges::new();
    // Nothing in [ranges]: no such list. Lists of names need none.
    let proxy = Proxy::start("");
    assert_eq!(get(&proxy, "/edl/media-udp-3478.txt", &[]).status, 404);
    assert_eq!(get(&proxy, "/edl/domains.txt", &[]).status, 200);
    // A file that can't be used, of every kind; the process starts and says so.
    std::fs::write(ranges.path(), "<html>blocked</html>").unwrap();
    let proxy = Proxy::start(&ranges.config());
    let refused = get(&proxy, "/edl/media-udp-3478.txt", &[]);
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("60")), "{}", refused.text());
    assert!(refused.text().contains("ip-ranges.json"), "{}", refused.text());
    assert_eq!(get(&proxy, "/edl/domains.txt", &[]).status, 200);
    // It comes, and goes again: the last good list stays.
    ranges.publish(20, "");
    let good = listed(&proxy, "/edl/media-udp-3478.txt");
    for bad in ["", "{}", "{\"prefixes\": []}", "\u{0}"] {
        std::fs::write(ranges.path(), bad).unwrap();
        proxy.hang_up("ok");
        let still = get(&proxy, "/edl/media-udp-3478.txt", &[]);
        assert_eq!((still.status, still.body), (200, good.body.clone()), "{bad:?}");
    }
    std::fs::remove_file(ranges.path()).unwrap();
    // Also for what a changed configuration needs.
    proxy.reload(&format!("[connect]\nregions = [\"us-east-1\"]\n{}", ranges.config()), "ok");
    eventually("the other region", || {
        let other = get(&proxy, "/edl/media-udp-3478.txt", &[]);
        assert_eq!(other.status, 200);
        other.text().contains("52.55.191.224/27\n").then_some(())
    });
    // No media, no list of media.
    proxy.reload(&format!("[connect]\nmedia = false\n{}", ranges.config()), "ok");
    eventually("no list", || (get(&proxy, "/edl/media-udp-3478.txt", &[]).status == 404).then_some(()));
}

#[test]
fn who_holds_an_old_list_is_told() {
    let ranges = Ranges::new();
    let proxy = Proxy::start(&ranges.config());
    let a: IpAddr = [127, 0, 0, 2].into();
    let b: IpAddr = [127, 0, 0, 3].into();
    let fetch = |from: IpAddr, path: &str, tag: Option<&str>| {
        let to = Raw::connect_from(from, proxy.admin());
        let fields = tag.map(|tag| ("If-None-Match", tag));
        ask(to, "GET", path, &[&[("User-Agent", "PAN\tOS")][..], fields.as_slice()].concat())
    };
    let path = "/edl/media-udp-3478-v4.txt";
    listed(&proxy, path);
    let first = fetch(a, path, None);
    assert_eq!(fetch(b, path, None).status, 200);
    fetch(b, "/edl/video-udp-3478.txt", None);
    let row = told(&proxy, "127.0.0.3", "media-udp-3478-v4");
    assert_eq!(
        (&row["current"], &row["missing"], &row["agent"]),
        (&json!(true), &json!(0), &json!("PAN OS"))
    );
    assert_eq!(row["sentence"], "127.0.0.3 holds the current list");
    let none = told(&proxy, "127.0.0.3", "video-udp-3478");
    assert!(none["sentence"].as_str().unwrap().contains("has got no list yet"), "{none}");
    // Two prefixes more, one of them cut in two in the list, which is none less.
    ranges.publish(5, &(prefix("15.194.1.0/24", "us-west-2") + &prefix("15.194.9.0/24", "us-west-2")));
    let tag = first.field("etag").unwrap();
    eventually("the new list", || (fetch(a, path, Some(tag)).status == 200).then_some(()));
    assert_eq!(told(&proxy, "127.0.0.2", "media-udp-3478-v4")["current"], true);
    let row = told(&proxy, "127.0.0.3", "media-udp-3478-v4");
    let day = |days: i64| {
        TimeZone::UTC.to_datetime(Timestamp::now() + SignedDuration::from_hours(24 * days)).date()
    };
    let (held, due) = (day(-20), day(10));
    assert_eq!((&row["missing"], &row["surplus"], &row["current"]), (&json!(2), &json!(0), &json!(false)));
    assert_eq!((&row["version"], &row["due"]), (&json!(held.to_string()), &json!(due.to_string())));
    let sentence = row["sentence"].as_str().unwrap();
    let words = |day: jiff::civil::Date| day.strftime("%-d %B").to_string();
    assert!(
        sentence.starts_with(&format!("127.0.0.3 still holds the list of {}", words(held))),
        "{sentence}"
    );
    assert!(sentence.contains("; 2 prefixes missing; traffic may move from "), "{sentence}");
    assert!(sentence.contains(&words(due)), "{sentence}");
    let shown = ccpgate(None, &["status", "--admin", &format!("http://{}", proxy.admin())]);
    assert!(shown.stdout.contains(sentence), "{}", shown.stdout);
    // Regions that the configuration adds are in use already; addresses are cut where that is asked for.
    let more = format!(
        "[ledger]\nanonymise = true\n[connect]\nregions = [\"us-west-2\", \"us-east-1\"]\n{}",
        ranges.config()
    );
    proxy.reload(&more, "ok");
    let row = eventually("another list", || {
        let row = told(&proxy, "127.0.0.0", "media-udp-3478-v4");
        (row["current"] == false && row["due"].is_null()).then_some(row)
    });
    assert!(row["sentence"].as_str().unwrap().ends_with("missing, which may be in use already"), "{row}");
    // One that asks again is told as it is.
    fetch(b, path, None);
    let all = proxy.status()["edl"]["consumers"].clone();
    let media = all.as_array().unwrap().iter().filter(|row| row["list"] == "media-udp-3478-v4");
    assert_eq!(media.filter(|row| row["current"] == true).count(), 1, "{all:#}");
}

#[test]
fn a_listener_of_its_own_asks_for_a_password_over_https() {
    let ranges = Ranges::new();
    let secured = Secured::new();
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap().replace("$2b$", "$2y$");
    std::fs::write(secured.path("users"), format!("fw-a:{}\nfw-b:{}\n", hash("one"), hash("two"))).unwrap();
    let config = |more: &str| {
        format!(
            "[edl]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {:?}\nkey = {:?}\nusers = {:?}\n{more}\n{}",
            secured.path("proxy.pem"),
            secured.path("proxy.key"),
            secured.path("users"),
            ranges.config(),
        )
    };
    let proxy = Proxy::start(&config(""));
    let address = edl(&proxy);
    let agent = secured.agent();
    let fetch = |path: &str, login: Option<&str>| {
        let field = login.map(|login| format!("Basic {}", BASE64.encode(login.as_bytes())));
        let fields: Vec<(&str, &str)> = field.iter().map(|field| ("Authorization", &**field)).collect();
        ask(agent.try_connect(address).unwrap(), "GET", path, &fields)
    };
    let refused = fetch("/edl/domains.txt", None);
    assert_eq!(
        (refused.status, refused.field("www-authenticate")),
        (401, Some("Basic realm=\"ccpgate\", charset=\"UTF-8\""))
    );
    for wrong in ["fw-a:two", "fw-c:one", "fw-a:", ":", "fw-a"] {
        assert_eq!(fetch("/edl/domains.txt", Some(wrong)).status, 401, "{wrong}");
    }
    assert_eq!(fetch("/edl/domains.txt", Some("fw-b:two")).status, 200);
    eventually("prefixes", || {
        (fetch("/edl/media-udp-3478.txt", Some("fw-a:one")).status == 200).then_some(())
    });
    assert_eq!(told(&proxy, "fw-b", "domains")["user"], "fw-b");
    // Nothing else is here.
    for path in ["/", "/metrics", "/api/status", "/proxy.pac"] {
        assert_eq!(fetch(path, Some("fw-a:one")).status, 404, "{path}");
    }
    // Clear text gets nothing, and takes nothing.
    let mut clear = Raw::connect(address);
    clear.send("GET /edl/domains.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    let said = clear.read_to_end().unwrap_or_default();
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");
    assert_eq!(proxy.metric("ccpgate_edl_requests_total{code=\"401\",list=\"domains\"}"), 6.0);
    let file = secured.path("proxy.pem");
    let series =
        format!("ccpgate_certificate_expiry_timestamp_seconds{{certificate=\"{}\"}}", file.display());
    let before = proxy.metric(&series);
    // Both files are followed; a broken one changes nothing.
    secured.replace("users", "secret");
    let line = proxy.log_line("the refusal", |line| line["event"] == "reload_failed");
    assert!(
        line["error"].as_str().unwrap().contains("edl.users") && !line.to_string().contains("secret"),
        "{line}"
    );
    assert_eq!(proxy.metric("ccpgate_config_last_reload_successful"), 0.0);
    // A reload meanwhile meets the broken file, too; the configuration is still the one in force.
    proxy.hang_up("error");
    assert_eq!(fetch("/edl/domains.txt", Some("fw-a:one")).status, 200);
    secured.replace("users", &format!("fw-a:{}\n", hash("three")));
    secured.renew(|params| {
        let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(12 * 86_400);
        params.not_after = soon.into();
    });
    eventually("the new files", || (proxy.metric(&series) < before).then_some(()));
    eventually("the new password", || {
        (fetch("/edl/domains.txt", Some("fw-a:three")).status == 200).then_some(())
    });
    assert_eq!(fetch("/edl/domains.txt", Some("fw-a:one")).status, 401);
    let warned = proxy.log_line("the warning", |line| line["event"] == "edl_warning");
    let text = warned.to_string();
    assert!(text.contains("expires in 1") && text.contains("stop enforcing"), "{text}");
    eventually("the success", || {
        (proxy.metric("ccpgate_config_last_reload_successful") == 1.0).then_some(())
    });
    // Other clients, and none at all.
    proxy.reload(&config("clients = [\"127.0.0.9\"]"), "ok");
    assert_eq!(fetch("/edl/domains.txt", Some("fw-a:three")).status, 403);
    proxy.reload(&ranges.config(), "ok");
    proxy.log_line("the end", |line| line["event"] == "closed" && line["listener"] == "edl");
    assert_eq!(proxy.metrics().get(&series), None);
}

#[test]
fn files_that_cannot_be_used_are_told_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("users"), "fw-a:$apr1$abc\n").unwrap();
    std::fs::write(path("broken.pem"), "junk").unwrap();
    // Who opens it as a file waits for a writer, and so would a reload.
    let pipe = std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap();
    assert!(pipe.success());
    for (set, why) in [
        (vec![format!("edl.users={}", path("users"))], "line 1: its hash isn't bcrypt's"),
        (vec![format!("edl.users={}", path("none"))], "can't be read"),
        (vec![format!("edl.users={}", path("pipe"))], "is not a regular file"),
        (vec![format!("edl.certificate={}", path("broken.pem"))], "stands alone, expected edl.key beside it"),
        (
            vec![
                format!("edl.certificate={}", path("broken.pem")),
                format!("edl.key={}", path("broken.pem")),
            ],
            "holds no certificate",
        ),
        (vec!["edl.clients=all".to_owned()], "expected"),
        (vec!["admin.listen=127.0.0.1:8443".to_owned()], "takes this address"),
    ] {
        let mut args = vec!["config", "check", "--set", "edl.listen=127.0.0.1:8443"];
        for set in &set {
            args.extend(["--set", set]);
        }
        let ran = ccpgate(None, &args).expect(2);
        assert!(ran.stderr.contains(why), "{set:?}: {}", ran.stderr);
    }
    let sound = ccpgate(None, &["config", "check", "--set", "edl.listen=127.0.0.1:8443"]).expect(0);
    assert!(sound.stdout.contains(", lists on 127.0.0.1:8443\n"), "{}", sound.stdout);
}

/// Fetches a list as a firewall at this address.
fn fetch_from(from: [u8; 4], proxy: &Proxy, path: &str) -> Answer {
    ask(Raw::connect_from(from.into(), proxy.admin()), "GET", path, &[("User-Agent", "PAN-OS")])
}

#[test]
fn who_holds_what_outlives_the_process() {
    let ranges = Ranges::new();
    let state = ranges.folder.path().join("state");
    let config = format!("{}state = {state:?}\n", ranges.config());
    let path = "/edl/media-udp-3478-v4.txt";
    let mut proxy = Proxy::start(&config);
    listed(&proxy, path);
    for from in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        assert_eq!(fetch_from(from, &proxy, path).status, 200);
    }
    fetch_from([127, 0, 0, 3], &proxy, "/edl/domains.txt");
    let before = told(&proxy, "127.0.0.3", "media-udp-3478-v4");
    let modified = get(&proxy, path, &[]).field("last-modified").unwrap().to_owned();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
    // The next one knows, and serves the same list under the same date.
    let mut proxy = Proxy::start(&config);
    let after = told(&proxy, "127.0.0.3", "media-udp-3478-v4");
    assert_eq!(before, after);
    assert_eq!(told(&proxy, "127.0.0.3", "domains")["current"], true);
    assert_eq!(listed(&proxy, path).field("last-modified"), Some(&*modified));
    // One that asks no more still holds what it got from the one before.
    ranges.publish(5, &prefix("15.194.1.0/24", "us-west-2"));
    eventually("the new list", || {
        fetch_from([127, 0, 0, 2], &proxy, path).text().contains("15.194.1.0/24").then_some(())
    });
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
    let mut proxy = Proxy::start(&config);
    assert_eq!(told(&proxy, "127.0.0.2", "media-udp-3478-v4")["current"], true);
    let old = told(&proxy, "127.0.0.3", "media-udp-3478-v4");
    assert_eq!((&old["current"], &old["missing"]), (&json!(false), &json!(1)), "{old:#}");
    assert_eq!(old["fetched"], before["fetched"]);
    assert!(old["due"].is_string(), "{old:#}");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
    // It is for this machine's administrator alone, and no version of ip-ranges.json.
    let file = state.join("edl-consumers");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // What can't be read is said, and nothing else is lost.
    std::fs::write(&file, "{\"contents\": [").unwrap();
    let proxy = Proxy::start(&config);
    proxy.log_line("what can't be read", |line| {
        let said = line["message"].as_str().unwrap_or_default();
        line["event"] == "edl_consumers_failed" && said.contains(file.to_str().unwrap())
    });
    assert_eq!(fetch_from([127, 0, 0, 4], &proxy, path).status, 200);
    assert_eq!(told(&proxy, "127.0.0.4", "media-udp-3478-v4")["current"], true);
}

#[test]
fn a_successor_knows_who_holds_what() {
    let ranges = Ranges::new();
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{}state = {:?}\n", ranges.config(), ranges.folder.path().join("state"));
    let path = "/edl/media-udp-3478-v4.txt";
    let mut old = Proxy::start_in(folder.path(), &config, false);
    listed(&old, path);
    fetch_from([127, 0, 0, 2], &old, path);
    let before = told(&old, "127.0.0.2", "media-udp-3478-v4");
    let new = Proxy::start_in(folder.path(), &config, true);
    old.log_line("the hand-over", |line| line["event"] == "handed_over");
    fetch_from([127, 0, 0, 3], &new, path);
    // It writes its last words as it goes, and the successor reads them within seconds.
    assert!(old.wait_exit().success());
    let row = eventually("what the older process knew", || {
        let status = new.status();
        let rows = status["edl"]["consumers"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["consumer"] == "127.0.0.2")
    });
    assert_eq!(row, before);
    assert_eq!(told(&new, "127.0.0.3", "media-udp-3478-v4")["current"], true);
}
