//! This machine's clock by the Date of an answer, and whether it is to blame for a certificate that is wrong by the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, Error};
use tokio::time::timeout;

use super::answer;
use super::finding::{Found, failed};
use super::observed::Clock;
use super::secured::STEP;
use crate::agent::http;
use crate::agent::tls::{Session, Trust};
use crate::cause::{Cause, Severity};
use crate::wording::span;

/// The clock by the answer of somebody whose certificate is only wrong by the time: where somebody vouches for it at
/// the answer's own time, it is this machine's clock that is off. None for any other certificate.
pub(crate) async fn clock_by_answer(
    session: Session,
    trust: &Trust,
    clock: &(dyn Fn() -> SystemTime + Sync),
    authority: &str,
) -> Option<Clock> {
    let Session { mut stream, chain, verdicts, name } = session;
    if ![&verdicts.public, &verdicts.platform].into_iter().any(is_of_time) {
        return None;
    }
    let (began, sent) = (Instant::now(), clock());
    let answer = timeout(STEP, http::get(&mut stream, authority, "/", "Connection: close\r\n")).await;
    let date = answer::date(&answer.ok()?.ok()?)?;
    let then = trust.judge(&chain, &name, date);
    let good = then.public.is_ok() || then.platform.is_ok();
    good.then(|| Clock { ahead_ms: ahead(sent, began.elapsed(), date), verified: false })
}

/// Whether a certificate fails by the time alone, as far as it was looked at.
fn is_of_time(judged: &Result<(), Error>) -> bool {
    use CertificateError as C;
    matches!(
        judged,
        Err(Error::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }
        ))
    )
}

/// Milliseconds by which this clock is ahead of an answer's: at the middle of the round trip, and of
/// the second that a Date stands for.
pub(crate) fn ahead(sent: SystemTime, took: Duration, date: SystemTime) -> i64 {
    let ms = |time: SystemTime| match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    ms(sent + took / 2).saturating_sub(ms(date).saturating_add(500))
}

/// How bad it is that this machine's clock is ahead by so many milliseconds, and how far it is off, in words; none where
/// that does no harm.
pub(super) fn skew(ahead_ms: i64) -> Option<(Severity, String)> {
    let by = Duration::from_millis(ahead_ms.unsigned_abs());
    let severity = Cause::ClockSkew.about().threshold?.judge(by)?;
    let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
    Some((severity, format!("this machine's clock is {} {direction} the Date of the answer", span(by))))
}

impl Clock {
    /// Whether an answer that somebody vouches for has the time that it is here.
    pub(crate) fn agrees(self) -> bool {
        self.verified && skew(self.ahead_ms).is_none()
    }
}

/// A certificate that is wrong by the time alone, where the clock is to blame.
pub(crate) fn of_clock(clock: Clock) -> Option<Found> {
    let (_, detail) = skew(clock.ahead_ms)?;
    Some(failed(Cause::ClockSkew, format!("{detail}, by which the certificate is valid")))
}
