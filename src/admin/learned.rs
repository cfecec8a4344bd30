//! `/api/learned`: the hosts that agents used under rules that are open to any AWS customer, the last
//! one first.

use serde::Serialize;

use super::Admin;
use super::http::{Answer, json, time};
use crate::journal::learned::Learned;

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
    let journal = &admin.shared.journal;
    tokio::task::block_in_place(|| {
        let rows = journal.learned.all(&journal.ledger).into_iter().map(|learned| {
            let Learned { host, rule, category, ports, clients, first, last, sent, received } = learned;
            let (first, last) = (time(first), time(last));
            Row { host, rule, category, ports, clients, first, last, sent, received }
        });
        json(&rows.collect::<Vec<_>>())
    })
}
