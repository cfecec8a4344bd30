//! `/api/denied`: distinct targets that were denied lately, the last one first, and what would let each
//! of them through.

use hyper::StatusCode;
use serde::Serialize;

use super::Admin;
use super::explained::Explained;
use super::http::{Answer, time, typed};
use super::older::{Question, Whose};
use super::together;
use crate::journal::denied::{Denied, MOST};
use crate::policy::Nearest;

#[derive(Serialize)]
struct Row<'a> {
    target: &'a str,
    reason: &'static str,
    count: u64,
    clients: u64,
    first: String,
    last: String,
    /// As in `explain --json`.
    nearest: Option<&'a Nearest>,
    elsewhere: Option<&'a str>,
    /// Report mode let it through.
    let_through: bool,
    /// By the rules that are in force by now.
    allowed_now: bool,
}

pub(super) fn answer(admin: &Admin) -> Answer {
    // A thousand targets are held against every rule and the catalogue: DNS shares this thread.
    let rows = tokio::task::block_in_place(|| told(admin, Whose::Everyones));
    typed(StatusCode::OK, "application/json", rows)
}

/// The rows of this process and of others.
pub(super) fn told(admin: &Admin, whose: Whose) -> Vec<u8> {
    let own = own(admin);
    let others = admin.generations.answers(whose, &Question::Denied, |known| &known.denied);
    if others.is_empty() {
        return own;
    }
    let whole = serde_json::from_slice(&own).unwrap_or_default();
    let mut rows = together::rows(whole, others, &["target", "reason"], &["count"]);
    rows.truncate(MOST);
    admin.explain_anew(&mut rows);
    serde_json::to_vec(&rows).unwrap_or(own)
}

/// The rows of this process alone.
fn own(admin: &Admin) -> Vec<u8> {
    let snapshot = admin.shared.snapshot();
    let all = admin.shared.journal.denials.all();
    let asked = all.iter().map(|denied| (denied.target.as_str(), denied.reason));
    let explained = admin.explanations.of(&snapshot, asked);
    let rows = all.iter().zip(&explained).map(|(denied, why)| row(denied, why));
    // Plain data into memory does not fail.
    serde_json::to_vec(&rows.collect::<Vec<_>>()).unwrap_or_default()
}

fn row<'a>(denied: &'a Denied, why: &'a Explained) -> Row<'a> {
    Row {
        target: &denied.target,
        reason: denied.reason,
        count: denied.count,
        clients: denied.clients,
        first: time(denied.first),
        last: time(denied.last),
        nearest: why.nearest.as_ref(),
        elsewhere: why.elsewhere.as_deref(),
        let_through: denied.let_through,
        allowed_now: why.allowed_now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_array_is_the_one_that_programs_rely_on() {
        let at = |second: i64| jiff::Timestamp::from_second(1_795_770_000 + second).unwrap();
        let denied = Denied {
            target: "participant.connect.eu-west-2.amazonaws.com:443".to_owned(),
            reason: "no_rule",
            count: 12,
            clients: 3,
            first: at(0),
            last: at(61),
            let_through: false,
        };
        let nearest = Nearest {
            rule: "participant.connect.us-west-2.amazonaws.com".to_owned(),
            why: "it is the same host of another Region".to_owned(),
            same: None,
        };
        let why =
            Explained { nearest: Some(nearest), elsewhere: Some("of eu-west-2".into()), allowed_now: false };
        let mended = Denied { target: "crm.example:443".to_owned(), let_through: true, ..denied.clone() };
        let now = Explained { allowed_now: true, ..Explained::default() };
        let rows = [row(&denied, &why), row(&mended, &now)];
        let json = serde_json::to_string_pretty(&rows).unwrap() + "\n";
        assert!(json == include_str!("testdata/denied.json"), "testdata/denied.json differs from:\n{json}");
    }
}
