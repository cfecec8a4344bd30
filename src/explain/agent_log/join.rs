//! An agent's failure beside the tunnels that the proxy saw of that desk at that second.
//!
//! Pure: the caller asks the running proxy, fills in [`Tunnel`], and corrects the desk's times before.

use jiff::{SignedDuration, Timestamp};

use crate::catalogue::Side;
use crate::policy::Category;

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

/// Judges a failure at `at` (by AWS's clock) in these categories, the likeliest first. None where the
/// tunnels can say nothing: media does not pass the proxy.
#[must_use]
pub fn join(at: Timestamp, categories: &[Category], desk: &Desk) -> Option<Joined> {
    let wanted: Vec<Category> = categories.iter().copied().filter(|c| *c != Category::Media).collect();
    let main = *wanted.first()?;
    let near = |tunnel: &&Tunnel| {
        let ended = tunnel.end.as_ref().is_some_and(|end| at.duration_since(end.at) > BEFORE);
        tunnel.began.duration_since(at) <= SLACK && !ended && wanted.contains(&tunnel.category)
    };
    let mut near: Vec<&Tunnel> = desk.tunnels.iter().filter(near).collect();
    let Some(best) = pick(&mut near, at, &wanted) else {
        let when = clock(at);
        let main = main.as_str();
        if let Some(since) = desk.complete_since.filter(|since| at.duration_since(*since) < BEFORE) {
            let since = since.strftime("%F %TZ");
            return Some(Joined {
                side: Side::Unknown,
                sentence: format!(
                    "whether a {main} tunnel of this desk existed at {when} is not known: the proxy remembers all tunnels only since {since}"
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
                "no {main} tunnel of this desk existed at {when}: the browser went past the proxy, or the proxy refused it"
            ),
            tunnels: Vec::new(),
        });
    };
    let (side, what) = told(best, at);
    let sentence = format!("this desk's tunnel to {} {what}", best.host);
    Some(Joined { side, sentence, tunnels: vec![best.id.clone()] })
}

/// The tunnel that explains most: of the likeliest category, then one that ended, then the last one.
fn pick<'a>(near: &mut Vec<&'a Tunnel>, at: Timestamp, wanted: &[Category]) -> Option<&'a Tunnel> {
    near.sort_by_key(|tunnel| {
        let rank = wanted.iter().position(|c| *c == tunnel.category);
        let ended = tunnel.end_by(at);
        (rank, ended.is_none(), std::cmp::Reverse(ended.map_or(tunnel.moved, |end| end.at)))
    });
    near.first().copied()
}

fn told(tunnel: &Tunnel, at: Timestamp) -> (Side, String) {
    let moved = clock(tunnel.moved);
    let Some(end) = tunnel.end_by(at) else {
        return match at.duration_since(tunnel.moved) >= SILENT {
            true => {
                (Side::Network, format!("was open and silent from {moved}: its line was cut without a word"))
            }
            false => (Side::Aws, format!("was open, and moved bytes at {moved}: the way was good")),
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
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        format!("2026-11-27T{text}Z").parse().unwrap()
    }

    fn tunnel(id: &str, category: Category, moved: &str, end: Option<(&str, EndedBy, &str)>) -> Tunnel {
        Tunnel {
            id: id.to_owned(),
            host: "a.transport.connect.us-west-2.amazonaws.com".to_owned(),
            category,
            began: time("08:00:00"),
            moved: time(moved),
            end: end.map(|(at, by, outcome)| End { at: time(at), by, outcome: outcome.to_owned() }),
        }
    }

    const WANTED: [Category; 2] = [Category::Signalling, Category::Telecom];

    #[track_caller]
    fn judged(tunnels: &[Tunnel]) -> (Side, String, String) {
        let desk = Desk { tunnels: tunnels.to_vec(), complete_since: Some(time("08:00:00")), now: None };
        let joined = join(time("09:03:11"), &WANTED, &desk).unwrap();
        (joined.side, joined.sentence, joined.tunnels.join(" "))
    }

    #[test]
    fn a_silent_tunnel_that_was_reset() {
        let (side, sentence, ids) = judged(&[
            tunnel("live", Category::Login, "09:03:10", None),
            tunnel(
                "dead",
                Category::Signalling,
                "09:02:38",
                Some(("09:03:02", EndedBy::Upstream, "upstream_reset")),
            ),
        ]);
        assert_eq!((side, ids.as_str()), (Side::Network, "dead"));
        assert_eq!(
            sentence,
            "this desk's tunnel to a.transport.connect.us-west-2.amazonaws.com was silent from 09:02:38Z \
             and was reset by AWS's side at 09:03:02Z"
        );
    }

    #[test]
    fn no_tunnel_means_past_the_proxy() {
        for tunnels in [
            vec![],
            vec![tunnel("login", Category::Login, "09:03:10", None)],
            vec![tunnel("old", Category::Signalling, "08:10:00", Some(("08:10:00", EndedBy::Client, "ok")))],
        ] {
            let (side, sentence, ids) = judged(&tunnels);
            assert_eq!((side, ids.as_str()), (Side::Proxy, ""));
            assert!(sentence.contains("went past the proxy"), "{sentence}");
        }
    }

    #[test]
    fn sides() {
        let cases = [
            (("09:03:05", None), Side::Aws),
            (("09:02:11", None), Side::Network),
            (("09:03:00", Some(("09:03:01", EndedBy::Proxy, "idle_timeout"))), Side::Proxy),
            (("09:03:00", Some(("09:03:01", EndedBy::Proxy, "drained"))), Side::Proxy),
            (("09:03:00", Some(("09:03:01", EndedBy::Client, "client_reset"))), Side::Desk),
            (("09:03:00", Some(("09:03:01", EndedBy::Client, "ok"))), Side::Desk),
            (("09:03:00", Some(("09:03:01", EndedBy::Upstream, "ok"))), Side::Aws),
            (("09:03:00", Some(("09:03:01", EndedBy::Proxy, "connect"))), Side::Network),
            // It ended after the failure, and was well until then.
            (("09:03:10", Some(("09:05:00", EndedBy::Upstream, "upstream_reset"))), Side::Aws),
        ];
        for ((moved, end), side) in cases {
            let (judged, sentence, _) = judged(&[tunnel("t", Category::Signalling, moved, end)]);
            assert_eq!(judged, side, "{sentence}");
        }
    }

    #[test]
    fn the_likeliest_category_speaks() {
        let telecom =
            tunnel("telecom", Category::Telecom, "09:03:00", Some(("09:03:01", EndedBy::Client, "ok")));
        let signalling = tunnel("signalling", Category::Signalling, "09:03:09", None);
        assert_eq!(judged(&[telecom, signalling]).2, "signalling");
    }

    #[test]
    fn media_goes_past_the_proxy() {
        assert_eq!(join(time("09:03:11"), &[Category::Media], &Desk::default()), None);
        assert_eq!(join(time("09:03:11"), &[], &Desk::default()), None);
    }

    #[test]
    fn what_the_proxy_does_not_remember_proves_nothing() {
        let desk = |since| Desk { complete_since: Some(time(since)), ..Desk::default() };
        let join = |since| join(time("09:03:11"), &WANTED, &desk(since)).unwrap();
        assert_eq!(join("09:02:11").side, Side::Proxy);
        let unknown = join("09:02:12");
        assert_eq!(unknown.side, Side::Unknown);
        assert!(unknown.sentence.contains("2026-11-27 09:02:12Z"), "{}", unknown.sentence);
    }

    #[test]
    fn a_log_may_tell_any_time() {
        let ended = Some(("09:03:02", EndedBy::Upstream, "upstream_reset"));
        let tunnel = tunnel("t", Category::Signalling, "09:02:38", ended);
        for tunnels in [vec![], vec![tunnel]] {
            let desk = Desk { tunnels, complete_since: Some(time("08:00:00")), now: Some(Timestamp::MAX) };
            let side = |at| join(at, &WANTED, &desk).unwrap().side;
            assert_eq!((side(Timestamp::MIN), side(Timestamp::MAX)), (Side::Unknown, Side::Proxy));
        }
    }

    #[test]
    fn a_failure_in_the_future_proves_that_a_clock_is_wrong() {
        let desk = |now| Desk { now: Some(time(now)), ..Desk::default() };
        let side = |now| join(time("09:03:11"), &WANTED, &desk(now)).unwrap().side;
        assert_eq!(
            (side("09:03:12"), side("08:58:11"), side("08:58:10")),
            (Side::Proxy, Side::Proxy, Side::Unknown)
        );
    }
}
