//! The places of a listener for people, probes and scrapers. A connection that says nothing gives way to one
//! that comes: hundreds of silent ones delay a scrape by a blink.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::lock::lock;

/// Enough for scrapers, probes and a few people; a flood must not take descriptors from tunnels.
const PLACES: usize = 64;
/// A connection has this long for its first request before it gives way: a scraper sends it at once.
const BEGINNING: Duration = Duration::from_millis(200);
/// One that was answered has this long for the next request.
const ANSWERED: Duration = Duration::from_millis(500);
/// So long an answer may take to get through; later its reader is one that doesn't read.
const ANSWERING: Duration = Duration::from_secs(1);

/// All places of a listener.
#[derive(Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    all: Vec<Seat>,
}

struct Seat {
    number: u64,
    gives_way: GivesWay,
    leave: oneshot::Sender<()>,
}

/// Of those that are due, who goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Silent,
    Answered,
    Answering,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct GivesWay {
    state: State,
    from: Instant,
}

/// A connection's place, until it is dropped or given back.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

/// A request that is being answered: its connection keeps its place.
pub(super) struct Answering(Arc<Place>);

impl Places {
    /// A place, as soon as there is one, and what tells that it is needed for somebody else.
    pub(super) async fn take(self: &Arc<Self>) -> (Place, oneshot::Receiver<()>) {
        loop {
            let wait = match self.try_take(Instant::now()) {
                Ok(taken) => return taken,
                Err(wait) => wait,
            };
            tokio::select! {
                () = self.given_back.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// # Errors
    /// How long it takes until one has to give way.
    fn try_take(self: &Arc<Self>, now: Instant) -> Result<(Place, oneshot::Receiver<()>), Duration> {
        let mut taken = self.lock();
        if taken.all.len() >= PLACES {
            let all = taken.all.iter().enumerate().map(|(at, seat)| (seat.gives_way, at));
            let due = all.clone().filter(|(gives_way, _)| gives_way.from <= now).min();
            let Some((_, at)) = due else {
                let first = all.map(|(gives_way, _)| gives_way.from).min();
                return Err(first.map_or(ANSWERED, |first| first.duration_since(now)));
            };
            // An error means that it leaves already.
            let _ = taken.all.swap_remove(at).leave.send(());
        }
        let number = taken.next;
        taken.next += 1;
        let (leave, left) = oneshot::channel();
        let gives_way = GivesWay { state: State::Silent, from: now + BEGINNING };
        taken.all.push(Seat { number, gives_way, leave });
        Ok((Place { places: self.clone(), number }, left))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        lock(&self.taken)
    }

    fn set(&self, number: u64, state: State, time: Duration) {
        let gives_way = GivesWay { state, from: Instant::now() + time };
        if let Some(seat) = self.lock().all.iter_mut().find(|seat| seat.number == number) {
            seat.gives_way = gives_way;
        }
    }
}

impl Place {
    /// A request has come.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.places.set(self.number, State::Answering, ANSWERING);
        Answering(self.clone())
    }

    /// It is free for others; the connection goes on without one.
    pub(super) fn give_back(&self) {
        self.places.lock().all.retain(|seat| seat.number != self.number);
        self.places.given_back.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.places.set(self.0.number, State::Answered, ANSWERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_ones_go_first_and_those_that_are_being_answered_last() {
        let (places, start) = (Arc::new(Places::default()), Instant::now());
        let take = |now| places.try_take(now).map(|(place, left)| (Arc::new(place), left));
        let mut all: Vec<_> = (0..PLACES as u32)
            .map(|at| take(start + Duration::from_micros(at.into())).ok().unwrap())
            .collect();
        let answering = all[0].0.answering();
        drop(all[1].0.answering());
        let wait = take(start).err().unwrap();
        assert!(wait <= BEGINNING + Duration::from_micros(PLACES as u64), "all are young: {wait:?}");
        let later = start + Duration::from_secs(60);
        let mut newcomers = vec![take(later).ok().unwrap()];
        assert!(all[2].1.try_recv().is_ok(), "the oldest silent one");
        newcomers.extend((3..PLACES).map(|_| take(later).ok().unwrap()));
        assert!(all[3..].iter_mut().all(|(_, left)| left.try_recv().is_ok()));
        assert!(all[1].1.try_recv().is_err());
        newcomers.push(take(later).ok().unwrap());
        assert!(all[1].1.try_recv().is_ok(), "the one that was answered");
        assert!(all[0].1.try_recv().is_err());
        newcomers.push(take(later).ok().unwrap());
        assert!(all[0].1.try_recv().is_ok(), "the one that takes no answer");
        assert!(take(later).is_err(), "newcomers have their time");
        drop(answering);
        drop(newcomers);
        assert!(places.lock().all.is_empty());
    }
}
