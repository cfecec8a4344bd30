//! `edl` of `/api/status`: the lists as they are, and what each consumer holds against them, in a sentence.

use std::collections::HashSet;

use ipnet::IpNet;
use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;

use super::consumers::Fetch;
use super::http::time;
use super::lists::{Kept, State};
use crate::export::edl::Fetched;
use crate::journal::Journal;
use crate::ranges::diff::NOTICE_DAYS;
use crate::ranges::{Table, day};
use crate::wording::date;

/// `edl` of `/api/status`.
#[derive(Serialize)]
pub(super) struct Shown {
    lists: Vec<List>,
    consumers: Vec<Row>,
}

/// A list as it is now.
#[derive(Serialize)]
struct List {
    list: &'static str,
    /// None where there is no list, and `why` says why.
    entries: Option<usize>,
    /// Since when this process serves it as it is.
    since: Option<String>,
    /// The day of the first version of ip-ranges.json with these entries.
    version: Option<String>,
    why: Option<&'static str>,
}

/// A list that somebody asked for.
#[derive(Serialize)]
struct Row {
    /// The user's name, else the address.
    consumer: String,
    client: String,
    user: Option<String>,
    agent: String,
    list: &'static str,
    fetched: String,
    /// Of the list that it holds.
    version: Option<String>,
    current: bool,
    /// Entries of the current list that the held one lacks, and the other way round; null where it holds none.
    missing: Option<usize>,
    surplus: Option<usize>,
    /// The day from which AWS may use what is missing; null where that is unknown, or nothing is missing.
    due: Option<String>,
    sentence: String,
}

impl Shown {
    pub(super) fn new(state: &State, journal: &Journal, today: Date) -> Self {
        let mut consumers = Vec::new();
        for ((user, address), consumer) in state.consumers.all() {
            let client = journal.shown_address(*address).to_string();
            for (name, fetch) in &consumer.fetched {
                let Some(kept) = state.kept.iter().find(|kept| kept.list.name == *name) else { continue };
                let told = Told::of(kept, fetch, today);
                let consumer_name = user.clone().unwrap_or_else(|| client.clone());
                consumers.push(Row {
                    sentence: told.sentence(&consumer_name, kept.list, today),
                    consumer: consumer_name,
                    client: client.clone(),
                    user: user.clone(),
                    agent: consumer.agent.clone(),
                    list: name,
                    fetched: time(fetch.at),
                    version: fetch.held.as_deref().map(|held| held.day().to_string()),
                    current: told.current,
                    missing: told.missing,
                    surplus: told.surplus,
                    due: told.due.map(|day| day.to_string()),
                });
            }
        }
        let list = |kept: &Kept| List {
            list: kept.list.name,
            entries: kept.current().map(|served| served.content.entries.len()),
            since: kept.current().map(|served| time(served.content.since)),
            version: kept
                .current()
                .and_then(|served| served.content.first)
                .map(|first| day(first).to_string()),
            why: kept.none.map(|(_, why)| why),
        };
        Self { lists: state.kept.iter().map(list).collect(), consumers }
    }
}

/// What somebody holds, against what there is.
struct Told {
    /// The day of what it holds.
    held: Option<Date>,
    current: bool,
    missing: Option<usize>,
    surplus: Option<usize>,
    due: Option<Date>,
}

impl Told {
    fn of(kept: &Kept, fetch: &Fetch, today: Date) -> Self {
        let none = Self { held: None, current: false, missing: None, surplus: None, due: None };
        let Some(held) = &fetch.held else { return none };
        let held_day = Some(held.day());
        let Some(now) = kept.current().map(|served| &served.content) else {
            return Self { held: held_day, ..none };
        };
        if held.entries == now.entries {
            return Self { held: held_day, current: true, missing: Some(0), surplus: Some(0), due: None };
        }
        let missing = lacking(kept.list, &held.entries, &now.entries);
        // Prefixes of a region that was added by the configuration are in use.
        let by_aws = kept.list.is_promised() && held.regions == now.regions;
        let last = held.last().filter(|_| missing > 0 && by_aws);
        let due = last.map(|last| day(last).saturating_add(NOTICE_DAYS.days()));
        Self {
            held: held_day,
            current: false,
            missing: Some(missing),
            surplus: Some(lacking(kept.list, &now.entries, &held.entries)),
            due: due.filter(|due| *due > today),
        }
    }

    fn sentence(&self, who: &str, list: &Fetched, today: Date) -> String {
        let count = |count: usize| {
            let noun = match (list.needs_ranges(), count) {
                (true, 1) => "prefix",
                (true, _) => "prefixes",
                (false, 1) => "name",
                (false, _) => "names",
            };
            format!("{count} {noun}")
        };
        let Some(held) = self.held else { return format!("{who} asked, and has got no list yet") };
        if self.current {
            return format!("{who} holds the current list");
        }
        let still = format!("{who} still holds the list of {}", date(held, today));
        match (self.missing, self.surplus, self.due) {
            (None, ..) => format!("{still}; there is none now"),
            (Some(0), Some(surplus), _) => {
                format!("{still}; nothing is missing, {} too many", count(surplus))
            }
            (Some(missing), _, Some(due)) => {
                format!("{still}; {} missing; traffic may move from {}", count(missing), date(due, today))
            }
            (Some(missing), _, None) => {
                format!("{still}; {} missing, which may be in use already", count(missing))
            }
        }
    }
}

/// How many of the wanted entries aren't on a list. Prefixes count by their addresses: one that was cut in
/// two is still there.
fn lacking(list: &Fetched, held: &[String], wanted: &[String]) -> usize {
    if list.needs_ranges() {
        let nets = |entries: &[String]| {
            entries.iter().filter_map(|entry| entry.parse().ok()).collect::<Vec<IpNet>>()
        };
        let table: Table = nets(held).into_iter().collect();
        return nets(wanted).iter().filter(|net| !table.covers(net)).count();
    }
    let held: HashSet<&String> = held.iter().collect();
    wanted.iter().filter(|entry| !held.contains(entry)).count()
}
