//! Our own PAC file, read back: tables of constants before functions that are known word for word. So
//! what it answers can be said without an engine for JavaScript.
//!
//! A file of another version, or one whose functions were edited, isn't recognised: it may answer
//! anything.

mod literal;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::script;
use crate::policy::Pattern;
use crate::target::Host;
use literal::Value;

/// A PAC file that this version wrote.
#[derive(Clone, Debug)]
pub struct Own {
    /// Rows of results, of which the first is the host's own to begin with.
    listed: Vec<Vec<String>>,
    otherwise: String,
    proxied: Names,
    direct: Names,
    /// Prefix length, and groups of 16 bits.
    networks: Vec<(u32, Vec<u16>)>,
    plain: bool,
}

/// The names of three tables.
#[derive(Clone, Debug)]
struct Names {
    /// Single hosts, each with a dot before it.
    hosts: BTreeSet<String>,
    /// Suffixes that begin with a dot.
    below: BTreeSet<String>,
    patterns: Vec<Pattern>,
}

impl Own {
    /// Reads a file; none where it isn't one of ours.
    #[must_use]
    pub fn recognise(text: &str) -> Option<Self> {
        // Editors and servers may have changed the ends of lines.
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let text = text.trim_end();
        let tables = [script::LANES, script::ONE_LANE].iter().find_map(|proxies| {
            text.strip_suffix(script::FIND.trim_end())?.strip_suffix(proxies)?.strip_suffix(script::LOOKUP)
        })?;
        Self::of(tables)
    }

    /// Reads the tables of a file whose functions may be those of another version, or edited: what it
    /// answers isn't known then, but for whom it was made is. None where it has no such tables.
    #[must_use]
    pub fn tables(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let (tables, _) = text.split_once("\nfunction ")?;
        Self::of(tables)
    }

    fn of(tables: &str) -> Option<Self> {
        let mut known = literal::variables(tables)?;
        let mut names = |prefix: &str| {
            let mut take = |name: &str| known.remove(&format!("{prefix}{name}"));
            Names::of(take("HOSTS")?, take("BELOW")?, take("BEFORE")?)
        };
        let (proxied, direct) = (names("")?, names("DIRECT_")?);
        let listed = match known.remove("LISTED")? {
            Value::Text(all) => vec![vec![all]],
            rows => rows
                .list()?
                .into_iter()
                .map(|row| row.list()?.into_iter().map(Value::text).collect())
                .collect::<Option<_>>()?,
        };
        let own = Self {
            listed,
            otherwise: known.remove("OTHERWISE")?.text()?,
            proxied,
            direct,
            networks: known
                .remove("DIRECT_NETWORKS")?
                .list()?
                .into_iter()
                .map(network)
                .collect::<Option<_>>()?,
            plain: known.remove("DIRECT_PLAIN")?.truth()?,
        };
        known.is_empty().then_some(own)
    }

    /// The patterns that it knows, each with whether its hosts go past the proxy; localhost left out.
    pub fn patterns(&self) -> impl Iterator<Item = (Pattern, bool)> {
        [(&self.proxied, false), (&self.direct, true)]
            .into_iter()
            .flat_map(|(names, direct)| names.all().map(move |pattern| (pattern, direct)))
    }

    /// What `FindProxyForURL` answers for a host.
    #[must_use]
    pub fn answer(&self, host: &Host) -> String {
        let text = match host {
            Host::Name(name) => name.to_string(),
            Host::Ip(address) => address.to_string(),
        };
        if self.is_direct(host, &text) {
            return "DIRECT".to_owned();
        }
        if self.proxied.has(host, &text) { self.proxies_for(&text) } else { self.otherwise.clone() }
    }

    fn is_direct(&self, host: &Host, text: &str) -> bool {
        match host {
            Host::Ip(address) => {
                let groups = groups(*address);
                self.networks.iter().any(|(bits, network)| is_within(&groups, *bits, network))
            }
            Host::Name(_) => (self.plain && !text.contains('.')) || self.direct.has(host, text),
        }
    }

    /// The rows in order, each from the port on that the name hashes to.
    fn proxies_for(&self, host: &str) -> String {
        let number: String = host.chars().skip_while(|c| !c.is_ascii_digit()).take(6).collect();
        let digits = number.chars().take_while(char::is_ascii_digit).count();
        let number = &number[..digits];
        let rest = if number.is_empty() { host.to_owned() } else { host.replacen(number, "", 1) };
        let sum = rest.bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % 65521);
        let lane = sum + number.parse().unwrap_or(0);
        let rows =
            self.listed.iter().flat_map(|row| (0..row.len()).map(move |at| &row[(lane + at) % row.len()]));
        rows.map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

impl Names {
    fn of(hosts: Value, below: Value, before: Value) -> Option<Self> {
        let keys = |table: Value| Some(table.map()?.into_keys().collect());
        let mut patterns = Vec::new();
        for (suffix, expressions) in before.map()? {
            for expression in expressions.list()? {
                for head in expression.alternatives()? {
                    patterns.push(Pattern::parse(&format!("{head}{suffix}")).ok()?);
                }
            }
        }
        Some(Self { hosts: keys(hosts)?, below: keys(below)?, patterns })
    }

    fn all(&self) -> impl Iterator<Item = Pattern> {
        let is_real = |name: &&String| *name != ".localhost";
        let hosts = self.hosts.iter().filter(is_real).map(|host| host.trim_start_matches('.').to_owned());
        let below = self.below.iter().filter(is_real).map(|suffix| format!("*{suffix}"));
        let read = hosts.chain(below).filter_map(|text| Pattern::parse(&text).ok());
        read.chain(self.patterns.iter().cloned())
    }

    fn has(&self, host: &Host, text: &str) -> bool {
        self.hosts.contains(&format!(".{text}"))
            || text.match_indices('.').any(|(at, _)| at > 0 && self.below.contains(&text[at..]))
            || self.patterns.iter().any(|pattern| pattern.matches(host))
    }
}

/// An array of prefix length and groups.
fn network(value: Value) -> Option<(u32, Vec<u16>)> {
    let numbers: Vec<u32> = value.list()?.into_iter().map(Value::number).collect::<Option<_>>()?;
    let (bits, groups) = numbers.split_first()?;
    let groups: Vec<u16> = groups.iter().map(|group| u16::try_from(*group).ok()).collect::<Option<_>>()?;
    (matches!(groups.len(), 2 | 8) && *bits <= 16 * groups.len() as u32).then_some((*bits, groups))
}

fn groups(address: IpAddr) -> Vec<u16> {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            four.octets().chunks(2).map(|two| u16::from(two[0]) << 8 | u16::from(two[1])).collect()
        }
        IpAddr::V6(six) => six.segments().to_vec(),
    }
}

fn is_within(groups: &[u16], bits: u32, network: &[u16]) -> bool {
    let same = |(at, (one, other)): (u32, (&u16, &u16))| {
        let left = bits.saturating_sub(at * 16).min(16);
        u32::from(one ^ other) >> (16 - left) == 0
    };
    groups.len() == network.len() && (0..).zip(groups.iter().zip(network)).all(same)
}
