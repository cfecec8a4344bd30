//! The version in force, with what is known of those before it: what every part of a running proxy that
//! needs ranges reads. A job replaces it as a whole, beside any reload.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::diff::{Added, Diff, Version};
use super::keep::needed;
use super::select::{Selection, Set, Wanted};
use super::{AMAZON, Ranges, Table};

/// AWS moves traffic onto a new range of Amazon Connect over so many days after its notice has run out.
const MOVE_DAYS: i64 = 14;

/// A version in force. It never changes; a newer one takes its place.
#[derive(Clone, Debug)]
pub struct Current {
    /// The file, and what the configuration needs of it.
    pub version: Version,
    /// The versions before it that are kept, oldest first. Their `ranges` are without entries: what the
    /// configuration needs of them is in `selection`.
    pub history: Vec<Arc<Version>>,
    /// All addresses of AWS, in every region: service AMAZON.
    pub amazon: Table,
    /// What it was selected by.
    pub wanted: Wanted,
}

impl Current {
    /// Selects from a version. `history` are those before it, oldest first.
    #[must_use]
    pub fn new(ranges: Ranges, history: Vec<Arc<Version>>, wanted: &Wanted) -> Self {
        let selection = Selection::new(&ranges, wanted);
        let amazon = ranges.of_service(AMAZON);
        Self { version: Version { ranges, selection }, history, amazon, wanted: wanted.clone() }
    }

    /// The version that follows on this one, if there is one. Of those before it, it keeps what the folder keeps.
    #[must_use]
    pub fn after(before: Option<&Self>, ranges: Ranges, wanted: &Wanted) -> Self {
        let mut history = before.map_or_else(Vec::new, |before| before.history.clone());
        history.extend(before.map(|before| Arc::new(before.version.without_entries())));
        let tokens: Vec<u64> = history.iter().map(|version| version.ranges.sync_token).collect();
        let needed = needed(&tokens, ranges.sync_token);
        history.retain(|version| needed.contains(&version.ranges.sync_token));
        Self::new(ranges, history, wanted)
    }

    /// `syncToken`: tells versions apart, and grows.
    #[must_use]
    pub fn sync_token(&self) -> u64 {
        self.version.ranges.sync_token
    }

    /// How long ago AWS made it; zero where this machine's clock says that it is yet to come.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.version.ranges.created)).unwrap_or_default()
    }

    /// The addresses of a set; none where the configuration doesn't need it.
    #[must_use]
    pub fn table(&self, set: Set) -> Option<&Table> {
        self.version.selection.of(set).map(|selected| &selected.table)
    }

    /// The set that dialling an address leads into and whose port this is, over TCP. `allowed` is as for
    /// [`crate::address::judge`].
    #[must_use]
    pub fn service_of(&self, address: IpAddr, port: u16, allowed: &[IpNet]) -> Option<Set> {
        Set::tcp().find(|set| {
            let has_port = set.row().ports.iter().any(|known| known.parse() == Ok(port));
            has_port && self.table(*set).is_some_and(|table| table.is_led_to_by(address, allowed))
        })
    }

    /// What the configuration needed of a version, this one or one before it.
    #[must_use]
    pub fn selection_of(&self, sync_token: u64) -> Option<&Selection> {
        let all = self.history.iter().map(Arc::as_ref).chain([&self.version]);
        all.into_iter().find(|v| v.ranges.sync_token == sync_token).map(|version| &version.selection)
    }

    /// The prefixes that came lately and that AWS announces before it uses them, the first due first: a
    /// firewall may still lack them. One leaves this list two weeks after its `safe_deadline`, and not
    /// earlier than two weeks after it was noticed.
    #[must_use]
    pub fn pending(&self, today: Date) -> Vec<Added> {
        let Some((oldest, between)) = self.history.split_first() else { return Vec::new() };
        let between = between.iter().map(Arc::as_ref);
        // The history is of versions before this one, so there is no other order.
        let Ok(diff) = Diff::new(oldest, &self.version, between, today) else { return Vec::new() };
        let mut pending = diff.added;
        pending.retain(|added| {
            let settled = |day: Date| day.saturating_add(MOVE_DAYS.days());
            added.safe_deadline.is_some_and(|day| today <= settled(day.max(added.first_seen[1])))
        });
        pending.sort_by_key(|added| (added.safe_deadline, added.prefix));
        pending
    }
}

impl Version {
    /// The same with what the configuration needs alone.
    #[must_use]
    pub fn without_entries(&self) -> Self {
        let Self { ranges, selection } = self;
        Self {
            ranges: Ranges {
                create_date: ranges.create_date.clone(),
                created: ranges.created,
                sync_token: ranges.sync_token,
                entries: Vec::new(),
                names: ranges.names.clone(),
            },
            selection: selection.clone(),
        }
    }
}

/// The first day on which AWS may use one of these; none where none is due.
#[must_use]
pub fn next_deadline(pending: &[Added]) -> Option<Date> {
    pending.iter().filter_map(|added| added.safe_deadline).min()
}

/// How it goes with keeping the version in force current.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Where versions come from, as the configuration names it.
    pub sources: Vec<String>,
    /// The folder that they are kept in.
    pub state: Option<PathBuf>,
    /// When a source last had the version in force, or gave it.
    pub checked: Option<Timestamp>,
    /// What is wrong with the sources or the folder now, each in one line.
    pub errors: Vec<String>,
    /// The version that waits for a person.
    pub aside: Option<Aside>,
    /// What [`Current::pending`] says today.
    pub pending: Vec<Added>,
    /// Media names that resolve to an address outside the media set, with it.
    pub strays: Vec<(String, IpAddr)>,
}

/// A version that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub sync_token: u64,
    pub create_date: String,
    /// What it would take away.
    pub why: String,
}

impl Aside {
    /// A version, and what it would take away.
    #[must_use]
    pub fn of(ranges: &Ranges, why: String) -> Self {
        Self { sync_token: ranges.sync_token, create_date: ranges.create_date.clone(), why }
    }
}

/// The version in force, for all who use it, and how it goes with keeping it current.
#[derive(Debug, Default)]
pub struct InForce {
    current: ArcSwapOption<Current>,
    keeping: ArcSwapOption<Keeping>,
}

impl InForce {
    /// The version in force; none until there is a good one. Who judges by it takes it once.
    #[must_use]
    pub fn load(&self) -> Option<Arc<Current>> {
        self.current.load_full()
    }

    /// Puts a version in force, or none.
    pub fn store(&self, current: Option<Arc<Current>>) {
        self.current.store(current);
    }

    /// The version in force with what `wanted` selects from it; none where it was selected by that. It begins
    /// without a history: of earlier versions the folder has what else is wanted.
    #[must_use]
    pub fn reselected(&self, wanted: &Wanted) -> Option<Current> {
        let before = self.load().filter(|before| before.wanted != *wanted)?;
        Some(Current::new(before.version.ranges.clone(), Vec::new(), wanted))
    }

    /// How it goes; none where the configuration names no ranges.
    #[must_use]
    pub fn keeping(&self) -> Option<Arc<Keeping>> {
        self.keeping.load_full()
    }

    /// Says how it goes.
    pub fn tell(&self, keeping: Option<Keeping>) {
        self.keeping.store(keeping.map(Arc::new));
    }
}
