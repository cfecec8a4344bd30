//! The live error ratio: the share of the last ended tunnels of a category that the network made fail.
//! Crossing AWS's line of 2 % is told once, and so is the way back. It is an indicator of that line: a
//! call of the panel opens no tunnel, so tunnels are not calls.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;

use prometheus::Gauge;

use crate::lock::lock;

/// How many ended tunnels it looks back on: AWS judges a rehearsal by 200 calls.
const WINDOW: usize = 200;
/// AWS's line, in percent.
const LINE: usize = 2;
/// Recovered below so many thousandths: between the two nothing is said, or it would be said all day.
const RECOVERED: usize = 15;
/// Distinct clients behind the failures, or it is a desk.
const CLIENTS: usize = 3;

/// The last outcomes of a category, as hit and miss.
pub(super) struct Ratio {
    window: Mutex<Window>,
    gauge: Gauge,
    told: bool,
}

#[derive(Default)]
struct Window {
    /// The client of each failure.
    last: VecDeque<Option<IpAddr>>,
    errors: usize,
    crossed: bool,
}

/// The line was crossed, or left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Crossing {
    Crossed { ratio: f64 },
    Recovered { ratio: f64 },
}

impl Ratio {
    /// `told`: its crossings are.
    pub(super) fn new(gauge: Gauge, told: bool) -> Self {
        Self { window: Mutex::default(), gauge, told }
    }

    /// What the gauge shows.
    pub(super) fn get(&self) -> f64 {
        self.gauge.get()
    }

    /// Counts a tunnel that ended well, or failed for a client.
    pub(super) fn record(&self, failed: Option<IpAddr>) -> Option<Crossing> {
        let mut window = lock(&self.window);
        window.push(failed);
        let ratio = window.errors as f64 / window.last.len() as f64;
        self.gauge.set(ratio);
        if self.told { window.crossing(ratio) } else { None }
    }
}

impl Window {
    fn push(&mut self, failed: Option<IpAddr>) {
        if self.last.len() == WINDOW && self.last.pop_front().flatten().is_some() {
            self.errors -= 1;
        }
        self.last.push_back(failed);
        self.errors += usize::from(failed.is_some());
    }

    fn crossing(&mut self, ratio: f64) -> Option<Crossing> {
        let all = self.last.len();
        if self.crossed && self.errors * 1000 < all * RECOVERED {
            self.crossed = false;
            return Some(Crossing::Recovered { ratio });
        }
        if !self.crossed && all >= WINDOW && self.errors * 100 > all * LINE && self.clients() >= CLIENTS {
            self.crossed = true;
            return Some(Crossing::Crossed { ratio });
        }
        None
    }

    /// Distinct clients behind the failures; no more than matter are counted.
    fn clients(&self) -> usize {
        let mut known: Vec<IpAddr> = Vec::with_capacity(CLIENTS);
        for client in self.last.iter().flatten() {
            if !known.contains(client) {
                known.push(*client);
                if known.len() == CLIENTS {
                    break;
                }
            }
        }
        known.len()
    }
}

impl Crossing {
    pub(super) fn announce(&self) {
        match self {
            Self::Crossed { ratio } => tracing::warn!(
                event = "error_ratio_crossed",
                ratio,
                "over 2 % of the last {WINDOW} ended tunnels failed by the network: an indicator of the line \
                 from which AWS doubts a proxy, which is drawn in calls"
            ),
            Self::Recovered { ratio } => tracing::info!(
                event = "error_ratio_recovered",
                ratio,
                "below 1.5 % of the last {WINDOW} ended tunnels failed by the network"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(told: bool) -> Ratio {
        Ratio::new(Gauge::new("ratio", "help").unwrap(), told)
    }

    fn client(last: u8) -> Option<IpAddr> {
        Some([127, 0, 0, last].into())
    }

    #[test]
    fn crossing_and_recovery_are_told_once_each() {
        let ratio = ratio(true);
        for _ in 0..195 {
            assert_eq!(ratio.record(None), None);
        }
        // Four of 200 are 2 %, which is not more.
        let told: Vec<_> = (1..=5).filter_map(|at| ratio.record(client(at))).collect();
        assert_eq!(told, [Crossing::Crossed { ratio: 0.025 }]);
        for at in 0..50 {
            assert_eq!(ratio.record(client(at)), None, "it is known");
        }
        let mut recovered = Vec::new();
        for _ in 0..400 {
            recovered.extend(ratio.record(None));
        }
        assert_eq!(recovered, [Crossing::Recovered { ratio: 0.01 }]);
        let again: Vec<_> = (0..5).filter_map(|at| ratio.record(client(at))).collect();
        assert_eq!(again.len(), 1, "a new crossing is a new one");
    }

    #[test]
    fn few_tunnels_and_one_desk_cross_nothing() {
        let few = ratio(true);
        assert!((0..199).all(|at| few.record(client(at)).is_none()));
        assert_eq!(few.record(client(1)), Some(Crossing::Crossed { ratio: 1.0 }));
        let desks = ratio(true);
        assert!((0..1000).all(|at| desks.record(client(at as u8 % 2)).is_none()));
        let silent = ratio(false);
        assert!((0..1000).all(|at| silent.record(client(at as u8)).is_none()));
        assert_eq!(silent.get(), 1.0);
    }
}
