//! What the answers of all media endpoints mean together. Pure: nothing is sent here.
//!
//! An endpoint can only be judged beside the others. Silence of all is a firewall, or an endpoint that
//! answers nobody without a call; silence of some is a firewall with a gap in its list.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::agent::hops::LastHop;
use crate::agent::turn::{Probed, Refusal, SILENCE, What, with_a_way};
use crate::cause::{Cause, Grade, Severity};
use crate::wording::first;

/// What was seen of one media endpoint, whose name resolved.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub addresses: Vec<Probed>,
    /// Where packets to its first silent address end.
    pub last_hop: Option<LastHop>,
}

/// What `--stun-control` says of UDP as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Not given.
    None,
    /// This one answers.
    Answers(String),
    /// This one doesn't; then how that is.
    Silent(String, String),
    /// Nothing was sent to this one, which therefore says nothing; then why.
    Unasked(String, String),
}

/// What it means for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meaning {
    pub cause: Option<(Cause, Severity)>,
    /// The address that the rest is about.
    pub address: Option<SocketAddr>,
    /// All that were asked.
    pub addresses: Vec<IpAddr>,
    pub round_trip: Option<Duration>,
    /// The share of the Bindings that were lost, where the endpoint answers.
    pub loss: Option<f64>,
    pub detail: String,
}

impl Seen {
    fn tried(&self) -> impl Iterator<Item = &Probed> {
        with_a_way(&self.addresses)
    }

    fn asked(&self) -> Vec<IpAddr> {
        self.tried().map(|probed| probed.address.ip()).collect()
    }

    fn answers(&self) -> bool {
        self.addresses.iter().any(|probed| probed.answer.is_some())
    }

    /// Lost and sent, over all addresses.
    fn loss(&self) -> (u32, u32) {
        self.addresses.iter().fold((0, 0), |(lost, sent), p| (lost + p.lost, sent + p.sent))
    }
}

/// Judges all endpoints, in their order.
pub(crate) fn judge(all: &[Seen], control: &Control) -> Vec<Meaning> {
    let any = all.iter().any(Seen::answers);
    let (lost, sent) = all.iter().map(Seen::loss).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    let lossy = is_lossy(lost, sent);
    let judged = |seen| if any { among(seen, lossy) } else { blocked(seen, control, all.len()) };
    all.iter().map(judged).collect()
}

/// Whether so many lost are more than chance.
fn is_lossy(lost: u32, sent: u32) -> bool {
    let threshold = Cause::TurnLoss.about().threshold;
    threshold.is_some_and(|threshold| threshold.judge_loss(lost, sent).is_some())
}

/// An endpoint, where it or another one answers. `lossy`: much is lost over all of them together.
fn among(seen: &Seen, lossy: bool) -> Meaning {
    let (silent, answering): (Vec<_>, Vec<_>) = seen.tried().partition(|probed| probed.answer.is_none());
    let (lost, sent) = seen.loss();
    let mut trips: Vec<_> = answering.iter().filter_map(|probed| probed.round_trip()).collect();
    trips.sort_unstable();
    let answered = answering.iter().find_map(|probed| probed.answer);
    let mut parts: Vec<String> = answered.map(|answer| format!("answered {answer}")).into_iter().collect();
    let mut cause = None;
    if !silent.is_empty() {
        cause = Some(no_socket(&silent).unwrap_or(Cause::TurnPartial));
        let others = if answered.is_none() { ", though other media endpoints answer" } else { "" };
        parts.push(format!("{}{others}{}", silence(&silent), ended(&silent, seen.last_hop)));
    } else if is_lossy(lost, sent) || lossy && lost > 0 {
        cause = Some(Cause::TurnLoss);
    }
    if lost > 0 {
        parts.push(format!("{lost} of {sent} probes were lost"));
    }
    parts.extend(foreign(seen));
    Meaning {
        cause: cause.map(graded),
        address: silent.first().or(answering.first()).map(|probed| probed.address),
        addresses: seen.asked(),
        round_trip: trips.get(trips.len() / 2).copied(),
        // Nothing is asked for loss where nothing answered before: all of it was lost.
        loss: match sent {
            0 => (answered.is_none() && !silent.is_empty()).then_some(1.0),
            _ => Some(f64::from(lost) / f64::from(sent)),
        },
        detail: parts.join("; "),
    }
}

/// An endpoint, where none of `all` answers.
fn blocked(seen: &Seen, control: &Control, all: usize) -> Meaning {
    let silent: Vec<_> = seen.tried().collect();
    let cause = no_socket(&silent).unwrap_or(Cause::UdpBlocked);
    let others = if all > 1 && !is_unsent(&silent) { ", nor from any other media endpoint" } else { "" };
    let mut parts = vec![format!("{}{others}{}", silence(&silent), ended(&silent, seen.last_hop))];
    let reported = silent.iter().any(|probed| probed.refusal.is_some());
    match control {
        Control::Answers(name) => parts.push(format!("UDP as such works, since {name} answers")),
        Control::Silent(name, how) => parts.push(format!(
            "the control {name} doesn't answer either ({how}): UDP is blocked as a whole, or the control is down"
        )),
        Control::Unasked(name, why) => parts.push(format!("the control {name} was not asked: {why}")),
        Control::None => {}
    }
    if let (Control::None | Control::Unasked(..), false) = (control, reported) {
        parts.push(
            "either UDP 3478 is dropped on the way, or these endpoints answer nobody who has no call: \
             --stun-control HOST:PORT, with a STUN server that is known to answer, decides"
                .to_owned(),
        );
    }
    parts.extend(foreign(seen));
    Meaning {
        cause: Some(graded(cause)),
        address: silent.first().map(|probed| probed.address),
        addresses: seen.asked(),
        round_trip: None,
        loss: (cause == Cause::UdpBlocked && !silent.is_empty()).then_some(1.0),
        detail: parts.join("; "),
    }
}

/// One endpoint by itself, which answers at none of the addresses that a call asked: the cause, and what was seen.
pub(crate) fn unanswered(asked: Vec<Probed>) -> (Cause, String) {
    let seen = Seen { addresses: asked, last_hop: None };
    let silent: Vec<_> = seen.tried().collect();
    let cause = no_socket(&silent).unwrap_or(Cause::UdpBlocked);
    (cause, format!("{}{}", silence(&silent), ended(&silent, None)))
}

/// One endpoint by itself, which answers at one of the addresses that a call asked: the cause, where others of them,
/// to which this machine has a way, don't.
pub(crate) fn wanting(asked: &[Probed]) -> Option<Cause> {
    let silent: Vec<_> = with_a_way(asked).filter(|probed| probed.answer.is_none()).collect();
    (!silent.is_empty()).then(|| no_socket(&silent).unwrap_or(Cause::TurnPartial))
}

/// A cause with the severity that it has for voice.
fn graded(cause: Cause) -> (Cause, Severity) {
    match cause.about().grade {
        Grade::Always(severity) => (cause, severity),
        Grade::Depends(_) => (cause, Severity::Failed),
    }
}

/// Where nothing could leave this machine, that is the cause.
fn no_socket(silent: &[&Probed]) -> Option<Cause> {
    let all = silent.iter().all(|probed| probed.refusal == Some(Refusal::NoSocket));
    (all && !silent.is_empty()).then_some(Cause::SourceAddress)
}

/// Who didn't answer, in words.
pub(super) fn silence(silent: &[&Probed]) -> String {
    const SHOWN: usize = 4;
    let shown = first(silent.iter().map(|probed| probed.address), SHOWN);
    match is_unsent(silent) {
        true => format!("nothing can be sent to {shown}"),
        false => format!("no answer in {} s from {shown}", SILENCE.as_secs()),
    }
}

fn is_unsent(silent: &[&Probed]) -> bool {
    silent.iter().all(|probed| probed.is_unsent())
}

/// Who ended it, as far as that was said.
pub(super) fn ended(silent: &[&Probed], last_hop: Option<LastHop>) -> String {
    match (silent.iter().find_map(|probed| probed.refusal), last_hop) {
        (Some(Refusal::Network { what, by }), _) => match what {
            What::Expired => format!(": packets go in a circle at {by}"),
            What::Prohibited => format!(": forbidden by a filter at {by}"),
            What::Errno(errno) => format!(": refused by {by} ({})", words(errno)),
        },
        (Some(Refusal::Here { errno }), _) => format!(": refused by this machine ({})", words(errno)),
        (Some(Refusal::NoWay), _) => ": this machine has no route there".to_owned(),
        (Some(Refusal::NoSocket), _) => {
            ": this machine has no local address, port or socket left for it".to_owned()
        }
        (None, Some(LastHop { hop, router })) => format!(": dropped after hop {hop}, {router}"),
        (None, None) => String::new(),
    }
}

/// What the system calls an error, without its number.
fn words(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// What came from an endpoint besides answers: somebody on the way may be making it up.
fn foreign(seen: &Seen) -> Option<String> {
    let ignored = seen.addresses.iter().fold(0_u32, |sum, probed| sum.saturating_add(probed.ignored));
    (ignored > 0).then(|| format!("{ignored} datagrams from there answered nothing that was asked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stun::{Answer, Ask};

    fn probed(address: &str, answers: bool) -> Probed {
        let answer = Answer { to: Ask::Allocate, error: Some(401) };
        let trips = [20, 30, 10].map(Duration::from_millis);
        Probed {
            address: address.parse().unwrap(),
            answer: answers.then_some(answer),
            round_trips: if answers { trips.to_vec() } else { Vec::new() },
            sent: if answers { 8 } else { 0 },
            lost: 0,
            ignored: 0,
            refusal: None,
        }
    }

    fn seen(addresses: &[Probed]) -> Seen {
        Seen { addresses: addresses.to_vec(), last_hop: None }
    }

    const A: &str = "198.51.100.1:3478";
    const B: &str = "198.51.100.2:3478";
    const SIX: &str = "[2001:db8::1]:3478";

    fn causes(judged: &[Meaning]) -> Vec<Option<(Cause, Severity)>> {
        judged.iter().map(|judged| judged.cause).collect()
    }

    #[test]
    fn where_nothing_answers_all_is_lost() {
        let judged = judge(&[seen(&[probed(A, false)]), seen(&[probed(B, true)])], &Control::None);
        assert_eq!(judged.iter().map(|judged| judged.loss).collect::<Vec<_>>(), [Some(1.0), Some(0.0)]);
        let judged = judge(&[seen(&[probed(A, false)])], &Control::None);
        assert_eq!(judged[0].loss, Some(1.0));
        let unsent = Probed { refusal: Some(Refusal::NoSocket), ..probed(A, false) };
        assert_eq!(judge(&[seen(&[unsent])], &Control::None)[0].loss, None, "nothing was sent");
    }

    #[test]
    fn a_healthy_path_says_nothing_alarming() {
        let six = Probed { refusal: Some(Refusal::NoWay), ..probed(SIX, false) };
        let judged = judge(&[seen(&[probed(A, true), probed(B, true), six])], &Control::None);
        assert_eq!(
            judged,
            [Meaning {
                cause: None,
                address: A.parse().ok(),
                addresses: ["198.51.100.1", "198.51.100.2"].map(|one| one.parse().unwrap()).to_vec(),
                round_trip: Some(Duration::from_millis(20)),
                loss: Some(0.0),
                detail: "answered a TURN Allocate with 401, as expected without a login".to_owned(),
            }]
        );
    }

    #[test]
    fn silence_of_all_is_blocked_and_has_two_readings_without_a_control() {
        let silent = [seen(&[probed(A, false)]), seen(&[probed(B, false)])];
        let failed = Some((Cause::UdpBlocked, Severity::Failed));
        let said = |control: &Control| {
            let judged = judge(&silent, control);
            assert_eq!(causes(&judged), [failed, failed]);
            judged[0].detail.clone()
        };
        let without = said(&Control::None);
        assert!(without.contains("dropped on the way, or these endpoints answer nobody"), "{without}");
        assert!(
            without.starts_with("no answer in 8 s from 198.51.100.1:3478, nor from any other"),
            "{without}"
        );
        let with = said(&Control::Answers("stun.example:3478".to_owned()));
        assert!(
            with.contains("UDP as such works, since stun.example:3478 answers") && !with.contains("either"),
            "{with}"
        );
        let neither = said(&Control::Silent("stun.example:3478".to_owned(), "no answer in 8 s".to_owned()));
        assert!(neither.contains("UDP is blocked as a whole, or the control is down"), "{neither}");
        let unasked = said(&Control::Unasked("stun.example:3478".to_owned(), "no route there".to_owned()));
        assert!(
            unasked.contains("the control stun.example:3478 was not asked: no route there; either UDP 3478")
                && !unasked.contains("blocked as a whole"),
            "{unasked}"
        );
    }

    #[test]
    fn whoever_refuses_or_answers_last_is_named() {
        let by = "10.20.0.1".parse().unwrap();
        let refused = |what| Refusal::Network { what, by };
        for (refusal, words) in [
            (refused(What::Errno(libc::ECONNREFUSED)), "refused by 10.20.0.1 (Connection refused)"),
            (refused(What::Prohibited), "forbidden by a filter at 10.20.0.1"),
            (refused(What::Expired), "in a circle at 10.20.0.1"),
            (Refusal::Here { errno: libc::EPERM }, "refused by this machine (Operation not permitted)"),
            (Refusal::NoWay, "no route"),
        ] {
            let refused = Probed { refusal: Some(refusal), ..probed(A, false) };
            let judged = judge(&[seen(&[refused])], &Control::None);
            assert_eq!(causes(&judged), [Some((Cause::UdpBlocked, Severity::Failed))]);
            assert!(judged[0].detail.contains(words) && !judged[0].detail.contains("either"), "{judged:?}");
        }
        let last_hop = Some(LastHop { hop: 3, router: by });
        let judged = judge(&[Seen { last_hop, ..seen(&[probed(A, false)]) }], &Control::None);
        assert!(judged[0].detail.contains(": dropped after hop 3, 10.20.0.1"), "{judged:?}");
        let none = Probed { refusal: Some(Refusal::NoSocket), ..probed(A, false) };
        let judged = judge(&[seen(&[none])], &Control::None);
        assert_eq!(causes(&judged), [Some((Cause::SourceAddress, Severity::Failed))]);
    }

    #[test]
    fn silence_of_some_is_partial() {
        let partial = Some((Cause::TurnPartial, Severity::Degraded));
        let all =
            [seen(&[probed(A, true)]), seen(&[probed(B, false)]), seen(&[probed(A, true), probed(B, false)])];
        let judged = judge(&all, &Control::None);
        assert_eq!(causes(&judged), [None, partial, partial]);
        assert_eq!(
            judged[1].detail,
            "no answer in 8 s from 198.51.100.2:3478, though other media endpoints answer"
        );
        assert_eq!(judged[2].address, B.parse().ok());
        assert!(judged[2].detail.ends_with("; no answer in 8 s from 198.51.100.2:3478"), "{judged:?}");
    }

    #[test]
    fn a_call_that_is_answered_wants_only_what_it_has_a_way_to() {
        let refused = |refusal| Probed { refusal: Some(refusal), ..probed(B, false) };
        let by = "10.20.0.1".parse().unwrap();
        for (other, cause) in [
            (probed(B, true), None),
            (probed(B, false), Some(Cause::TurnPartial)),
            (refused(Refusal::Network { what: What::Expired, by }), Some(Cause::TurnPartial)),
            (refused(Refusal::NoWay), None),
            (refused(Refusal::NoSocket), Some(Cause::SourceAddress)),
        ] {
            assert_eq!(wanting(&[probed(A, true), other.clone()]), cause, "{other:?}");
        }
    }

    #[test]
    fn loss_counts_over_all_endpoints() {
        let loses = |lost, sent| Probed { lost, sent, ..probed(A, true) };
        let lossy = Some((Cause::TurnLoss, Severity::Degraded));
        for (all, expected) in [
            (vec![vec![loses(4, 8)]], vec![None]),
            (vec![vec![loses(5, 40)]], vec![lossy]),
            (vec![vec![loses(5, 50)]], vec![None]),
            (vec![vec![loses(2, 16), loses(4, 24)]], vec![lossy]),
            // Three endpoints with two of eight each, and one that loses nothing.
            (
                vec![vec![loses(2, 8)], vec![loses(2, 8)], vec![loses(2, 8)], vec![loses(0, 8)]],
                vec![lossy, lossy, lossy, None],
            ),
        ] {
            let all: Vec<_> = all.iter().map(|addresses| seen(addresses)).collect();
            assert_eq!(causes(&judge(&all, &Control::None)), expected, "{all:?}");
        }
    }
}
