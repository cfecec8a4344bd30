//! What a running proxy answers, and how it is shown to people: the same for the commands that ask it
//! and for a bundle that was made elsewhere. Keys that are missing have no value, and strangers are left
//! alone: the proxy may be another version.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::running::clean;
use super::table::Table;
use crate::explain::agent_log::join;
use crate::findings::networks;
use crate::outcome::Outcome;
use crate::policy::{Category, Pattern};
use crate::target::Target;
use crate::wording::count;

/// `/api/tunnels`.
#[derive(Deserialize)]
pub(super) struct Tunnels {
    pub time: Option<Timestamp>,
    pub complete_since: Option<Timestamp>,
    pub live: Vec<Tunnel>,
    #[serde(default)]
    pub live_left_out: usize,
    pub ended: Vec<Tunnel>,
    #[serde(default)]
    pub ended_left_out: usize,
    /// A client is shown by its network alone.
    #[serde(default)]
    pub clients_are_networks: bool,
}

/// A live tunnel, or one that has ended.
#[derive(Deserialize)]
pub(super) struct Tunnel {
    pub id: String,
    pub client: String,
    pub target: String,
    #[serde(default)]
    pub category: String,
    pub since: Timestamp,
    #[serde(default)]
    pub idle_s: u32,
    #[serde(default)]
    pub sent: u64,
    #[serde(default)]
    pub received: u64,
    pub outcome: Option<String>,
    pub ended_by: Option<String>,
    pub ended: Option<Timestamp>,
}

impl Tunnels {
    /// The targets that agents used, the client or the network of each, and when last.
    pub(super) fn used(&self) -> impl Iterator<Item = (Target, IpNet, Timestamp)> {
        let all = self.live.iter().chain(&self.ended).filter_map(Tunnel::used);
        all.map(|(target, client, at)| match self.clients_are_networks {
            true => (target, networks::of(client, true), at),
            false => (target, client.to_canonical().into(), at),
        })
    }
}

impl Tunnel {
    /// The target that its agent used, and when last; none for what never was a tunnel.
    fn used(&self) -> Option<(Target, IpAddr, Timestamp)> {
        let was_tunnel =
            self.outcome.as_deref().is_none_or(|word| Outcome::of(word).is_none_or(Outcome::was_tunnel));
        let target = Target::parse_authority(self.target.as_bytes()).ok().filter(|_| was_tunnel)?;
        Some((target, self.client.parse().ok()?, self.ended.unwrap_or(self.since)))
    }
}

/// One row of `/api/denied`.
#[derive(Deserialize)]
pub(super) struct Denied {
    pub target: String,
    pub reason: String,
    pub count: u64,
    pub clients: u64,
    pub last: Timestamp,
    pub nearest: Option<Nearest>,
    pub elsewhere: Option<String>,
    #[serde(default)]
    pub let_through: bool,
    #[serde(default)]
    pub allowed_now: bool,
}

#[derive(Deserialize)]
pub(super) struct Nearest {
    pub rule: String,
    pub why: String,
}

/// One row of `/api/learned`.
#[derive(Deserialize)]
pub(super) struct Learned {
    pub host: String,
    pub rule: String,
    pub category: Option<String>,
    #[serde(default)]
    pub ports: Vec<u16>,
    pub clients: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub sent: u64,
    pub received: u64,
}

/// Fewer clients than this are no proof that agents need a host.
const ENOUGH: u64 = 3;

/// Tables of live and ended tunnels.
pub(super) fn tunnels(all: &Tunnels) -> String {
    let mut text = format!("{} live", count(all.live.len().saturating_add(all.live_left_out), "tunnel"));
    text.push_str(&left_out(all.live_left_out));
    if !all.live.is_empty() {
        let head = ["since", "client", "target", "category", "idle", "sent", "received", "id"];
        let rows = all.live.iter().map(|tunnel| {
            let [sent, received] = [tunnel.sent, tunnel.received].map(bytes);
            let idle = span(tunnel.idle_s.into());
            [clock(tunnel.since), clean(&tunnel.client), clean(&tunnel.target), clean(&tunnel.category), idle]
                .into_iter()
                .chain([sent, received, clean(&tunnel.id)])
                .collect()
        });
        let _ = write!(text, "\n{}", Table::new(&head, rows));
    }
    let _ = write!(text, "\n{} ended", count(all.ended.len().saturating_add(all.ended_left_out), "tunnel"));
    if let Some(since) = all.complete_since {
        let _ = write!(text, ", all since {}", clock(since));
    }
    text.push_str(&left_out(all.ended_left_out));
    if !all.ended.is_empty() {
        let head = ["ended", "client", "target", "outcome", "by", "lived", "idle", "sent", "received", "id"];
        let word = |word: &Option<String>| clean(word.as_deref().unwrap_or("-"));
        let rows = all.ended.iter().map(|tunnel| {
            let ended = tunnel.ended.unwrap_or(tunnel.since);
            let lived = ended.duration_since(tunnel.since).as_secs();
            let [sent, received] = [tunnel.sent, tunnel.received].map(bytes);
            [clock(ended), clean(&tunnel.client), clean(&tunnel.target)]
                .into_iter()
                .chain([word(&tunnel.outcome), word(&tunnel.ended_by)])
                .chain([span(lived.unsigned_abs()), span(tunnel.idle_s.into()), sent, received])
                .chain([clean(&tunnel.id)])
                .collect()
        });
        let _ = write!(text, "\n{}", Table::new(&head, rows));
    }
    text
}

/// A few lines for each denied target.
pub(super) fn denied(all: &[Denied]) -> String {
    if all.is_empty() {
        return "nothing was denied lately".to_owned();
    }
    let mut text = format!("{} denied lately, the last one first", count(all.len(), "target"));
    for row in all {
        let _ = write!(text, "\n\n{}", denial(row));
    }
    text
}

/// A denied target in a few lines.
pub(super) fn denial(row: &Denied) -> String {
    let times = if row.count == 1 { "once".to_owned() } else { format!("{} times", row.count) };
    let mut text = format!(
        "{}: {}, {times} by {}, last at {}",
        clean(&row.target),
        clean(&row.reason),
        count(row.clients, "client"),
        clock(row.last),
    );
    if row.let_through {
        text.push_str("; report mode let it through");
    }
    if row.allowed_now {
        text.push_str("\n  now        the rules in force allow it");
    }
    if let Some(nearest) = &row.nearest {
        let _ = write!(text, "\n  nearest    {}: {}", clean(&nearest.rule), clean(&nearest.why));
    }
    if let Some(elsewhere) = &row.elsewhere {
        let _ = write!(text, "\n  elsewhere  {}", clean(elsewhere));
    }
    text
}

/// `[[allow]]` entries; what fewer than three clients used is commented out.
pub(super) fn learned(all: &[Learned]) -> String {
    if all.is_empty() {
        return "# No host was used under a rule that is open to any AWS customer.\n".to_owned();
    }
    let mut text =
        "# Hosts that were used under rules that are open to any AWS customer. Entries with fewer than 3\n\
                    # clients are commented out: look at them before you trust them.\n"
            .to_owned();
    for row in all {
        let _ = write!(
            text,
            "\n# {} from {} to {}, under {}: {} sent, {} received\n",
            count(row.clients, "client"),
            clock(row.first),
            clock(row.last),
            clean(&row.rule),
            bytes(row.sent),
            bytes(row.received)
        );
        text.push_str(&entry(row));
    }
    text
}

fn entry(row: &Learned) -> String {
    // What is pasted into a configuration must be what it seems to be.
    let Some(pattern) = Pattern::parse(&row.host).ok().filter(Pattern::is_exact) else {
        return format!("# {} is no host name\n", clean(&row.host));
    };
    let mut lines = vec!["[[allow]]".to_owned(), format!("pattern = \"{pattern}\"")];
    if !matches!(row.ports[..], [443] | []) {
        lines.push(format!("ports = {:?}", row.ports));
    }
    let category = row.category.as_deref().and_then(category);
    if let Some(category) = category.filter(|category| *category != Category::Extra) {
        lines.push(format!("category = \"{}\"", category.as_str()));
    }
    let mark = if row.clients < ENOUGH { "# " } else { "" };
    lines.into_iter().map(|line| format!("{mark}{line}\n")).collect()
}

/// One line for each part of what a proxy says of its health; `state` is checked by the caller.
pub(super) fn status(all: &Value) -> String {
    let word = |value: &Value| clean(value.as_str().unwrap_or_default());
    let mut text = word(&all["summary"]);
    if text.is_empty() {
        text = word(&all["state"]);
    }
    for finding in all["findings"].as_array().into_iter().flatten() {
        let clients = [&finding["clients_failing"], &finding["clients_active"]].map(Value::as_u64);
        let list = |value: &Value| {
            value.as_array().map(|items| items.iter().map(word).collect::<Vec<_>>().join(", "))
        };
        let _ = write!(text, "\n\n{}", word(&finding["cause"]));
        let category = word(&finding["category"]);
        if !category.is_empty() {
            let _ = write!(text, " in {category}");
        }
        match (finding["source"].as_str(), clients) {
            (Some("watch"), _) => text.push_str(", seen by the watch"),
            (Some("ranges"), _) => text.push_str(", by ip-ranges.json"),
            // One of a version that doesn't say who sees it.
            (None, [Some(0), _]) => text.push_str(", seen by no client"),
            (_, [Some(failing), Some(active)]) => {
                let _ = write!(text, ", {failing} of {active} clients");
            }
            _ => {}
        }
        if let Ok(since) = word(&finding["since"]).parse() {
            let _ = write!(text, ", since {}", clock(since));
        }
        for (label, key) in [
            ("networks", "networks"),
            ("targets", "targets"),
            ("agent sees", "agent_sees"),
            ("changed", "changed"),
            ("whose turn", "owner"),
            ("do", "remedy"),
        ] {
            let said = list(&finding[key]).unwrap_or_else(|| word(&finding[key]));
            if !said.is_empty() {
                let _ = write!(text, "\n  {label:<10} {said}");
            }
        }
    }
    pending(&all["ranges"]["pending"], &mut text);
    lists(&all["edl"]["consumers"], &mut text);
    text
}

/// How many prefixes that a firewall is still to open are told one by one.
const PENDING: usize = 20;

/// The prefixes that AWS has published lately, and the day by which each must be open.
fn pending(added: &Value, text: &mut String) {
    let rows = added.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return;
    }
    let many = if rows.len() == 1 { "prefix" } else { "prefixes" };
    let _ = write!(text, "\n\n{} new {many} for the firewall, of ip-ranges.json", rows.len());
    for row in rows.iter().take(PENDING) {
        let [prefix, service, region, deadline, safe] =
            ["prefix", "service", "region", "deadline", "safe_deadline"]
                .map(|key| clean(row[key].as_str().unwrap_or_default()));
        let day = if safe.is_empty() { deadline } else { safe };
        let _ = write!(text, "\n  {:<10} {prefix} ({service}, {region})", format!("by {day}"));
    }
    if let Some(more @ 1..) = rows.len().checked_sub(PENDING) {
        let _ = write!(text, "\n  and {more} more");
    }
}

/// Which firewalls hold an old list of prefixes or names, and when each asked last.
fn lists(consumers: &Value, text: &mut String) {
    for row in consumers.as_array().into_iter().flatten() {
        let (Some(false), Some(sentence)) = (row["current"].as_bool(), row["sentence"].as_str()) else {
            continue;
        };
        let _ = write!(text, "\n\n{}", clean(sentence));
        let list = clean(row["list"].as_str().unwrap_or_default());
        let _ = write!(text, "\n  {:<10} {list}", "list");
        if let Some(at) = row["fetched"].as_str() {
            let _ = write!(text, "\n  {:<10} {}", "fetched", clean(at));
        }
    }
}

impl Tunnels {
    /// What a desk's log is joined with.
    pub(super) fn desk(&self) -> join::Desk {
        let now = self.time.unwrap_or_else(Timestamp::now);
        let complete = self.ended_left_out == 0 && self.live_left_out == 0;
        let oldest = self.ended.last().and_then(|tunnel| tunnel.ended);
        join::Desk {
            tunnels: self.live.iter().chain(&self.ended).map(|tunnel| tunnel.joined(now)).collect(),
            complete_since: if complete { self.complete_since } else { oldest.or(Some(now)) },
            now: Some(now),
        }
    }
}

impl Tunnel {
    fn joined(&self, now: Timestamp) -> join::Tunnel {
        let last = self.ended.unwrap_or(now);
        let idle = SignedDuration::from_secs(self.idle_s.into());
        let by = match self.ended_by.as_deref() {
            Some("client") => join::EndedBy::Client,
            Some("upstream") => join::EndedBy::Upstream,
            _ => join::EndedBy::Proxy,
        };
        join::Tunnel {
            id: clean(&self.id),
            host: clean(self.target.rsplit_once(':').map_or(self.target.as_str(), |(host, _)| host)),
            category: category(&self.category).unwrap_or(Category::Extra),
            began: self.since,
            moved: last.checked_sub(idle).unwrap_or(last).max(self.since),
            end: self.ended.map(|at| join::End {
                at,
                by,
                outcome: clean(self.outcome.as_deref().unwrap_or_default()),
            }),
        }
    }
}

fn category(word: &str) -> Option<Category> {
    Category::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word)).ok()
}

fn left_out(many: usize) -> String {
    if many == 0 { String::new() } else { format!(" ({many} of them left out here)") }
}

/// To the second, UTC.
pub(super) fn clock(time: Timestamp) -> String {
    time.strftime("%F %TZ").to_string()
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
    }
}

fn bytes(number: u64) -> String {
    let (number, unit) = match number {
        0..1_000 => return format!("{number} B"),
        1_000..1_000_000 => (number as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (number as f64 / 1e6, "MB"),
        _ => (number as f64 / 1e9, "GB"),
    };
    format!("{number:.1} {unit}")
}
