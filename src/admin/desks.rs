//! `/api/desks?code=&client=&limit=`: what desk checks told lately, the last one first, each beside what the proxy
//! saw of that desk. Texts from desks are texts here: JSON, for whoever shows them to escape.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::Admin;
use super::http::{Answer, bad, json, time};
use super::query::Query;
use super::tunnels::known;
use crate::desk::judge::{CategoryResult, MediaResult};
use crate::findings::networks;
use crate::journal::Journal;
use crate::journal::desks::Desk;
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

pub(super) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    let journal = &admin.shared.journal;
    let wanted = match query.get("client").map(|text| text.parse::<IpAddr>().map_err(|_| text)) {
        None => None,
        // An answer mustn't tell more of an address than is shown of it.
        Some(Ok(client)) => Some(known(client.into(), journal)),
        Some(Err(wrong)) => {
            return bad(&format!("client={wrong:?} is no IP address"));
        }
    };
    let limit = match query.get("limit").map(|text| text.parse::<usize>().map_err(|_| text)) {
        None => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(wrong)) => {
            return bad(&format!("limit={wrong:?} is no number"));
        }
    };
    let code = query.get("code");
    let is_wanted = |desk: &Desk| {
        wanted.is_none_or(|network| network.contains(&desk.checked.client))
            && code.as_deref().is_none_or(|code| code.trim().eq_ignore_ascii_case(&desk.code))
    };
    let desks = journal.desks.all();
    let rows = desks.iter().filter(|desk| is_wanted(desk)).take(limit).map(|desk| row(desk, journal));
    json(&rows.collect::<Vec<_>>())
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
