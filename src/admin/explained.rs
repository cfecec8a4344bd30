//! What would let a denied target through, by the rules in force. A page asks for the same targets every few
//! seconds, so answers are kept until the configuration is another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalogue::find_elsewhere_given;
use crate::policy::{Decision, Nearest, Reason};
use crate::proxy::snapshot::Snapshot;
use crate::target::{Host, Target};

/// As many as the lists of denials and of failures hold together.
const MOST: usize = 8192;

/// What is known of a denied target; nothing where the target isn't what was wrong.
#[derive(Clone, Default)]
pub(super) struct Explained {
    /// As in `explain --json`.
    pub nearest: Option<Nearest>,
    pub elsewhere: Option<String>,
    /// By the rules that are in force by now.
    pub allowed_now: bool,
}

/// The answers under one configuration.
#[derive(Default)]
pub(super) struct Explanations(Mutex<Known>);

#[derive(Default)]
struct Known {
    under: Option<Arc<Snapshot>>,
    targets: HashMap<Box<str>, Arc<Explained>>,
}

impl Explanations {
    /// Explains targets that were denied for these reasons, in the same order.
    pub(super) fn of<'a>(
        &self,
        snapshot: &Arc<Snapshot>,
        denied: impl Iterator<Item = (&'a str, &'static str)>,
    ) -> Vec<Arc<Explained>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.under.as_ref().is_some_and(|under| Arc::ptr_eq(under, snapshot)) {
            *known = Known { under: Some(snapshot.clone()), targets: HashMap::new() };
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

fn explain(snapshot: &Snapshot, target: &str) -> Explained {
    let Ok(target) = Target::parse_authority(target.as_bytes()) else { return Explained::default() };
    if matches!(snapshot.policy.decide(&target), Decision::Allowed(..)) {
        return Explained { allowed_now: true, ..Explained::default() };
    }
    let elsewhere = match &target.host {
        Host::Name(name) => find_elsewhere_given(name, &snapshot.choice),
        Host::Ip(_) => None,
    };
    Explained {
        nearest: snapshot.policy.nearest(&target),
        elsewhere: elsewhere.map(|found| found.to_string()),
        allowed_now: false,
    }
}
