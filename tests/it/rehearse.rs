//! `ccpgate rehearse`: calls over a simulated region, what is said of them, and what is left behind.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::simulate::Region;
use crate::support::{Ran, ccpgate, clean, eventually};

/// A rehearsal with a region and a proxy of its own.
fn simulated(arguments: &[&str]) -> Ran {
    ccpgate(None, &[&["rehearse", "--simulate"], arguments].concat())
}

const PHASES: [&str; 12] = [
    "api",
    "conference",
    "connect",
    "exchange",
    "hang_up",
    "heartbeat",
    "media",
    "signalling",
    "static",
    "tls",
    "transfer",
    "upgrade",
];

#[test]
fn two_hundred_clean_calls_say_stay() {
    let report = simulated(&["--json"]).expect(0).json();
    let said = |key: &str| report[key].clone();
    assert_eq!(
        (said("calls"), said("failed"), said("verdict")),
        (200.into(), 0.into(), "stay_with_option_1".into()),
        "{report:#}"
    );
    assert_eq!(
        (said("schema_version"), said("error_ratio"), said("calls_needed")),
        (1.into(), 0.0.into(), Value::Null)
    );
    assert!(
        (report["ci95"][1].as_f64().unwrap() - 0.01828).abs() < 1e-4 && report["ci95"][0] == 0.0,
        "{report:#}"
    );
    let phases = report["phases"].as_object().unwrap();
    assert_eq!(phases.keys().collect::<Vec<_>>(), PHASES);
    for (phase, times) in phases {
        let [p50, p95, p99] = ["p50_ms", "p95_ms", "p99_ms"].map(|key| times[key].as_f64().unwrap());
        assert!(p50 <= p95 && p95 <= p99 && times["count"] == 200, "{phase}: {times}");
    }
    // A file of a megabyte takes its time, and each message a way there and back.
    for phase in ["static", "signalling", "exchange", "heartbeat", "transfer", "hang_up"] {
        assert!(phases[phase]["p99_ms"].as_f64() > Some(0.0), "{phase}");
    }
    assert_eq!(report["causes"], serde_json::json!({}));
    assert!(
        report["proxy"]["cpu_s"].as_f64() > Some(0.0)
            && report["proxy"]["memory_bytes"].as_u64() > Some(1 << 20)
    );
}

#[test]
fn each_fault_is_counted_under_its_cause() {
    let faults = [
        ("dns_nxdomain", "dns_nxdomain", "signalling"),
        ("dns_timeout", "dns_timeout", "signalling"),
        ("tcp_refused", "tcp_refused", "signalling"),
        ("tcp_reset", "tcp_reset", "signalling"),
        ("tcp_timeout", "tcp_timeout", "signalling"),
        ("tls_intercepted", "tls_intercepted", "signalling"),
        ("ws_refused", "ws_refused", "signalling"),
        ("ws_hung", "ws_hung", "signalling"),
        // The far side has said one thing before it goes.
        ("ws_cut", "ws_cut", "heartbeat"),
        ("udp_blocked", "udp_blocked", "media"),
        ("http_5xx", "http_unexpected", "api"),
    ];
    // Most of the time is waited for.
    std::thread::scope(|scope| {
        let run = |fault: &'static str| {
            let arguments = ["--calls", "3", "--fault"];
            scope.spawn(move || simulated(&[&arguments[..], &[&format!("{fault}=100%"), "--json"]].concat()))
        };
        let running: Vec<_> = faults.iter().map(|fault| (fault, run(fault.0))).collect();
        for ((fault, cause, phase), ran) in running {
            // Three of three are over the line with any confidence.
            let report = ran.join().unwrap().expect(1).json();
            assert_eq!(report["verdict"], "consider_option_2", "{fault}: {report:#}");
            assert_eq!(report["causes"], serde_json::json!({ (*cause): 3 }), "{fault}: {report:#}");
            let failure = &report["failures"][0];
            assert_eq!(failure["phase"], *phase, "{fault}: {report:#}");
            assert!(
                ["detail", "remedy", "owner"].iter().all(|key| failure[key] != ""),
                "{fault}: {report:#}"
            );
            // A library's web address helps nobody.
            assert!(!failure["detail"].as_str().unwrap().contains("https://"), "{fault}: {report:#}");
        }
    });
}

#[test]
fn a_rate_is_one_of_calls() {
    // Each within five deviations of what is expected, so that a seed that is drawn anew may stand here.
    for (fault, least, most) in
        [("ws_refused=0.05", 1, 26), ("http_5xx=50%", 64, 136), ("dns_nxdomain=0.2", 12, 68)]
    {
        let report = simulated(&["--fault", fault, "--json"]);
        let report = report.json();
        let failed = report["failed"].as_u64().unwrap();
        assert!((least..=most).contains(&failed), "{fault}: {failed} of 200");
    }
    let two = ["--fault", "ws_refused=0.5", "--fault", "http_5xx=0.5", "--calls", "100", "--json"];
    let report = simulated(&two).expect(1).json();
    let causes = report["causes"].as_object().unwrap();
    assert_eq!(causes.keys().collect::<Vec<_>>(), ["http_unexpected", "ws_refused"]);
}

#[test]
fn a_sequential_test_ends_as_soon_as_it_is_sure() {
    let report = simulated(&["--until-sure", "--json"]).expect(0).json();
    assert_eq!((&report["calls"], &report["verdict"]), (&145.into(), &"stay_with_option_1".into()));
    let report = simulated(&["--until-sure", "--fault", "ws_refused=0.3", "--json"]).expect(1).json();
    assert_eq!(report["verdict"], "consider_option_2");
    assert!(report["calls"].as_u64() < Some(145), "{report:#}");
    // Ended before it is: how many more it takes, should none fail.
    let report = simulated(&["--until-sure", "--calls", "20", "--json"]).expect(0).json();
    assert_eq!((&report["verdict"], &report["calls_needed"]), (&"inconclusive".into(), &145.into()));
}

#[test]
fn the_verdict_is_the_first_line() {
    let said = simulated(&["--calls", "20"]).expect(0).stdout;
    assert!(
        said.starts_with("not sure yet: 0 of 20 calls failed") && said.contains("calls more decide it"),
        "{said}"
    );
    let said = simulated(&["--calls", "20", "--fault", "ws_refused=1"]).expect(1).stdout;
    assert!(said.starts_with("consider Option 2: 20 of 20 calls failed"), "{said}");
    for words in
        ["ws_refused: the WebSocket upgrade is refused", "Whose turn: security", "to do: allow WebSockets"]
    {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    let junit = simulated(&["--calls", "20", "--fault", "ws_refused=1", "--junit"]).expect(1).stdout;
    assert!(
        junit.starts_with("<?xml")
            && junit.contains("failures=\"1\"")
            && junit.contains("type=\"ws_refused\""),
        "{junit}"
    );
    let junit = simulated(&["--junit"]).expect(0).stdout;
    assert!(junit.contains("failures=\"0\"") && junit.contains("name=\"signalling (p95)\""), "{junit}");
}

/// What a site doesn't have is missing in its simulated region, too: what is left out there would be the default's.
#[test]
fn a_site_is_rehearsed_as_it_is_configured() {
    let sites = [
        "media = false",
        "signin = [\"identity-center\"]",
        "legacy = false\nwildcards = \"narrow\"",
        "wildcards = \"narrow\"\nsignin = []\nfeatures = [\"scheduling\", \"service-apis\", \"fips\"]",
    ]
    .map(|keys| format!("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n{keys}\n"));
    let shift = ["rehearse", "--shift", "4", "--tunnels", "2", "--scale", "120", "--json"];
    std::thread::scope(|scope| {
        // Most of the time is waited for.
        let shift = scope.spawn(|| ccpgate(Some(&sites[0]), &shift));
        for site in &sites {
            let ran = ccpgate(Some(site), &["rehearse", "--simulate", "--calls", "24", "--json"]).expect(0);
            let report = ran.json();
            assert_eq!(report["failed"], 0, "{site}: {report:#}");
            let media = report["phases"].get("media").map_or(0, |times| times["count"].as_u64().unwrap());
            assert_eq!(media, if site.contains("media = false") { 0 } else { 24 }, "{site}");
        }
        let report = shift.join().unwrap().expect(0).json();
        assert_eq!(report["failed_calls"], 0, "{report:#}");
        assert!(report["calls"].as_u64() > Some(0), "{report:#}");
    });
}

/// Over the network of this machine: the way of a configuration, which leads to a region of another process.
#[test]
fn without_a_login_it_says_what_a_call_is() {
    let region = Region::start(&[]);
    let run = |more: &[&str]| {
        let file = region.configuration();
        let all = ["rehearse", "-c", file.to_str().unwrap(), "--ca", region.ca(), "--calls", "10"];
        ccpgate(None, &[&all[..], more].concat())
    };
    let said = run(&[]).expect(0).stdout;
    assert!(said.starts_with("without a login"), "{said}");
    let ran = run(&["--json"]).expect(0);
    assert!(ran.stderr.contains("without a login"), "{}", ran.stderr);
    let report = ran.json();
    assert_eq!((&report["scope"], &report["failed"]), (&"without_login".into(), &0.into()), "{report:#}");
    for phase in ["static", "api", "media"] {
        assert_eq!(report["phases"][phase]["count"], 10, "{phase}: {report:#}");
    }

    let report = run(&["--ws-url", region.url(), "--json"]).expect(0).json();
    assert_eq!((&report["scope"], &report["failed"]), (&"whole".into(), &0.into()), "{report:#}");
    assert_eq!(report["phases"].as_object().unwrap().keys().collect::<Vec<_>>(), PHASES);
    // A host under a wildcard of the list.
    let host = "prod.transport.connect.us-east-1.amazonaws.com";
    let report = run(&["--host", host, "--json"]).expect(0).json();
    assert_eq!(report["phases"]["signalling"]["count"], 10, "{report:#}");
    let said = run(&["--host", "x.example"]).expect(2).stderr;
    assert!(said.contains("--host: x.example: no rule allows this host"), "{said}");
    let said = run(&["--host", "simulated.s3.us-east-1.amazonaws.com"]).expect(2).stderr;
    assert!(said.contains("no call needs a host of the category attachments"), "{said}");
    // Without its authority somebody seems to decrypt.
    let file = region.configuration();
    let ran = ccpgate(None, &["rehearse", "-c", file.to_str().unwrap(), "--calls", "3", "--json"]).expect(1);
    assert_eq!(ran.json()["causes"], serde_json::json!({ "tls_intercepted": 3 }));
}

#[test]
fn a_parent_for_some_hosts_is_not_told_as_the_way_of_all() {
    let region = Region::start(&[]);
    let file = region.configuration();
    let through = |set: &[&str]| {
        let all = ["rehearse", "-c", file.to_str().unwrap(), "--ca", region.ca(), "--calls", "1", "--json"];
        let sets: Vec<_> = set.iter().flat_map(|one| ["--set", one]).collect();
        let report = ccpgate(None, &[&all[..], &sets].concat()).json();
        (report["failed"].as_u64().unwrap(), report["through"].as_str().unwrap().to_owned())
    };
    let parent = "egress.proxy=\"http://127.0.0.1:1\"";
    // Hosts of `connect_to` are reached without it.
    let (failed, told) = through(&[parent]);
    assert_eq!(
        (failed, &*told),
        (0, "the way of this configuration, by the parent proxy http://127.0.0.1:1")
    );
    let (failed, told) = through(&[parent, "egress.proxy_for=[\"x.example\"]"]);
    assert!(
        failed == 0
            && told.ends_with(" by the parent proxy http://127.0.0.1:1 for the hosts of egress.proxy_for"),
        "{told}"
    );
}

#[test]
fn faults_of_names_hit_single_calls_in_a_region_of_another_process_too() {
    for fault in ["dns_nxdomain", "tcp_refused", "ws_refused"] {
        let region = Region::start(&["--fault", &format!("{fault}=0.5")]);
        let file = region.configuration();
        let arguments =
            ["rehearse", "-c", file.to_str().unwrap(), "--ca", region.ca(), "--ws-url", region.url()];
        let report = ccpgate(None, &[&arguments[..], &["--calls", "24", "--json"]].concat()).json();
        let failed = report["causes"][fault].as_u64().unwrap_or(0);
        assert!((4..=20).contains(&failed) && report["failed"] == failed, "{fault}: {report:#}");
    }
}

#[test]
fn too_few_open_files_are_no_failures_of_the_network() {
    let program = env!("CARGO_BIN_EXE_ccpgate");
    let within = |files: u32, more: &[&str]| {
        let mut command = Command::new("sh");
        clean(&mut command);
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), program]);
        command.args(["rehearse", "--simulate", "--calls", "5"]).args(more).output().unwrap()
    };
    let told = within(150, &[]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(2), "{said}");
    assert!(said.contains("260 open files") && said.contains("--concurrency 6"), "{said}");
    // Where not even one fits, there is nothing to choose.
    let told = within(64, &["--concurrency", "1"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(2), "{said}");
    assert!(said.contains("1 call at a time") && !said.contains("choose"), "{said}");
    let told = within(150, &["--concurrency", "6"]);
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
    // A soft limit is raised.
    let mut command = Command::new("sh");
    clean(&mut command);
    command.args(["-c", "ulimit -S -n 40; exec \"$0\" \"$@\"", program]);
    let told = command.args(["rehearse", "--simulate", "--calls", "40"]).output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
}

#[test]
fn wrong_words_are_told_with_what_would_be_right() {
    for (arguments, word) in [
        (&["--calls", "0"][..], "1..=1000000"),
        (&["--calls", "many"], "invalid digit"),
        (&["--concurrency", "0"], "1..=2000"),
        (&["--simulate", "--fault", "ws_cutt=1"], "did you mean \"ws_cut\"?"),
        (&["--simulate", "--fault", "ws_cut=2"], "from 0 to 1"),
        (&["--fault", "ws_cut=1"], "--simulate"),
        (&["--simulate", "--via", "http://127.0.0.1:1"], "--via"),
        (&["--via", "127.0.0.1:1"], "did you mean \"http://127.0.0.1:1\"?"),
        (&["--ws-url", "https://x.example/secret"], "the scheme is not wss"),
        (&["--ws-url", "wss://x.example/secret"], "ccpgate explain x.example:443"),
        (&["--hold", "0s"], "1s to 1h"),
        (&["--ca", "missing.pem"], "missing.pem"),
        (&["--json", "--junit"], "--junit"),
        (&["--shift", "0"], "1..=100000"),
        (&["--shift", "10", "--calls", "10"], "--calls"),
        (&["--tunnels", "10"], "--shift"),
        (&["--over", "h2"], "--shift"),
        (&["--shift", "10", "--over", "spdy"], "plain, tls, h2"),
        (&["--shift", "100000", "--tunnels", "1000"], "need 200000500 open files"),
    ] {
        let ran = ccpgate(None, &[&["rehearse"], arguments].concat()).expect(2);
        assert!(ran.stderr.contains(word) && !ran.stderr.contains("secret"), "{arguments:?}: {}", ran.stderr);
    }
}

fn rehearsal(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    clean(&mut command);
    command.arg("rehearse").arg("--simulate").args(arguments).current_dir(std::env::temp_dir());
    command.stdout(Stdio::piped());
    command
}

/// A rehearsal that runs.
fn running(arguments: &[&str]) -> Child {
    rehearsal(arguments).spawn().unwrap()
}

/// The proxy that it started.
fn proxy_of(rehearsal: &Child) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", rehearsal.id());
    let begun = Instant::now();
    loop {
        let list = std::fs::read_to_string(&children).unwrap();
        if let Some(id) = list.split_whitespace().next() {
            return Pid::from_raw(id.parse().unwrap()).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no proxy was started");
        std::thread::yield_now();
    }
}

fn expect_gone(proxy: Pid) {
    let begun = Instant::now();
    // Nobody may be there to bury it.
    let is_dead = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.as_raw_nonzero()));
        stat.is_err()
            || stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
    };
    while !is_dead() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the proxy is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupt_gives_the_verdict_so_far() {
    let mut child = running(&["--calls", "1000000", "--json"]);
    let proxy = proxy_of(&child);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["interrupted"], &report["failed"]), (&true.into(), &0.into()), "{report:#}");
    expect_gone(proxy);
}

#[test]
fn a_killed_rehearsal_leaves_no_proxy_behind() {
    let mut child = running(&["--calls", "1000000"]);
    let proxy = proxy_of(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    expect_gone(proxy);
}

/// What killed processes leave behind goes with the next run; what lives, and what isn't ours, stays.
#[test]
fn folders_of_killed_rehearsals_are_cleared_away() {
    let temporary = tempfile::tempdir().unwrap();
    let made = |name: &str, age: Duration| {
        let folder = temporary.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.pem"), "").unwrap();
        let open = File::open(&folder).unwrap();
        open.set_modified(SystemTime::now() - age).unwrap();
        open
    };
    let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    for abandoned in ["ccpgate-rehearse-abc123", "ccpgate-simulate-abc123"] {
        made(abandoned, hour);
    }
    let stay = ["ccpgate-rehearse-lives", "ccpgate-rehearse-young", "ccpgate-bundle", "rehearse-x"];
    let lives = made(stay[0], hour);
    lives.lock().unwrap();
    made(stay[1], second);
    stay[2..].iter().for_each(|name| drop(made(name, hour)));
    let output = rehearsal(&["--calls", "1"]).env("TMPDIR", temporary.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let left = std::fs::read_dir(temporary.path()).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort_unstable();
    let mut stay = stay.map(str::to_owned);
    stay.sort_unstable();
    assert_eq!(left, stay);
}

#[test]
fn a_place_for_no_folder_is_named() {
    for arguments in [&["rehearse", "--simulate"][..], &["rehearse", "--shift", "1"], &["simulate"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
        clean(&mut command);
        let output = command.args(arguments).env("TMPDIR", "/no/such/place").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("no folder can be made in /no/such/place") && said.contains("TMPDIR"),
            "{said}"
        );
    }
}

#[test]
fn no_tunnel_of_a_shift_is_lost() {
    let over = ["plain", "tls", "h2"];
    std::thread::scope(|scope| {
        let shift = |over: &'static str| {
            let arguments = ["--shift", "8", "--tunnels", "12", "--scale", "60", "--over", over, "--json"];
            scope.spawn(move || expect_no_loss(over, &simulated(&arguments).expect(0).json()))
        };
        // Most of the time is waited for.
        let running = over.map(shift);
        running.into_iter().for_each(|shift| shift.join().unwrap());
    });
}

fn expect_no_loss(over: &str, report: &Value) {
    let of = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report:#}"));
    assert_eq!((of("lost"), of("failed"), of("failed_calls")), (0, 0, 0), "{report:#}");
    assert_eq!((&report["ok"], &report["reloaded"]), (&true.into(), &true.into()), "{report:#}");
    // Two quarters of the agents come back from a break. On a busy machine the morning may be over, or the
    // peak, before all have opened everything.
    let all = 8 * 12 + 4 * 12;
    assert!((8 * 12..=all).contains(&of("opened")), "{report:#}");
    assert!(of("calls") > 0, "{report:#}");
    // Those who had no break after the upgrade kept the old process, and nobody who came back found a closed
    // port: there is one address alone.
    assert_eq!((&report["taken_over"], &report["over"]), (&true.into(), &over.into()), "{report:#}");
    assert!(of("drained") >= of("still_draining") && of("still_draining") > 0, "{report:#}");
    assert!((1..=2 * 12).contains(&of("on_successor")), "{report:#}");
    match over {
        "plain" => assert_eq!((of("handshakes"), of("resumed")), (0, 0), "{report:#}"),
        "tls" => {
            assert!(of("handshakes") <= all && of("resumed") > of("handshakes") / 3, "{report:#}");
        }
        // Each agent's first, and one more for those who come back: they resume, also with the successor.
        _ => assert!((8..=8 + 4).contains(&of("handshakes")) && of("resumed") > 0, "{report:#}"),
    }
    assert!(
        report["peak"]["count"].as_u64() > Some(0) && report["peak"]["p99_ms"].as_f64() > Some(0.0),
        "{report:#}"
    );
    assert!(report["per_thousand_agents"]["memory_bytes"].as_u64() > Some(0), "{report:#}");
}

/// The socket by which the proxy of a rehearsal is found, in the rehearsal's folder of temporary files.
fn control_socket(temporary: &Path) -> PathBuf {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let all = std::fs::read_dir(folder).into_iter().flatten();
        all.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let begun = Instant::now();
    loop {
        let mut files = inside(temporary).into_iter().flat_map(|folder| inside(&folder));
        if let Some(socket) = files.find(|file| file.extension().is_some_and(|end| end == "sock")) {
            return socket;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the proxy has no socket");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_upgrade_that_fails_is_told_and_costs_no_tunnel() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = rehearsal(&["--shift", "4", "--tunnels", "2", "--scale", "120", "--json"]);
    let child = command.env("TMPDIR", temporary.path()).spawn().unwrap();
    // Its successor finds nobody.
    std::fs::remove_file(control_socket(temporary.path())).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!((&report["taken_over"], &report["ok"]), (&false.into(), &false.into()), "{report:#}");
    assert_eq!((&report["lost"], &report["failed"]), (&0.into(), &0.into()), "{report:#}");
    assert!(report["words"].to_string().contains("no process took over: "), "{report:#}");
}

#[test]
fn a_folder_for_no_socket_is_told_before_the_shift() {
    let temporary = tempfile::tempdir().unwrap();
    let long = temporary.path().join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let output = rehearsal(&["--shift", "1"])
        .env("TMPDIR", long)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("set TMPDIR to a shorter one"), "{said}");
}

/// A shift that was interrupted ends well, says so, has lost no tunnel, and leaves no proxy behind.
#[track_caller]
fn expect_interrupted(mut child: Child, proxy: Pid) {
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success(), "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["interrupted"], &report["lost"]), (&true.into(), &0.into()), "{report:#}");
    expect_gone(proxy);
}

#[test]
fn a_shift_that_is_interrupted_says_what_came_of_it() {
    let child = running(&["--shift", "4", "--tunnels", "2", "--scale", "1", "--json"]);
    let proxy = proxy_of(&child);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    expect_interrupted(child, proxy);
}

/// The proxy answers nobody any more: who waits until all agents have had their last answer waits long.
#[test]
fn a_second_interrupt_ends_a_shift_at_once() {
    let mut command = rehearsal(&["--shift", "1", "--scale", "1", "--json"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let proxy = proxy_of(&child);
    let sockets = || std::fs::read_dir(format!("/proc/{}/fd", proxy.as_raw_nonzero())).unwrap().count();
    // Its own are a few; each tunnel has two.
    eventually("tunnels are open", || (sockets() > 50).then_some(()));
    kill_process(proxy, Signal::STOP).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let again = told.next().unwrap().unwrap();
    assert!(again.contains("Ctrl-C again ends it now"), "{again}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // Nobody waited for the answers that never come: none of them is a loss.
    expect_interrupted(child, proxy);
}
