//! What a configuration needs of a version, in words and as JSON; and how many addresses that opens behind
//! which any AWS customer can be, beside how many names Option 1 opens.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::Serialize;

use super::diff::Label;
use super::select::{GlobalOnly, LeftOut, Selection};
use super::{Ranges, Table};

/// A selection, to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    schema_version: u32,
    #[serde(flatten)]
    label: Label,
    regions: Vec<String>,
    unknown_regions: Vec<String>,
    global_only: Vec<GlobalOnly>,
    left_out: Vec<LeftOut>,
    /// IPv4 addresses in each set.
    addresses: BTreeMap<&'static str, u64>,
    breadth: Breadth,
    sets: BTreeMap<&'static str, Prefixes>,
    #[serde(skip)]
    open_to_strangers: Vec<&'static str>,
    #[serde(skip)]
    created: Timestamp,
}

/// How much the two options open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Breadth {
    /// IPv4 addresses behind which any AWS customer can be; an address in two sets counts once.
    pub option_2_addresses: u64,
    /// Names and patterns that the proxy lets through.
    pub option_1_names: usize,
}

/// The prefixes of a set: aggregated, and in order.
#[derive(Clone, Debug, Serialize)]
struct Prefixes {
    ipv4: Vec<String>,
    ipv6: Vec<String>,
}

impl Prefixes {
    fn of(table: &Table) -> Self {
        Self {
            ipv4: table.ipv4().iter().map(ToString::to_string).collect(),
            ipv6: table.ipv6().iter().map(ToString::to_string).collect(),
        }
    }
}

impl Breadth {
    /// `names`: how many the proxy lets through.
    #[must_use]
    pub fn of(selection: &Selection, names: usize) -> Self {
        let open = selection.sets.iter().filter(|selected| selected.set.is_open_to_strangers());
        let all = open.fold(Table::default(), |all, selected| all.with(&selected.table));
        Self { option_2_addresses: all.ipv4_addresses(), option_1_names: names }
    }
}

impl fmt::Display for Breadth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Option 2 opens {} IPv4 addresses on TCP 443 that any AWS customer can have; Option 1 opens {} \
             names",
            grouped(self.option_2_addresses),
            self.option_1_names
        )
    }
}

impl Shown {
    /// `names`: how many Option 1 lets through.
    #[must_use]
    pub fn new(ranges: &Ranges, selection: &Selection, names: usize) -> Self {
        let sets = || selection.sets.iter();
        Self {
            schema_version: 1,
            label: Label::of(ranges),
            regions: selection.regions.clone(),
            unknown_regions: selection.unknown_regions.clone(),
            global_only: selection.global_only.clone(),
            left_out: selection.left_out.clone(),
            addresses: sets().map(|s| (s.set.name(), s.table.ipv4_addresses())).collect(),
            breadth: Breadth::of(selection, names),
            sets: sets().map(|s| (s.set.name(), Prefixes::of(&s.table))).collect(),
            open_to_strangers: sets()
                .filter(|s| s.set.is_open_to_strangers())
                .map(|s| s.set.name())
                .collect(),
            created: ranges.created,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "ip-ranges.json of {}, syncToken {}, for {}",
            self.created.strftime("%Y-%m-%d %H:%M:%S UTC"),
            self.label.sync_token,
            self.regions.join(", ")
        )?;
        for (set, prefixes) in &self.sets {
            let who = match self.open_to_strangers.contains(set) {
                true => "any AWS customer can be behind them",
                false => "Amazon's own",
            };
            let addresses = grouped(self.addresses.get(set).copied().unwrap_or(0));
            writeln!(
                f,
                "\n{set}: {} IPv4 and {} IPv6 prefixes, {addresses} IPv4 addresses, {who}",
                prefixes.ipv4.len(),
                prefixes.ipv6.len()
            )?;
            for prefix in prefixes.ipv4.iter().chain(&prefixes.ipv6) {
                writeln!(f, "  {prefix}")?;
            }
        }
        let mut notes = String::new();
        let family = |family| <&str>::from(family).replace("ip", "IP");
        for GlobalOnly { service, family: of, region } in &self.global_only {
            let _ = writeln!(
                notes,
                "{service} has no {} prefix of its own in {region}: GLOBAL holds",
                family(*of)
            );
        }
        for LeftOut { service, why, ipv4, ipv6 } in &self.left_out {
            let _ =
                writeln!(notes, "left out: {ipv4} IPv4 and {ipv6} IPv6 prefixes of {service} GLOBAL; {why}");
        }
        write!(f, "\n{notes}{}", self.breadth)
    }
}

/// With commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (25_700_000, "25,700,000")] {
            assert_eq!(grouped(number), text);
        }
    }
}
