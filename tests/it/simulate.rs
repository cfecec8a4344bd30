//! `ccpgate simulate`: a Connect region on loopback, seen as `check` sees a network.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{ccpgate, clean};

/// A region that runs, with the configuration that it printed.
pub(crate) struct Region {
    child: Child,
    folder: tempfile::TempDir,
    ca: PathBuf,
    url: String,
}

impl Region {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
        clean(&mut command);
        let folder = tempfile::tempdir().unwrap();
        command.arg("simulate").args(arguments).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut printed = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.starts_with("# Ready") {
                break;
            }
            printed += &line;
            printed.push('\n');
        }
        let after = |key: &str| {
            let found = printed.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or_else(|| panic!("no {key} in:\n{printed}")).to_owned()
        };
        let (ca, url) = (after("# ca: ").into(), after("# url: "));
        std::fs::write(folder.path().join("region.toml"), &printed).unwrap();
        Self { child, folder, ca, url }
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.path().join("region.toml")
    }

    /// The file of its authority.
    pub(crate) fn ca(&self) -> &str {
        self.ca.to_str().unwrap()
    }

    /// Its signalling.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What `check` says of it.
    fn check(&self, more: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
        clean(&mut command);
        command.arg("check").arg("--json").arg("-c").arg(self.configuration());
        command.arg("--ca").arg(&self.ca).args(["--ws-url", &self.url]).args(more);
        let ran = command.output().unwrap();
        serde_json::from_slice(&ran.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cause(report: &Value) -> Option<&str> {
    report["cause"].as_str()
}

#[test]
fn a_region_without_faults_passes_a_check() {
    let region = Region::start(&["--region", "eu-west-2", "--instance", "globex"]);
    let report = region.check(&[]);
    assert_eq!((report["verdict"].as_str(), cause(&report)), (Some("ok"), None), "{report:#}");
    let tested = |category: &str| {
        let endpoints = report["endpoints"].as_array().unwrap();
        endpoints.iter().filter(|e| e["category"] == category && e["status"] == "ok").count()
    };
    for category in ["login", "signalling", "static", "chat", "attachments", "media"] {
        assert!(tested(category) > 0, "{category}: {report:#}");
    }
    assert!(region.url.contains("eu-west-2"), "{}", region.url);
    // The authority of the running proxy's own rounds counts where no flag names one.
    let file = region.configuration();
    let (file, ca) = (file.to_str().unwrap(), format!("watch.ca={:?}", region.ca));
    let login = ["check", "-c", file, "--category", "login"];
    assert!(ccpgate(None, &login).expect(1).stdout.contains("tls_intercepted"));
    ccpgate(None, &[&login[..], &["--set", &ca]].concat()).expect(0);
}

/// A key that the printed configuration left out would have the default's value, and lead to names that the region
/// doesn't have.
#[test]
fn the_configuration_says_all_that_the_region_was_made_for() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site.toml");
    let keys = "regions = [\"eu-west-2\"]\ninstances = [\"acme\"]\nattachment_buckets = [\"simulated\"]\n\
        instance_ids = [\"12345678-90ab-cdef-1234-567890abcdef\"]\norigins = [\"https://crm.example\"]\n\
        media = false\nlegacy = false\nsignin = [\"identity-center\"]\nfeatures = [\"scheduling\"]\n\
        wildcards = \"narrow\"\n";
    std::fs::write(&site, format!("[connect]\n{keys}")).unwrap();
    let connect = |arguments: &[&str]| {
        let shown = ccpgate(None, &[&["config", "show", "--json"], arguments].concat()).expect(0).json();
        let all = shown.as_object().unwrap().clone().into_iter();
        let keys =
            all.filter(|(key, _)| key.starts_with("connect.")).map(|(key, of)| (key, of["value"].clone()));
        keys.collect::<Vec<_>>()
    };
    let named = ["-c", site.to_str().unwrap()];
    let region = Region::start(&named);
    let (default, asked) = (connect(&[]), connect(&named));
    assert!(!asked.is_empty() && default.len() == asked.len());
    for (before, now) in default.iter().zip(&asked) {
        assert_ne!(before, now, "the site needs another value here");
    }
    assert_eq!(connect(&["-c", region.configuration().to_str().unwrap()]), asked);
    let report = region.check(&[]);
    assert_eq!(report["verdict"], "ok", "{report:#}");
}

#[test]
fn each_fault_is_named_by_a_check() {
    let faults = [
        ("dns_nxdomain", "dns_nxdomain"),
        ("dns_timeout", "dns_timeout"),
        ("tcp_refused", "tcp_refused"),
        ("tcp_reset", "tcp_reset"),
        ("tcp_timeout", "tcp_timeout"),
        ("tls_intercepted", "tls_intercepted"),
        ("ws_refused", "ws_refused"),
        ("ws_hung", "ws_hung"),
        ("ws_cut", "ws_cut"),
        ("udp_blocked", "udp_blocked"),
    ];
    // Most of the time is waited for.
    std::thread::scope(|scope| {
        let run = |fault: &'static str| {
            scope.spawn(move || Region::start(&["--fault", &format!("{fault}=100%")]).check(&[]))
        };
        let running: Vec<_> = faults.iter().map(|(fault, cause)| (fault, cause, run(fault))).collect();
        for (fault, expected, report) in running {
            let report = report.join().unwrap();
            assert_eq!(cause(&report), Some(*expected), "{fault}: {report:#}");
        }
    });
}

#[test]
fn a_check_that_knows_no_websocket_still_finds_what_is_wrong_with_the_signalling() {
    let check = |region: &Region| {
        let file = region.configuration();
        let file = file.to_str().unwrap();
        ccpgate(None, &["check", "--json", "-c", file, "--ca", region.ca(), "--category", "signalling"])
    };
    let sound = check(&Region::start(&[])).expect(0).json();
    assert_eq!(sound["categories"]["signalling"]["status"], "ok", "{sound:#}");
    for fault in ["dns_nxdomain", "tcp_refused", "tcp_reset", "tls_intercepted"] {
        let report = check(&Region::start(&["--fault", &format!("{fault}=1")])).expect(1).json();
        assert_eq!(cause(&report), Some(fault), "{report:#}");
    }
}

#[test]
fn a_fault_comes_and_goes_while_the_region_runs() {
    let mut region = Region::start(&["--fault", "ws_refused=1"]);
    let refused = |region: &Region| cause(&region.check(&["--category", "signalling"])) == Some("ws_refused");
    assert!(refused(&region));
    // What is no fault changes nothing, and ends nothing.
    region.child.stdin.take().unwrap().write_all(b"fire=1\nws_refused=0\n").unwrap();
    assert!((0..50).any(|_| !refused(&region)), "the fault never went");
}

#[test]
fn what_it_wrote_goes_with_it() {
    // Its standard input stays open.
    let mut region = Region::start(&[]);
    let _input = region.child.stdin.take();
    let ca = region.ca.clone();
    assert!(std::fs::read_to_string(&ca).unwrap().contains("BEGIN CERTIFICATE"));
    kill_process(Pid::from_child(&region.child), Signal::TERM).unwrap();
    assert!(region.child.wait().unwrap().success());
    assert!(!ca.exists() && !ca.parent().is_some_and(Path::exists));
}

#[test]
fn wrong_words_are_told_with_what_would_be_right() {
    for (arguments, word) in [
        (["--fault", "ws_cutt=1"], "did you mean \"ws_cut\"?"),
        (["--fault", "ws_cut=2"], "from 0 to 1"),
        (["--region", "mars-1"], "mars-1"),
        (["--instance", "a.b"], "a.b"),
        (["--instance", "a b"], "1 to 63 letters"),
        (["--folder", "/nowhere/at/all"], "/nowhere/at/all"),
    ] {
        let ran = ccpgate(None, &[&["simulate"], &arguments[..]].concat()).expect(2);
        assert!(ran.stderr.contains(word), "{arguments:?}: {}", ran.stderr);
    }
}
