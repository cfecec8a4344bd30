//! `/api/desks?code=&client=&limit=`: what desk checks told lately, the last one first, each beside what the proxy
//! saw of that desk. Texts from desks are texts here: JSON, for whoever shows them to escape.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::http::{Answer, bad, time, typed};
use super::older::{Question, Whose};
use super::query::Query;
use super::together;
use super::tunnels::known;
use crate::desk::judge::{CategoryResult, MediaResult};
use crate::findings::networks;
use crate::journal::Journal;
use crate::journal::desks::{Desk, MOST};
use crate::policy::Category;

#[derive(Serialize)]
struct Row<'a> {
    time: String,
    client: IpAddr,
    network: String,
    code: &'a str,
    verdict: &'static str,
    sentence: &'a str,
    /// As in `check`: whose turn it is, and what to do.
    owner: Option<&'static str>,
    remedy: Option<&'static str>,
    categories: &'a BTreeMap<Category, CategoryResult>,
    media: &'a [MediaResult],
    left_out: usize,
    seen: Vec<Seen<'a>>,
    browser: &'a str,
}

#[derive(Serialize)]
struct Seen<'a> {
    /// None for what was denied.
    id: Option<String>,
    target: &'a str,
    state: &'static str,
    /// The outcome of a tunnel that ended, or the reason of a denial.
    outcome: Option<&'static str>,
    sent: u64,
    received: u64,
}

/// Which ones are asked for.
struct Wanted {
    network: Option<IpNet>,
    code: Option<String>,
    limit: usize,
}

impl Wanted {
    /// # Errors
    /// In words, for the client.
    fn read(query: Query<'_>, journal: &Journal) -> Result<Self, String> {
        let network = match query.get("client").map(|text| text.parse::<IpAddr>().map_err(|_| text)) {
            None => None,
            // An answer mustn't tell more of an address than is shown of it.
            Some(Ok(client)) => Some(known(client.into(), journal)),
            Some(Err(wrong)) => return Err(format!("client={wrong:?} is no IP address")),
        };
        let limit = match query.get("limit").map(|text| text.parse().map_err(|_| text)) {
            None => MOST,
            Some(Ok(limit)) => limit,
            Some(Err(wrong)) => return Err(format!("limit={wrong:?} is no number")),
        };
        Ok(Self { network, code: query.get("code"), limit })
    }

    fn has(&self, client: Option<IpAddr>, code: &str) -> bool {
        self.network.is_none_or(|network| client.is_some_and(|client| network.contains(&client)))
            && self.code.as_deref().is_none_or(|wanted| wanted.trim().eq_ignore_ascii_case(code))
    }
}

pub(super) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    // Older processes may be asked: DNS shares this thread.
    match tokio::task::block_in_place(|| told(admin, query, Whose::Everyones)) {
        Ok(rows) => typed(StatusCode::OK, "application/json", rows),
        Err(why) => bad(&why),
    }
}

/// The rows of this process and of others, as JSON.
///
/// # Errors
/// In words, when the query makes no sense.
pub(super) fn told(admin: &Admin, query: Query<'_>, whose: Whose) -> Result<Vec<u8>, String> {
    let wanted = Wanted::read(query, &admin.shared.journal)?;
    let own = own(admin, &wanted);
    let question = Question::Desks(query.0.to_owned());
    let others = admin.generations.answers(whose, &question, |known| &known.desks);
    if others.is_empty() {
        return Ok(own);
    }
    let has = |row: &Value| wanted.has(together::client(row), row["code"].as_str().unwrap_or_default());
    let whole = serde_json::from_slice(&own).unwrap_or_default();
    let mut whole = together::desks(whole, others, wanted.limit, has);
    if admin.shared.journal.anonymises() {
        together::anonymise(whole.as_array_mut().into_iter().flatten());
    }
    Ok(serde_json::to_vec(&whole).unwrap_or(own))
}

/// The rows of this process alone.
fn own(admin: &Admin, wanted: &Wanted) -> Vec<u8> {
    let journal = &admin.shared.journal;
    let desks = journal.desks.all();
    let is_wanted = |desk: &&Arc<Desk>| wanted.has(Some(desk.checked.client), &desk.code);
    let rows = desks.iter().filter(is_wanted).take(wanted.limit).map(|desk| row(desk, journal));
    // Plain data into memory does not fail.
    serde_json::to_vec(&rows.collect::<Vec<_>>()).unwrap_or_default()
}

fn row<'a>(desk: &'a Desk, journal: &Journal) -> Row<'a> {
    let Desk { code, checked } = desk;
    let judgement = &checked.judgement;
    let verdict = judgement.verdict;
    Row {
        time: time(checked.time),
        client: journal.shown_address(checked.client),
        network: networks::of(checked.client, journal.anonymises()).to_string(),
        code,
        verdict: verdict.as_str(),
        sentence: &judgement.sentence,
        owner: verdict.owner().map(|owner| owner.as_str()),
        remedy: verdict.remedy(),
        categories: &judgement.categories,
        media: &judgement.media,
        left_out: judgement.left_out,
        seen: checked
            .seen
            .iter()
            .map(|seen| Seen {
                id: seen.id.map(|id| id.to_string()),
                target: &seen.target,
                state: match (seen.id, seen.end) {
                    (None, _) => "denied",
                    (Some(_), None) => "live",
                    (Some(_), Some(_)) => "ended",
                },
                outcome: seen.end,
                sent: seen.sent,
                received: seen.received,
            })
            .collect(),
        browser: &checked.browser,
    }
}
