//! One endpoint as an agent's browser reaches it, step by step up to the first failure. The only I/O of
//! this room; all of it is bounded in time, whatever the far side does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, Error};
use tokio::time::{timeout, timeout_at};

use super::answer;
use super::observed::{Clock, End, Observed, Seen};
use super::targets::Endpoint;
use crate::agent::certificate::Shown;
use crate::agent::http::{self, Answer};
use crate::agent::route::Route;
use crate::agent::tls::{Session, Trust, handshake};
use crate::target::Target;

/// For a handshake, and for an answer: longer than the panel's own limits allow.
const STEP: Duration = Duration::from_secs(5);
/// For the rest of a page that may be a block page.
const BODY: Duration = Duration::from_secs(1);
/// Everything that is done with one endpoint; DNS and the dial have limits of their own below it.
const WHOLE: Duration = Duration::from_secs(18);

/// What probes are made with.
pub(super) struct Probe<'a> {
    pub route: &'a Route<'a>,
    pub trust: &'a Arc<Trust>,
    pub clock: &'a (dyn Fn() -> SystemTime + Sync),
}

impl Probe<'_> {
    /// DNS, connection, TLS, one request.
    pub(super) async fn tcp(&self, target: &Target, endpoint: &Endpoint) -> Observed {
        let mut seen = Box::new(Seen::default());
        let until = tokio::time::Instant::now() + WHOLE;
        let end = match timeout_at(until, self.walk(target, endpoint, &mut seen)).await {
            Ok(end) => end,
            Err(_) => End::Late(WHOLE),
        };
        seen.end = Some(end);
        Observed::Tested(seen)
    }

    async fn walk(&self, target: &Target, endpoint: &Endpoint, seen: &mut Seen) -> End {
        seen.by_proxy = self.route.by_proxy(target);
        let opened = self.route.open(target, &mut seen.trace).await;
        seen.found = self.route.found(target);
        let stream = match opened {
            Ok(stream) => stream,
            Err(why) => return End::Unreached(why),
        };
        let began = Instant::now();
        let session = handshake(stream, &target.host, self.trust, (self.clock)(), STEP).await;
        seen.tls = Some(began.elapsed());
        let session = match session {
            Ok(session) => session,
            Err(why) => return End::NoTls(why),
        };
        let Session { mut stream, chain, verdicts, name } = session;
        let leaf = chain.first().map_or(&[][..], |leaf| leaf);
        seen.shown = Some((Shown::of(leaf), verdicts.clone()));
        let works = verdicts.public.is_ok() || verdicts.platform.is_ok();
        if !works && ![&verdicts.public, &verdicts.platform].into_iter().any(is_of_time) {
            return End::Untrusted;
        }
        let (began, sent) = (Instant::now(), (self.clock)());
        let host = match target.port {
            443 => endpoint.host.clone(),
            port => format!("{}:{port}", endpoint.host),
        };
        let answer = timeout(STEP, http::get(&mut stream, &host, "/", "Connection: close\r\n")).await;
        let took = began.elapsed();
        seen.http = works.then_some(took);
        let mut answer = match answer {
            // Only asked for its Date.
            _ if !works => {
                let answer = answer.ok().and_then(Result::ok);
                seen.clock = answer.and_then(|answer| {
                    let date = answer::date(&answer)?;
                    // By the clock of the answer somebody vouches for it: then it is ours that is off.
                    let then = self.trust.judge(&chain, &name, date);
                    let good = then.public.is_ok() || then.platform.is_ok();
                    good.then(|| Clock { ahead_ms: ahead(sent, took, date), verified: false })
                });
                return End::Untrusted;
            }
            Err(_) => return End::Silent(STEP),
            Ok(Err(why)) => return End::NoAnswer(why),
            Ok(Ok(answer)) => answer,
        };
        if let Some(date) = answer::date(&answer) {
            seen.clock = Some(Clock { ahead_ms: ahead(sent, took, date), verified: true });
        }
        let public = verdicts.public.is_ok();
        if !public {
            let _ = timeout(BODY, answer.read_body(&mut stream)).await;
        }
        judge(&answer, endpoint, public)
    }
}

fn judge(answer: &Answer, endpoint: &Endpoint, public: bool) -> End {
    match answer::foreign(answer, endpoint, public) {
        Some(why) => End::Foreign(why),
        None => End::Answered(answer.status),
    }
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
fn ahead(sent: SystemTime, took: Duration, date: SystemTime) -> i64 {
    let ms = |time: SystemTime| match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    ms(sent + took / 2).saturating_sub(ms(date).saturating_add(500))
}
