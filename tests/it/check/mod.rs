//! `ccpgate check`: each fault by its cause in the first line, a healthy network without a word of alarm,
//! and that it says what a CONNECT meets.

mod agrees;
mod answers;
mod bad_input;
mod certificates;
mod healthy;
mod via;
mod websocket;

use serde_json::Value;

use crate::support::ccpgate;

/// A configuration with one site, `site.example`, and what else the test says.
fn site(more: &str) -> String {
    format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n[[allow]]\npattern = \"site.example\"\n{more}"
    )
}

/// The report on that site alone.
#[track_caller]
fn check_site(config: &str, arguments: &[&str]) -> Value {
    let ran = ccpgate(Some(config), &[&["check", "--json", "--category", "extra"], arguments].concat());
    let report = ran.json();
    let code = if report["verdict"] == "failed" { 1 } else { 0 };
    ran.expect(code);
    report
}

/// The endpoint of a host.
#[track_caller]
fn endpoint<'a>(report: &'a Value, host: &str) -> &'a Value {
    let all = report["endpoints"].as_array().unwrap();
    all.iter().find(|e| e["host"] == host).unwrap_or_else(|| panic!("no {host} in {report:#}"))
}

/// The report's cause is this one, and so is that of the site; status and owner fit.
#[track_caller]
fn expect_cause(report: &Value, status: &str, cause: &str, owner: &str) {
    assert_eq!(report["verdict"], status, "{report:#}");
    assert_eq!(report["cause"], cause, "{report:#}");
    assert_eq!(report["owner"], owner, "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.contains(cause) && summary.contains(owner), "{summary}");
    let site = endpoint(report, "site.example");
    assert_eq!((&site["status"], &site["cause"]), (&status.into(), &cause.into()), "{site:#}");
    assert!(!site["detail"].as_str().unwrap().is_empty(), "{site:#}");
    assert!(site["remedy"].is_string(), "{site:#}");
}
