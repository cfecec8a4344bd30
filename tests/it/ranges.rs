//! `ccpgate ranges`: what ip-ranges.json means for a configuration, what changed, and what isn't it.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::support::{Ran, ccpgate, ip_ranges};

const CONFIG: &str = "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n";

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

fn new() -> String {
    data("ip-ranges-2026.json")
}

fn old() -> String {
    data("ip-ranges-2021.json")
}

fn show(config: &str, more: &[&str]) -> Ran {
    ccpgate(Some(config), &[&["ranges", "show"][..], more].concat())
}

/// A file of our own, in a folder that lives as long.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ip-ranges.json");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn show_has_what_this_configuration_needs() {
    let ran = show(CONFIG, &["--file", &new(), "--json"]).expect(0);
    let json = ran.json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(
        (&json["create_date"], &json["sync_token"]),
        (&"2026-08-22-15-17-05".into(), &"1787411825".into())
    );
    assert_eq!(json["regions"], serde_json::json!(["us-west-2"]));
    let media = &json["sets"]["media_udp_3478"];
    assert_eq!(media["ipv4"], serde_json::json!(["15.193.0.0/19", "18.236.61.0/25", "54.190.198.32/28"]));
    assert_eq!(media["ipv6"], serde_json::json!(["2600:f0f2:7100::/40"]));
    assert_eq!(json["addresses"]["media_udp_3478"], 8192 + 128 + 16);
    for set in ["ec2_tcp_443", "cloudfront_tcp_443", "s3_tcp_443"] {
        assert!(json["sets"][set]["ipv4"].as_array().is_some_and(|all| !all.is_empty()), "{json}");
        assert!(json["addresses"][set].as_u64().is_some_and(|addresses| addresses > 0), "{json}");
    }
    assert_eq!(json["left_out"][0]["service"], "EC2");
    assert_eq!(json["global_only"], serde_json::json!([]));
    assert!(ran.stderr.contains("days old (ranges.max_age)"), "{}", ran.stderr);

    let text = show(CONFIG, &["--file", &new()]).expect(0).stdout;
    for line in ["media_udp_3478: 3 IPv4 and 1 IPv6 prefixes, 8,336 IPv4 addresses", "  54.190.198.32/28"] {
        assert!(text.contains(line), "{text}");
    }
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("Option 2 opens ") && last.ends_with(" names"), "{last}");
}

#[test]
fn the_file_of_the_configuration_counts_from_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(new(), folder.path().join("ranges.json")).unwrap();
    let config = folder.path().join("ccpgate.toml");
    std::fs::write(&config, format!("{CONFIG}[ranges]\nfile = \"ranges.json\"\n")).unwrap();
    let ran = ccpgate(None, &["-c", config.to_str().unwrap(), "ranges", "show", "--json"]).expect(0);
    assert_eq!(ran.json()["sync_token"], "1787411825");
    std::fs::write(folder.path().join("ranges.json"), "<html>").unwrap();
    let ran = ccpgate(None, &["-c", config.to_str().unwrap(), "config", "check"]).expect(2);
    assert!(ran.stderr.contains("ranges.file") && ran.stderr.contains("a web page"), "{}", ran.stderr);
}

#[test]
fn a_file_that_would_not_be_taken_or_is_old_is_told_beforehand() {
    let config = |days_ago: i64| {
        let (folder, path) = file(&version(days_ago, ""));
        let named =
            format!("{CONFIG}[policy]\nranges = \"enforce\"\n[ranges]\nfile = \"{}\"\n", path.display());
        (folder, named)
    };
    let check = |config: &str, code| ccpgate(Some(config), &["config", "check"]).expect(code).stderr;
    let (_folder, ahead) = config(-2);
    let said = check(&ahead, 2);
    assert!(said.contains("ranges.file: ") && said.contains("lies ahead of this machine's clock"), "{said}");
    // Without --file it is the same file.
    let said = show(&ahead, &[]).expect(2).stderr;
    assert!(said.contains("lies ahead of this machine's clock"), "{said}");
    let (_folder, old) = config(40);
    let said = check(&old, 0);
    assert!(
        said.contains("is 40 days old") && said.contains("policy.ranges = \"enforce\" only warns"),
        "{said}"
    );
    let (_folder, fresh) = config(1);
    assert!(!check(&fresh, 0).contains("days old"));
}

#[test]
fn govcloud_relies_on_the_global_ipv4_range() {
    let config = CONFIG.replace("us-west-2", "us-gov-west-1");
    let json = show(&config, &["--file", &new(), "--json"]).expect(0).json();
    assert_eq!(json["sets"]["media_udp_3478"]["ipv4"], serde_json::json!(["15.193.0.0/19"]));
    assert_eq!(
        json["global_only"],
        serde_json::json!([{"service": "AMAZON_CONNECT", "family": "ipv4", "region": "us-gov-west-1"}])
    );
}

#[test]
fn diff_tells_deadlines_truthfully() {
    let ran = ccpgate(Some(CONFIG), &["ranges", "diff", &old(), &new(), "--json"]).expect(1);
    let json = ran.json();
    let added = json["added"].as_array().unwrap();
    let global = added.iter().find(|a| a["prefix"] == "2600:f0f2:7100::/40").unwrap();
    assert_eq!((&global["deadline"], &global["safe_deadline"]), (&"2026-09-21".into(), &"2021-06-11".into()));
    assert_eq!(global["first_seen"], serde_json::json!(["2021-05-12", "2026-08-22"]));
    assert_eq!(global["promised"], true);
    let ec2 = added.iter().find(|a| a["service"] == "EC2").unwrap();
    assert_eq!((&ec2["promised"], &ec2["safe_deadline"]), (&false.into(), &serde_json::Value::Null));
    // 15.193.7.0/24 came, and was open already: it lies in 15.193.0.0/19.
    assert!(!added.iter().any(|a| a["prefix"] == "15.193.7.0/24"));
    assert!(added.iter().all(|a| a["region"] != "eu-central-1" || a["service"] == "CLOUDFRONT"));

    let east = CONFIG.replace("us-west-2", "us-east-1");
    let json = ccpgate(Some(&east), &["ranges", "diff", &old(), &new(), "--json"]).expect(1).json();
    let removed = json["removed"].as_array().unwrap();
    let gone = removed.iter().find(|r| r["prefix"] == "18.233.213.128/25").unwrap();
    assert_eq!((&gone["service"], &gone["region"]), (&"AMAZON_CONNECT".into(), &"us-east-1".into()));

    let text = ccpgate(Some(CONFIG), &["ranges", "diff", &old(), &new()]).expect(1).stdout;
    assert!(text.contains("2600:f0f2:7100::/40 UDP 3478 (AMAZON_CONNECT, GLOBAL)"), "{text}");
    assert!(text.contains("may be in use already, since 2021-06-11"), "{text}");
    ccpgate(Some(CONFIG), &["ranges", "diff", &new(), &new(), "--json"]).expect(0);
    let ran = ccpgate(Some(CONFIG), &["ranges", "diff", &new(), &old(), "--json"]).expect(2);
    assert!(ran.stderr.contains("newer than NEW"), "{}", ran.stderr);
}

/// A version that AWS made so many days ago, with a prefix more than the one before.
fn version(days_ago: i64, more: &str) -> String {
    let made = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days_ago)).unwrap();
    let all = std::iter::once("54.190.198.32/28").chain(more.split_whitespace());
    let lines: Vec<String> = all.map(|prefix| format!("us-west-2 AMAZON_CONNECT {prefix}")).collect();
    ip_ranges(made, &lines)
}

#[test]
fn a_day_to_come_is_in_the_ticket_and_in_the_calendar() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (old, new) = (write("old.json", version(60, "")), write("new.json", version(3, "15.193.7.0/24")));
    let day = |from: i64| {
        let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
        today.checked_add((from + 30).days()).unwrap().to_string()
    };
    let run = |more: &[&str]| ccpgate(Some(CONFIG), &[&["ranges", "diff", &old, &new][..], more].concat());
    let first = run(&["--json"]).expect(1).json();
    assert_eq!(first["added"][0]["deadline"], day(-3));
    assert_eq!(first["added"][0]["may_be_in_use"], true);
    // With the version of ten days ago, which didn't have it, there is time.
    std::fs::create_dir(folder.path().join("history")).unwrap();
    write("history/between.json", version(10, ""));
    write("history/notes.json", "not one of them".to_owned());
    let history = folder.path().join("history").display().to_string();
    let known = run(&["--json", "--history", &history]).expect(1);
    assert_eq!(known.json()["added"][0]["safe_deadline"], day(-10));
    assert!(known.stderr.contains("notes.json"), "{}", known.stderr);
    let ticket = run(&["--ticket", "--history", &history]).expect(1).stdout;
    for what in
        ["15.193.7.0/24 UDP 3478", &day(-10), "Who:", "What to let through by", "Why:", "Test:", "Back-out:"]
    {
        assert!(ticket.contains(what), "{what}: {ticket}");
    }
    let calendar = run(&["--ics", "--history", &history]).expect(1).stdout;
    let due = day(-10).replace('-', "");
    assert!(calendar.contains(&format!("DTSTART;VALUE=DATE:{due}\r\n")), "{calendar}");
    assert!(
        calendar.starts_with("BEGIN:VCALENDAR\r\n") && calendar.ends_with("END:VCALENDAR\r\n"),
        "{calendar}"
    );
    assert!(calendar.lines().all(|line| line.len() <= 75), "{calendar}");
    let nothing = ccpgate(Some(CONFIG), &["ranges", "diff", &new, &new, "--ics"]).expect(0);
    assert_eq!(nothing.stdout, "");
}

#[test]
fn bad_input_is_told_from_good() {
    let real = std::fs::read_to_string(new()).unwrap();
    for (text, what) in [
        ("<html><title>Blocked by policy</title>".to_owned(), "a web page, \"Blocked by policy\""),
        (real[..real.len() / 2].to_owned(), "cut short"),
        (String::new(), "the file is empty"),
        ("{\"a\": 1}".to_owned(), "missing field"),
        (real.replacen("15.193.3.0/24", "15.193.3.0/44", 1), "expected an IPv4 network"),
        (real.replacen("2026-08-22", "2086-08-22", 1), "lies ahead of this machine's clock"),
        (real.replace("us-west-2", "us-west-9"), "it has nothing of us-west-2, which connect.regions names"),
    ] {
        let (_folder, path) = file(&text);
        let name = path.display().to_string();
        let ran = show(CONFIG, &["--file", &name]).expect(2);
        assert!(ran.stderr.contains(what) && ran.stderr.contains(&name), "{what}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
        let ran = ccpgate(Some(CONFIG), &["ranges", "diff", &old(), &name]).expect(2);
        assert!(ran.stderr.contains(what) && ran.stderr.contains(&name), "{what}: {}", ran.stderr);
        let ran =
            ccpgate(Some(&format!("{CONFIG}\n[ranges]\nfile = {name:?}\n")), &["config", "check"]).expect(2);
        assert!(ran.stderr.contains("ranges.file") && ran.stderr.contains(what), "{what}: {}", ran.stderr);
    }
    let ran = show(CONFIG, &["--file", "/nowhere.json"]).expect(2);
    assert!(ran.stderr.contains("/nowhere.json: can't be read"), "{}", ran.stderr);
    let ran = show(CONFIG, &[]).expect(2);
    assert!(ran.stderr.contains("--file") && ran.stderr.contains("ranges.file"), "{}", ran.stderr);
}
