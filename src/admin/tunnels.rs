//! `/api/tunnels?client=&host=&limit=`: the live tunnels and the last ended ones, the newest first.

use std::net::IpAddr;

use hyper::StatusCode;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::http::{Answer, bad, time, typed};
use super::older::{Question, Whose};
use super::query::{Query, network};
use super::together;
use crate::journal::Journal;
use crate::journal::ledger::{Ended, Seat};
use crate::net::memory;
use crate::policy::Pattern;
use crate::target::Target;

/// So many of each are told where nobody says how many: the answer stays below a megabyte.
const LIMIT: usize = 1000;
const HIGHEST_LIMIT: usize = 100_000;
/// Bytes of an answer of several processes that is worth a look for memory that lies idle: a few hundred tunnels.
const LARGE: usize = 256 * 1024;

#[derive(Serialize)]
struct Tunnels<'a> {
    schema_version: u8,
    /// By this machine's clock.
    time: String,
    live: Vec<Tunnel<'a>>,
    /// How many more there are.
    live_left_out: usize,
    ended: Vec<Gone<'a>>,
    ended_left_out: usize,
    /// Every tunnel that ended after this is remembered.
    complete_since: String,
    /// `ledger.anonymise`: a client is shown by its network alone.
    clients_are_networks: bool,
}

#[derive(Serialize)]
struct Tunnel<'a> {
    id: String,
    client: IpAddr,
    target: String,
    domain: &'a str,
    category: &'a str,
    since: String,
    idle_s: u32,
    sent: u64,
    received: u64,
    upstream: Option<String>,
    generation: String,
}

#[derive(Serialize)]
struct Gone<'a> {
    #[serde(flatten)]
    tunnel: Tunnel<'a>,
    outcome: &'static str,
    ended_by: &'static str,
    ended: String,
}

/// Which tunnels are asked for.
struct Wanted {
    clients: Option<IpNet>,
    hosts: Option<Pattern>,
    limit: usize,
}

impl Wanted {
    /// # Errors
    /// In words, for the client.
    fn read(query: Query<'_>, journal: &Journal) -> Result<Self, String> {
        let clients = query.get("client").map(|text| {
            network(&text).ok_or_else(|| {
                format!("client={text:?} is neither an IP address nor a network such as 10.0.0.0/8")
            })
        });
        let hosts = query.get("host").map(|text| {
            // Lists show targets with their ports, and that is what gets pasted.
            let port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let host = text.rsplit_once(':').filter(|(_, tail)| port(tail)).map_or(&*text, |(host, _)| host);
            Pattern::parse(host)
                .or_else(|_| Pattern::parse(&text))
                .map_err(|error| format!("host={text:?} is no host and no pattern: {error}"))
        });
        Ok(Self {
            clients: clients.transpose()?.map(|net| known(net, journal)),
            hosts: hosts.transpose()?,
            limit: query.number("limit", HIGHEST_LIMIT)?.unwrap_or(LIMIT),
        })
    }

    fn has(&self, seat: &Seat) -> bool {
        self.clients.is_none_or(|net| net.contains(&seat.client().ip().to_canonical()))
            && self.hosts.as_ref().is_none_or(|pattern| pattern.matches(&seat.target.host))
    }

    /// The same of a tunnel as another process shows it.
    fn has_shown(&self, tunnel: &Value) -> bool {
        let client = || together::client(tunnel);
        let target = || Target::parse_authority(tunnel["target"].as_str()?.as_bytes()).ok();
        self.clients.is_none_or(|net| client().is_some_and(|client| net.contains(&client)))
            && self.hosts.as_ref().is_none_or(|p| target().is_some_and(|target| p.matches(&target.host)))
    }
}

/// The network that is looked for. Where clients are shown by their networks alone nobody can ask for
/// less than that, or the answer would tell what is hidden.
pub(super) fn known(net: IpNet, journal: &Journal) -> IpNet {
    let address = net.addr().to_canonical();
    let (bits, most) = match (net.addr(), address) {
        (IpAddr::V6(_), IpAddr::V4(_)) => (net.prefix_len().saturating_sub(96), 24),
        (_, IpAddr::V4(_)) => (net.prefix_len(), 24),
        (_, IpAddr::V6(_)) => (net.prefix_len(), 48),
    };
    let bits = if journal.anonymises() { bits.min(most) } else { bits };
    IpNet::new(address, bits).unwrap_or(net).trunc()
}

pub(super) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    // Of all tunnels it is megabytes: DNS shares this thread.
    match tokio::task::block_in_place(|| told(admin, query, Whose::Everyones)) {
        Ok(all) => typed(StatusCode::OK, "application/json", all),
        Err(why) => bad(&why),
    }
}

/// The tunnels of this process and of others, as JSON.
///
/// # Errors
/// In words, when the query makes no sense.
pub(super) fn told(admin: &Admin, query: Query<'_>, whose: Whose) -> Result<String, String> {
    let wanted = Wanted::read(query, &admin.shared.journal)?;
    let own = found(admin, &wanted);
    let question = Question::Tunnels(query.0.to_owned());
    let others = admin.generations.answers(whose, &question, |known| &known.tunnels);
    if others.is_empty() {
        return Ok(own);
    }
    let whole = serde_json::from_str(&own).unwrap_or_default();
    let journal = &admin.shared.journal;
    let forgotten = time(journal.ledger.forgotten(Timestamp::now()));
    let mut whole =
        together::tunnels(whole, others, wanted.limit, &forgotten, |tunnel| wanted.has_shown(tunnel));
    if journal.anonymises() {
        for list in ["live", "ended"] {
            together::anonymise(whole[list].as_array_mut().into_iter().flatten());
        }
    }
    let text = whole.to_string();
    if text.len() >= LARGE {
        // In parts it was ten times as much.
        drop(whole);
        memory::give_back();
    }
    Ok(text)
}

fn found(admin: &Admin, wanted: &Wanted) -> String {
    let journal = &admin.shared.journal;
    let live = journal.ledger.live(|seat| wanted.has(seat), wanted.limit);
    let (ended, complete_since) = journal.ledger.ended(|seat| wanted.has(seat), wanted.limit);
    let now = Timestamp::now();
    let tunnels = Tunnels {
        schema_version: 1,
        time: time(now),
        live: live.items.iter().map(|seat| alive(admin, seat, now)).collect(),
        live_left_out: live.left_out,
        ended: ended.items.iter().map(|end| gone(admin, end)).collect(),
        ended_left_out: ended.left_out,
        complete_since: time(complete_since),
        clients_are_networks: journal.anonymises(),
    };
    // Plain data into memory does not fail.
    serde_json::to_string(&tunnels).unwrap_or_default()
}

fn alive<'a>(admin: &Admin, seat: &'a Seat, now: Timestamp) -> Tunnel<'a> {
    tunnel(admin, seat, seat.began().unwrap_or(now), seat.idle())
}

fn gone<'a>(admin: &Admin, end: &'a Ended) -> Gone<'a> {
    Gone {
        tunnel: tunnel(admin, &end.seat, end.began(), end.idle),
        outcome: end.outcome.into_str(),
        ended_by: end.by.into_str(),
        ended: time(end.at),
    }
}

fn tunnel<'a>(admin: &Admin, seat: &'a Seat, since: Timestamp, idle_s: u32) -> Tunnel<'a> {
    let [sent, received] = seat.bytes();
    let client = seat.client().ip().to_canonical();
    Tunnel {
        id: seat.id.to_string(),
        client: admin.shared.journal.shown_address(client),
        target: seat.target.to_string(),
        domain: &seat.labels.domain,
        category: seat.labels.category,
        since: time(since),
        idle_s,
        sent,
        received,
        upstream: seat.upstream().map(|address| address.to_string()),
        generation: admin.shared.generation.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_the_one_that_programs_rely_on() {
        let at = |second: i64| time(Timestamp::from_second(1_795_770_000 + second).unwrap());
        let tunnel = || Tunnel {
            id: "538454127b09".to_owned(),
            client: "10.4.1.7".parse().unwrap(),
            target: "a.transport.connect.us-west-2.amazonaws.com:443".to_owned(),
            domain: "*.transport.connect.us-west-2.amazonaws.com",
            category: "signalling",
            since: at(0),
            idle_s: 12,
            sent: 1024,
            received: 4096,
            upstream: Some("192.0.2.7:443".to_owned()),
            generation: "1".to_owned(),
        };
        let ended_by = crate::outcome::EndedBy::Upstream.into_str();
        let object = Tunnels {
            schema_version: 1,
            time: at(300),
            live: vec![tunnel()],
            live_left_out: 0,
            ended: vec![Gone { tunnel: tunnel(), outcome: "upstream_reset", ended_by, ended: at(61) }],
            ended_left_out: 3,
            complete_since: at(-3600),
            clients_are_networks: false,
        };
        let json = serde_json::to_string_pretty(&object).unwrap() + "\n";
        assert!(json == include_str!("testdata/tunnels.json"), "testdata/tunnels.json differs from:\n{json}");
    }
}
