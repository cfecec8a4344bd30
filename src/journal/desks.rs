//! The desk checks of late: what came of each, beside what the proxy saw of that desk; and how often one
//! client, and all of them, may report. Memory is bounded, whoever reports.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use jiff::Timestamp;

use super::id::RequestId;
use super::sample::one_client;
use crate::desk::judge::Judgement;
use crate::lock::lock;

/// So many checks are kept; of more the oldest are forgotten.
pub(crate) const MOST: usize = 1000;
/// Of these, so many of one client, so that none takes the room of all.
const OF_ONE: usize = 20;
/// Reports of one client in a minute: a check takes seconds, and some desks share an address.
const REPORTS_OF_ONE: u32 = 10;
/// Reports of all in a minute: a whole floor at 9:05.
const REPORTS: u32 = 600;
const MINUTE: u64 = 60;

/// Letters and digits that nobody takes for one another on the telephone.
const ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE: usize = 5;

/// What a desk has told, judged.
pub(crate) struct Checked {
    pub time: Timestamp,
    pub client: IpAddr,
    /// What its browser calls itself: a text from outside.
    pub browser: Box<str>,
    pub judgement: Judgement,
    pub seen: Vec<Seen>,
}

/// What the proxy saw of a host that the desk tried.
pub(crate) struct Seen {
    /// The tunnel; none for what was denied.
    pub id: Option<RequestId>,
    pub target: Box<str>,
    /// How the tunnel ended, or the reason of the denial; none for one that lives.
    pub end: Option<&'static str>,
    pub sent: u64,
    pub received: u64,
}

/// A check that is kept.
pub(crate) struct Desk {
    /// What the agent reads out.
    pub code: Box<str>,
    pub checked: Checked,
}

/// The checks of late.
pub(crate) struct Desks {
    started: Instant,
    keys: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: VecDeque<Arc<Desk>>,
    /// How many codes were given out.
    codes: u64,
    minute: u64,
    /// Of this minute, by client; never more than all reports of a minute.
    reports: HashMap<IpAddr, u32>,
    all: u32,
}

impl Default for Desks {
    fn default() -> Self {
        Self { started: Instant::now(), keys: RandomState::new(), inner: Mutex::default() }
    }
}

impl Desks {
    /// Counts a report that is about to be read.
    ///
    /// # Errors
    /// After how many seconds there is room again.
    pub(crate) fn enter(&self, client: IpAddr) -> Result<(), u64> {
        self.enter_at(client, self.started.elapsed().as_secs())
    }

    fn enter_at(&self, client: IpAddr, second: u64) -> Result<(), u64> {
        let mut inner = self.lock();
        if inner.minute != second / MINUTE {
            inner.minute = second / MINUTE;
            inner.reports = HashMap::new();
            inner.all = 0;
        }
        let wait = MINUTE - second % MINUTE;
        if inner.all >= REPORTS {
            return Err(wait);
        }
        let own = inner.reports.entry(one_client(client)).or_insert(0);
        if *own >= REPORTS_OF_ONE {
            return Err(wait);
        }
        *own += 1;
        inner.all += 1;
        Ok(())
    }

    /// Keeps a check under a new code.
    pub(super) fn keep(&self, checked: Checked) -> Arc<Desk> {
        let mut inner = self.lock();
        let code = loop {
            inner.codes += 1;
            let code = code(self.keys.hash_one(inner.codes));
            if !inner.kept.iter().any(|known| known.code == code) {
                break code;
            }
        };
        let source = one_client(checked.client);
        let same = |desk: &Arc<Desk>| one_client(desk.checked.client) == source;
        if inner.kept.iter().filter(|desk| same(desk)).count() >= OF_ONE
            && let Some(oldest) = inner.kept.iter().position(same)
        {
            inner.kept.remove(oldest);
        }
        if inner.kept.len() >= MOST {
            inner.kept.pop_front();
        }
        let desk = Arc::new(Desk { code, checked });
        inner.kept.push_back(desk.clone());
        desk
    }

    /// All that are known, the last one first.
    pub(crate) fn all(&self) -> Vec<Arc<Desk>> {
        self.lock().kept.iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

fn code(mut number: u64) -> Box<str> {
    let mut code = String::with_capacity(CODE);
    for _ in 0..CODE {
        code.push(char::from(ALPHABET[(number % ALPHABET.len() as u64) as usize]));
        number /= ALPHABET.len() as u64;
    }
    code.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::desk::judge::{Traces, judge};
    use crate::desk::plan::Plan;
    use crate::desk::report::Report;

    fn v4(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    fn checked(client: IpAddr) -> Checked {
        let plan = Plan { media: vec!["t.example".into()], ..Plan::default() };
        let report = Report::read(br#"{"media":[{"host":"t.example","state":"new"}]}"#).unwrap();
        let judgement = judge(&plan, &report, &Traces::default()).unwrap();
        Checked { time: Timestamp::UNIX_EPOCH, client, browser: "".into(), judgement, seen: Vec::new() }
    }

    #[test]
    fn reports_are_bounded_by_client_and_in_all() {
        let desks = Desks::default();
        for _ in 0..REPORTS_OF_ONE {
            assert_eq!(desks.enter_at(v4(1), 61), Ok(()));
        }
        assert_eq!(desks.enter_at(v4(1), 70), Err(50));
        assert_eq!(desks.enter_at(v4(2), 70), Ok(()), "a flood of one takes nothing from another");
        let mut taken = REPORTS_OF_ONE + 1;
        taken += (3..10_000).map(|n| u32::from(desks.enter_at(v4(n), 80).is_ok())).sum::<u32>();
        assert_eq!(taken, REPORTS);
        assert!(desks.lock().reports.len() <= REPORTS as usize);
        assert_eq!(desks.enter_at(v4(1), 120), Ok(()), "the next minute");
        // One network of IPv6 is one client.
        let of = |host: u128| IpAddr::from(((0x2001_0db8_u128 << 96) | host).to_be_bytes());
        let one = (0..100).filter(|host| desks.enter_at(of(*host), 120).is_ok()).count();
        assert_eq!(one, REPORTS_OF_ONE as usize);
    }

    #[test]
    fn checks_are_bounded_by_client_and_in_all_and_codes_differ() {
        let desks = Desks::default();
        desks.keep(checked(v4(1)));
        for _ in 0..100 {
            desks.keep(checked(v4(2)));
        }
        assert_eq!(desks.all().len(), OF_ONE + 1);
        for number in 3..3000 {
            desks.keep(checked(v4(number)));
        }
        let all = desks.all();
        assert_eq!((all.len(), all[0].checked.client), (MOST, v4(2999)));
        let codes: BTreeSet<&str> = all.iter().map(|desk| &*desk.code).collect();
        assert_eq!(codes.len(), MOST);
        assert!(codes.iter().all(|code| code.len() == CODE && code.bytes().all(|b| ALPHABET.contains(&b))));
    }
}
