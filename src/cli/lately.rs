//! What a running proxy saw of one target: what `explain` adds where it is told whom to ask.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::running::{Running, clean};
use super::seen::{Denied, Tunnels, clock};
use super::{Failure, tunnels};
use crate::target::Target;
use crate::wording::count;

/// So many tunnels to a host tell how it does.
const SEEN: u32 = 1000;

/// What a running proxy saw of one target.
pub(super) struct Lately {
    /// Its address.
    pub admin: String,
    pub tunnels: Tunnels,
    pub denied: Vec<Denied>,
}

impl Lately {
    /// Asks the proxy.
    ///
    /// # Errors
    /// As of [`Running::ask`].
    pub(super) fn of(target: &Target, running: &Running) -> Result<Self, Failure> {
        let host = target.host.to_string();
        let all: Tunnels = running.ask(&tunnels::path(None, Some(&host), SEEN))?;
        let denied: Vec<Denied> = running.ask("/api/denied")?;
        let target = target.to_string();
        Ok(Self {
            admin: running.url(),
            tunnels: Tunnels {
                live: all.live.into_iter().filter(|tunnel| tunnel.target == target).collect(),
                ended: all.ended.into_iter().filter(|tunnel| tunnel.target == target).collect(),
                ..all
            },
            denied: denied.into_iter().filter(|row| row.target == target).collect(),
        })
    }

    /// How often each outcome came, the most frequent first.
    fn outcomes(&self) -> Vec<(String, usize)> {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for tunnel in &self.tunnels.ended {
            let outcome = clean(tunnel.outcome.as_deref().unwrap_or("unknown"));
            match counts.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, count)) => *count += 1,
                None => counts.push((outcome, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}

impl Serialize for Lately {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcomes: serde_json::Map<String, Value> =
            self.outcomes().into_iter().map(|(outcome, count)| (outcome, count.into())).collect();
        let denied = self.denied.iter().map(|row| {
            json!({ "reason": clean(&row.reason), "count": row.count, "clients": row.clients, "last": row.last })
        });
        json!({
            "admin": self.admin,
            "live": self.tunnels.live.len(),
            "ended": self.tunnels.ended.len(),
            "outcomes": outcomes,
            "last_ended": self.tunnels.ended.first().and_then(|tunnel| tunnel.ended),
            "since": self.tunnels.complete_since,
            "denied": denied.collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

/// Lines for people, below those of an explanation.
impl fmt::Display for Lately {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tunnels { live, ended, complete_since, .. } = &self.tunnels;
        write!(f, "  lately      {} live, {} ended", count(live.len(), "tunnel"), ended.len())?;
        let outcomes: Vec<String> =
            self.outcomes().iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
        if let Some(last) = ended.first().and_then(|tunnel| tunnel.ended) {
            write!(f, " ({}), the last at {}", outcomes.join(", "), clock(last))?;
        }
        if let Some(since) = complete_since {
            write!(f, "; since {}", clock(*since))?;
        }
        for row in &self.denied {
            write!(
                f,
                "\n  denied      {}: {}, by {}, last at {}",
                clean(&row.reason),
                count(row.count, "time"),
                count(row.clients, "client"),
                clock(row.last)
            )?;
            if row.let_through {
                f.write_str("; report mode let it through")?;
            }
        }
        Ok(())
    }
}
