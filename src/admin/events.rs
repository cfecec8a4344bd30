//! `/api/events`: the object of `/api/status` as it changes, as server-sent events.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::Admin;
use super::http::{Answer, events, text};

/// Streams at once; a page beyond them asks for `/api/status` again and again.
pub(super) const STREAMS: usize = 64;
/// Also when nothing is new: counters move all the time.
const REGULARLY: Duration = Duration::from_secs(2);
/// What nobody writes on for longer, balancers and browsers take for dead.
const COMMENT: Duration = Duration::from_secs(15);

pub(super) fn answer(admin: &Admin) -> Answer {
    let full = match admin.streams.clone().try_acquire_owned() {
        Ok(_) if admin.shared.drain.is_draining() => "this proxy is draining",
        Ok(place) => return events(follow(admin.clone(), place)),
        Err(_) => "all streams are taken",
    };
    let mut answer =
        text(StatusCode::SERVICE_UNAVAILABLE, format!("ccpgate: {full}; ask for /api/status instead\n"));
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    answer
}

struct Following {
    admin: Admin,
    news: Receiver<u64>,
    status: Instant,
    comment: Instant,
    _place: OwnedSemaphorePermit,
}

/// A status at once, then on every change and regularly; until the drain begins. It is made when the
/// reader takes it, so that a slow one gets the newest and holds nothing.
fn follow(admin: Admin, place: OwnedSemaphorePermit) -> impl futures_util::Stream<Item = Bytes> + Send {
    let (news, now) = (admin.shared.journal.findings.news(), Instant::now());
    let following = Following { admin, news, status: now, comment: now + COMMENT, _place: place };
    stream::unfold(following, |mut following| async move {
        let Following { admin, news, status, comment, .. } = &mut following;
        let event = tokio::select! {
            biased;
            () = admin.shared.drain.begun() => return None,
            () = sleep_until(*comment) => {
                *comment = Instant::now() + COMMENT;
                Bytes::from_static(b": here\n\n")
            }
            changed = news.changed() => {
                changed.ok()?;
                event(admin, status)
            }
            () = sleep_until(*status) => event(admin, status),
        };
        Some((event, following))
    })
}

fn event(admin: &Admin, next: &mut Instant) -> Bytes {
    *next = Instant::now() + REGULARLY;
    // One stream makes it, others wait for that, and older processes may be asked: DNS shares this thread.
    tokio::task::block_in_place(|| admin.latest.event(admin))
}
