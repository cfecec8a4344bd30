//! The fuzz targets on stable: every entry over its seeds and over mutations of them, for a short
//! while. `fuzz/README.md` says how to let libFuzzer go on from here.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../fuzz/entries.rs"]
mod entries;

const EACH: Duration = Duration::from_secs(1);

/// xorshift64*: a fixed seed, so that a failure is likely to come again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as usize % limit.max(1)
    }

    /// One to four of the changes that fuzzers make.
    fn mutate(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(7) {
                0 => bytes.insert(at, self.below(256) as u8),
                1 => bytes.truncate(at),
                2 => {
                    let to = at + self.below(bytes.len() - at + 1).min(8);
                    bytes.drain(at..to);
                }
                3 => {
                    let from = bytes[self.below(bytes.len() + 1)..].to_vec();
                    bytes.splice(at..at, from.into_iter().take(40));
                }
                4 => {
                    let other = &others[self.below(others.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
                }
                _ if at == bytes.len() => bytes.push(self.below(256) as u8),
                5 => bytes[at] ^= 1 << self.below(8),
                _ => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'.', b'\r', b'\n', b' ', b':'][self.below(10)],
            }
        }
    }
}

#[test]
fn every_entry_holds_over_its_seeds_and_their_mutations() {
    for (name, entry) in entries::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let run = |bytes: &[u8]| {
            if catch_unwind(|| entry(bytes)).is_err() {
                panic!("{name} does not hold for \"{}\"", bytes.escape_ascii());
            }
        };
        run(b"");
        seeds.iter().for_each(|seed| run(seed));
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let begun = Instant::now();
        while begun.elapsed() < EACH {
            let mut bytes = seeds[random.below(seeds.len())].clone();
            random.mutate(&mut bytes, &seeds);
            run(&bytes);
        }
    }
}
