//! Which endpoint a denied host belongs to: the catalogue read backwards, so that a refusal can say which
//! key to change. It never says that a host is allowed; only the policy decides that.

use std::fmt;
use std::sync::LazyLock;

use super::resolve::{gives_way, names, needs};
use super::values::{self, Chosen};
use super::{Catalogue, Choice, Endpoint, Instances, Region, Wildcards, catalogue};
use crate::policy::{Breadth, Category, Pattern, Protocol};
use crate::target::Host;

/// One change of `[connect]`: add `value` to a list, or set the key to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Such as `connect.regions`.
    pub key: &'static str,
    /// Such as `eu-west-2` or `true`, without quotes.
    pub value: String,
}

/// The catalogue's endpoint for a host that is not on the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Id of the row.
    pub id: &'static str,
    /// As in the catalogue, such as `participant.connect.{region}.amazonaws.com`.
    pub pattern: String,
    pub category: Category,
    pub protocol: Protocol,
    pub ports: &'static [u16],
    /// The Region of the name, when it has one.
    pub region: Option<&'static str>,
    /// The first key to change; `allow` for a name that AWS no longer lists.
    pub key: &'static str,
    /// What to add to that key, or to set it to.
    pub value: String,
    /// All that has to change, the first included; never empty.
    pub needs: Vec<Need>,
    /// Any AWS customer can have such a name, for whatever it likes: it is no sign that anybody works with
    /// Connect there.
    pub anybodys: bool,
    pub agent_sees: &'static str,
    pub note: Option<&'static str>,
}

impl Elsewhere {
    fn is_retired(&self) -> bool {
        catalogue().endpoint(self.id).is_some_and(|row| row.retired)
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)?;
        if let Some(region) = self.region.filter(|_| self.pattern.contains("{region}")) {
            write!(f, " of {region}")?;
        } else if let Some(region) = self.region {
            write!(f, " ({region})")?;
        }
        if self.protocol == Protocol::Udp {
            let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
            write!(f, ", UDP {} past any proxy", ports.join(", "))?;
        }
        for (at, Need { key, value }) in self.needs.iter().enumerate() {
            let and = if at == 0 { ", " } else { " and " };
            match *key {
                "allow" if !self.is_retired() => {
                    write!(f, "{and}which [[allow]] with {value:?} lets through")?
                }
                "allow" => {
                    write!(f, "{and}which AWS no longer lists; an [[allow]] entry would let it through")?
                }
                "connect.media" | "connect.legacy" => write!(f, "{and}which needs {key} = {value}")?,
                "connect.wildcards" => write!(f, "{and}which needs {key} = {value:?}")?,
                _ => write!(f, "{and}which needs {value:?} in {key}")?,
            }
        }
        Ok(())
    }
}

/// The endpoint that `host` (normal form: lower case, no trailing dot) belongs to, with everything
/// that a configuration needs for it. `None` for hosts that are not in the catalogue, and for those
/// that every configuration has.
pub fn find_elsewhere(host: &str) -> Option<Elsewhere> {
    let nothing = Choice {
        regions: Vec::new(),
        instances: Vec::new(),
        attachment_buckets: Vec::new(),
        instance_ids: Vec::new(),
        origins: Vec::new(),
        media: false,
        legacy: false,
        signin: Vec::new(),
        features: Vec::new(),
        wildcards: Wildcards::Documented,
    };
    find_elsewhere_given(host, &nothing)
}

/// Like [`find_elsewhere`], but names only what `choice` lacks; `None` when it lacks nothing.
pub fn find_elsewhere_given(host: &str, choice: &Choice) -> Option<Elsewhere> {
    let catalogue = catalogue();
    let name = Host::Name(host.into());
    let mut best: Option<(Rank, Elsewhere)> = None;
    for known in KNOWN.iter().filter(|known| known.pattern.matches(&name)) {
        let Known { row, code, region, at, ref made, .. } = *known;
        // A wildcard that stays only because a Region has no list is no hint at a Region that nobody
        // chose.
        let stays = row.gives_way_to.is_some() && !gives_way(catalogue, row, region);
        if stays && !row.is_regional() && !is_chosen(choice, code) {
            continue;
        }
        let Some(found) = describe(catalogue, row, (code, region), (at, made), host, choice) else {
            continue;
        };
        if found.needs.is_empty() {
            // The host is on the list already.
            return None;
        }
        // Nobody opens the panel of every customer for the sake of one host.
        if row.instances == Some(Instances::Any) {
            continue;
        }
        let rank = Rank::new(row, made, &found, host);
        if best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, found));
        }
    }
    best.map(|(_, found)| found).or_else(|| somewhere(&name, host))
}

/// The rows that a host is a name of, whatever customer it belongs to: those whose name fits it best.
pub(crate) fn rows_of(host: &str) -> Vec<&'static Endpoint> {
    let name = Host::Name(host.into());
    let fit: Vec<&Known> = KNOWN.iter().filter(|known| known.pattern.matches(&name)).collect();
    let best = |known: &&Known| (known.pattern.is_exact(), known.made.len());
    let most = fit.iter().map(best).max();
    fit.into_iter().filter(|known| Some(best(known)) == most).map(|known| known.row).collect()
}

/// A name that the catalogue makes of a row in a Region.
struct Known {
    row: &'static Endpoint,
    code: &'static str,
    region: &'static Region,
    /// Which of the row's names there.
    at: usize,
    made: String,
    pattern: Pattern,
}

/// All of them, with every alias and every bucket, so that a name matches whatever customer it belongs
/// to. Read once: a page asks for a thousand hosts at a time.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let everyone = Choice {
        instances: vec!["*".to_owned()],
        attachment_buckets: vec!["*".to_owned()],
        ..Choice::default()
    };
    let everyone = Chosen {
        choice: &everyone,
        regions: Default::default(),
        instances: vec!["*".to_owned()],
        any_instance: true,
    };
    let mut all = Vec::new();
    for row in &catalogue().endpoints {
        for (code, region) in catalogue().offered().filter(|(code, _)| row.holds_in(code)) {
            for (at, made) in names(row, code, region, &everyone).into_iter().enumerate() {
                // Tests parse every name.
                let Ok(pattern) = Pattern::parse(&made) else { continue };
                all.push(Known { row, code, region, at, made, pattern });
            }
        }
    }
    all
});

/// A name of a service that also runs in Regions where Connect doesn't, such as IAM Identity Center
/// in eu-west-1: the sign-in group doesn't bring it, since its names follow `connect.regions`.
fn somewhere(name: &Host, host: &str) -> Option<Elsewhere> {
    let (row, pattern, _) = ANYWHERE.iter().find(|(.., any)| any.matches(name))?;
    host.split('.').any(crate::policy::is_region).then(|| Elsewhere {
        id: &row.id,
        pattern: format!("{pattern} of a Region that connect.regions can't name"),
        category: row.category,
        protocol: row.protocol,
        ports: &row.ports,
        region: None,
        key: "allow",
        value: host.to_owned(),
        needs: vec![Need { key: "allow", value: host.to_owned() }],
        anybodys: is_anybodys(row, host, false),
        agent_sees: &row.agent_sees,
        note: row.note.as_deref(),
    })
}

/// The names of services that run in more Regions than Connect: with `*` for the Region.
static ANYWHERE: LazyLock<Vec<(&'static Endpoint, &'static str, Pattern)>> = LazyLock::new(|| {
    let rows = catalogue().endpoints.iter().filter(|row| row.anywhere);
    let names = rows.flat_map(|row| row.patterns.iter().map(move |pattern| (row, pattern.as_str())));
    let parsed = names.filter_map(|(row, name)| {
        let any = name.replace("{region}", "*").to_ascii_lowercase();
        Some((row, name, Pattern::parse(&any).ok()?))
    });
    parsed.collect()
});

/// Whether a name of the row may be anybody's. `foreign`: it spells an alias or a bucket that the choice lacks.
/// Buckets are all customers', and below awsapps.com directories and portals have names, too; below
/// connect.aws instances alone do.
fn is_anybodys(row: &Endpoint, host: &str, foreign: bool) -> bool {
    (row.breadth == Breadth::Shared || foreign) && !host.ends_with(".connect.aws")
}

fn is_chosen(choice: &Choice, code: &str) -> bool {
    choice.regions.iter().any(|known| known == "*" || known == code)
}

/// None where the row's names are those of an instance or a bucket, and none can have this one.
fn describe(
    catalogue: &Catalogue,
    row: &'static Endpoint,
    (code, region): (&'static str, &Region),
    (at, made): (usize, &str),
    host: &str,
    choice: &Choice,
) -> Option<Elsewhere> {
    let mut needed = Vec::new();
    let mut foreign = false;
    // A row with also_in makes several names of each pattern.
    let pattern = row.patterns.get(at / (row.also_in.len() + 1)).map_or(made, String::as_str);
    if row.retired {
        needed.push(Need { key: "allow", value: host.to_owned() });
    } else {
        let served = |code: &str| is_chosen(choice, code) && row.holds_in(code);
        // A row without a Region in its names may still exist in some Regions only.
        let elsewhere = !choice.regions.is_empty() && !catalogue.offered().any(|(code, _)| served(code));
        if if row.is_regional() { !is_chosen(choice, code) } else { elsewhere } {
            needed.push(Need { key: "connect.regions", value: code.to_owned() });
        }
        let owner = made.strip_prefix('*').and_then(|suffix| host.strip_suffix(suffix));
        let any = |list: &[String], name: &str| {
            list.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(name))
        };
        let before = needed.len();
        match owner {
            Some(alias) if pattern.contains("{instance}") => {
                // A `*.` covers several labels, and an alias is one.
                values::alias(alias).ok()?;
                if !any(&choice.instances, alias) {
                    needed.push(Need { key: "connect.instances", value: alias.to_owned() });
                }
            }
            Some(bucket) if pattern.contains("{bucket}") => {
                values::bucket(bucket).ok()?;
                if !any(&choice.attachment_buckets, bucket) {
                    needed.push(Need { key: "connect.attachment_buckets", value: bucket.to_owned() });
                }
            }
            _ => {}
        }
        foreign = needed.len() > before;
        needed.extend(needs(catalogue, row, region, choice));
    }
    let first = needed.first();
    Some(Elsewhere {
        id: &row.id,
        pattern: pattern.to_ascii_lowercase(),
        category: row.category,
        protocol: row.protocol,
        ports: &row.ports,
        region: row.is_regional().then_some(code),
        key: first.map_or("", |need| need.key),
        value: first.map_or_else(String::new, |need| need.value.clone()),
        needs: needed,
        anybodys: is_anybodys(row, host, foreign),
        agent_sees: &row.agent_sees,
        note: row.note.as_deref(),
    })
}

/// Smaller is the better explanation.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    retired: bool,
    wildcard: bool,
    shortness: std::cmp::Reverse<usize>,
    other_region: bool,
    needs: usize,
}

impl Rank {
    fn new(row: &Endpoint, made: &str, found: &Elsewhere, host: &str) -> Self {
        Self {
            retired: row.retired,
            wildcard: made.contains('*'),
            shortness: std::cmp::Reverse(made.len()),
            other_region: found.region.is_some_and(|code| !host.contains(code)),
            needs: found.needs.len(),
        }
    }
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
