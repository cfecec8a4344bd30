//! What goes wrong in a simulated region, by name and rate. Pure but for the counter of draws.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::FixedState;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// A fault. All hit the signalling connection of a call, but for the last two: the voice and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Fault {
    DnsNxdomain,
    DnsTimeout,
    TcpRefused,
    TcpReset,
    TcpTimeout,
    TlsIntercepted,
    WsRefused,
    WsHung,
    WsCut,
    UdpBlocked,
    #[strum(serialize = "http_5xx")]
    Http5xx,
}

impl Fault {
    /// The word that people write.
    pub(crate) const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A fault and the share of calls that it hits, as in `ws_cut=0.05` or `ws_cut=5%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rated {
    pub fault: Fault,
    /// From 0 to 1.
    pub rate: f64,
}

impl FromStr for Rated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, rate)) = text.split_once('=') else {
            return Err("expected NAME=RATE, as in ws_cut=0.05".to_owned());
        };
        let fault = name.trim().parse().map_err(|_| unknown(name.trim()))?;
        let rate = match rate.trim().strip_suffix('%') {
            Some(percent) => percent.trim_end().parse().map(|percent: f64| percent / 100.0),
            None => rate.trim().parse(),
        };
        match rate {
            Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(Self { fault, rate }),
            _ => Err("the rate is a share of calls from 0 to 1, such as 0.05, or 5%".to_owned()),
        }
    }
}

fn unknown(name: &str) -> String {
    let words = Fault::VARIANTS.iter().map(|fault| fault.as_str());
    let near = words.clone().max_by(|a, b| strsim::jaro(name, a).total_cmp(&strsim::jaro(name, b)));
    let near = near.filter(|word| strsim::jaro(name, word) > 0.8);
    let hint = near.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
    format!("no fault {name:?}{hint} (there are: {})", words.collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Rated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.fault.as_str(), self.rate)
    }
}

/// The rates in force. They may change while the region runs.
pub(crate) struct Faults {
    state: FixedState,
    /// By fault, as the bits of the rate.
    rates: [AtomicU64; Fault::VARIANTS.len()],
    drawn: AtomicU64,
}

impl Faults {
    /// None at first. The same seed and the same order of events give the same faults.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: FixedState::with_seed(seed),
            rates: std::array::from_fn(|_| AtomicU64::new(0_f64.to_bits())),
            drawn: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, Rated { fault, rate }: Rated) {
        self.rates[fault as usize].store(rate.to_bits(), Ordering::Relaxed);
    }

    fn rate(&self, fault: Fault) -> f64 {
        f64::from_bits(self.rates[fault as usize].load(Ordering::Relaxed))
    }

    /// Whether a fault hits what `key` stands for: each time the same answer for the same key, so that
    /// whoever asks twice is not hit once.
    pub(crate) fn hits(&self, fault: Fault, key: impl Hash) -> bool {
        let rate = self.rate(fault);
        // The upper 53 bits: what a float holds exactly.
        rate > 0.0 && ((self.state.hash_one((fault, key)) >> 11) as f64) < rate * (1_u64 << 53) as f64
    }

    /// Whether a fault hits this time.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        self.hits(fault, self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_with_its_rate() {
        let ws_cut = |rate| Ok(Rated { fault: Fault::WsCut, rate });
        assert_eq!("ws_cut=0.05".parse(), ws_cut(0.05));
        assert_eq!("ws_cut = 5 %".parse(), ws_cut(0.05));
        assert_eq!("ws_cut=1".parse(), ws_cut(1.0));
        assert_eq!("http_5xx=0".parse(), Ok(Rated { fault: Fault::Http5xx, rate: 0.0 }));
        for (text, word) in [
            ("ws_cut", "NAME=RATE"),
            ("ws_cutt=1", "did you mean \"ws_cut\"?"),
            ("fire=1", "there are: dns_nxdomain,"),
            ("ws_cut=", "from 0 to 1"),
            ("ws_cut=1.5", "from 0 to 1"),
            ("ws_cut=-1", "from 0 to 1"),
            ("ws_cut=nan", "from 0 to 1"),
            ("ws_cut=inf", "from 0 to 1"),
            ("ws_cut=101%", "from 0 to 1"),
        ] {
            let error = text.parse::<Rated>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_fault_strikes_as_often_as_its_rate_says() {
        let faults = Faults::new(1);
        assert!((0..1000).all(|_| !faults.strikes(Fault::TcpReset)));
        for rate in [0.01, 0.5, 1.0] {
            faults.set(Rated { fault: Fault::TcpReset, rate });
            let struck = (0..100_000).filter(|_| faults.strikes(Fault::TcpReset)).count() as f64 / 100_000.0;
            assert!((struck - rate).abs() < 0.01, "{rate}: {struck}");
            assert!((0..100).all(|_| !faults.strikes(Fault::WsHung)), "another fault");
        }
        faults.set(Rated { fault: Fault::UdpBlocked, rate: 0.5 });
        let of = |key: u32| faults.hits(Fault::UdpBlocked, key);
        assert!((0..1000).all(|key| of(key) == of(key)));
        assert!((0..1000).filter(|key| of(*key)).count().abs_diff(500) < 100);
    }
}
