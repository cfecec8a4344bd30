//! The ledger by itself: what is live, what is remembered, what it takes.

use std::task::Wake;

use super::*;

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn settings(ended: usize, keep: u64) -> Settings {
    Settings { ended, keep: Duration::from_secs(keep), anonymise: false }
}

fn ledger(ended: usize, keep: u64) -> Ledger {
    let ledger = Ledger::default();
    ledger.configure(&settings(ended, keep));
    ledger
}

fn seat(id: u64, host: &str) -> Arc<Seat> {
    let target = Target::parse_authority(format!("{host}:443").as_bytes()).unwrap();
    let client = "10.0.0.7:50000".parse().unwrap();
    let labels = Arc::new(Labels { domain: "none".into(), category: "none", traffic: None });
    Arc::new(Seat::new(RequestId(id), client, target, (labels, false), Instant::now()))
}

fn begun(ledger: &Ledger, id: u64, host: &str) -> Arc<Seat> {
    let mut seat = seat(id, host);
    ledger.begins(&mut seat, Some("192.0.2.1:443".parse().unwrap()), Timestamp::now());
    seat
}

fn ends(ledger: &Ledger, seat: Arc<Seat>, at: Timestamp) {
    let lived = seat.started.elapsed();
    ledger.ends(Ended { seat, at, outcome: Outcome::Ok, by: EndedBy::Client, lived, idle: 0 });
}

fn ids<T>(page: &Page<T>, seat: impl Fn(&T) -> &Seat) -> Vec<u64> {
    page.items.iter().map(|item| seat(item).id.0).collect()
}

fn live(ledger: &Ledger) -> Vec<u64> {
    let mut ids = ids(&ledger.live(|_| true, 1000), |seat| seat);
    ids.sort_unstable();
    ids
}

fn ended(ledger: &Ledger) -> Vec<u64> {
    ids(&ledger.ended(|_| true, 1000).0, |end| &end.seat)
}

#[test]
fn a_tunnel_is_live_until_it_ends() {
    let ledger = ledger(10, 60);
    let mut seats: Vec<_> = (0..40).map(|id| begun(&ledger, id, "a.example")).collect();
    assert_eq!(live(&ledger), (0..40).collect::<Vec<_>>());
    // In an order of their own, so that places are exchanged.
    for id in [16, 0, 32, 5, 39] {
        let at = seats.iter().position(|seat| seat.id.0 == id).unwrap();
        ends(&ledger, seats.remove(at), Timestamp::now());
    }
    assert_eq!(live(&ledger), seats.iter().map(|seat| seat.id.0).collect::<Vec<_>>());
    assert_eq!(ended(&ledger), [39, 5, 32, 0, 16]);
    let page = ledger.live(|seat| seat.id.0 > 30, 3);
    assert_eq!((page.items.len(), page.left_out), (3, 4));
    let (page, _) = ledger.ended(|seat| seat.id.0 != 5, 2);
    assert_eq!((ids(&page, |end| &end.seat), page.left_out), (vec![39, 32], 2));
}

#[test]
fn what_ended_is_bounded_in_number_and_time() {
    let ledger = ledger(3, 60);
    let now = Timestamp::now();
    for (id, ago) in [(1, 61), (2, 30), (3, 20), (4, 10), (5, 0)] {
        let at = now - SignedDuration::from_secs(ago);
        ends(&ledger, begun(&ledger, id, "a.example"), at);
    }
    assert_eq!(ended(&ledger), [5, 4, 3]);
    let complete = |ledger: &Ledger| ledger.ended(|_| true, 1).1;
    assert!(complete(&ledger) < now, "none has gone that ended since the start");
    ledger.configure(&settings(3, 15));
    assert_eq!(ended(&ledger), [5, 4]);
    ledger.configure(&settings(1, 15));
    assert_eq!(ended(&ledger), [5]);
    ledger.configure(&settings(0, 15));
    ends(&ledger, begun(&ledger, 6, "a.example"), now);
    assert_eq!((ended(&ledger), live(&ledger)), (vec![], vec![]));
    assert_eq!(complete(&ledger), now);
}

#[test]
fn names_are_held_once_and_forgotten() {
    let ledger = ledger(1, 60);
    let name = |seat: &Seat| match &seat.target.host {
        Host::Name(name) => name.clone(),
        Host::Ip(_) => unreachable!(),
    };
    let (a, b) = (begun(&ledger, 0, "a.example"), begun(&ledger, 16, "A.example"));
    assert!(Arc::ptr_eq(&name(&a), &name(&b)));
    for id in 0..10_000 {
        ends(&ledger, begun(&ledger, id * 16, &format!("h{id}.example")), Timestamp::now());
    }
    assert!(ledger.shard(RequestId(0)).hosts.len() < 100);
}

#[test]
fn a_seat_whose_task_panicked_is_nobodys() {
    let ledger = ledger(1, 60);
    drop(begun(&ledger, 0, "a.example"));
    assert!(live(&ledger).is_empty());
    let seats: Vec<_> = (1..200).map(|id| begun(&ledger, id * 16, "a.example")).collect();
    assert_eq!(ledger.shard(RequestId(0)).live.len(), 199);
    seats.into_iter().for_each(|seat| ends(&ledger, seat, Timestamp::now()));
    let shard = ledger.shard(RequestId(0));
    assert!(shard.live.is_empty() && shard.live.capacity() < 16);
}

#[test]
fn what_moved_shows_while_it_lives() {
    let ledger = ledger(1, 60);
    let seat = begun(&ledger, 7, "a.example");
    seat.has_moved(5, 8);
    let found = ledger.live(|_| true, 1).items.remove(0);
    assert_eq!((found.bytes(), found.idle() < 60), ([5, 8], true));
    assert_eq!(found.upstream(), Some("192.0.2.1:443".parse().unwrap()));
    assert!(found.began().is_some());
}

#[test]
fn live_tunnels_are_woken_and_those_that_ended_keep_nothing_of_their_tasks() {
    let ledger = ledger(10, 60);
    let tasks: [Arc<Task>; 2] = Default::default();
    let seats = [1, 2].map(|id| begun(&ledger, id, "a.example"));
    for (seat, task) in seats.iter().zip(&tasks) {
        seat.wakes(&task.clone().into());
    }
    let [ending, _] = seats;
    ends(&ledger, ending, Timestamp::now());
    assert_eq!(tasks.each_ref().map(Arc::strong_count), [1, 2]);
    ledger.wake();
    assert_eq!(tasks.map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
}

#[test]
fn a_seat_is_small() {
    assert!(size_of::<Seat>() <= 168, "{}", size_of::<Seat>());
    assert!(size_of::<Ended>() <= 48, "{}", size_of::<Ended>());
}
