//! `ccpgate desks`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use super::out::{say, say_json};
use super::running::{AdminArg, clean, encoded};
use super::seen::clock;
use super::table::Table;
use super::tunnels;
use crate::config::Sources;
use crate::wording::count;

/// From the running proxy: what desk checks told lately, by network, the last one first.
///
/// An agent opens /check on the proxy's own address, as in http://proxy.corp:3128/check, and reads a code
/// to the help desk.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The check with this code, in full.
    #[arg(value_name = "CODE")]
    code: Option<String>,
    /// Only those of this client.
    #[arg(long, value_name = "ADDRESS", value_parser = tunnels::client)]
    client: Option<IpAddr>,
    #[command(flatten)]
    admin: AdminArg,
    /// An array, as /api/desks gives it.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let running = self.admin.running(sources)?;
        let mut path = "/api/desks?".to_owned();
        for (name, value) in
            [("code", self.code.clone()), ("client", self.client.map(|address| address.to_string()))]
        {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", encoded(&value));
            }
        }
        if self.json {
            let desks: Vec<Value> = running.ask(&path)?;
            say_json(&desks)?;
            return if self.code.is_some() && desks.is_empty() { Err(Failure::Negative) } else { Ok(()) };
        }
        let desks: Vec<Desk> = running.ask(&path)?;
        match (&self.code, desks.as_slice()) {
            (Some(code), []) => {
                let code = clean(code);
                let why = format!(
                    "there is no check with the code {code}: codes have five letters and digits, no I, L, O, U, 0 or 1"
                );
                say(&format!("{why}; see ccpgate desks"))?;
                Err(Failure::Negative)
            }
            (Some(_), desks) => say(&desks.iter().map(whole).collect::<Vec<_>>().join("\n\n")),
            (None, desks) => say(&list(desks)),
        }
    }
}

/// One row of `/api/desks`.
#[derive(Deserialize)]
struct Desk {
    time: Timestamp,
    client: String,
    network: String,
    code: String,
    verdict: String,
    sentence: String,
    owner: Option<String>,
    remedy: Option<String>,
    #[serde(default)]
    categories: BTreeMap<String, Category>,
    #[serde(default)]
    media: Vec<One>,
    #[serde(default)]
    seen: Vec<Seen>,
    #[serde(default)]
    browser: String,
}

#[derive(Deserialize)]
struct Category {
    status: String,
    #[serde(default)]
    hosts: Vec<One>,
}

/// A host or a media endpoint.
#[derive(Deserialize)]
struct One {
    host: String,
    status: String,
    because: Option<String>,
    ms: Option<u32>,
}

#[derive(Deserialize)]
struct Seen {
    target: String,
    state: String,
    outcome: Option<String>,
    id: Option<String>,
}

/// By network, then each check in a line.
fn list(desks: &[Desk]) -> String {
    if desks.is_empty() {
        return "no desk was checked lately; agents open /check on the proxy's address".to_owned();
    }
    let mut networks: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for desk in desks {
        *networks.entry(&desk.network).or_default().entry(&desk.verdict).or_default() += 1;
    }
    let mut text = count(desks.len(), "desk check");
    let rows = networks.iter().map(|(network, verdicts)| {
        let verdicts = verdicts.iter().map(|(verdict, times)| format!("{times} {}", clean(verdict)));
        vec![clean(network), verdicts.collect::<Vec<_>>().join(", ")]
    });
    let _ = write!(text, "\n{}", Table::new(&["network", "results"], rows));
    let rows = desks.iter().map(|desk| {
        [&desk.code, &desk.client, &desk.verdict]
            .map(|word| clean(word))
            .into_iter()
            .chain([clean(&desk.sentence)])
            .fold(vec![clock(desk.time)], |mut row, cell| {
                row.push(cell);
                row
            })
    });
    let head = ["time", "code", "client", "verdict", "what the agent was told"];
    let _ = write!(text, "\n\n{}", Table::new(&head, rows));
    text
}

/// One check in full.
fn whole(desk: &Desk) -> String {
    let mut text = format!(
        "{}  {}, {}\n{}",
        clean(&desk.code),
        clean(&desk.verdict),
        clock(desk.time),
        clean(&desk.sentence)
    );
    let mut line = |label: &str, said: &str| {
        if !said.is_empty() {
            let _ = write!(text, "\n  {label:<11}  {}", clean(said));
        }
    };
    line("client", &format!("{} in {}", desk.client, desk.network));
    line("whose turn", desk.owner.as_deref().unwrap_or_default());
    line("do", desk.remedy.as_deref().unwrap_or_default());
    for one in &desk.media {
        line("media", &described(one));
    }
    for (name, category) in &desk.categories {
        if category.hosts.is_empty() {
            line(name, &category.status);
        }
        for one in &category.hosts {
            line(name, &described(one));
        }
    }
    for seen in &desk.seen {
        let outcome = seen.outcome.as_ref().map(|word| format!(" {word}")).unwrap_or_default();
        let id = seen.id.as_ref().map(|id| format!(", id {id}")).unwrap_or_default();
        line("proxy saw", &format!("{} {}{outcome}{id}", seen.target, seen.state));
    }
    if desk.seen.is_empty() {
        line("proxy saw", "nothing of these hosts from this client");
    }
    line("browser", &desk.browser);
    text
}

fn described(one: &One) -> String {
    let because = one.because.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let ms = one.ms.map(|ms| format!(", {ms} ms")).unwrap_or_default();
    format!("{}: {}{because}{ms}", one.host, one.status)
}
