//! `/api/denied`: distinct targets that were denied lately, the last one first, and what would let each
//! of them through.

use serde::Serialize;

use super::Admin;
use super::http::{Answer, json, time};
use crate::catalogue::find_elsewhere_given;
use crate::journal::denied::Denied;
use crate::policy::{Decision, Nearest, Reason};
use crate::proxy::snapshot::Snapshot;
use crate::target::{Host, Target};

#[derive(Serialize)]
struct Row {
    target: String,
    reason: &'static str,
    count: u64,
    clients: u64,
    first: String,
    last: String,
    /// As in `explain --json`.
    nearest: Option<Nearest>,
    elsewhere: Option<String>,
    /// Report mode let it through.
    let_through: bool,
    /// By the rules that are in force by now.
    allowed_now: bool,
}

pub(super) fn answer(admin: &Admin) -> Answer {
    let snapshot = admin.shared.snapshot();
    // A thousand targets are held against every rule and the catalogue: DNS shares this thread.
    tokio::task::block_in_place(|| {
        let rows = admin.shared.journal.denials.all().into_iter().map(|denied| row(&snapshot, denied));
        json(&rows.collect::<Vec<_>>())
    })
}

fn row(snapshot: &Snapshot, denied: Denied) -> Row {
    // For all else the target isn't what was wrong.
    let by_policy = Reason::is_word(denied.reason);
    let target = Target::parse_authority(denied.target.as_bytes()).ok().filter(|_| by_policy);
    let decided = target.as_ref().map(|target| snapshot.policy.decide(target));
    let allowed_now = matches!(decided, Some(Decision::Allowed(..)));
    let lacking = target.filter(|_| !allowed_now);
    let elsewhere = lacking.as_ref().and_then(|target| match &target.host {
        Host::Name(name) => find_elsewhere_given(name, &snapshot.choice),
        Host::Ip(_) => None,
    });
    let Denied { target, reason, count, clients, first, last, let_through } = denied;
    Row {
        target,
        reason,
        count,
        clients,
        first: time(first),
        last: time(last),
        nearest: lacking.and_then(|target| snapshot.policy.nearest(&target)),
        elsewhere: elsewhere.map(|found| found.to_string()),
        let_through,
        allowed_now,
    }
}
