#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
//! The documentation against the program: keys, defaults, metrics, reasons, log fields and events,
//! links, examples. Each check says what is missing where; each is shown to notice a gap.

#[path = "docs/alerts.rs"]
mod alerts;
#[path = "docs/capacity.rs"]
mod capacity;
#[path = "docs/causes.rs"]
mod causes;
#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/examples.rs"]
mod examples;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/queries.rs"]
mod queries;
#[path = "docs/series.rs"]
mod series;
#[path = "docs/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use ccpgate::address::judge;
use ccpgate::egress::failure::{Failure, ParentError, Told};
use ccpgate::egress::url::ParentUrl;
use ccpgate::egress::{Circle, Lead, Loop, Outside, Unreached};
use ccpgate::egress::{dialer::DialError, resolver::ResolveError};
use ccpgate::findings::State;
use ccpgate::findings::watch::{Probe, ProbeStatus, Round};
use ccpgate::journal::metrics::Metrics;
use ccpgate::outcome::{Denial, Outcome};
use ccpgate::policy::{Category, Protocol, Reason};
use ccpgate::proxy::admission::Limit;
use ccpgate::proxy::refusal::Refusal;
use ccpgate::target::Form;
use serde_json::Value;
use strum::VariantArray;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All pages, by their path from the root.
fn pages() -> BTreeMap<String, String> {
    let mut pages: Vec<String> =
        ["README.md", "CHANGELOG.md", "deploy/README.md", "certs/README.md"].map(str::to_owned).into();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    assert!(pages.len() > 8, "{pages:?}");
    pages.into_iter().map(|page| (page.clone(), read(&page))).collect()
}

#[track_caller]
fn expect_nothing(missing: Vec<String>) {
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

/// The cells of a row of a table; none for other lines.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split(" | ").map(str::trim).collect())
}

/// The lines below a heading, up to the next of its level or above.
fn section<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let level = heading.bytes().take_while(|b| *b == b'#').count();
    let ends = |line: &&str| !(line.starts_with('#') && line.find(' ').is_some_and(|at| at <= level));
    page.lines().skip_while(|line| *line != heading).skip(1).take_while(ends).collect()
}

// ---------------------------------------------------------------- configuration

/// A default as it stands in TOML.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn about_keys(page: &str) -> Vec<String> {
    let schema = ccpgate::config::schema();
    let mut missing = Vec::new();
    for (name, about) in schema["properties"].as_object().unwrap() {
        let rows: BTreeMap<&str, Vec<&str>> = section(page, &format!("## {name}"))
            .into_iter()
            .filter_map(cells)
            .filter_map(|cells| Some((cells[0].strip_prefix('`')?.strip_suffix('`')?, cells)))
            .collect();
        let keys = about.get("items").unwrap_or(about)["properties"].as_object().unwrap();
        for (key, schema) in keys {
            let default =
                schema.get("default").map_or("required".to_owned(), |d| format!("`{}`", written(d)));
            match rows.get(key.as_str()) {
                None => missing.push(format!("[{name}] has no row for {key}")),
                Some(cells) if cells.len() != 5 => missing.push(format!("{name}.{key}: 5 cells are wanted")),
                Some(cells) if cells[2] != default => {
                    missing.push(format!("{name}.{key}: the default is {default}, not {}", cells[2]));
                }
                Some(cells) if !["yes", "watched", "restart"].contains(&cells[3]) => {
                    missing.push(format!("{name}.{key}: {:?} says nothing of reloads", cells[3]));
                }
                Some(cells) => {
                    let words = schema["enum"].as_array().or(schema["items"]["enum"].as_array());
                    for word in words.into_iter().flatten().map(|w| format!("`{w}`")) {
                        if !cells[1].contains(&word) {
                            missing.push(format!("{name}.{key}: {word} is missing"));
                        }
                    }
                }
            }
        }
        for row in rows.keys().filter(|row| !keys.contains_key(**row)) {
            missing.push(format!("[{name}] has a row for {row}, which is no key"));
        }
    }
    missing
}

#[test]
fn every_key_is_described_with_its_default() {
    let page = read("docs/configuration.md");
    expect_nothing(about_keys(&page));
    let noticed = |from: &str, to: &str| {
        assert!(page.contains(from), "{from}");
        about_keys(&page.replacen(from, to, 1))
    };
    assert_eq!(noticed("| `half_closed` |", "| `half_open` |").len(), 2);
    assert_eq!(noticed("`\"10h\"`", "`\"9h\"`").len(), 1);
    assert_eq!(noticed("`\"scheduling\"`, ", "").len(), 1);
    assert_eq!(noticed("| restart | Capacity", "| soon | Capacity").len(), 1);
}

// ---------------------------------------------------------------- metrics

/// Name, type and labels of every family that `/metrics` can have.
fn families() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let metrics = Metrics::new();
    let _series = metrics.unlisted();
    metrics.tls.certificate(Some(("proxy.pem", 0, 0)));
    metrics.configuration("0123456789ab");
    metrics.watched(Some(&round()));
    let text = String::from_utf8(metrics.render()).unwrap();
    let mut families = BTreeMap::new();
    for line in text.lines() {
        if let Some(name_and_type) = line.strip_prefix("# TYPE ") {
            let (name, kind) = name_and_type.split_once(' ').unwrap();
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let (_, labels) = families.get_mut(family(name)).unwrap();
            let names = rest.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            labels.extend(names.filter(|name| *name != "le" && !name.starts_with('}')).map(str::to_owned));
        }
    }
    families
}

/// A round of the watch over one media endpoint.
fn round() -> Round {
    let probe = Probe {
        host: "turn.example".to_owned(),
        port: 3478,
        protocol: Protocol::Udp,
        category: Category::Media,
        status: ProbeStatus::Ok,
        cause: None,
        detail: String::new(),
        issuer: None,
        addresses: Vec::new(),
        rtt_ms: Some(20),
        took_ms: Some(20),
        loss: Some(0.0),
    };
    Round { verdict: State::Ok, summary: String::new(), cause: None, owner: None, probes: vec![probe] }
}

fn family(series: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"];
    parts.iter().find_map(|part| series.strip_suffix(part)).unwrap_or(series)
}

/// Whatever in a text looks like the name of one of our metrics.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ccpgate_")).map(family).collect()
}

fn about_metrics(page: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, (kind, labels)) in families() {
        let quoted = format!("`{name}`");
        let Some(row) = page.lines().filter_map(cells).find(|cells| cells[0].contains(&quoted)) else {
            missing.push(format!("no row for {name}"));
            continue;
        };
        if row[1] != kind {
            missing.push(format!("{name} is a {kind}, not a {}", row[1]));
        }
        let of_label = labels.iter().filter(|label| !row[2].contains(&format!("`{label}`")));
        missing.extend(of_label.map(|label| format!("{name} has a label {label}")));
    }
    missing
}

fn unknown_metrics(text: &str) -> Vec<String> {
    let known = families();
    names_in(text).into_iter().filter(|name| !known.contains_key(*name)).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_described_with_its_type_and_labels() {
    let page = read("docs/metrics-and-logs.md");
    expect_nothing(about_metrics(&page));
    let families = families();
    assert!(families.len() > 25, "{families:?}");
    // A family that is registered and never rendered would escape the check above.
    let mut files = vec![root().join("src/journal/metrics.rs")];
    sources(&root().join("src/journal/metrics"), &mut files);
    let source: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    expect_nothing(names_in(&source).into_iter().filter(|n| !page.contains(n)).map(str::to_owned).collect());

    assert_eq!(about_metrics(&page.replacen("| `ccpgate_draining` |", "| `ccpgate_drain` |", 1)).len(), 1);
    assert_eq!(about_metrics(&page.replace("| gauge | `certificate` |", "| counter | |")).len(), 4);
    assert_eq!(about_metrics(&page.replace("`process_open_fds`, ", "")).len(), 1);
}

#[test]
fn pages_and_alerts_name_no_metric_that_there_is_not() {
    for (page, text) in pages() {
        assert_eq!(unknown_metrics(&text), Vec::<String>::new(), "{page}");
    }
    let alerts = read("deploy/prometheus-alerts.yml");
    assert!(names_in(&alerts).len() > 3);
    assert_eq!(unknown_metrics(&alerts), Vec::<String>::new(), "alerts");
    assert_eq!(unknown_metrics("rate(ccpgate_tunels_total[5m])"), ["ccpgate_tunels_total"]);
}

#[test]
fn every_value_of_a_closed_label_is_described() {
    let page = read("docs/metrics-and-logs.md");
    let row = |name: &str| {
        let quoted = format!("`{name}`");
        page.lines().find(|line| cells(line).is_some_and(|cells| cells[0] == quoted)).unwrap()
    };
    let (tunnels, denied) = (row("ccpgate_tunnels_total"), row("ccpgate_denied_total"));
    let mut missing: Vec<&str> = Outcome::VARIANTS.iter().map(Outcome::into_str).collect();
    missing.retain(|outcome| !tunnels.contains(&format!("`{outcome}`")));
    assert_eq!(missing, Vec::<&str>::new());
    let mut missing: Vec<&str> = Denial::VARIANTS.iter().map(Denial::into_str).collect();
    missing.retain(|reason| !denied.contains(&format!("`{reason}`")));
    assert_eq!(missing, Vec::<&str>::new());
}

// ---------------------------------------------------------------- reasons and outcomes

/// One refusal of each kind.
fn refusals() -> Vec<Refusal> {
    let address: std::net::SocketAddr = "192.0.2.1:443".parse().unwrap();
    let mut all: Vec<Refusal> = <Reason as VariantArray>::VARIANTS
        .iter()
        .map(|reason| Refusal::Policy { reason: *reason, rule: None })
        .collect();
    all.extend([
        Refusal::Client(address),
        Refusal::Method { method: "GET".into(), form: Form::Absolute { tls: false } },
        Refusal::Method { method: "GET".into(), form: Form::Absolute { tls: true } },
        Refusal::Method { method: "GET".into(), form: Form::Authority },
        Refusal::Method { method: "GET".into(), form: Form::Asterisk },
        Refusal::Malformed("x".into()),
        Refusal::HeaderSize { limit: 1 },
        Refusal::TooManyFields,
        Refusal::Check("10.0.0.2".parse().unwrap()),
        Refusal::ProxyHeader(ccpgate::proxy::proxy_protocol::Fault::Missing),
        Refusal::HeaderTimeout,
        Refusal::Overload(Limit::Connections(1)),
        Refusal::Draining,
        Refusal::PrivateTarget(judge("169.254.169.254".parse().unwrap(), &[]).unwrap_err()),
    ]);
    all.extend(unreached().into_iter().map(Refusal::Unreached));
    let seen: BTreeSet<&str> = all.iter().map(Refusal::reason).collect();
    assert!(Denial::VARIANTS.iter().all(|denial| seen.contains(denial.into_str())), "{seen:?}");
    all
}

/// A target that isn't reached, for each reason.
fn unreached() -> Vec<Unreached> {
    let address: std::net::SocketAddr = "192.0.2.1:443".parse().unwrap();
    let error = || io::Error::from(io::ErrorKind::Other);
    let mut all = vec![
        Unreached::Barred(judge("10.0.0.1".parse().unwrap(), &[]).unwrap_err(), None),
        Unreached::Outside(Outside { address: address.ip(), of: "2026-08-22-15-17-05".into() }),
        Unreached::Own(Loop { address, by: Lead::Name }),
        Unreached::Own(Loop { address, by: Lead::ConnectTo }),
        Unreached::Own(Loop { address, by: Lead::Parent }),
        Unreached::Dns(ResolveError::Timeout(Vec::new())),
        Unreached::Dns(ResolveError::Answer { rcode: "NXDOMAIN", why: String::new() }),
        Unreached::Dns(ResolveError::Transport(String::new())),
        Unreached::Dial(DialError::Exhausted(error())),
        Unreached::Dial(DialError::Timeout { limit: Duration::ZERO, addresses: Vec::new() }),
        Unreached::Dial(DialError::Refused(address)),
        Unreached::Dial(DialError::Reset(address)),
        Unreached::Dial(DialError::Unreachable(address, error())),
    ];
    let url = ParentUrl::parse("http://parent.corp:8080").unwrap();
    let of_parent = [
        Failure::Dns(ResolveError::Timeout(Vec::new())),
        Failure::Dial(DialError::Timeout { limit: Duration::ZERO, addresses: Vec::new() }),
        Failure::Dial(DialError::Exhausted(error())),
        Failure::Tls { certificate: true, why: String::new() },
        Failure::Tls { certificate: false, why: String::new() },
        Failure::Silent(Duration::ZERO),
        Failure::Lost(String::new()),
        Failure::Oversized,
        Failure::Foreign(String::new()),
        Failure::Refused { status: 403, words: String::new(), offers: Vec::new(), told: None },
        Failure::Refused {
            status: 502,
            words: String::new(),
            offers: Vec::new(),
            told: Some(Told { error: "proxy_loop_detected".into(), ..Told::default() }),
        },
    ];
    all.push(Unreached::Circle(Circle { parent: url.clone(), names: Vec::new() }));
    all.extend(of_parent.map(|failure| {
        Unreached::Parent(Box::new(ParentError { url: url.clone(), authenticated: false, failure }))
    }));
    all
}

fn about_reasons(page: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let table = section(page, "## All reasons");
    for refusal in refusals() {
        let (reason, (status, _, error)) = (refusal.reason(), refusal.status());
        let fits = |cells: &Vec<&str>| {
            cells[0].contains(&format!("[`{reason}`](#{reason})"))
                && cells[1] == status.to_string()
                && cells[2].contains(&format!("`{error}`"))
        };
        if !table.iter().filter_map(|line| cells(line)).any(|cells| fits(&cells)) {
            missing.push(format!("no row for {reason} with {status} and {error}"));
        }
        if section(page, &format!("### `{reason}`")).len() < 2 {
            missing.push(format!("no section about {reason}"));
        }
    }
    let table = section(page, "## Outcomes of tunnels");
    for outcome in Outcome::VARIANTS.iter().map(Outcome::into_str) {
        if !table.iter().any(|line| line.starts_with(&format!("| `{outcome}` |"))) {
            missing.push(format!("no row for the outcome {outcome}"));
        }
    }
    missing
}

#[test]
fn every_reason_and_outcome_is_explained() {
    let page = read("docs/denials.md");
    expect_nothing(about_reasons(&page));
    assert_eq!(about_reasons(&page.replace("### `overload`", "### overload")).len(), 3);
    assert_eq!(about_reasons(&page.replace("| 431 |", "| 413 |")).len(), 2, "too large, and too many fields");
    assert_eq!(about_reasons(&page.replace("| `idle_timeout` |", "| idle |")).len(), 1);
}

// ---------------------------------------------------------------- the log

fn sources(under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Every event that the source names.
fn events() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut events = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        events.extend(
            text.split("event = \"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
        );
    }
    events
}

fn about_events(page: &str) -> Vec<String> {
    let rows: BTreeSet<&str> = section(page, "### Events")
        .into_iter()
        .filter_map(cells)
        .map(|cells| cells[0].trim_matches('`'))
        .collect();
    let events = events();
    let mut missing: Vec<String> =
        events.iter().filter(|e| !rows.contains(e.as_str())).map(|e| format!("no row for {e}")).collect();
    let known = |row: &&&str| !events.contains(**row) && **row != "event" && !row.starts_with('-');
    missing.extend(rows.iter().filter(known).map(|row| format!("{row} is no event")));
    missing
}

#[test]
fn every_event_of_the_log_is_described() {
    let page = read("docs/metrics-and-logs.md");
    assert!(events().len() > 15);
    expect_nothing(about_events(&page));
    assert_eq!(about_events(&page.replace("| `cutting` |", "| `cut` |")).len(), 2);
}

#[test]
fn every_key_of_an_access_line_is_described() {
    let source = read("src/journal/access.rs");
    let (_, body) = source.split_once("struct Event<'a> {").unwrap();
    // Behind them stands what only the metrics need.
    let (body, _) = body.split_once("#[serde(skip)]").unwrap();
    let fields = body.lines().filter_map(|line| Some(line.trim().strip_prefix("pub ")?.split_once(':')?.0));
    let page = read("docs/metrics-and-logs.md");
    let table = section(&page, "### Access lines");
    let rows: Vec<_> = table.into_iter().filter_map(cells).collect();
    let described = |field: &str| rows.iter().any(|cells| cells[0].contains(&format!("`{field}`")));
    let fields: Vec<&str> = fields.collect();
    assert!(fields.len() > 15, "{fields:?}");
    assert_eq!(fields.into_iter().filter(|field| !described(field)).collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(!described("sender"));
}

// ---------------------------------------------------------------- fenced blocks

/// The fenced blocks of a page, with what stands behind the fence; and the text without them.
fn blocks(page: &str) -> (Vec<(String, String)>, String) {
    let (mut blocks, mut text) = (Vec::new(), String::new());
    let mut open: Option<(String, usize, String)> = None;
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => {
                let (kind, _, block) = open.take().unwrap();
                blocks.push((kind, block));
            }
            (Some(kind), None) => {
                let indent = line.len() - line.trim_start().len();
                open = Some((kind.trim().to_owned(), indent, String::new()));
            }
            (None, Some((_, indent, block))) => {
                block.push_str(line.get(*indent..).unwrap_or(""));
                block.push('\n');
            }
            (None, None) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    (blocks, text)
}
