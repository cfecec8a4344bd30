//! ip-ranges.json, in which AWS publishes its address ranges: for Option 2, and for the voice, which no
//! proxy carries.
//!
//! Here: the file as data. `read` takes it strictly, `select` finds what a configuration needs of it,
//! `diff` compares two versions, `table` looks addresses up, `admit` judges whether a version takes the
//! place of the one in force, which is in `current`. Pure, but for `keep`, which reads and writes files.

pub mod admit;
pub mod current;
pub mod diff;
pub mod keep;
pub mod read;
pub mod select;
pub mod show;
pub mod table;
pub mod tell;
#[cfg(test)]
pub(crate) mod testing;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub use table::Table;

/// A version of ip-ranges.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// `createDate`, as it stands there (`2026-08-22-15-17-05`).
    pub create_date: String,
    /// When AWS made this version: `createDate` as UTC.
    pub created: Timestamp,
    /// `syncToken`: grows with each version.
    pub sync_token: u64,
    /// In the order of the file, IPv4 first.
    pub entries: Vec<Entry>,
    /// The names that entries refer to.
    names: Vec<Box<str>>,
}

/// A prefix, and what AWS uses it for. One prefix may have several entries, one for each service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub net: IpNet,
    service: Name,
    region: Name,
}

/// An index into the names of the file that the entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(u16);

/// The region of prefixes that belong to no single region.
pub const GLOBAL: &str = "GLOBAL";

/// The service that every prefix of every other one lies in.
pub const AMAZON: &str = "AMAZON";

impl Ranges {
    /// Such as `AMAZON_CONNECT`.
    #[must_use]
    pub fn service(&self, entry: &Entry) -> &str {
        &self.names[usize::from(entry.service.0)]
    }

    /// Such as `us-west-2`, or [`GLOBAL`].
    #[must_use]
    pub fn region(&self, entry: &Entry) -> &str {
        &self.names[usize::from(entry.region.0)]
    }

    /// The day on which AWS made this version, by UTC.
    #[must_use]
    pub fn day(&self) -> Date {
        day(self.created)
    }

    /// Whether any service has a prefix in the region.
    #[must_use]
    pub fn knows_region(&self, region: &str) -> bool {
        self.name(region).is_some_and(|name| self.entries.iter().any(|entry| entry.region == name))
    }

    /// All addresses of a service, in every region.
    #[must_use]
    pub fn of_service(&self, service: &str) -> Table {
        let Some(name) = self.name(service) else { return Table::default() };
        self.entries.iter().filter(|entry| entry.service == name).map(|entry| entry.net).collect()
    }

    fn name(&self, text: &str) -> Option<Name> {
        let at = self.names.iter().position(|name| **name == *text)?;
        u16::try_from(at).ok().map(Name)
    }
}

/// The day of a moment, by UTC.
#[must_use]
pub fn day(moment: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(moment).date()
}
