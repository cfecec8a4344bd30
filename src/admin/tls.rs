//! What `/api/status` says of the TLS listener.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::as_text;
use crate::journal::Journal;
use crate::journal::history::Count;

/// Minutes that `lately` looks back.
const LATELY: u32 = 10;

#[derive(Serialize)]
pub(super) struct Tls {
    pub certificate: Certificate,
    /// Handshakes that resumed nothing, since the start.
    pub full: u64,
    pub resumed: u64,
    pub lately: Lately,
    pub sessions: u64,
    /// Failed handshakes by cause, since the start; causes without one are left out.
    pub failed: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
pub(super) struct Certificate {
    pub file: String,
    #[serde(serialize_with = "as_text::some")]
    pub not_before: Option<Timestamp>,
    #[serde(serialize_with = "as_text::some")]
    pub not_after: Option<Timestamp>,
}

/// Of the last ten minutes.
#[derive(Serialize)]
pub(super) struct Lately {
    pub handshakes: u64,
    pub resumed: u64,
}

impl Certificate {
    /// What is wrong with its time, and what that does.
    pub(super) fn remark(&self, now: Timestamp) -> Option<String> {
        let file = &self.file;
        match (self.not_before, self.not_after) {
            (Some(begins), _) if now < begins => Some(format!(
                "The certificate {file} isn't valid before {begins}: browsers refuse the HTTPS listener. Mend the clock, or the certificate."
            )),
            (_, Some(ends)) if now > ends => Some(format!(
                "The certificate {file} has expired at {ends}: browsers refuse the HTTPS listener. Renew it; it is picked up by itself."
            )),
            _ => None,
        }
    }
}

/// None without a TLS listener.
pub(super) fn of(journal: &Journal) -> Option<Tls> {
    let metrics = &journal.metrics;
    let (file, begins, ends) = metrics.tls.certificate_in_use()?;
    let Count { all, of_them } = journal.history.handshakes(journal.findings.now(), LATELY);
    let time = |second: i64| Timestamp::from_second(second).ok();
    Some(Tls {
        certificate: Certificate { file, not_before: time(begins), not_after: time(ends) },
        full: metrics.tls.full.get(),
        resumed: metrics.tls.resumed.get(),
        lately: Lately { handshakes: all, resumed: of_them },
        sessions: metrics.tls.sessions.now(),
        failed: metrics.tls.failures().filter(|(_, count)| *count > 0).collect(),
    })
}
