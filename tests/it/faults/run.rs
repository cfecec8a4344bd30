//! Runs `check` against the network of a fault and compares what it says with the file.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agree;
use super::file::{Expect, Fault, Place, is};
use super::namespace;
use super::network::{Asked, Network};
use super::wire::{self, Line};
use crate::support::clean;

/// No round takes longer, on whatever network: a machine that is busy with other tests included.
const MOST: Duration = Duration::from_secs(90);

/// What a run of `check` left.
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) took: Duration,
}

/// A command that runs.
pub(super) struct Running {
    child: Child,
    begun: Instant,
    readers: [std::thread::JoinHandle<Vec<u8>>; 2],
}

impl Running {
    /// Starts `ccpgate` with these arguments on the network.
    pub(super) fn start(asked: &Asked, arguments: &[&str]) -> Self {
        let config = asked.folder.join("check.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
        clean(&mut command);
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "NO_COLOR"] {
            command.env_remove(name);
        }
        // The platform's roots are those of the file alone, whatever this machine trusts.
        command.env("SSL_CERT_FILE", asked.folder.join("public.pem"));
        command.envs(asked.environment.iter().map(|(name, value)| (name, value)));
        command.arg("check").args(&asked.arguments).args(arguments).arg("-c").arg(config);
        command.current_dir(&asked.folder).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = [
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                out.read_to_end(&mut bytes).unwrap();
                bytes
            }),
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                err.read_to_end(&mut bytes).unwrap();
                bytes
            }),
        ];
        Self { child, begun: Instant::now(), readers }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it hangs, or what it wrote isn't text.
    pub(super) fn end(mut self) -> Result<Ran, String> {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.begun.elapsed() > MOST {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(format!("check hangs: it has run for {MOST:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let took = self.begun.elapsed();
        let [stdout, stderr] = self.readers.map(|reader| String::from_utf8(reader.join().unwrap()));
        let stdout = stdout.map_err(|e| format!("standard output: {e}"))?;
        let stderr = stderr.map_err(|e| format!("standard error: {e}"))?;
        Ok(Ran { code: status.code().unwrap_or(-1), stdout, stderr, took })
    }
}

/// Builds the network of a fault, in a namespace where it needs one, and returns what is wrong with
/// the answer; none where the fault can't be made here.
pub(super) fn judge(fault: &Fault) -> Option<Vec<String>> {
    if fault.place == Place::Namespace
        && let Err(why) = namespace::enter()
    {
        namespace::skipped(&format!("the fault {}", fault.name), &why);
        return None;
    }
    if fault.largest_packets.is_some() {
        let line = Line { largest: fault.largest_packets, ..Line::default() };
        let mut complaints = Vec::new();
        let laid = wire::across(line, fault, |asked| complaints = ask(fault, asked));
        let skipped = |why: String| namespace::skipped(&format!("the fault {}", fault.name), &why);
        return laid.map_err(skipped).ok().map(|()| complaints);
    }
    Some(ask(fault, &Network::build(fault).asked))
}

/// What is wrong with the answers of the program on this network.
fn ask(fault: &Fault, asked: &Asked) -> Vec<String> {
    let (json, text) = (Running::start(asked, &["--json"]), Running::start(asked, &[]));
    let mut complaints = Vec::new();
    let (json, text) = (json.end(), text.end());
    match json {
        Err(why) => complaints.push(why),
        Ok(ran) => {
            complaints.extend(harmless(&ran));
            match serde_json::from_str::<Value>(&ran.stdout) {
                Err(error) => complaints
                    .push(format!("no JSON: {error}: exit {}\n{}{}", ran.code, ran.stdout, ran.stderr)),
                Ok(report) => {
                    complaints.extend(compare(&fault.expect, &report, ran.code));
                    // Without local ports no client reaches a proxy either; `source-address` compares.
                    if !fault.no_ports {
                        complaints.extend(agree::disagreements(asked, &report));
                    }
                    match text {
                        Err(why) => complaints.push(format!("as text: {why}")),
                        Ok(text) => complaints.extend(compare_text(&fault.expect, &report, &text)),
                    }
                    if !complaints.is_empty() {
                        complaints.push(format!("after {:?}, the report:\n{report:#}", ran.took));
                    }
                }
            }
        }
    }
    complaints
}

/// Whatever a server sends, no control character reaches a terminal.
pub(super) fn harmless(ran: &Ran) -> Vec<String> {
    [("output", &ran.stdout), ("error", &ran.stderr)]
        .into_iter()
        .filter_map(|(which, text)| {
            let bad = text.chars().find(|c| c.is_control() && *c != '\n')?;
            Some(format!("a control character ({bad:?}) on standard {which}: {text:?}"))
        })
        .collect()
}

pub(super) fn compare(expect: &Expect, report: &Value, code: i32) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, got: &Value, expected: Value| {
        if *got != expected {
            wrong.push(format!("{what} is {got}, expected {expected}"));
        }
    };
    same("schema_version", &report["schema_version"], 1.into());
    same("verdict", &report["verdict"], expect.verdict.clone().into());
    same("cause", &report["cause"], expect.cause.clone().into());
    same("owner", &report["owner"], expect.owner.clone().into());
    same("the exit code", &code.into(), expect.exit.into());
    let summary = report["summary"].as_str().unwrap_or_default();
    for word in expect.summary.iter().chain(&expect.owner).chain(&expect.cause) {
        if !summary.to_lowercase().contains(&word.to_lowercase()) {
            wrong.push(format!("the summary lacks {word:?}: {summary}"));
        }
    }
    if summary.is_empty() || summary.contains('\n') {
        wrong.push(format!("the summary isn't one line: {summary:?}"));
    }
    let endpoints = report["endpoints"].as_array().cloned().unwrap_or_default();
    let causes: BTreeSet<&str> = endpoints.iter().filter_map(|e| e["cause"].as_str()).collect();
    let alone: Vec<String> = expect.cause.iter().cloned().collect();
    let expected = expect.causes.as_ref().unwrap_or(&alone);
    if causes != expected.iter().map(String::as_str).collect() {
        wrong.push(format!("the endpoints' causes are {causes:?}, expected {expected:?}"));
    }
    for endpoint in &endpoints {
        wrong.extend(unsound(endpoint));
    }
    for wanted in &expect.endpoint {
        let named = |e: &&Value| e["host"].as_str().is_some_and(|host| is(&wanted.host, host));
        let mut found = endpoints.iter().filter(named).peekable();
        if found.peek().is_none() {
            wrong.push(format!("no endpoint {}", wanted.host));
        }
        for endpoint in found {
            let detail = endpoint["detail"].as_str().unwrap_or_default().to_lowercase();
            let right = endpoint["status"] == wanted.status.as_str()
                && endpoint["cause"] == Value::from(wanted.cause.clone())
                && endpoint["because"] == Value::from(wanted.because.clone())
                && wanted.detail.iter().all(|word| detail.contains(&word.to_lowercase()));
            if !right {
                wrong.push(format!("expected {wanted:?}, got {endpoint}"));
            }
        }
    }
    wrong
}

/// What holds for every endpoint of every report.
fn unsound(endpoint: &Value) -> Option<String> {
    let (status, cause, because) =
        (endpoint["status"].as_str().unwrap_or_default(), &endpoint["cause"], &endpoint["because"]);
    let sound = match status {
        "ok" | "untested" => cause.is_null() && because.is_null(),
        "degraded" | "failed" => cause.is_string() && because.is_null() && endpoint["remedy"].is_string(),
        "skipped" => because.is_string(),
        _ => false,
    };
    (!sound).then(|| format!("status, cause, because and remedy don't fit together: {endpoint}"))
}

/// The same said to people: the first line is the summary.
fn compare_text(expect: &Expect, report: &Value, text: &Ran) -> Vec<String> {
    let mut wrong = harmless(text);
    if text.code != expect.exit {
        wrong.push(format!("as text: exit {}, expected {}\n{}", text.code, expect.exit, text.stderr));
    }
    let summary = report["summary"].as_str().unwrap_or_default();
    let first = text.stdout.lines().next().unwrap_or_default();
    // Figures differ from run to run.
    let words = |text: &str| text.replace(|c: char| c.is_ascii_digit() || c == '.', "");
    if !words(first).contains(&words(summary)) {
        wrong.push(format!("as text the first line is {first:?}, as JSON {summary:?}"));
    }
    wrong
}
