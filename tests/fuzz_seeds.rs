//! The fuzz targets on stable: every entry over its seeds and over mutations of them, for a short
//! while. `fuzz/README.md` says how to let libFuzzer go on from here.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

#[path = "../fuzz/entries.rs"]
mod entries;

const EACH: Duration = Duration::from_secs(1);
/// So many entries run beside each other.
const AT_ONCE: usize = 4;

/// One to four of the changes that fuzzers make.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Rng) {
    let mut below = |limit: usize| random.usize(..limit);
    for _ in 0..1 + below(4) {
        let at = below(bytes.len() + 1);
        match below(7) {
            0 => bytes.insert(at, below(256) as u8),
            1 => bytes.truncate(at),
            2 => {
                let to = at + below(bytes.len() - at + 1).min(8);
                bytes.drain(at..to);
            }
            3 => {
                let from = bytes[below(bytes.len() + 1)..].to_vec();
                bytes.splice(at..at, from.into_iter().take(40));
            }
            4 => {
                let other = &others[below(others.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[below(other.len() + 1)..]);
            }
            _ if at == bytes.len() => bytes.push(below(256) as u8),
            5 => bytes[at] ^= 1 << below(8),
            _ => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'.', b'\r', b'\n', b' ', b':'][below(10)],
        }
    }
}

#[test]
fn every_entry_holds_over_its_seeds_and_their_mutations() {
    let next = AtomicUsize::new(0);
    let take_turns = || {
        while let Some((name, entry)) = entries::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            hold(name, *entry);
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(take_turns))));
}

fn hold(name: &str, entry: entries::Entry) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut seeds: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let run = |bytes: &[u8]| {
        if catch_unwind(|| entry(bytes)).is_err() {
            panic!("{name} does not hold for \"{}\"", bytes.escape_ascii());
        }
    };
    run(b"");
    seeds.iter().for_each(|seed| run(seed));
    // A fixed seed, so that a failure is likely to come again.
    let mut random = Rng::with_seed(1);
    let begun = Instant::now();
    while begun.elapsed() < EACH {
        let mut bytes = seeds[random.usize(..seeds.len())].clone();
        mutate(&mut bytes, &seeds, &mut random);
        run(&bytes);
    }
}
