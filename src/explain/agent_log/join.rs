//! An agent's failure beside the tunnels that the proxy saw of that desk at that second.
//!
//! Pure: the caller asks the running proxy, fills in [`Tunnel`], and corrects the desk's times before.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::catalogue::{Endpoint, Side, Story, Symptom, catalogue, rows_of};
use crate::policy::Category;
use crate::wording::first;

/// A tunnel of the one client whose log is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunnel {
    pub id: String,
    /// Without the port.
    pub host: String,
    pub category: Category,
    pub began: Timestamp,
    /// The last byte in either direction.
    pub moved: Timestamp,
    /// None while it lives.
    pub end: Option<End>,
}

impl Tunnel {
    fn state(&self, at: Timestamp) -> State {
        match self.end_by(at) {
            None if at.duration_since(self.moved) >= SILENT => State::Silent,
            None => State::Open,
            Some(end) => match (end.outcome.as_str(), end.by) {
                ("dns" | "connect" | "not_tls" | "sni_mismatch", _) => State::Failed,
                ("upstream_reset" | "client_reset", _) | (_, EndedBy::Proxy) => State::Cut,
                _ => State::Closed,
            },
        }
    }

    /// Its end, where that was at this moment or before.
    fn end_by(&self, at: Timestamp) -> Option<&End> {
        self.end.as_ref().filter(|end| end.at.duration_since(at) <= SLACK)
    }
}

/// How a tunnel ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub at: Timestamp,
    pub by: EndedBy,
    /// The word of the label `outcome`.
    pub outcome: String,
}

/// The word of `ended_by` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    Client,
    Upstream,
    Proxy,
}

/// What the proxy has seen of the client whose log is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desk {
    pub tunnels: Vec<Tunnel>,
    /// Every tunnel that ended after this is there. None: all that ever were.
    pub complete_since: Option<Timestamp>,
    /// By the proxy's clock, when it was asked. None: later than any failure.
    pub now: Option<Timestamp>,
}

/// What the proxy's view adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    pub side: Side,
    pub sentence: String,
    /// Ids of the tunnels that the sentence is about.
    pub tunnels: Vec<String>,
}

/// How long before a failure an end may have caused it: the panel notices a dead WebSocket within
/// 20 s, and tries again for 30.
const BEFORE: SignedDuration = SignedDuration::from_secs(60);
/// Times that were corrected by the panel's own measurement still differ by up to this much.
const SLACK: SignedDuration = SignedDuration::from_secs(2);
/// A failure so much later than the proxy's own clock has a wrong time.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// A WebSocket of the panel has a heartbeat every 10 s, with an answer: a longer silence is a dead
/// connection.
const SILENT: SignedDuration = SignedDuration::from_secs(20);

/// Judges a failure at `at` (by AWS's clock) that has this meaning, by the tunnels to the hosts that it
/// suspects. None where they can say nothing: media does not pass the proxy.
#[must_use]
pub fn join(at: Timestamp, row: &Symptom, desk: &Desk) -> Option<Joined> {
    let rows = row.endpoints.iter().filter_map(|id| catalogue().endpoint(id));
    let wanted: Vec<&Endpoint> = rows.filter(|row| row.category != Category::Media).collect();
    wanted.first()?;
    let suspects: Vec<Suspect> =
        desk.tunnels.iter().filter_map(|tunnel| suspect(row.story, &wanted, tunnel, at)).collect();
    // A browser leaves connections behind: where another one to the same host moves bytes, silence says nothing.
    let reached: BTreeSet<&str> =
        suspects.iter().filter(|one| one.state == State::Open).map(|one| &*one.tunnel.host).collect();
    let telling =
        suspects.iter().filter(|one| one.state != State::Silent || !reached.contains(&*one.tunnel.host));
    let Some(best) = telling.min_by_key(|one| one.order()) else {
        let when = clock(at);
        let to = hosts(&wanted);
        if let Some(since) = desk.complete_since.filter(|since| at.duration_since(*since) < BEFORE) {
            let since = since.strftime("%F %TZ");
            return Some(Joined {
                side: Side::Unknown,
                sentence: format!(
                    "whether a tunnel of this desk to {to} existed at {when} is not known: the proxy remembers all tunnels only since {since}"
                ),
                tunnels: Vec::new(),
            });
        }
        if desk.now.is_some_and(|now| at.duration_since(now) > AHEAD) {
            return Some(Joined {
                side: Side::Unknown,
                sentence: format!(
                    "{when} lies in the future of the proxy's clock: the desk's clock is wrong"
                ),
                tunnels: Vec::new(),
            });
        }
        return Some(Joined {
            side: Side::Proxy,
            sentence: format!(
                "no tunnel of this desk to {to} existed at {when}: the browser went past the proxy, or the proxy refused it"
            ),
            tunnels: Vec::new(),
        });
    };
    let (side, what) = told(best.tunnel, at);
    let meaning = match best.state {
        State::Silent if best.decides => ": its line was cut without a word",
        State::Open if best.decides => ": the way was good",
        _ => "",
    };
    Some(Joined {
        side: if best.decides { side } else { Side::Unknown },
        sentence: format!("this desk's tunnel to {} {what}{meaning}", best.tunnel.host),
        tunnels: vec![best.tunnel.id.clone()],
    })
}

/// The hosts of these rows, as a configuration would name them without its instances and Regions.
fn hosts(rows: &[&Endpoint]) -> String {
    /// So many are named.
    const SHOWN: usize = 4;
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let any = |pattern: &String| {
            ["{instance_id}", "{instance}", "{region}"]
                .iter()
                .fold(pattern.clone(), |name, place| name.replace(place, "*"))
        };
        for name in row.patterns.iter().map(any) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    first(names, SHOWN)
}

/// How a tunnel stood at a failure, what explains most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It never came about.
    Failed,
    Silent,
    /// A reset, or the proxy's own doing.
    Cut,
    /// As connections end that nobody needs any more.
    Closed,
    Open,
}

/// A tunnel that a failure may come from.
struct Suspect<'a> {
    tunnel: &'a Tunnel,
    /// Among the hosts that the failure speaks of, the likeliest first.
    place: usize,
    state: State,
    /// Whether its state says whose side the failure lies on.
    decides: bool,
    /// When it ended, or moved its last byte.
    last: Timestamp,
}

impl Suspect<'_> {
    /// The smallest explains most: what went wrong before what did not, then the likeliest host, then the last one.
    fn order(&self) -> impl Ord + use<> {
        let fault = if self.decides { self.state.min(State::Closed) } else { State::Closed };
        (fault, !self.decides, self.place, self.state, Reverse(self.last))
    }
}

fn suspect<'a>(story: Story, wanted: &[&Endpoint], tunnel: &'a Tunnel, at: Timestamp) -> Option<Suspect<'a>> {
    let ended = tunnel.end.as_ref().map(|end| at.duration_since(end.at));
    if tunnel.began.duration_since(at) > SLACK || ended.is_some_and(|before| before > BEFORE) {
        return None;
    }
    let state = tunnel.state(at);
    let rows = rows_of(&tunnel.host);
    let place = wanted.iter().position(|row| rows.iter().any(|of| of.id == row.id));
    // An identity provider is no host of AWS's: that it is well says nothing of theirs.
    let is_provider = story == Story::Login
        && tunnel.category == Category::Login
        && matches!(state, State::Failed | State::Cut);
    let place = place.or_else(|| is_provider.then_some(wanted.len()))?;
    let is_web_socket =
        wanted.get(place).is_some_and(|row| matches!(row.category, Category::Signalling | Category::Telecom));
    let decides = match state {
        State::Failed | State::Cut => true,
        // Hosts of a sign-in are silent once it is over, and one of them says nothing of the others.
        State::Silent => story != Story::Login,
        State::Open => is_web_socket || !matches!(story, Story::Login | Story::Line),
        // A browser closes what it has no use for, and so does a server; a WebSocket has its use all day.
        State::Closed => is_web_socket,
    };
    let is_gone = state == State::Closed && !is_web_socket && ended.is_some_and(|before| before > SLACK);
    let last = tunnel.end_by(at).map_or(tunnel.moved, |end| end.at);
    (!is_gone).then_some(Suspect { tunnel, place, state, decides, last })
}

fn told(tunnel: &Tunnel, at: Timestamp) -> (Side, String) {
    let moved = clock(tunnel.moved);
    let Some(end) = tunnel.end_by(at) else {
        return match at.duration_since(tunnel.moved) >= SILENT {
            true => (Side::Network, format!("was open and silent from {moved}")),
            false => (Side::Aws, format!("was open, and moved bytes at {moved}")),
        };
    };
    let when = clock(end.at);
    let silent = match end.at.duration_since(tunnel.moved) >= SILENT {
        true => format!("was silent from {moved} and "),
        false => String::new(),
    };
    match (end.outcome.as_str(), end.by) {
        ("dns", _) => (Side::Network, format!("failed at {when}: its name was not resolved")),
        ("connect", _) => (Side::Network, format!("failed at {when}: the proxy could not connect")),
        ("not_tls" | "sni_mismatch", _) => {
            (Side::Desk, format!("was closed at {when}: it carried something else ({})", end.outcome))
        }
        ("upstream_reset", _) => (Side::Network, format!("{silent}was reset by AWS's side at {when}")),
        ("client_reset", _) => (Side::Desk, format!("{silent}was reset by the desk's side at {when}")),
        (_, EndedBy::Proxy) => {
            (Side::Proxy, format!("{silent}was ended by the proxy at {when} ({})", end.outcome))
        }
        (_, EndedBy::Upstream) => (Side::Aws, format!("{silent}was closed by AWS's side at {when}")),
        (_, EndedBy::Client) => (Side::Desk, format!("{silent}was closed by the desk at {when}")),
    }
}

/// Hours, minutes and seconds, UTC.
pub(super) fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
