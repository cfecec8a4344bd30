//! `/api/failures?client=&host=&reason=&limit=`: denials and failed tunnels of late by client, the last one
//! first.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hyper::StatusCode;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::explained::Explained;
use super::http::{Answer, bad, time, typed};
use super::older::{Question, Whose};
use super::query::{Query, network};
use super::together;
use super::tunnels::known;
use crate::journal::Journal;
use crate::journal::failures::{Failure, Kind, MOST};
use crate::outcome::Stage;
use crate::policy::{Nearest, Pattern};
use crate::target::Target;

/// So many are told where nobody says how many.
const LIMIT: usize = 500;

#[derive(Serialize)]
struct Failures<'a> {
    schema_version: u8,
    /// By this machine's clock.
    time: String,
    failures: Vec<Row<'a>>,
    /// How many more there are.
    left_out: usize,
    /// All words of `reason` in what is remembered.
    reasons: BTreeSet<&'static str>,
    /// `ledger.anonymise`: a client is shown by its network alone.
    clients_are_networks: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    client: IpAddr,
    target: &'a str,
    kind: Kind,
    /// The reason of a denial, or the outcome of a tunnel.
    reason: &'static str,
    count: u64,
    first: String,
    last: String,
    id: String,
    category: Option<&'static str>,
    stage: Option<Stage>,
    cause: Option<&'static str>,
    detail: Option<String>,
    nearest: Option<&'a Nearest>,
    elsewhere: Option<&'a str>,
    allowed_now: bool,
}

/// Which ones are asked for.
struct Wanted {
    client: Option<Client>,
    host: Option<Host>,
    reason: Option<String>,
    limit: usize,
}

enum Client {
    Network(IpNet),
    /// How its address begins as it is shown.
    Begins(String),
}

enum Host {
    Pattern(Pattern),
    /// A part of the target.
    Part(String),
}

impl Wanted {
    /// # Errors
    /// In words, for the client.
    fn read(query: Query<'_>, journal: &Journal) -> Result<Self, String> {
        let client = query.get("client").map(|text| match network(&text) {
            Some(net) => Ok(Client::Network(known(net, journal))),
            None if text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':')) => {
                Ok(Client::Begins(text.to_ascii_lowercase()))
            }
            None => Err(format!(
                "client={text:?} is no IP address, no network such as 10.0.0.0/8, and no beginning of an address"
            )),
        });
        let host = query.get("host").map(|text| match text.contains('*') {
            false => Ok(Host::Part(text.to_ascii_lowercase())),
            true => Pattern::parse(&text)
                .map(Host::Pattern)
                .map_err(|e| format!("host={text:?} is no pattern: {e}")),
        });
        Ok(Self {
            client: client.transpose()?,
            host: host.transpose()?,
            reason: query.get("reason"),
            limit: query.number("limit", MOST)?.unwrap_or(LIMIT),
        })
    }

    fn has(&self, client: IpAddr, shown: impl Fn(IpAddr) -> IpAddr, target: &str, reason: &str) -> bool {
        self.reason.as_ref().is_none_or(|wanted| wanted == reason)
            && match &self.host {
                None => true,
                Some(Host::Part(part)) => target.to_ascii_lowercase().contains(part),
                Some(Host::Pattern(pattern)) => Target::parse_authority(target.as_bytes())
                    .is_ok_and(|target| pattern.matches(&target.host)),
            }
            && match &self.client {
                None => true,
                Some(Client::Network(net)) => net.contains(&client),
                Some(Client::Begins(text)) => shown(client).to_string().starts_with(text),
            }
    }

    /// The same of a failure as another process shows it.
    fn has_shown(&self, row: &Value, shown: impl Fn(IpAddr) -> IpAddr) -> bool {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        together::client(row).is_some_and(|client| self.has(client, shown, text("target"), text("reason")))
    }
}

pub(super) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    // Targets are held against every rule and the catalogue: DNS shares this thread.
    match tokio::task::block_in_place(|| told(admin, query, Whose::Everyones)) {
        Ok(object) => typed(StatusCode::OK, "application/json", object),
        Err(why) => bad(&why),
    }
}

/// The failures of this process and of others, as JSON.
///
/// # Errors
/// In words, when the query makes no sense.
pub(super) fn told(admin: &Admin, query: Query<'_>, whose: Whose) -> Result<Vec<u8>, String> {
    let journal = &admin.shared.journal;
    let wanted = Wanted::read(query, journal)?;
    let own = own(admin, &wanted);
    // All of them: rows of several processes become one before they are cut.
    let question = Question::Failures(format!("limit={MOST}&{}", query.0));
    let others = admin.generations.answers(whose, &question, |known| &known.failures);
    if others.is_empty() {
        return Ok(own);
    }
    let has = |row: &Value| wanted.has_shown(row, |client| journal.shown_address(client));
    let whole = serde_json::from_slice(&own).unwrap_or_default();
    let mut whole = together::failures(whole, others, wanted.limit, has);
    if let Some(rows) = whole["failures"].as_array_mut() {
        admin.explain_anew(rows);
        if journal.anonymises() {
            together::anonymise(rows.iter_mut());
        }
    }
    Ok(serde_json::to_vec(&whole).unwrap_or(own))
}

/// The failures of this process alone.
fn own(admin: &Admin, wanted: &Wanted) -> Vec<u8> {
    let journal = &admin.shared.journal;
    let anonymise = journal.anonymises();
    let shown = |client| journal.shown_address(client);
    let snapshot = admin.shared.snapshot();
    let mut all = journal.failures.all(|client, target, reason| wanted.has(client, shown, target, reason));
    let left_out = all.len().saturating_sub(wanted.limit);
    all.truncate(wanted.limit);
    let asked = all.iter().map(|failure| (failure.target.as_str(), denied_for(failure)));
    let explained = admin.explanations.of(&snapshot, asked);
    let object = Failures {
        schema_version: 1,
        time: time(jiff::Timestamp::now()),
        failures: all.iter().zip(&explained).map(|(failure, why)| row(failure, why, shown)).collect(),
        left_out,
        reasons: journal.failures.reasons(),
        clients_are_networks: anonymise,
    };
    // Plain data into memory does not fail.
    serde_json::to_vec(&object).unwrap_or_default()
}

/// The reason for which the policy denied it.
fn denied_for(failure: &Failure) -> &'static str {
    if failure.kind == Kind::Failed { "" } else { failure.reason }
}

fn row<'a>(failure: &'a Failure, why: &'a Explained, shown: impl Fn(IpAddr) -> IpAddr) -> Row<'a> {
    let client = shown(failure.client);
    // What says that a client may not use the proxy names its address.
    let detail = |detail: &String| detail.replace(&failure.client.to_string(), &client.to_string());
    Row {
        client,
        target: &failure.target,
        kind: failure.kind,
        reason: failure.reason,
        count: failure.count,
        first: time(failure.first),
        last: time(failure.last),
        id: failure.id.to_string(),
        category: failure.category,
        stage: failure.stage,
        cause: failure.cause,
        detail: failure.detail.as_ref().map(detail),
        nearest: why.nearest.as_ref(),
        elsewhere: why.elsewhere.as_deref(),
        allowed_now: why.allowed_now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::cut;
    use crate::journal::id::RequestId;

    #[test]
    fn the_object_is_the_one_that_programs_rely_on() {
        let at = |second: i64| jiff::Timestamp::from_second(1_795_770_000 + second).unwrap();
        let reset = Failure {
            client: "10.4.1.7".parse().unwrap(),
            target: "a.transport.connect.us-west-2.amazonaws.com:443".to_owned(),
            reason: "upstream_reset",
            kind: Kind::Failed,
            count: 3,
            first: at(0),
            last: at(61),
            id: RequestId::for_tests(7),
            category: Some("signalling"),
            stage: Some(Stage::Relay),
            cause: Some("tunnel_reset"),
            detail: Some("reset by the other side".to_owned()),
        };
        let denied = Failure {
            client: "10.9.0.1".parse().unwrap(),
            target: "crm.example:443".to_owned(),
            reason: "client",
            kind: Kind::Denied,
            category: None,
            stage: Some(Stage::Decide),
            cause: None,
            detail: Some("10.9.0.1 is in none of proxy.clients".to_owned()),
            ..reset.clone()
        };
        let why = Explained::default();
        let object = Failures {
            schema_version: 1,
            time: time(at(300)),
            failures: vec![row(&reset, &why, |client| client), row(&denied, &why, cut)],
            left_out: 2,
            reasons: BTreeSet::from(["client", "upstream_reset"]),
            clients_are_networks: false,
        };
        let json = serde_json::to_string_pretty(&object).unwrap() + "\n";
        assert!(
            json == include_str!("testdata/failures.json"),
            "testdata/failures.json differs from:\n{json}"
        );
    }
}
