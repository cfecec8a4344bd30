//! From `[connect]` to the rules of the allow list, and to warnings about it.
//!
//! [`needs`] decides which rows a choice switches on. Denied hosts are explained with the same function, so
//! that list and explanation agree. `[[allow]]` and `policy.deny` are not known here.

use std::collections::{BTreeMap, BTreeSet};

use super::values::Chosen;
use super::{
    Catalogue, Choice, Endpoint, Feature, Instances, Need, Region, RegionList, SignIn, Wildcards, catalogue,
};
use crate::policy::{Breadth, Generation, Pattern, Protocol, Rule};

/// The allow list of a choice.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Sorted by category, then pattern, then protocol; no two with the same pattern and protocol.
    pub rules: Vec<Rule>,
    /// One line each, most serious first, for stderr and the status page.
    pub warnings: Vec<String>,
}

/// Resolves `[connect]` to rules. Its values are as [`region`](super::region), [`alias`](super::alias) and
/// [`bucket`](super::bucket) return them.
#[must_use]
pub fn resolve(connect: &Choice) -> Resolved {
    let catalogue = catalogue();
    let chosen = Chosen::of(connect);
    let mut rules: BTreeMap<(String, Protocol), Rule> = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for row in catalogue.endpoints.iter().filter(|row| !row.retired) {
        let mut shared = Open { row, names: BTreeSet::new(), unlisted: BTreeSet::new() };
        for (&code, &region) in chosen.regions.iter().filter(|(code, _)| row.holds_in(code)) {
            if !needs(catalogue, row, region, connect).is_empty() {
                continue;
            }
            let unlisted = row.gives_way_to.is_some() && !gives_way(catalogue, row, region);
            for name in names(row, code, region, &chosen) {
                if row.breadth == Breadth::Shared {
                    shared.names.insert(name.clone());
                    if unlisted {
                        shared.unlisted.insert(code);
                    }
                }
                // Tests try every row, with every alias and bucket that the readers take.
                let Ok(pattern) = Pattern::parse(&name) else { continue };
                let rule = rule(catalogue, row, pattern, unlisted);
                rules.entry((name, row.protocol)).and_modify(|old| merge(old, &rule)).or_insert(rule);
            }
        }
        if !shared.names.is_empty() {
            open.push(shared);
        }
    }
    let mut rules: Vec<Rule> = rules.into_values().collect();
    // The map is sorted by pattern and protocol, and the sort is stable.
    rules.sort_by_key(|rule| rule.category);
    Resolved { rules, warnings: warnings(&chosen, &open) }
}

/// What would have to change in `choice` for `row` to be on the list in `region`, apart from the
/// region, instance, and bucket that its names are made of.
pub(crate) fn needs(catalogue: &Catalogue, row: &Endpoint, region: &Region, choice: &Choice) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut need = |key, value: &str| needs.push(Need { key, value: value.to_owned() });
    let any_instance = choice.instances.iter().any(|alias| alias == "*");
    if row.instances == Some(Instances::Any) && !any_instance {
        need("connect.instances", "*");
    }
    if let Some(signin) = row.signin.filter(|signin| !choice.signin.contains(signin)) {
        need("connect.signin", signin.into());
    }
    if let Some(feature) = row.feature.filter(|feature| !choice.features.contains(feature)) {
        need("connect.features", feature.into());
    }
    if row.media && !choice.media {
        need("connect.media", "true");
    }
    let gives_way = gives_way(catalogue, row, region);
    // Without `legacy` a row goes that has no replacement; one that a list replaces stays where the list is
    // empty, or the panel would lose its files.
    if row.legacy_only && !choice.legacy && (gives_way || row.gives_way_to.is_none()) {
        need("connect.legacy", "true");
    }
    if gives_way && choice.wildcards == Wildcards::Narrow {
        need("connect.wildcards", "documented");
    }
    needs
}

/// Whether other rows hold what this wildcard is for in that Region.
pub(crate) fn gives_way(catalogue: &Catalogue, row: &Endpoint, region: &Region) -> bool {
    let stand_in = row.gives_way_to.as_deref().and_then(|id| catalogue.endpoint(id));
    stand_in.is_some_and(|row| match row.list {
        None => true,
        // There the instance's own name replaces the published hosts.
        Some(RegionList::StaticCloudfront) if region.static_from_instance => true,
        Some(list) => !list.of(region).is_empty(),
    })
}

/// The names of a row in a Region, in normal form.
pub(crate) fn names(row: &Endpoint, code: &str, region: &Region, chosen: &Chosen<'_>) -> Vec<String> {
    let templates = row.list.map_or(row.patterns.as_slice(), |list| list.of(region));
    let codes = || row.also_in.iter().map(String::as_str).chain([code]);
    let mut names = Vec::new();
    for template in templates {
        for code in codes() {
            let name = template.replace("{region}", code).replace("{instance_id}", "*");
            if name.contains("{instance}") {
                names.extend(chosen.instances.iter().map(|alias| name.replace("{instance}", alias)));
            } else if name.contains("{bucket}") {
                let buckets = &chosen.choice.attachment_buckets;
                names.extend(buckets.iter().map(|bucket| name.replace("{bucket}", bucket)));
            } else {
                names.push(name);
            }
        }
    }
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    names
}

fn rule(catalogue: &Catalogue, row: &Endpoint, pattern: Pattern, unlisted: bool) -> Rule {
    let generation = match row.generation {
        // AWS replaced the name in other Regions; in this one it is the only one.
        Generation::Legacy if unlisted => Generation::Current,
        generation => generation,
    };
    Rule {
        pattern,
        ports: row.ports.clone(),
        protocol: row.protocol,
        category: row.category,
        generation,
        breadth: row.breadth,
        carries: row.carries.clone(),
        agent_sees: row.agent_sees.clone(),
        source: catalogue.source_text(&row.source),
    }
}

/// Merges the rules of one name from two rows or Regions: all ports; `current` before `legacy`; the wider
/// breadth.
fn merge(old: &mut Rule, new: &Rule) {
    old.ports.extend_from_slice(&new.ports);
    old.ports.sort_unstable();
    old.ports.dedup();
    if old.generation == Generation::Legacy {
        old.generation = new.generation;
    }
    old.breadth = old.breadth.max(new.breadth);
}

/// A row whose names are open to any AWS customer.
struct Open {
    row: &'static Endpoint,
    names: BTreeSet<String>,
    /// Regions where nothing narrower is published.
    unlisted: BTreeSet<&'static str>,
}

fn warnings(chosen: &Chosen<'_>, open: &[Open]) -> Vec<String> {
    let choice = chosen.choice;
    let mut lines = Vec::new();
    if !chosen.any_instance && chosen.instances.is_empty() {
        lines.push("connect.instances is empty: no agent can open the panel".to_owned());
    }
    // One line for all rows that the same change would close.
    let mut by_remedy: Vec<(String, Vec<&Open>)> = Vec::new();
    for open in open {
        let remedy = remedy(open);
        match by_remedy.iter_mut().find(|(known, _)| *known == remedy) {
            Some((_, rows)) => rows.push(open),
            None => by_remedy.push((remedy, vec![open])),
        }
    }
    by_remedy.sort_by_key(|(_, rows)| rows[0].row.instances != Some(Instances::Any));
    for (remedy, rows) in by_remedy {
        let names: Vec<String> = rows.iter().map(|open| spell(open)).collect();
        lines.push(format!("open to any AWS customer: {}; {remedy}", names.join(", ")));
    }
    if choice.features.contains(&Feature::GlobalResiliency) && chosen.regions.len() == 1 {
        let only = chosen.regions.keys().next().copied().unwrap_or_default();
        lines.push(format!(
            "connect.features has \"global-resiliency\", but connect.regions names {only} alone; \
             list both regions of the pair"
        ));
    }
    if choice.features.contains(&Feature::Video) && !choice.media {
        lines.push(
            "connect.features has \"video\", but connect.media = false leaves out its UDP endpoints; \
             video falls back to TLS"
                .to_owned(),
        );
    }
    if choice.features.contains(&Feature::Fips) {
        lines.extend(no_fips(chosen));
    }
    if choice.wildcards == Wildcards::Narrow && choice.signin.contains(&SignIn::Password) {
        lines.push(
            "connect.wildcards = \"narrow\": AWS names only one bucket of sign-in pictures; if the \
             challenge has none, look for denied *.s3.dualstack hosts and add them to [[allow]]"
                .to_owned(),
        );
    }
    lines
}

fn remedy(open: &Open) -> String {
    if !open.unlisted.is_empty() {
        let regions: Vec<&str> = open.unlisted.iter().copied().collect();
        return format!("AWS publishes no narrower list for {}", regions.join(", "));
    }
    open.row.remedy.clone().unwrap_or_default()
}

/// The names where they are few, else their pattern.
fn spell(open: &Open) -> String {
    if open.names.len() <= 3 {
        return open.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    }
    format!("{} ({} names)", open.row.patterns.join(", ").to_ascii_lowercase(), open.names.len())
}

fn no_fips(chosen: &Chosen<'_>) -> Option<String> {
    let rows = || catalogue().endpoints.iter().filter(|row| row.feature == Some(Feature::Fips));
    let without = chosen.regions.keys().filter(|code| !rows().any(|row| row.holds_in(code)));
    let without: Vec<&str> = without.copied().collect();
    (!without.is_empty()).then(|| {
        format!("connect.features has \"fips\", but AWS lists no FIPS endpoints for {}", without.join(", "))
    })
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
