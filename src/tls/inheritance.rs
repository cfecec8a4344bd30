//! Sessions from one process to its successor, so that agents who come back resume with it. What travels
//! holds keys: it goes over a socket that only this user may speak to, and is wiped after.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::seal::{Context, Key, NAME_LEN, Name};
use super::session::{Entry, Record, SessionStore};

const KEY: usize = 32;
const CONTEXT: usize = 32;

impl SessionStore {
    /// Every session that is within the window; where they would take more bytes than `most`, the newest.
    pub(crate) fn bequeath(&self, most: usize) -> Zeroizing<Vec<u8>> {
        let mut living: Vec<_> = self.living().collect();
        let mut length: usize = living.iter().map(|(_, entry)| length_of(entry)).sum();
        if length > most {
            living.sort_unstable_by_key(|(_, entry)| entry.origin);
        }
        let mut left = &living[..];
        while length > most
            && let [(_, oldest), newer @ ..] = left
        {
            length -= length_of(oldest);
            left = newer;
        }
        // It never grows: that would leave copies of keys behind.
        let mut all = Zeroizing::new(Vec::with_capacity(length));
        for (name, entry) in left {
            all.extend_from_slice(name);
            all.extend_from_slice(&entry.origin.to_be_bytes());
            all.extend_from_slice(entry.key.as_ref());
            let Some(record) = &entry.record else {
                all.push(0);
                continue;
            };
            all.push(1);
            all.extend_from_slice(&record.context.0);
            all.extend_from_slice(&record.client_end.to_be_bytes());
            all.extend_from_slice(&u32::try_from(record.plain.len()).unwrap_or(0).to_be_bytes());
            all.extend_from_slice(&record.plain);
        }
        debug_assert_eq!(all.len(), length);
        all
    }

    /// Takes over what another process had; how many sessions that were. What can't be read ends the list.
    pub(crate) fn inherit(&self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let mut count = 0;
        while let Some((name, entry)) = next(&mut rest) {
            self.adopt(name, Arc::new(entry));
            count += 1;
        }
        count
    }
}

/// How many bytes a session takes.
fn length_of(entry: &Entry) -> usize {
    let record = entry.record.as_ref().map_or(0, |record| CONTEXT + 8 + 4 + record.plain.len());
    NAME_LEN + 8 + KEY + 1 + record
}

fn next(rest: &mut &[u8]) -> Option<(Name, Entry)> {
    let name: Name = take(rest)?;
    let origin = u64::from_be_bytes(take(rest)?);
    let key: Key = Zeroizing::new(take::<KEY>(rest)?);
    let record = match take::<1>(rest)? {
        [0] => None,
        _ => {
            let context = Context(take(rest)?);
            let client_end = u64::from_be_bytes(take(rest)?);
            let length = u32::from_be_bytes(take(rest)?) as usize;
            let (plain, after) = rest.split_at_checked(length)?;
            *rest = after;
            Some(Box::new(Record { context, client_end, plain: Zeroizing::new(plain.to_vec()) }))
        }
    };
    Some((name, Entry { origin, key, record }))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use rustls::server::{ProducesTickets, StoresServerSessions};

    use super::super::ticket::{ConnTickets, Shift};
    use super::super::window::{ManualClock, Window};
    use super::*;

    fn shift(clock: &Arc<ManualClock>) -> Arc<Shift> {
        Shift::new(Window::from_seconds(36_000).unwrap(), 100, None, clock.clone())
    }

    #[test]
    fn a_session_resumes_with_the_successor_and_grows_no_younger() {
        let clock = ManualClock::new(1_000_000);
        let (old, new) = (shift(&clock), shift(&clock));
        let connect = |shift: &Arc<Shift>| ConnTickets::new(shift.clone(), Context::ANONYMOUS);
        let ticket = connect(&old).encrypt(b"by ticket").unwrap();
        assert!(connect(&old).put(vec![9; 32], b"by id".to_vec()));
        clock.advance(30_000);
        let estate = old.store().bequeath(usize::MAX);
        assert_eq!(estate.capacity(), estate.len(), "a buffer that grows leaves copies behind");
        assert_eq!(new.store().inherit(&estate), 2);
        assert_eq!(connect(&new).decrypt(&ticket).unwrap(), b"by ticket");
        assert_eq!(connect(&new).get(&[9; 32]).unwrap(), b"by id");
        clock.advance(6_000);
        assert!(connect(&new).decrypt(&ticket).is_none(), "the window counts from the first handshake");
        assert!(new.store().bequeath(usize::MAX).is_empty());

        let cut = shift(&clock);
        cut.store().inherit(&estate[..estate.len() - 1]);
        assert!(cut.store().len() < 2);
        assert_eq!(cut.store().inherit(b"nonsense"), 0);
    }

    #[test]
    fn of_too_many_sessions_the_newest_go_on() {
        let clock = ManualClock::new(1_000_000);
        let old = shift(&clock);
        let connect = |shift: &Arc<Shift>| ConnTickets::new(shift.clone(), Context::ANONYMOUS);
        let tickets: Vec<_> = (0..20)
            .map(|_| {
                clock.advance(1);
                connect(&old).encrypt(b"of an agent").unwrap()
            })
            .collect();
        let all = old.store().bequeath(usize::MAX).len();
        for (most, left) in [(all, 20), (all - 1, 19), (all / 2, 10), (1, 0), (0, 0)] {
            let estate = old.store().bequeath(most);
            assert!(estate.len() <= most && estate.capacity() == estate.len());
            let new = shift(&clock);
            assert_eq!(new.store().inherit(&estate), left, "{most} of {all} bytes");
            let resumes = |ticket: &Vec<u8>| connect(&new).decrypt(ticket).is_some();
            assert!(tickets[20 - left..].iter().all(resumes), "{left} newest");
        }
    }
}
