//! `/api/learned`: the hosts that agents used under rules that are open to any AWS customer, the last
//! one first.

use hyper::StatusCode;
use serde::Serialize;

use super::Admin;
use super::http::{Answer, time, typed};
use super::older::{Question, Whose};
use super::together;
use crate::journal::learned::{Learned, MOST};

#[derive(Serialize)]
struct Row {
    host: String,
    rule: String,
    category: &'static str,
    ports: Vec<u16>,
    clients: u64,
    first: String,
    last: String,
    sent: u64,
    received: u64,
}

pub(super) fn answer(admin: &Admin) -> Answer {
    let rows = tokio::task::block_in_place(|| told(admin, Whose::Everyones));
    typed(StatusCode::OK, "application/json", rows)
}

/// The rows of this process and of others.
pub(super) fn told(admin: &Admin, whose: Whose) -> Vec<u8> {
    let own = own(admin);
    let others = admin.generations.answers(whose, &Question::Learned, |known| &known.learned);
    if others.is_empty() {
        return own;
    }
    let whole = serde_json::from_slice(&own).unwrap_or_default();
    let mut rows = together::rows(whole, others, &["host", "rule"], &["sent", "received"]);
    rows.truncate(MOST);
    serde_json::to_vec(&rows).unwrap_or(own)
}

/// The rows of this process alone.
fn own(admin: &Admin) -> Vec<u8> {
    let journal = &admin.shared.journal;
    let rows = journal.learned.all(&journal.ledger).into_iter().map(row);
    // Plain data into memory does not fail.
    serde_json::to_vec(&rows.collect::<Vec<_>>()).unwrap_or_default()
}

fn row(learned: Learned) -> Row {
    let Learned { host, rule, category, ports, clients, first, last, sent, received } = learned;
    let (first, last) = (time(first), time(last));
    Row { host, rule, category, ports, clients, first, last, sent, received }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_array_is_the_one_that_programs_rely_on() {
        let at = |second: i64| jiff::Timestamp::from_second(1_795_770_000 + second).unwrap();
        let rows = [row(Learned {
            host: "d2m5ev6u38s7fd.cloudfront.net".to_owned(),
            rule: "*.cloudfront.net".to_owned(),
            category: "static",
            ports: vec![443],
            clients: 212,
            first: at(0),
            last: at(86_461),
            sent: 10_240,
            received: 4_096_000,
        })];
        let json = serde_json::to_string_pretty(&rows).unwrap() + "\n";
        assert!(json == include_str!("testdata/learned.json"), "testdata/learned.json differs from:\n{json}");
    }
}
