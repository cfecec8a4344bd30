//! What was seen of the hole, in the words and numbers of `--json`. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use serde::Serialize;

use super::place::Place;
use super::{Asked, Hosts, Seen};
use crate::agent::hops::LastHop;
use crate::agent::turn::{Probed, Refusal};
use crate::as_text;
use crate::cause::{Cause, Owner};
use crate::diagnose::judged::Judged;
use crate::diagnose::media;
use crate::diagnose::report::Status as Tested;
use crate::ranges::current::Current;
use crate::ranges::diff::{Added, Label};
use crate::ranges::select::Set;

/// The answer as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: u32,
    pub verdict: Verdict,
    /// The first line.
    pub summary: String,
    #[serde(flatten)]
    label: Label,
    pub regions: Vec<String>,
    /// Of the media prefixes that were tried.
    open: usize,
    tried: usize,
    pub prefixes: Vec<Row>,
    /// Addresses of TURN names that no published prefix holds.
    pub outside: Vec<Row>,
    /// TURN names without a usable address.
    pub unresolved: Vec<Unresolved>,
    pub hosts: Vec<Host>,
    /// Why no host was tried over TLS; none where some were.
    pub hosts_not_tried: Option<&'static str>,
    /// `createDate` of the oldest version that deadlines were reckoned from; none where none is kept.
    pub deadlines_since: Option<String>,
}

/// Whether the hole is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All that could be tried is open.
    Open,
    Closed,
    /// Nothing was found closed, but what agents need today couldn't all be tried.
    Unproven,
}

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
    refused: bool,
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

/// What is known of deadlines.
pub(crate) struct Deadlines<'a> {
    pub pending: &'a [Added],
    pub since: Option<String>,
    pub today: Date,
}

impl Report {
    /// Judges what was seen. `media`: whether agents have any.
    pub(crate) fn new(seen: Seen, current: &Current, media: bool, deadlines: Deadlines<'_>) -> Self {
        let Seen { places, unresolved, hosts } = seen;
        let ways = Ways::of(&places);
        let rows = places.into_iter().map(|(place, asked)| row(place, &asked, &ways, deadlines.pending));
        let (prefixes, outside): (Vec<Row>, Vec<Row>) = rows.partition(|row| row.prefix.is_some());
        let unresolved: Vec<Unresolved> = unresolved
            .into_iter()
            .map(|(name, found)| Unresolved {
                name,
                cause: found.cause,
                owner: found.cause.about().owner,
                remedy: found.cause.about().remedy,
                detail: found.detail,
            })
            .collect();
        let no_host = matches!(&hosts, Hosts::Sampled(all) if all.is_empty());
        let (hosts, hosts_not_tried) = match hosts {
            Hosts::Left => (Vec::new(), Some("--scope media leaves them out")),
            Hosts::ByProxy => {
                (Vec::new(), Some("egress.proxy carries them, so their way isn't this firewall's"))
            }
            Hosts::Sampled(_) if no_host => (Vec::new(), Some("no host of the allow list resolves")),
            Hosts::Sampled(all) => (all.into_iter().map(|(set, judged)| host(set, judged)).collect(), None),
        };
        let count = |status| prefixes.iter().filter(|row| row.status == status).count();
        let (open, closed) = (count(Status::Open), count(Status::Closed));
        let any_closed = closed > 0
            || outside.iter().any(|row| row.status == Status::Closed)
            || hosts.iter().any(|host| host.status == Status::Closed);
        let nothing = media && open + closed == 0 && outside.iter().all(|row| row.status != Status::Open);
        let verdict = match any_closed {
            true => Verdict::Closed,
            false if nothing || no_host || !unresolved.is_empty() => Verdict::Unproven,
            false => Verdict::Open,
        };
        let ranges = &current.version.ranges;
        let mut report = Self {
            schema_version: 1,
            verdict,
            summary: String::new(),
            label: Label::of(ranges),
            regions: current.version.selection.regions.clone(),
            open,
            tried: open + closed,
            prefixes,
            outside,
            unresolved,
            hosts,
            hosts_not_tried,
            deadlines_since: deadlines.since,
        };
        report.summary = report.sum_up(media, deadlines.today);
        report
    }

    fn sum_up(&self, media: bool, today: Date) -> String {
        /// So many are named.
        const NAMED: usize = 3;
        let mut parts = Vec::new();
        match (media, self.tried) {
            (false, _) => {}
            (true, 0) => parts.push("no media prefix could be tried".to_owned()),
            (true, tried) => parts.push(format!("{} of {tried} open", self.open)),
        }
        let closed: Vec<&Row> = self.closed().collect();
        for row in closed.iter().take(NAMED) {
            let hop = match row.after_hop {
                Some(hop) => format!("after hop {hop}"),
                None => "(after which hop is not known)".to_owned(),
            };
            parts.push(format!("{} closed {hop}", row.name()));
            parts.extend(row.due.map(|day| due(day, today)));
        }
        if closed.len() > NAMED {
            parts.push(format!("{} more closed", closed.len() - NAMED));
        }
        if !self.outside.is_empty() {
            let noun = if self.outside.len() == 1 { "address" } else { "addresses" };
            parts.push(format!("{} {noun} outside the published prefixes", self.outside.len()));
        }
        if !self.unresolved.is_empty() {
            let noun = if self.unresolved.len() == 1 { "name doesn't" } else { "names don't" };
            parts.push(format!("{} TURN {noun} resolve", self.unresolved.len()));
        }
        if !self.hosts.is_empty() {
            let open = self.hosts.iter().filter(|host| host.status == Status::Open).count();
            parts.push(format!("TLS: {open} of {} hosts open", self.hosts.len()));
        } else if let Some(why) = self.hosts_not_tried {
            parts.push(format!("TLS: not tried, {why}"));
        }
        parts.join("; ")
    }

    /// Which version of the ranges it is about, and what of it.
    pub(crate) fn of(&self) -> String {
        format!("by ip-ranges.json of {} for {}", self.label.create_date, self.regions.join(", "))
    }

    /// What is closed on UDP 3478.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Row> {
        self.prefixes.iter().chain(&self.outside).filter(|row| row.status == Status::Closed)
    }

    /// Whether nothing answers and nobody says why: then it needn't be a firewall.
    pub(crate) fn is_silent(&self) -> bool {
        self.tried > 0 && self.open == 0 && !self.closed().any(|row| row.refused)
    }
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

/// A deadline as people say it.
pub(crate) fn due(day: Date, today: Date) -> String {
    let form = if day.year() == today.year() { "%-d %B" } else { "%-d %B %Y" };
    let since = if day <= today { "since " } else { "" };
    format!("due {since}{}", day.strftime(form))
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
    let (answering, silent): (Vec<&Probed>, Vec<&Probed>) =
        probes.iter().partition(|probed| probed.answer.is_some());
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
    if let Some(why) = silent.iter().find_map(|probed| ways.not_tried(probed)) {
        why.clone_into(&mut row.detail);
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

fn host(set: Option<Set>, judged: Judged) -> Host {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::stun::{Answer, Ask};
    use crate::catalogue::Choice;
    use crate::diagnose::finding;
    use crate::policy::Protocol;
    use crate::ranges::select::Wanted;
    use crate::ranges::testing;

    const TODAY: Date = jiff::civil::date(2026, 11, 27);

    /// A version with so many media prefixes.
    fn current(count: usize) -> Current {
        let entries: Vec<String> =
            (0..count).map(|at| format!("us-west-2 AMAZON_CONNECT 15.193.{at}.0/24")).collect();
        let ranges = testing::ranges("1", "2026-11-20-00-00-00", entries.iter().map(String::as_str));
        let choice = Choice { regions: vec!["us-west-2".into()], ..Choice::default() };
        Current::new(ranges, Vec::new(), &Wanted::new(&choice, false))
    }

    fn probed(address: &str, answers: bool, refusal: Option<Refusal>) -> Probed {
        let answer = Answer { to: Ask::Allocate, error: Some(401) };
        Probed {
            address: address.parse().unwrap(),
            answer: answers.then_some(answer),
            round_trips: vec![Duration::from_millis(20)],
            sent: 0,
            lost: 0,
            ignored: 0,
            refusal,
        }
    }

    fn asked(probes: Vec<Probed>, hop: Option<u8>) -> Asked {
        let router = "10.0.0.1".parse().unwrap();
        Asked::Probes { probes, last_hop: hop.map(|hop| LastHop { hop, router }) }
    }

    /// Every prefix that a name resolves into is what `how` says.
    fn report(current: &Current, pending: &[Added], how: impl Fn(usize, &str) -> Option<Asked>) -> Report {
        let addresses = |at| format!("15.193.{at}.7:3478");
        let all = current.version.ranges.entries.len();
        let found: Vec<_> =
            (0..all).map(|at| (format!("turn{at}"), vec![addresses(at).parse().unwrap()])).collect();
        let places = super::super::place::sort(&current.version, &found);
        let places = places.into_iter().enumerate().map(|(at, mut place)| match how(at, &addresses(at)) {
            Some(asked) => (place, asked),
            None => {
                place.addresses.clear();
                place.names.clear();
                (place, Asked::Nobody)
            }
        });
        let seen = Seen { places: places.collect(), unresolved: Vec::new(), hosts: Hosts::Left };
        Report::new(seen, current, true, Deadlines { pending, since: None, today: TODAY })
    }

    fn pending(prefix: &str, due: Date) -> Added {
        Added {
            prefix: prefix.parse().unwrap(),
            service: "AMAZON_CONNECT".into(),
            region: "us-west-2".into(),
            protocol: Protocol::Udp,
            port: "3478",
            deadline: due,
            promised: true,
            first_seen: [due, due],
            safe_deadline: Some(due),
            may_be_in_use: false,
        }
    }

    fn open(address: &str) -> Option<Asked> {
        Some(asked(vec![probed(address, true, None)], None))
    }

    #[test]
    fn the_first_line_says_what_is_closed_where_and_by_when_it_is_due() {
        let current = current(13);
        let due = pending("15.193.6.0/24", jiff::civil::date(2026, 12, 12));
        let said = report(&current, &[due], |at, address| match at {
            6 => Some(asked(vec![probed(address, false, None)], Some(3))),
            _ => open(address),
        });
        let first = "12 of 13 open; 15.193.6.0/24 closed after hop 3; due 12 December";
        assert!(said.summary.starts_with(first), "{}", said.summary);
        assert_eq!((said.verdict, said.open, said.tried), (Verdict::Closed, 12, 13));
        let row = said.closed().next().unwrap();
        assert_eq!((row.after_hop, row.owner), (Some(3), Some(Owner::Firewall)));
        assert!(row.detail.ends_with("dropped after hop 3, 10.0.0.1"), "{}", row.detail);
        assert!(row.remedy.as_deref().unwrap().contains("15.193.6.0/24"));
        // A hop that nobody told of is not made up.
        let said = report(&current, &[], |at, address| match at {
            0..5 => Some(asked(vec![probed(address, false, None)], None)),
            _ => open(address),
        });
        let first = "8 of 13 open; 15.193.0.0/24 closed (after which hop is not known); 15.193.1.0/24 closed";
        assert!(
            said.summary.starts_with(first) && said.summary.contains("2 more closed"),
            "{}",
            said.summary
        );
    }

    #[test]
    fn silence_of_all_has_two_readings_unless_somebody_says_what_it_is() {
        let silent =
            |refusal| move |_, address: &str| Some(asked(vec![probed(address, false, refusal)], Some(2)));
        let current = current(3);
        assert!(report(&current, &[], silent(None)).is_silent());
        assert!(!report(&current, &[], silent(Some(Refusal::Here { errno: libc::EPERM }))).is_silent());
    }

    #[test]
    fn what_was_not_tried_is_never_open() {
        let current = current(3);
        let said = report(&current, &[], |at, address| if at == 1 { open(address) } else { None });
        assert_eq!((said.verdict, said.open, said.tried), (Verdict::Open, 1, 1));
        assert_eq!(said.prefixes.iter().filter(|row| row.status == Status::NotTried).count(), 2);
        let said = report(&current, &[], |_, _| None);
        assert_eq!((said.verdict, said.tried), (Verdict::Unproven, 0));
        assert!(said.summary.starts_with("no media prefix could be tried"), "{}", said.summary);
    }

    #[test]
    fn a_family_without_a_way_is_not_tried_and_one_lost_way_is_closed() {
        let current = current(2);
        let no_way = |address: &str| Some(asked(vec![probed(address, false, Some(Refusal::NoWay))], None));
        let said = report(&current, &[], |at, address| if at == 0 { open(address) } else { no_way(address) });
        assert_eq!((said.verdict, said.tried), (Verdict::Closed, 2));
        assert!(said.closed().next().unwrap().detail.ends_with("this machine has no route there"));
        let said = report(&current, &[], |_, address| no_way(address));
        assert_eq!((said.verdict, said.tried), (Verdict::Unproven, 0));
        let no_socket =
            |_, address: &str| Some(asked(vec![probed(address, false, Some(Refusal::NoSocket))], None));
        assert_eq!(report(&current, &[], no_socket).verdict, Verdict::Unproven);
    }

    #[test]
    fn one_dead_server_does_not_close_a_prefix() {
        let said = report(&current(1), &[], |_, address| {
            Some(asked(vec![probed(address, false, None), probed("15.193.0.8:3478", true, None)], None))
        });
        let row = &said.prefixes[0];
        assert_eq!((said.verdict, row.status), (Verdict::Open, Status::Open));
        assert_eq!(row.address, "15.193.0.8".parse().ok());
        assert!(row.detail.ends_with("no answer in 8 s from 15.193.0.7:3478"), "{}", row.detail);
    }

    #[test]
    fn names_that_do_not_resolve_leave_it_unproven() {
        let current = current(1);
        let found = finding::failed(Cause::DnsNxdomain, "NXDOMAIN");
        let place = super::super::place::sort(
            &current.version,
            &[("a".to_owned(), vec!["15.193.0.7:3478".parse().unwrap()])],
        );
        let places = place.into_iter().map(|place| (place, open("15.193.0.7:3478").unwrap())).collect();
        let seen =
            Seen { places, unresolved: vec![("turn".to_owned(), found)], hosts: Hosts::Sampled(Vec::new()) };
        let report = Report::new(seen, &current, true, Deadlines { pending: &[], since: None, today: TODAY });
        assert_eq!(report.verdict, Verdict::Unproven);
        assert_eq!(
            report.summary,
            "1 of 1 open; 1 TURN name doesn't resolve; TLS: not tried, no host of the allow list resolves"
        );
    }

    #[test]
    fn days_are_said_as_people_say_them() {
        for (day, said) in [
            ((2026, 12, 12), "due 12 December"),
            ((2026, 11, 27), "due since 27 November"),
            ((2027, 1, 3), "due 3 January 2027"),
            ((2025, 1, 3), "due since 3 January 2025"),
        ] {
            assert_eq!(due(jiff::civil::date(day.0, day.1, day.2), TODAY), said);
        }
    }
}
