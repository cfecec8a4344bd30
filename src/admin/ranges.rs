//! `ranges` in `/api/status`: the version of ip-ranges.json in force, and how it goes with keeping it
//! current.

use jiff::Timestamp;
use serde::Serialize;

use crate::proxy::shared::Shared;
use crate::ranges::current::{Current, Keeping, next_deadline};
use crate::ranges::diff::Added;

/// Null values before there is a good version.
#[derive(Serialize)]
pub(super) struct Shown {
    create_date: Option<String>,
    sync_token: Option<String>,
    age_s: Option<u64>,
    /// Older than `ranges.max_age`, or not there at all.
    stale: bool,
    sources: Vec<String>,
    state: Option<String>,
    /// When a source last had this version.
    checked: Option<String>,
    error: Option<String>,
    aside: Option<Aside>,
    /// Prefixes that a firewall may lack, the first due first.
    pending: Vec<Added>,
    next_deadline: Option<String>,
    /// Media names that resolve outside the media set.
    strays: Vec<Stray>,
    policy: Policy,
    /// Versions before this one that are known.
    history: Vec<Known>,
}

#[derive(Serialize)]
struct Aside {
    sync_token: String,
    create_date: String,
    why: String,
    remedy: String,
}

#[derive(Serialize)]
struct Stray {
    name: String,
    address: String,
}

/// `policy.ranges` as configured, and what it amounts to now.
#[derive(Serialize)]
struct Policy {
    configured: &'static str,
    in_force: &'static str,
}

#[derive(Serialize)]
struct Known {
    create_date: String,
    sync_token: String,
}

/// What is in force; none where the configuration names no ranges.
pub(super) fn shown(shared: &Shared) -> Option<Shown> {
    let keeping = shared.ranges.keeping()?;
    let current = shared.ranges.load();
    let snapshot = shared.snapshot();
    let guard = &snapshot.egress.ranges;
    let policy = Policy { configured: guard.mode.into_str(), in_force: guard.mode().into_str() };
    let age = current.as_ref().map(|current| current.age(Timestamp::now()));
    let stale = age.is_none_or(|age| age > guard.max_age);
    Some(Shown::new(current.as_deref(), &keeping, age.map(|age| age.as_secs()), stale, policy))
}

impl Shown {
    fn new(
        current: Option<&Current>,
        keeping: &Keeping,
        age_s: Option<u64>,
        stale: bool,
        policy: Policy,
    ) -> Self {
        let ranges = current.map(|current| &current.version.ranges);
        let history = current.map_or(&[][..], |current| &current.history);
        Self {
            create_date: ranges.map(|ranges| ranges.create_date.clone()),
            sync_token: ranges.map(|ranges| ranges.sync_token.to_string()),
            age_s,
            stale,
            sources: keeping.sources.clone(),
            state: keeping.state.as_ref().map(|state| state.display().to_string()),
            checked: keeping
                .checked
                .and_then(|at| at.round(jiff::Unit::Second).ok())
                .map(|at| at.to_string()),
            error: (!keeping.errors.is_empty()).then(|| keeping.errors.join("; ")),
            aside: keeping.aside.as_ref().map(|aside| Aside {
                sync_token: aside.sync_token.to_string(),
                create_date: aside.create_date.clone(),
                why: aside.why.clone(),
                remedy: format!(
                    "compare it with AWS's own file, then run `ccpgate ranges accept {}` or leave it",
                    aside.sync_token
                ),
            }),
            pending: keeping.pending.clone(),
            next_deadline: next_deadline(&keeping.pending).map(|day| day.to_string()),
            strays: keeping
                .strays
                .iter()
                .map(|(name, at)| Stray { name: name.clone(), address: at.to_string() })
                .collect(),
            policy,
            history: history
                .iter()
                .map(|version| Known {
                    create_date: version.ranges.create_date.clone(),
                    sync_token: version.ranges.sync_token.to_string(),
                })
                .collect(),
        }
    }
}
