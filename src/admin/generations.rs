//! The processes before this one that still have tunnels: asked over their Unix sockets, so that metrics,
//! tunnels and status are those of all of them. What a process counted stays counted when it has ended.
//!
//! The newest process asks all others. Each answers for itself and for those that ended while it was the
//! newest, so nothing counts twice.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Admin, denied, learned, status, tunnels};
use crate::journal::metrics::exposition::Exposition;
use crate::journal::metrics::generations::{Family, fold};
use crate::net::control::Line;

/// An older process is on this machine, and answers at once; one that hangs holds up no scrape for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Processes whose tunnels, denials and learned hosts are remembered after their end.
const REMEMBERED: usize = 4;

/// What one process asks another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Who are you?
    Who,
    Report,
    /// With the query of a URL.
    Tunnels(String),
    Denied,
    Learned,
    /// The asker ends.
    Ends(Box<Last>),
    /// As `POST /api/reload`.
    Reload {
        yes: bool,
    },
    TakeOver {
        pid: u32,
        version: String,
    },
}

/// Answers to [`Question::Who`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Who {
    pub id: u32,
    pub pid: u32,
    /// It accepts connections, and nobody has taken over.
    pub serves: bool,
}

/// What a process counted and shows.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    families: Vec<Family>,
    /// As `/api/status`.
    status: Value,
}

/// The last words of a process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Last {
    pub id: u32,
    report: Report,
    tunnels: Value,
    denied: Value,
    learned: Value,
}

impl Last {
    /// What `admin`'s process leaves behind.
    pub(crate) fn of(admin: &Admin) -> Self {
        Self {
            id: admin.shared.generation,
            report: admin.report(),
            tunnels: parsed(tunnels::own(admin, "limit=10000").unwrap_or_default().as_bytes()),
            denied: parsed(&denied::own(admin)),
            learned: parsed(&learned::own(admin)),
        }
    }
}

/// A process before this one that lives.
#[derive(Clone)]
pub(crate) struct Older {
    pub id: u32,
    pub socket: PathBuf,
    last: Option<Arc<Report>>,
}

impl Older {
    pub(crate) fn new(id: u32, socket: PathBuf) -> Self {
        Self { id, socket, last: None }
    }
}

/// What ended processes counted, and what the last of them knew.
#[derive(Default)]
struct Retired {
    families: Vec<Family>,
    rules: Vec<Value>,
    known: Vec<[Value; 3]>,
}

/// All processes but this one.
#[derive(Default)]
pub(crate) struct Generations {
    older: Mutex<Vec<Older>>,
    retired: Mutex<Retired>,
    /// A successor asks the older ones now.
    handed_over: AtomicBool,
}

/// Asks a process.
///
/// # Errors
/// When it doesn't answer in time.
pub(crate) fn ask(socket: &Path, question: &Question) -> io::Result<Vec<u8>> {
    let mut line = Line::connect(socket, PATIENCE)?;
    line.say(question)?;
    line.hear_bytes()
}

impl Generations {
    /// Puts these in place of the older processes that are known.
    pub(crate) fn follow(&self, older: Vec<Older>) {
        *lock(&self.older) = older;
        self.refresh();
    }

    /// Older processes that live, as far as is known.
    pub(crate) fn living(&self) -> Vec<(u32, PathBuf)> {
        lock(&self.older).iter().map(|older| (older.id, older.socket.clone())).collect()
    }

    /// Keeps those of the older processes that the predecessor knew last; it counts what the others had.
    pub(crate) fn keep(&self, ids: &[u32]) {
        lock(&self.older).retain(|older| ids.contains(&older.id));
    }

    /// From now on a successor asks the older processes, or no more.
    pub(crate) fn hand_over(&self, over: bool) {
        self.handed_over.store(over, Ordering::Release);
    }

    /// Whether no successor has taken over from this process.
    pub(crate) fn is_newest(&self) -> bool {
        !self.handed_over.load(Ordering::Acquire)
    }

    /// Asks all older processes how they do, where this one is the newest. What one counted stays when it
    /// has ended.
    pub(crate) fn refresh(&self) {
        if !self.is_newest() {
            return;
        }
        let mut all = lock(&self.older);
        let mut gone = Vec::new();
        for older in all.iter_mut() {
            match ask(&older.socket, &Question::Report).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            {
                Ok(report) => older.last = Some(Arc::new(report)),
                Err(error) if is_gone(&error) => gone.push(older.id),
                // It is busy, or ends just now: what it said last counts.
                Err(_) => {}
            }
        }
        for id in gone {
            self.retire(&mut all, id, None);
        }
    }

    /// An older process has said its last words.
    pub(crate) fn ended(&self, last: Last) {
        let mut all = lock(&self.older);
        if all.iter().any(|older| older.id == last.id) {
            self.retire(&mut all, last.id, Some(last));
        }
    }

    fn retire(&self, all: &mut Vec<Older>, id: u32, last: Option<Last>) {
        let Some(at) = all.iter().position(|older| older.id == id) else { return };
        let older = all.remove(at);
        let (report, known) = match last {
            Some(Last { report, tunnels, denied, learned, .. }) => {
                (Some(report), Some([tunnels, denied, learned]))
            }
            None => (older.last.map(Arc::unwrap_or_clone), None),
        };
        tracing::info!(event = "generation_ended", generation = id, "an older process has ended");
        let mut retired = lock(&self.retired);
        if let Some(Report { families, mut status }) = report {
            fold(&mut retired.families, families.into_iter().filter(Family::lasts));
            let rules = status["rules"].take();
            merge_rules(&mut retired.rules, rules, |rule| rule["active"] = json!(0));
        }
        retired.known.extend(known);
        let too_many = retired.known.len().saturating_sub(REMEMBERED);
        retired.known.drain(..too_many);
    }

    /// The reports of the older processes, where this one is the newest.
    fn reports(&self) -> Vec<Arc<Report>> {
        if !self.is_newest() {
            return Vec::new();
        }
        self.refresh();
        lock(&self.older).iter().filter_map(|older| older.last.clone()).collect()
    }

    /// What the older processes answer to a question, where this one is the newest, and what was known of
    /// those that have ended: their `at`th answer.
    fn answers(&self, question: &Question, at: usize) -> Vec<Value> {
        let mut all: Vec<Value> = lock(&self.retired).known.iter().map(|known| known[at].clone()).collect();
        if self.is_newest() {
            let asked = self.living().into_iter().filter_map(|(_, socket)| ask(&socket, question).ok());
            all.extend(asked.map(|bytes| parsed(&bytes)));
        }
        all
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admin {
    /// Who this process is.
    pub(crate) fn who(&self) -> Who {
        Who {
            id: self.shared.generation,
            pid: std::process::id(),
            serves: !self.shared.drain.is_leaving() && self.generations.is_newest(),
        }
    }

    /// Metrics of all processes, in Prometheus's text format.
    pub(super) fn metrics(&self) -> Exposition {
        let reports = self.generations.reports();
        let retired = lock(&self.generations.retired);
        let others = reports.iter().flat_map(|report| &report.families).chain(&retired.families);
        self.shared.journal.metrics.exposition(others)
    }

    /// What this process and those that ended under it counted, and its status.
    pub(crate) fn report(&self) -> Report {
        let retired = lock(&self.generations.retired);
        let mut families = self.shared.journal.metrics.families();
        fold(&mut families, retired.families.iter().cloned());
        Report { families, status: self.status_with(&retired) }
    }

    /// The status of this process, with what ended ones counted.
    fn status_with(&self, retired: &Retired) -> Value {
        let mut status = parsed(status::own(self).as_bytes());
        if let Value::Array(rules) = &mut status["rules"] {
            merge_rules(rules, Value::Array(retired.rules.clone()), |_| {});
        }
        status
    }

    /// The status of all processes.
    pub(crate) fn status(&self) -> String {
        let reports = self.generations.reports();
        let retired = lock(&self.generations.retired);
        if reports.is_empty() && retired.rules.is_empty() {
            drop(retired);
            return status::own(self);
        }
        let mut whole = self.status_with(&retired);
        drop(retired);
        for report in reports {
            merge_status(&mut whole, report.status.clone());
        }
        whole.to_string()
    }

    /// An object of `/api/tunnels`, with those of the other processes.
    pub(super) fn all_tunnels(
        &self,
        own: String,
        query: &str,
        limit: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> String {
        let others = self.generations.answers(&Question::Tunnels(query.to_owned()), 0);
        if others.is_empty() {
            return own;
        }
        let mut whole = parsed(own.as_bytes());
        for mut other in others {
            for (list, left_out) in [("live", "live_left_out"), ("ended", "ended_left_out")] {
                let count = whole[left_out].as_u64().unwrap_or(0) + other[left_out].as_u64().unwrap_or(0);
                whole[left_out] = json!(count);
                if let (Value::Array(all), Value::Array(more)) = (&mut whole[list], other[list].take()) {
                    all.extend(more.into_iter().filter(&wanted));
                }
            }
            if other["complete_since"].as_str() > whole["complete_since"].as_str() {
                whole["complete_since"] = other["complete_since"].take();
            }
        }
        for (list, left_out, by) in [("live", "live_left_out", "since"), ("ended", "ended_left_out", "ended")]
        {
            let Value::Array(all) = &mut whole[list] else { continue };
            all.sort_by(|a, b| b[by].as_str().cmp(&a[by].as_str()));
            let beyond = all.len().saturating_sub(limit);
            all.truncate(limit);
            whole[left_out] = json!(whole[left_out].as_u64().unwrap_or(0) + beyond as u64);
        }
        whole.to_string()
    }

    /// The rows of `/api/denied`, with those of the other processes.
    pub(super) fn all_denied(&self, own: Vec<u8>) -> Vec<u8> {
        self.rows(own, &Question::Denied, 1, ["target", "reason"], &["count"])
    }

    /// The rows of `/api/learned`, with those of the other processes.
    pub(super) fn all_learned(&self, own: Vec<u8>) -> Vec<u8> {
        self.rows(own, &Question::Learned, 2, ["host", "rule"], &["sent", "received"])
    }

    /// Rows with the same keys become one: sums, the most clients, from the first to the last time.
    fn rows(&self, own: Vec<u8>, question: &Question, at: usize, keys: [&str; 2], sums: &[&str]) -> Vec<u8> {
        let others = self.generations.answers(question, at);
        if others.is_empty() {
            return own;
        }
        let mut whole: BTreeMap<[String; 2], Value> = BTreeMap::new();
        let lists = std::iter::once(parsed(&own)).chain(others);
        for mut row in
            lists.filter_map(|list| if let Value::Array(rows) = list { Some(rows) } else { None }).flatten()
        {
            let key = keys.map(|key| row[key].as_str().unwrap_or_default().to_owned());
            let Some(known) = whole.get_mut(&key) else {
                whole.insert(key, row);
                continue;
            };
            for sum in sums {
                known[*sum] = json!(known[*sum].as_u64().unwrap_or(0) + row[*sum].as_u64().unwrap_or(0));
            }
            if row["clients"].as_u64() > known["clients"].as_u64() {
                known["clients"] = row["clients"].take();
            }
            if row["first"].as_str() < known["first"].as_str() {
                known["first"] = row["first"].take();
            }
            if row["last"].as_str() > known["last"].as_str() {
                known["last"] = row["last"].take();
            }
        }
        let mut rows: Vec<Value> = whole.into_values().collect();
        rows.sort_by(|a, b| b["last"].as_str().cmp(&a["last"].as_str()));
        serde_json::to_vec(&rows).unwrap_or(own)
    }

    /// The answer of this process to another one's question; none to what isn't asked here.
    pub(crate) fn own_answer(&self, question: &Question) -> Option<Vec<u8>> {
        match question {
            Question::Report => serde_json::to_vec(&self.report()).ok(),
            Question::Tunnels(query) => tunnels::own(self, query).ok().map(String::into_bytes),
            Question::Denied => Some(denied::own(self)),
            Question::Learned => Some(learned::own(self)),
            _ => None,
        }
    }
}

/// Adds the rules of another process; `change` changes each before.
fn merge_rules(rules: &mut Vec<Value>, others: Value, change: impl Fn(&mut Value)) {
    let Value::Array(others) = others else { return };
    // There may be thousands of rules.
    let key =
        |rule: &Value| ["domain", "category"].map(|key| rule[key].as_str().unwrap_or_default().to_owned());
    let mut places: HashMap<_, _> = rules.iter().enumerate().map(|(at, rule)| (key(rule), at)).collect();
    for mut other in others {
        change(&mut other);
        let at = *places.entry(key(&other)).or_insert(rules.len());
        let Some(rule) = rules.get_mut(at) else {
            rules.push(other);
            continue;
        };
        for key in ["active", "total", "failed", "sent", "received"] {
            rule[key] = json!(rule[key].as_u64().unwrap_or(0) + other[key].as_u64().unwrap_or(0));
        }
        if other["last_used"].as_str() > rule["last_used"].as_str() {
            rule["last_used"] = other["last_used"].take();
        }
    }
}

/// Adds the status of an older process to that of all newer ones.
fn merge_status(whole: &mut Value, mut other: Value) {
    if let Value::Array(rules) = &mut whole["rules"] {
        merge_rules(rules, other["rules"].take(), |_| {});
    }
    for list in ["generations", "findings"] {
        let (Value::Array(all), Value::Array(more)) = (&mut whole[list], other[list].take()) else {
            continue;
        };
        // A finding that both have is told by the newer one.
        let is_known = |one: &Value, all: &[Value]| {
            list == "findings"
                && all
                    .iter()
                    .any(|known| known["cause"] == one["cause"] && known["category"] == one["category"])
        };
        for one in more {
            if !is_known(&one, all) {
                all.push(one);
            }
        }
    }
    for key in ["client_connections", "busy"] {
        whole[key] = json!(whole[key].as_i64().unwrap_or(0) + other[key].as_i64().unwrap_or(0));
    }
    for key in ["active", "failing"] {
        // Most clients are with both: a sum would count them twice.
        if other["clients"][key].as_u64() > whole["clients"][key].as_u64() {
            whole["clients"][key] = other["clients"][key].take();
        }
    }
    let gravity = |status: &Value| ["ok", "degraded", "failed"].iter().position(|s| status["state"] == *s);
    if gravity(&other) > gravity(whole) {
        for key in ["state", "summary"] {
            whole[key] = other[key].take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_all_is_the_sum_and_the_worst() {
        let rule = |active: u64, total: u64, at: &str| {
            json!({"domain": "a", "category": "api", "active": active, "total": total, "failed": 0,
                   "sent": 1, "received": 2, "last_used": at})
        };
        let finding = |cause: &str| json!({"cause": cause, "category": null});
        let mut whole = json!({
            "state": "ok", "summary": "well", "rules": [rule(1, 5, "2026-01-02")], "findings": [finding("one_desk")],
            "generations": [{"id": "2"}], "clients": {"active": 5, "failing": 0}, "busy": 1, "client_connections": 3,
        });
        merge_status(
            &mut whole,
            json!({
                "state": "degraded", "summary": "not well",
                "rules": [rule(2, 7, "2026-01-01"), {"domain": "gone", "category": "api", "active": 1}],
                "findings": [finding("one_desk"), finding("dns_timeout")],
                "generations": [{"id": "1"}], "clients": {"active": 4, "failing": 2}, "busy": 2, "client_connections": 2,
            }),
        );
        assert_eq!((&whole["state"], &whole["summary"]), (&json!("degraded"), &json!("not well")));
        let sum = &whole["rules"][0];
        assert_eq!((&sum["active"], &sum["total"], &sum["sent"]), (&json!(3), &json!(12), &json!(2)));
        assert_eq!(sum["last_used"], "2026-01-02");
        assert_eq!(whole["rules"][1]["domain"], "gone");
        assert_eq!(whole["findings"], json!([finding("one_desk"), finding("dns_timeout")]));
        assert_eq!(whole["generations"], json!([{"id": "2"}, {"id": "1"}]));
        assert_eq!(whole["clients"], json!({"active": 5, "failing": 2}));
        assert_eq!((&whole["busy"], &whole["client_connections"]), (&json!(3), &json!(5)));
    }
}
