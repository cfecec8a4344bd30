//! A browser's way to a media endpoint: STUN Binding and TURN Allocate over UDP, at a browser's times,
//! to one address. What comes back is data; what it means is judged elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::stun::{self, Answer, Ask, LONGEST, Request};
use crate::cause::{Cause, Threshold};
use crate::egress::Egress;
use crate::egress::dialer::DialError;
use crate::net::icmp;
use crate::net::resources::are_used_up;

pub(crate) use crate::net::icmp::What;

/// When both questions are sent, in milliseconds from the first: a browser's own times, as far as the
/// panel waits.
const TIMES: [u64; 6] = [0, 250, 750, 1750, 3750, 7750];
/// When an address counts as silent: the panel gives up then.
pub(crate) const SILENCE: Duration = Duration::from_secs(8);
/// How many questions an address that answers is asked for loss and round trip, and how far apart.
const ROUND: u32 = 8;
const APART: Duration = Duration::from_millis(250);
/// How many rounds there are at most, where what was lost may be chance.
const ROUNDS: usize = 3;
/// How long the last answers may take: longer than any path on which a call can be understood.
const LAST: Duration = Duration::from_millis(1500);

/// What became of the questions to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    pub address: SocketAddr,
    /// The first answer; none where the address is silent.
    pub answer: Option<Answer>,
    /// Of all answers, in the order in which they came.
    pub round_trips: Vec<Duration>,
    /// Of the questions after the first answer.
    pub sent: u32,
    pub lost: u32,
    /// Datagrams from this address that answer nothing that was asked.
    pub ignored: u32,
    /// The first thing that this machine or the network said against a packet.
    pub refusal: Option<Refusal>,
}

/// What was said against a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// By an ICMP error from this address.
    Network { what: What, by: IpAddr },
    /// By this machine: its own filter, most likely.
    Here { errno: i32 },
    /// This machine has no way there, such as no IPv6.
    NoWay,
    /// This machine has no socket or port to spare.
    NoSocket,
}

impl Refusal {
    fn of_errno(errno: i32) -> Self {
        match errno {
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL => Self::NoWay,
            errno if are_used_up(errno) => Self::NoSocket,
            errno => Self::Here { errno },
        }
    }
}

impl Probed {
    fn new(address: SocketAddr) -> Self {
        Self { address, answer: None, round_trips: Vec::new(), sent: 0, lost: 0, ignored: 0, refusal: None }
    }

    /// The median of the round trips.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let mut sorted = self.round_trips.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Whether nothing left this machine, so that nobody could answer.
    pub(crate) const fn is_unsent(&self) -> bool {
        matches!(self.refusal, Some(Refusal::NoWay | Refusal::NoSocket))
    }
}

/// Of the addresses of one place those that this machine has a way to: one without IPv6 lacks nothing for a call.
/// All, where it has a way to none.
pub(crate) fn with_a_way(all: &[Probed]) -> impl Iterator<Item = &Probed> {
    let has_way = |probed: &Probed| probed.refusal != Some(Refusal::NoWay);
    let any = all.iter().any(has_way);
    all.iter().filter(move |probed| !any || has_way(probed))
}

/// Asks one address, which was judged before, until it has answered or counts as silent. Takes 8 s where
/// it is silent, 2 s and a round trip or two where it answers at once and loses nothing, 18 s at most.
pub(crate) async fn probe(egress: &Egress, address: SocketAddr) -> Probed {
    talk(egress, address, true).await
}

/// Asks one address, which was judged before, until it has answered once or counts as silent: what a call
/// does. Takes a round trip, or 8 s.
pub(crate) async fn knock(egress: &Egress, address: SocketAddr) -> Probed {
    talk(egress, address, false).await
}

async fn talk(egress: &Egress, address: SocketAddr, measure: bool) -> Probed {
    let mut probed = Probed::new(address);
    match egress.datagrams(address) {
        Ok(socket) => {
            // Without it the kernel still tells of most refusals, if not by whom.
            let _ = icmp::keep(&socket);
            let mut talk = Talk { socket, open: Vec::new(), at: Vec::new(), probed };
            if talk.begin().await && measure {
                talk.measure().await;
            }
            probed = talk.probed;
        }
        Err(DialError::Exhausted(_)) => probed.refusal = Some(Refusal::NoSocket),
        Err(_) => probed.refusal = Some(Refusal::NoWay),
    }
    probed
}

/// Questions and answers over one socket.
struct Talk {
    /// Connected: what comes from elsewhere is dropped by the kernel.
    socket: UdpSocket,
    /// What was asked and isn't answered yet.
    open: Vec<Request>,
    /// When each of `open` was sent, and whether it counts for the loss.
    at: Vec<(Instant, bool)>,
    probed: Probed,
}

impl Talk {
    /// Asks both questions as a browser does; returns whether one was answered.
    async fn begin(&mut self) -> bool {
        let begun = Instant::now();
        for time in TIMES.map(Duration::from_millis) {
            if self.next(begun + time).await.is_some() {
                return true;
            }
            self.ask(Ask::Binding, false).await;
            self.ask(Ask::Allocate, false).await;
        }
        self.next(begun + SILENCE).await.is_some()
    }

    /// Asks on for loss and round trip, in rounds of eight.
    async fn measure(&mut self) {
        let ask = self.measured_by().await;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            for nth in 0..ROUND {
                while self.next(begun + APART * nth).await.is_some() {}
                self.ask(ask, true).await;
                self.probed.sent += 1;
            }
            let until = Instant::now() + LAST;
            while self.lost() > 0 && self.next(until).await.is_some() {}
            self.probed.lost = self.lost();
            if !is_open(self.probed.lost, self.probed.sent) {
                break;
            }
        }
    }

    /// By what to measure: a Binding, unless only Allocates are answered here.
    async fn measured_by(&mut self) -> Ask {
        let first = self.probed.round_trips.first().copied().unwrap_or_default();
        let until = Instant::now() + first.clamp(Duration::from_millis(250), Duration::from_secs(1));
        let mut answer = self.probed.answer;
        // Both were asked at once, so that the answer to the other is near.
        while let Some(Answer { to: Ask::Allocate, .. }) = answer {
            answer = self.next(until).await;
        }
        if answer.is_some() { Ask::Binding } else { Ask::Allocate }
    }

    fn lost(&self) -> u32 {
        self.at.iter().filter(|(_, counts)| *counts).count().try_into().unwrap_or(u32::MAX)
    }

    async fn ask(&mut self, ask: Ask, counts: bool) {
        let request = Request::new(ask);
        let packet = request.packet();
        self.open.push(request);
        self.at.push((Instant::now(), counts));
        // A report about an earlier packet comes back from here, too, and then this one wasn't sent.
        for _ in 0..3 {
            let Err(error) = self.socket.send(&packet).await else { return };
            match icmp::next(&self.socket) {
                Ok(report) => self.note(report),
                Err(_) => return self.refuse(Refusal::of_errno(error.raw_os_error().unwrap_or_default())),
            }
        }
    }

    /// The next answer to an open question, if one comes in time.
    async fn next(&mut self, until: Instant) -> Option<Answer> {
        let answer = async {
            loop {
                if let Some(answer) = self.take().await {
                    return answer;
                }
                // Whoever floods this socket must not keep the clock from being looked at.
                tokio::task::consume_budget().await;
            }
        };
        timeout_at(until, answer).await.ok()
    }

    /// Waits for whatever comes, and takes it in.
    async fn take(&mut self) -> Option<Answer> {
        let Ok(ready) = self.socket.ready(Interest::READABLE | Interest::ERROR).await else {
            // The runtime ends, and this future with it.
            return std::future::pending().await;
        };
        if ready.is_error() {
            let queue = || icmp::next(&self.socket).map_err(|_| io::ErrorKind::WouldBlock.into());
            if let Ok(report) = self.socket.try_io(Interest::ERROR, queue) {
                self.note(report);
            }
        }
        if ready.is_readable() {
            // One byte more, so that what is too long shows.
            let mut bytes = [0; LONGEST + 1];
            if let Ok(length) = self.socket.try_recv(&mut bytes) {
                return self.read(&bytes[..length]);
            }
        }
        None
    }

    fn read(&mut self, bytes: &[u8]) -> Option<Answer> {
        let Some((which, answer)) = stun::read(bytes, &self.open) else {
            self.probed.ignored = self.probed.ignored.saturating_add(1);
            return None;
        };
        self.open.swap_remove(which);
        let (at, _) = self.at.swap_remove(which);
        self.probed.round_trips.push(at.elapsed());
        self.probed.answer.get_or_insert(answer);
        Some(answer)
    }

    fn note(&mut self, report: icmp::Report) {
        match (report.what, report.by) {
            // About the size of packets: these are small enough.
            (What::Errno(libc::EMSGSIZE), _) => {}
            (what, Some(by)) => self.refuse(Refusal::Network { what, by }),
            (What::Errno(errno), None) => self.refuse(Refusal::of_errno(errno)),
            // Only routers say these, and they have addresses.
            (What::Expired | What::Prohibited, None) => {}
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.probed.refusal.get_or_insert(refusal);
    }
}

/// Whether it isn't decided yet that so many lost are more than chance, and it may be.
fn is_open(lost: u32, sent: u32) -> bool {
    let Some(threshold @ Threshold::Loss { percent, .. }) = Cause::TurnLoss.about().threshold else {
        return false;
    };
    u64::from(lost) * 100 > u64::from(sent) * u64::from(percent) && threshold.judge_loss(lost, sent).is_none()
}

#[cfg(test)]
mod tests;
