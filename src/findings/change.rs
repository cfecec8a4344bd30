//! What changed lately: what is asked first when something that worked fails.

use std::collections::VecDeque;
use std::fmt;

use super::Second;
use crate::address::cut_in;

/// Changes that are remembered.
const KEPT: usize = 256;

/// How long before a failure a change is still named beside it.
pub const JUST_BEFORE: Second = 900;

/// Keys of the configuration that have addresses of clients, as a difference begins.
const OF_CLIENTS: [&str; 2] = ["proxy.clients: ", "edl.clients: "];

/// What changed, in words, without a client's whole address: the differences of such keys are cut.
#[must_use]
pub fn without_clients(told: &str) -> String {
    let cut = told.split("; ").map(|part| {
        let at = OF_CLIENTS.iter().find_map(|key| part.find(key));
        at.map_or_else(|| part.to_owned(), |at| part[..at].to_owned() + &cut_in(&part[at..]))
    });
    cut.collect::<Vec<_>>().join("; ")
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This process, with its version.
    Started(&'static str),
    /// The configuration took effect; `key: old → new`.
    Reloaded(Vec<String>),
    /// A reload was refused, so that what the file says isn't in force.
    ReloadRefused,
    /// The certificate of the TLS listener.
    Certificate,
    /// The machine's DNS servers or hosts file.
    Resolver,
    /// The addresses of a host.
    Answers { host: String, from: String, to: String },
    /// Who vouches for a host's certificate.
    Issuer { host: String, from: String, to: String },
    /// The round trip to a host, in milliseconds.
    RoundTrip { host: String, from: u64, to: u64 },
    /// Another ip-ranges.json is in force, by its `createDate`.
    Ranges(String),
}

impl Change {
    /// What kind of change it is, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Reloaded(_) => "reload",
            Self::ReloadRefused => "reload_refused",
            Self::Certificate => "certificate",
            Self::Resolver => "resolver",
            Self::Answers { .. } => "dns_answer",
            Self::Issuer { .. } => "issuer",
            Self::RoundTrip { .. } => "round_trip",
            Self::Ranges(_) => "ranges",
        }
    }

    /// Whether it is noticed by a round of the watch, and not when it happens.
    const fn is_seen_later(&self) -> bool {
        matches!(self, Self::Answers { .. } | Self::Issuer { .. } | Self::RoundTrip { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(version) => write!(f, "ccpgate {version} started"),
            Self::Reloaded(keys) if keys.is_empty() => f.write_str("reload without a difference"),
            Self::Reloaded(keys) => write!(f, "reload: {}", keys.join("; ")),
            Self::ReloadRefused => f.write_str("a reload was refused"),
            Self::Certificate => f.write_str("the TLS listener's certificate or key was replaced"),
            Self::Resolver => f.write_str("the machine's DNS servers or hosts file changed"),
            Self::Answers { host, from, to } => write!(f, "DNS for {host}: {from} → {to}"),
            Self::Issuer { host, from, to } => {
                write!(f, "the TLS issuer of {host}: {from} → {to}")
            }
            Self::RoundTrip { host, from, to } => {
                write!(f, "the round trip to {host}: {from} ms → {to} ms")
            }
            Self::Ranges(date) => write!(f, "ip-ranges.json of {date} took effect"),
        }
    }
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub struct Changes(VecDeque<(Second, Change)>);

impl Changes {
    pub fn note(&mut self, now: Second, change: Change) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, change));
    }

    /// What changed within a quarter of an hour before `since`, or while it was beginning to show. What
    /// the watch sees of it may be later: a round comes when it comes.
    pub fn just_before(&self, since: Second) -> impl Iterator<Item = &(Second, Change)> {
        let from = since.saturating_sub(JUST_BEFORE);
        self.0.iter().filter(move |(at, change)| {
            let until = since.saturating_add(if change.is_seen_later() { JUST_BEFORE } else { 1 });
            (from..=until).contains(at)
        })
    }

    /// All that are remembered, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &(Second, Change)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_no_client() {
        let servers = "dns.servers: [] → [\"10.0.0.2\"]";
        let clients = |key: &str, a: &str| format!("{key}.clients: [\"10.0.0.0/8\"] → [\"{a}\"]");
        let keys = vec![
            clients("proxy", "10.20.30.40/32"),
            servers.to_owned(),
            clients("edl", "2001:db8:1:2::3/128"),
        ];
        let told = format!("09:01:12 UTC {}", Change::Reloaded(keys));
        assert_eq!(
            without_clients(&told),
            format!(
                "09:01:12 UTC reload: {}; {servers}; {}",
                clients("proxy", "10.20.30.0/24"),
                clients("edl", "2001:db8:1::/48")
            )
        );
        let answers =
            Change::Answers { host: "h".into(), from: "10.0.0.1".into(), to: "10.0.0.2 10.0.0.3".into() };
        assert_eq!(without_clients(&answers.to_string()), answers.to_string());
    }

    #[test]
    fn what_came_just_before() {
        let mut changes = Changes::default();
        changes.note(0, Change::Started("1"));
        changes.note(1000, Change::Certificate);
        changes.note(1901, Change::Reloaded(vec!["dns.servers: [] → [\"10.0.0.2\"]".into()]));
        let before = |since| changes.just_before(since).map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(before(900), [0]);
        assert_eq!(before(1899), [1000]);
        assert_eq!(before(1901), [1901]);
        assert!(before(9000).is_empty());
        for at in 0..1000 {
            changes.note(at, Change::Resolver);
        }
        assert_eq!(changes.all().count(), KEPT);
    }
}
