//! The event that all streams get: made once for all of them, however many watch.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Admin, status};
use crate::lock::lock;

/// As long as nothing was found, a stream gets what another one got so lately.
const FRESH: Duration = Duration::from_secs(1);

/// The last event.
#[derive(Default)]
pub(super) struct Latest(Mutex<Option<Made>>);

struct Made {
    at: Instant,
    /// By the count of what was found.
    news: u64,
    event: Bytes,
}

impl Latest {
    /// The status as an event.
    pub(super) fn event(&self, admin: &Admin) -> Bytes {
        // Held while one is made, so that those who wait take it.
        let mut latest = lock(&self.0);
        let news = || *admin.shared.journal.findings.news().borrow();
        if let Some(made) = &*latest
            && made.at.elapsed() < FRESH
            && made.news == news()
        {
            return made.event.clone();
        }
        let event = Bytes::from(format!("event: status\ndata: {}\n\n", status::json(admin)));
        *latest = Some(Made { at: Instant::now(), news: news(), event: event.clone() });
        event
    }
}
