//! What came of each prefix and each host: open, closed or not tried, with the reason, and whose turn it is.
//! Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use serde::Serialize;

use super::Asked;
use super::place::Place;
use crate::agent::hops::LastHop;
use crate::agent::turn::{Probed, Refusal, with_a_way};
use crate::as_text;
use crate::cause::{Cause, Owner};
use crate::diagnose::finding::Found;
use crate::diagnose::judged::Judged;
use crate::diagnose::media;
use crate::diagnose::report::Status as Tested;
use crate::ranges::diff::Added;
use crate::ranges::select::Set;

/// How a prefix or a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    #[strum(serialize = "closed")]
    Closed,
    #[strum(serialize = "open")]
    Open,
    #[strum(serialize = "not tried")]
    NotTried,
}

/// A published prefix, or an address outside all of them.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "as_text::some")]
    pub prefix: Option<IpNet>,
    pub region: String,
    pub status: Status,
    /// The address that answered, or the first that didn't.
    pub address: Option<IpAddr>,
    /// The TURN names that resolve into it today.
    pub names: Vec<String>,
    pub rtt_ms: Option<u64>,
    /// The last hop on the way from which an answer still came, 1 being the router next to this machine.
    pub after_hop: Option<u8>,
    pub router: Option<IpAddr>,
    /// The day on which AWS may begin to use it, as far as that is known.
    #[serde(serialize_with = "as_text::some")]
    pub due: Option<Date>,
    pub owner: Option<Owner>,
    pub remedy: Option<String>,
    pub detail: String,
    /// Whether somebody said that packets aren't let through.
    #[serde(skip)]
    pub(super) refused: bool,
    /// Whether it wasn't tried because this machine is short of sockets or ports: the firewall may be as it likes.
    #[serde(skip)]
    pub(super) short: bool,
}

/// A TURN name without a usable address.
#[derive(Debug, Serialize)]
pub(crate) struct Unresolved {
    pub name: String,
    pub cause: Cause,
    pub owner: Owner,
    pub remedy: &'static str,
    pub detail: String,
}

/// A host that was tried over TLS.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    /// The set that its address is in; none where it is in none of them.
    pub set: Option<&'static str>,
    pub host: String,
    pub port: u16,
    pub address: Option<String>,
    pub status: Status,
    pub cause: Option<Cause>,
    pub owner: Option<Owner>,
    pub remedy: Option<&'static str>,
    pub detail: String,
}

impl Unresolved {
    pub(super) fn new(name: String, found: Found) -> Self {
        let about = found.cause.about();
        Self { name, cause: found.cause, owner: about.owner, remedy: about.remedy, detail: found.detail }
    }
}

/// What came of each place, in their order. `pending`: the prefixes that have a deadline.
pub(super) fn rows(places: Vec<(Place, Asked)>, pending: &[Added]) -> Vec<Row> {
    let ways = Ways::of(&places);
    places.into_iter().map(|(place, asked)| row(place, &asked, &ways, pending)).collect()
}

impl Row {
    /// The prefix, or the address outside.
    pub(crate) fn name(&self) -> String {
        match (self.prefix, self.address) {
            (Some(prefix), _) => prefix.to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "-".to_owned(),
        }
    }
}

/// Which families this machine has a way to the world in.
struct Ways {
    ipv4: bool,
    ipv6: bool,
}

impl Ways {
    fn of(places: &[(Place, Asked)]) -> Self {
        let has = |of: fn(&IpAddr) -> bool| {
            places.iter().any(|(_, asked)| match asked {
                Asked::Nobody => false,
                Asked::Probes { probes, .. } => probes
                    .iter()
                    .any(|probed| of(&probed.address.ip()) && probed.refusal != Some(Refusal::NoWay)),
            })
        };
        Self { ipv4: has(IpAddr::is_ipv4), ipv6: has(IpAddr::is_ipv6) }
    }

    /// Why a silent address says nothing of a firewall.
    fn not_tried(&self, probed: &Probed) -> Option<&'static str> {
        match (probed.refusal, probed.address.is_ipv4()) {
            (Some(Refusal::NoSocket), _) => Some("this machine has no local address, port or socket left"),
            (Some(Refusal::NoWay), true) if !self.ipv4 => Some("this machine has no way to IPv4 addresses"),
            (Some(Refusal::NoWay), false) if !self.ipv6 => Some("this machine has no way to IPv6 addresses"),
            _ => None,
        }
    }
}

fn row(place: Place, asked: &Asked, ways: &Ways, pending: &[Added]) -> Row {
    // A pending prefix itself, or the part of it that is looked at here.
    let due = place.prefix.and_then(|prefix| {
        let of = |added: &&Added| added.prefix == prefix || added.prefix.contains(&prefix);
        pending.iter().filter(of).max_by_key(|added| added.prefix.prefix_len())?.safe_deadline
    });
    let name = place.name();
    let mut row = Row {
        prefix: place.prefix,
        region: place.region,
        status: Status::NotTried,
        address: None,
        names: place.names.into_iter().collect(),
        rtt_ms: None,
        after_hop: None,
        router: None,
        due,
        owner: None,
        remedy: None,
        detail: String::new(),
        refused: false,
        short: false,
    };
    if place.prefix.is_none() {
        let about = Cause::OutsideRanges.about();
        (row.owner, row.remedy) = (Some(about.owner), Some(about.remedy.to_owned()));
    }
    let (probes, last_hop) = match asked {
        Asked::Nobody => {
            "no TURN name resolves into it today".clone_into(&mut row.detail);
            return row;
        }
        Asked::Probes { probes, last_hop } => (probes, *last_hop),
    };
    // A family that this machine has no way in says nothing where the other one, through a translator, was asked.
    let (answering, silent): (Vec<&Probed>, Vec<&Probed>) =
        with_a_way(probes).partition(|probed| probed.answer.is_some());
    if let Some(probed) = answering.first() {
        row.status = Status::Open;
        row.address = Some(probed.address.ip());
        let trip = probed.round_trip().map(|trip| trip.as_millis());
        row.rtt_ms = trip.and_then(|ms| u64::try_from(ms).ok());
        row.detail = probed.answer.map(|answer| format!("answered {answer}")).unwrap_or_default();
        if !silent.is_empty() {
            row.detail = format!("{}; {}", row.detail, media::silence(&silent));
        }
        return row;
    }
    row.address = silent.first().map(|probed| probed.address.ip());
    // One address that was asked in vain says enough.
    let not_tried: Option<Vec<&str>> = silent.iter().map(|probed| ways.not_tried(probed)).collect();
    if let Some(why) = not_tried.as_deref().and_then(<[_]>::first) {
        (*why).clone_into(&mut row.detail);
        row.short = silent.iter().any(|probed| probed.refusal == Some(Refusal::NoSocket));
        return row;
    }
    row.status = Status::Closed;
    if let Some(LastHop { hop, router }) = last_hop {
        (row.after_hop, row.router) = (Some(hop), Some(router));
    }
    row.detail = format!("{}{}", media::silence(&silent), media::ended(&silent, last_hop));
    row.refused = silent.iter().any(|probed| probed.refusal.is_some());
    // Nobody is asked to open an address that may not be AWS's.
    if row.prefix.is_some() {
        row.owner = Some(Owner::Firewall);
        row.remedy = Some(format!(
            "let UDP 3478 out from the agents' networks to {name}, and its answers in; `ccpgate firewall` prints \
             the rules"
        ));
    }
    row
}

/// What came of a host whose address is in this set.
pub(super) fn host(set: Option<Set>, judged: Judged) -> Host {
    let shown = judged.into_shown();
    let status = match shown.status {
        Tested::Ok | Tested::Degraded => Status::Open,
        Tested::Failed => Status::Closed,
        Tested::Untested | Tested::Skipped => Status::NotTried,
    };
    let mut detail = shown.detail;
    if set.is_none() {
        let outside = "its address is in none of the sets for TCP 443";
        detail = if detail.is_empty() { outside.to_owned() } else { format!("{detail}; {outside}") };
    }
    Host {
        set: set.map(Set::name),
        host: shown.host,
        port: shown.port,
        address: shown.address.or_else(|| shown.addresses.first().map(ToString::to_string)),
        status,
        cause: shown.cause,
        owner: shown.cause.map(|cause| cause.about().owner),
        remedy: shown.remedy,
        detail,
    }
}
