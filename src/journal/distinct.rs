//! How many different clients there were, in little memory: the first ones by their addresses, exactly;
//! where there are more of them, an estimate by HyperLogLog (Flajolet et al. 2007), whose 256 registers
//! are right within 7 % or so.

use std::hash::BuildHasher;
use std::net::IpAddr;

/// So many are known one by one.
const EXACT: usize = 64;
/// 2 to the power of [`BITS`].
const REGISTERS: usize = 256;
const BITS: u32 = 8;

/// A set of clients that is asked for nothing but its size.
pub(super) enum Distinct {
    Few(Vec<IpAddr>),
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Distinct {
    /// `keys` are the same for all calls, and nobody's outside: who knew them could choose addresses
    /// that count as thousands.
    pub(super) fn add(&mut self, client: IpAddr, keys: &impl BuildHasher) {
        match self {
            Self::Few(known) if known.contains(&client) => {}
            Self::Few(known) if known.len() < EXACT => known.push(client),
            Self::Few(known) => {
                let mut registers = Box::new([0; REGISTERS]);
                known.iter().chain([&client]).for_each(|client| enter(&mut registers, keys.hash_one(client)));
                *self = Self::Many(registers);
            }
            Self::Many(registers) => enter(registers, keys.hash_one(client)),
        }
    }

    /// Whether this client is one of them; of many that isn't known, and yes.
    pub(super) fn may_have(&self, client: IpAddr) -> bool {
        match self {
            Self::Few(known) => known.contains(&client),
            Self::Many(_) => true,
        }
    }

    /// Up to 64 exactly.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Few(known) => known.len() as u64,
            Self::Many(registers) => estimate(registers).max(EXACT as u64 + 1),
        }
    }
}

/// The first bits choose a register, which holds the longest run of zeros behind them.
fn enter(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = &mut registers[(hash >> (u64::BITS - BITS)) as usize];
    let run = (hash << BITS).leading_zeros().min(u64::BITS - BITS) as u8 + 1;
    *register = (*register).max(run);
}

fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    const M: f64 = REGISTERS as f64;
    /// The constant of the paper for 256 registers.
    const ALPHA: f64 = 0.7213 / (1.0 + 1.079 / M);
    let sum: f64 = registers.iter().map(|run| 1.0 / f64::from(1_u32 << (*run).min(31))).sum();
    let raw = ALPHA * M * M / sum;
    let empty = registers.iter().filter(|run| **run == 0).count();
    // Few of many registers hit: counting the empty ones is better.
    let estimate = if raw <= 2.5 * M && empty > 0 { M * (M / empty as f64).ln() } else { raw };
    estimate.round() as u64
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    #[test]
    fn few_are_counted_and_many_estimated() {
        let keys = RandomState::new();
        for wanted in [0, 1, 2, 3, 64, 65, 100, 600, 1_000, 50_000] {
            let mut distinct = Distinct::default();
            for _ in 0..2 {
                for client in 0..wanted {
                    distinct.add(IpAddr::from((0x0a00_0000_u32 + client).to_be_bytes()), &keys);
                }
            }
            let got = distinct.count();
            match wanted {
                0..=64 => assert_eq!(got, u64::from(wanted)),
                // Five standard errors.
                _ => {
                    let error = got.abs_diff(wanted.into()) as f64 / f64::from(wanted);
                    assert!(error < 0.35, "{got} for {wanted}");
                }
            }
        }
    }

    #[test]
    fn it_stays_small() {
        assert!(size_of::<Distinct>() <= 24);
        let keys = RandomState::new();
        let mut distinct = Distinct::default();
        (0..1_000_000_u32).for_each(|client| distinct.add(IpAddr::from(client.to_be_bytes()), &keys));
        assert!(matches!(distinct, Distinct::Many(_)));
    }
}
