//! What would let a denied target through, by the rules and the ranges in force. A page asks for the same targets
//! every few seconds, so answers are kept until the configuration or the version of the ranges is another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};

use super::Admin;
use crate::catalogue::find_elsewhere_given;
use crate::lock::lock;
use crate::policy::{Nearest, Reason};
use crate::proxy::snapshot::Snapshot;
use crate::ranges::current::Current;
use crate::target::{Host, Target};

/// As many as the lists of denials and of failures hold together.
const MOST: usize = 8192;

/// What is known of a denied target; nothing where the target isn't what was wrong.
#[derive(Clone, Default)]
pub(super) struct Explained {
    /// As in `explain --json`.
    pub nearest: Option<Nearest>,
    pub elsewhere: Option<String>,
    /// By the rules, and by the ranges for a target that is an address, that are in force by now.
    pub allowed_now: bool,
}

/// The answers under one configuration and one version of the ranges.
#[derive(Default)]
pub(super) struct Explanations(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Weak: what was replaced is freed, whether anybody asks again or not.
    under: (Weak<Snapshot>, Weak<Current>),
    targets: HashMap<Box<str>, Arc<Explained>>,
}

impl Explanations {
    /// Explains targets that were denied for these reasons, in the same order.
    pub(super) fn of<'a>(
        &self,
        snapshot: &Arc<Snapshot>,
        denied: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Vec<Arc<Explained>> {
        let mut known = lock(&self.0);
        let ranges = snapshot.egress.ranges.in_force.load();
        let under = (Arc::downgrade(snapshot), ranges.as_ref().map(Arc::downgrade).unwrap_or_default());
        if !known.under.0.ptr_eq(&under.0) || !known.under.1.ptr_eq(&under.1) {
            *known = Known { under, targets: HashMap::new() };
        }
        let nothing = Arc::new(Explained::default());
        let explain = |(target, reason)| {
            if !Reason::is_word(reason) {
                return nothing.clone();
            }
            if let Some(explained) = known.targets.get(target) {
                return explained.clone();
            }
            let explained = Arc::new(explain(snapshot, target));
            if known.targets.len() >= MOST {
                known.targets.clear();
            }
            known.targets.insert(target.into(), explained.clone());
            explained
        };
        denied.map(explain).collect()
    }
}

impl Admin {
    /// Explains rows of other processes by the rules of this one: theirs may be others.
    pub(super) fn explain_anew(&self, rows: &mut [Value]) {
        let denied = |row: &Value| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("target"), if row["kind"] == "failed" { String::new() } else { text("reason") })
        };
        let asked: Vec<_> = rows.iter().map(denied).collect();
        let asked = asked.iter().map(|(target, reason)| (target.as_str(), reason.as_str()));
        let explained = self.explanations.of(&self.shared.snapshot(), asked);
        for (row, why) in rows.iter_mut().zip(&explained) {
            row["nearest"] = json!(why.nearest);
            row["elsewhere"] = json!(why.elsewhere);
            row["allowed_now"] = json!(why.allowed_now);
        }
    }
}

fn explain(snapshot: &Snapshot, target: &str) -> Explained {
    if snapshot.traffic_of(target).is_some() {
        return Explained { allowed_now: true, ..Explained::default() };
    }
    let Ok(target) = Target::parse_authority(target.as_bytes()) else { return Explained::default() };
    let elsewhere = match &target.host {
        Host::Name(name) => find_elsewhere_given(name, &snapshot.connect),
        Host::Ip(_) => None,
    };
    Explained {
        nearest: snapshot.policy.nearest(&target),
        elsewhere: elsewhere.map(|found| found.to_string()),
        allowed_now: false,
    }
}
