//! Sessions from one process to its successor, so that agents who come back resume with it. What travels
//! holds keys: it goes over a socket that only this user may speak to, and is wiped after.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::seal::{Context, Key, Name};
use super::session::{Entry, Record, SessionStore};

const KEY: usize = 32;

impl SessionStore {
    /// Every session that is within the window.
    pub(crate) fn bequeath(&self) -> Zeroizing<Vec<u8>> {
        let mut all = Zeroizing::new(Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0) * 96));
        for (name, entry) in self.living() {
            all.extend_from_slice(&name);
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
        let estate = old.store().bequeath();
        assert_eq!(new.store().inherit(&estate), 2);
        assert_eq!(connect(&new).decrypt(&ticket).unwrap(), b"by ticket");
        assert_eq!(connect(&new).get(&[9; 32]).unwrap(), b"by id");
        clock.advance(6_000);
        assert!(connect(&new).decrypt(&ticket).is_none(), "the window counts from the first handshake");
        assert!(new.store().bequeath().is_empty());

        let cut = shift(&clock);
        cut.store().inherit(&estate[..estate.len() - 1]);
        assert!(cut.store().len() < 2);
        assert_eq!(cut.store().inherit(b"nonsense"), 0);
    }
}
