//! One agent: comes, opens tunnels, makes calls, has a break, leaves.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::{BREAKS, CALLS, Count, LOGGED_IN, Office};
use crate::agent::io::Io;
use crate::agent::route::Route;
use crate::agent::tls;
use crate::agent::way::{self, Way};
use crate::agent::websocket::{Cut, WebSocket};
use crate::diagnose::finding::ended;
use crate::diagnose::observed::{End, Seen};
use crate::egress::Egress;
use crate::egress::parent::Parent;
use crate::rehearse::call::message;
use crate::rehearse::script::in_turn;
use crate::rehearse::voice;

/// A browser opens so many connections to one host at a time.
const AT_ONCE: usize = 6;
/// For everything up to an open WebSocket, and for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);
/// Heartbeats of the panel's own WebSocket, and signs of life of all other tunnels.
const BEAT: Duration = Duration::from_secs(10);
const SIGN: Duration = Duration::from_secs(30);

type Socket = WebSocket<tls::Stream<Box<dyn Io>>>;

/// An agent's browser.
pub(super) struct Desk {
    office: Arc<Office>,
    number: u32,
    begun: Instant,
    way: Way,
    tls: TlsConnector,
    opening: Semaphore,
}

impl Desk {
    /// Works until `leaving` says that the morning is over.
    pub(super) async fn work(
        office: Arc<Office>,
        number: u32,
        begun: Instant,
        leaving: watch::Receiver<bool>,
    ) {
        let plan = office.plan;
        let desk = match Self::new(office.clone(), number, begun) {
            Ok(desk) => Arc::new(desk),
            Err(why) => return office.count.note(&office.count.failed, why),
        };
        let share = f64::from(number) / f64::from(plan.agents.max(1));
        let at = |minutes: f64| begun + plan.minutes(minutes);
        if !until(at(LOGGED_IN * share * 0.9), &leaving).await {
            return;
        }
        // Who has a break comes back; who hasn't stays.
        let pause = BREAKS.get(number as usize % 4);
        let (away, left) = watch::channel(false);
        let mut tunnels = desk.open_all(&left);
        if let Some([from, to]) = pause {
            until(at(*from), &leaving).await;
            away.send_replace(true);
            while tunnels.join_next().await.is_some() {}
            desk.way.leave().await;
            if !until(at(*to) + plan.minutes(share), &leaving).await {
                return;
            }
            away.send_replace(false);
            tunnels = desk.open_all(&left);
        }
        let mut over = leaving;
        let _ = over.wait_for(|over| *over).await;
        away.send_replace(true);
        while tunnels.join_next().await.is_some() {}
    }

    fn new(office: Arc<Office>, number: u32, begun: Instant) -> Result<Self, String> {
        // Loopback has an address for everybody.
        let [_, high, middle, low] = (number + 1).to_be_bytes();
        let own = Ipv4Addr::new(127, 16 + high, middle, low).into();
        // Its sessions with the proxy are its own.
        let proxy = Parent::given(office.proxy.clone(), None, office.roots.clone(), PATIENCE)?;
        let egress = Egress { source_address: vec![own], ..way::through(&office.egress, proxy) };
        let way = office.plan.over.way(egress);
        let tls = tls::browser(office.roots.clone())?;
        Ok(Self { office, number, begun, way, tls, opening: Semaphore::new(AT_ONCE) })
    }

    /// Opens all tunnels, and keeps them until `left` is true.
    fn open_all(self: &Arc<Self>, left: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut tunnels = JoinSet::new();
        for nth in 0..self.office.plan.tunnels {
            tunnels.spawn(self.clone().tunnel(nth, left.clone()));
        }
        tunnels
    }

    async fn tunnel(self: Arc<Self>, nth: u32, left: watch::Receiver<bool>) {
        let count = &self.office.count;
        let turn = self.opening.acquire().await;
        if *left.borrow() {
            return;
        }
        let begun = Instant::now();
        let opened = timeout(PATIENCE, Box::pin(self.open(nth))).await;
        drop(turn);
        let socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return count.note(&count.failed, why),
            Err(_) => return count.note(&count.failed, format!("no tunnel within {PATIENCE:?}")),
        };
        let peak = self.begun.elapsed() < self.office.plan.minutes(LOGGED_IN);
        Count::add(if peak { &count.peak } else { &count.later }, begun.elapsed());
        count.open.fetch_add(1, Ordering::Relaxed);
        let kept = Box::pin(self.keep(socket, nth, left)).await;
        count.open.fetch_sub(1, Ordering::Relaxed);
        if let Err(Cut(how)) = kept {
            count.note(&count.lost, format!("a tunnel was lost: {how}"));
        }
    }

    /// A WebSocket, through the proxy.
    async fn open(&self, nth: u32) -> Result<Socket, String> {
        let office = &self.office;
        let (target, path) = match nth {
            0 => {
                let url = (office.signalling)(self.number);
                (url.target, url.path)
            }
            _ => {
                let host = in_turn(&office.hosts, self.number + nth).ok_or("no host to go to")?;
                (host.clone(), "/".to_owned())
            }
        };
        let mut seen = Seen::default();
        let route = Route::via(&office.egress, &office.own, Some(&self.way));
        let opened = route.open(&target, &mut seen.trace).await;
        let stream = opened.map_err(|why| {
            let found = ended(&mut seen, End::Unreached(why));
            format!("{target}: {}: {}", found.cause.as_str(), found.detail)
        })?;
        let name = ServerName::try_from(target.host.to_string()).map_err(|error| error.to_string())?;
        let secured = tls::Stream::connect(&self.tls, name, stream).await;
        let secured = secured.map_err(|error| format!("{target}: TLS: {error}"))?;
        let opened = WebSocket::open(secured, &target.to_string(), &path).await;
        opened.map_err(|why| format!("{target}: WebSocket: {why:?}"))
    }

    /// Gives signs of life until `left` is true; the panel's own WebSocket makes calls as well.
    async fn keep(&self, mut socket: Socket, nth: u32, mut left: watch::Receiver<bool>) -> Result<(), Cut> {
        let every = if nth == 0 { BEAT } else { SIGN };
        // Spread, or all of them would come at once.
        let mut next = Instant::now() + every.mul_f64(f64::from((self.number * 7 + nth * 13) % 97) / 97.0);
        let mut call = Instant::now() + self.office.plan.minutes(CALLS);
        loop {
            let now = Instant::now();
            let pause = if nth == 0 { next.min(call) } else { next }.saturating_duration_since(now);
            tokio::select! {
                rested = socket.rest(pause) => rested?,
                _ = left.wait_for(|left| *left) => break,
            }
            if Instant::now() >= next {
                socket.beat(ANSWER).await?;
                next = Instant::now() + every;
            }
            if nth == 0 && Instant::now() >= call {
                self.call(&mut socket).await?;
                call = Instant::now() + self.office.plan.minutes(CALLS);
            }
        }
        // Never closed.
        let _turn = self.office.goodbyes.acquire().await;
        // Whether it was there to the end.
        socket.beat(ANSWER).await?;
        socket.close().await;
        Ok(())
    }

    /// Messages of a call, and the way of its voice.
    async fn call(&self, socket: &mut Socket) -> Result<(), Cut> {
        let count = &self.office.count;
        count.calls.fetch_add(1, Ordering::Relaxed);
        for size in [3000_usize, 600, 400, 200] {
            socket.ask(&message("call", size), ANSWER).await?;
        }
        let Office { egress, own, media, .. } = &*self.office;
        let Some(target) = in_turn(media, self.number) else { return Ok(()) };
        if let Err(found) = voice::ask(egress, own, media, self.number).await {
            count.note(&count.failed_calls, format!("{target}: {}: {}", found.cause.as_str(), found.detail));
        }
        Ok(())
    }
}

/// Waits until then; returns whether the morning goes on.
async fn until(then: Instant, leaving: &watch::Receiver<bool>) -> bool {
    let mut leaving = leaving.clone();
    tokio::select! {
        () = sleep_until(then) => true,
        _ = leaving.wait_for(|over| *over) => false,
    }
}
