//! One endpoint as an agent's browser reaches it, step by step up to the first failure. The only I/O of
//! this room; all of it is bounded in time, whatever the far side does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join;
use tokio::io::AsyncReadExt;
use tokio::time::{timeout, timeout_at};

use super::answer;
use super::clock::{ahead, clock_by_answer};
use super::observed::{Clock, End, Observed, Seen, WebSocketEnd};
use super::secured::{STEP, otherwise, secured};
use super::targets::Endpoint;
use crate::agent::http::{self, NoAnswer};
use crate::agent::route::{LookedUp, Route};
use crate::agent::tap::Tap;
use crate::agent::tls::{NoTls, Session, Stream, Trust};
use crate::agent::websocket::{Cut, EXCHANGE, Exchange, WebSocket};
use crate::cause::Cause;
use crate::egress::{Trace, Unreached};
use crate::outcome::Stage;
use crate::policy::Category;
use crate::target::{Authority, Target};

/// For the rest of a page that may be a block page.
const BODY: Duration = Duration::from_secs(1);
/// Everything that is done with one endpoint; DNS and the dial have limits of their own below it.
const WHOLE: Duration = Duration::from_secs(18);

/// For an upgrade: the panel waits as long for its signalling.
const UPGRADE: Duration = Duration::from_secs(10);
/// How long a WebSocket is silent at least: boxes that cut often do so after 10 s.
const SILENT: Duration = Duration::from_secs(12);
/// How long AWS's own load balancers keep a silent connection.
const KEPT_BY_AWS: Duration = Duration::from_secs(350);
/// For a sign of life after a silence.
const SIGN: Duration = Duration::from_secs(5);

/// What probes are made with.
pub(super) struct Probe<'a> {
    pub route: &'a Route<'a>,
    pub trust: &'a Arc<Trust>,
    pub clock: &'a (dyn Fn() -> SystemTime + Sync),
    /// What came of the look-up of each host, which was made beforehand.
    pub names: &'a HashMap<&'a str, LookedUp>,
    /// How long a silent connection is held.
    pub hold: Option<Duration>,
}

/// What is asked for once there is TLS.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Page,
    /// An upgrade to a WebSocket, which needn't be granted.
    Upgrade,
    /// A WebSocket to be held.
    WebSocket(&'a str),
    /// A WebSocket that is left as soon as it is open.
    Opening(&'a str),
    /// A page after this long a silence.
    Late(Duration),
}

impl Probe<'_> {
    /// DNS, connection, TLS, one request. Where agents need WebSockets it asks for one; where a
    /// connection is to be held, a second one is.
    pub(super) async fn tcp(&self, target: &Target, endpoint: &Endpoint) -> Observed {
        let upgrades = matches!(endpoint.category, Category::Signalling | Category::Telecom);
        let ask = if upgrades { Ask::Upgrade } else { Ask::Page };
        let mut seen = self.try_surely(target, endpoint, ask, WHOLE).await;
        if upgrades
            && matches!(
                seen.end,
                Some(End::Silent(_) | End::NoAnswer(NoAnswer::Ended(_) | NoAnswer::Reset(_)))
            )
        {
            let plain = self.try_once(target, endpoint, Ask::Page, WHOLE).await;
            if let Some(End::Answered(_)) = plain.end {
                seen.end = Some(match seen.end.take() {
                    Some(End::NoAnswer(NoAnswer::Ended(how) | NoAnswer::Reset(how))) => {
                        End::UpgradeRefused(how)
                    }
                    _ => End::UpgradeHung(STEP),
                });
            }
        }
        if is_slow(seen.trace.dns) && matches!(seen.end, Some(End::Answered(_))) {
            seen.dns_anew = self.route.time_dns_anew(target).await;
        }
        // Files are fetched at once; everything else may pause.
        let pauses = !matches!(endpoint.category, Category::Static | Category::Attachments);
        if let (Some(hold), Some(End::Answered(_)), true) = (self.hold, &seen.end, pauses) {
            let held = self.try_once(target, endpoint, Ask::Late(hold), hold + WHOLE).await;
            if let Some(end @ End::Cut(_)) = held.end {
                seen.end = Some(end);
            }
        }
        Observed::Tested(seen)
    }

    /// A WebSocket that is opened, used and held.
    pub(super) async fn web_socket(&self, target: &Target, endpoint: &Endpoint, path: &str) -> Observed {
        let limit = WHOLE + UPGRADE + 2 * EXCHANGE + SILENT.max(self.hold.unwrap_or_default()) + SIGN;
        let mut seen = self.try_surely(target, endpoint, Ask::WebSocket(path), limit).await;
        let slow = Cause::WsSlow.about().threshold;
        if let Some(End::WebSocket(WebSocketEnd::Held { opening, .. })) = &mut seen.end
            && slow.is_some_and(|slow| slow.judge(*opening).is_some())
        {
            // Once may be a packet that was lost, or a machine that was busy with all endpoints.
            let again = self.try_once(target, endpoint, Ask::Opening(path), WHOLE + UPGRADE).await;
            if let Some(End::WebSocket(WebSocketEnd::Held { opening: quicker, .. })) = again.end {
                *opening = quicker.min(*opening);
            }
        }
        Observed::Tested(seen)
    }

    /// A try, and another one where no TLS came about. Where that ends alike, it is known what comes through
    /// otherwise.
    async fn try_surely(
        &self,
        target: &Target,
        endpoint: &Endpoint,
        ask: Ask<'_>,
        limit: Duration,
    ) -> Box<Seen> {
        let mut seen = self.try_once(target, endpoint, ask, limit).await;
        let Some(End::NoTls(why)) = &seen.end else { return seen };
        if let NoTls::Foreign(_) | NoTls::Name = why {
            return seen;
        }
        // At the same time, so that nobody waits for more than two handshakes that hang.
        let other = async {
            let address = seen.trace.address?;
            Box::pin(otherwise(self.route, self.trust, self.clock, target, (address, why))).await
        };
        let (again, other) = join(self.try_once(target, endpoint, ask, limit), other).await;
        match (why, &again.end) {
            (_, Some(End::NoTls(_))) => seen.otherwise = other,
            // Once may be packets that were lost.
            (NoTls::Silent(_), _) if again.shown.is_some() => return again,
            _ => {}
        }
        seen
    }

    async fn try_once(
        &self,
        target: &Target,
        endpoint: &Endpoint,
        ask: Ask<'_>,
        limit: Duration,
    ) -> Box<Seen> {
        let mut seen = Box::new(Seen::default());
        let name = self.names.get(&*endpoint.host);
        // A dead resolver isn't waited for twice.
        if let Some(LookedUp { took, failed: Some(error) }) = name {
            seen.trace = Trace { stage: Stage::Dns, dns: Some(*took), ..Trace::default() };
            seen.end = Some(End::Unreached(Unreached::Dns(error.clone())));
            return seen;
        }
        let until = tokio::time::Instant::now() + limit;
        let end = match timeout_at(until, Box::pin(self.walk(target, endpoint, ask, &mut seen))).await {
            Ok(end) => end,
            Err(_) => End::Late(limit),
        };
        seen.end = Some(end);
        seen.trace.dns = seen.trace.dns.max(name.map(|name| name.took));
        seen
    }

    async fn walk(&self, target: &Target, endpoint: &Endpoint, ask: Ask<'_>, seen: &mut Seen) -> End {
        let opening = Instant::now();
        let opened = secured(self.route, self.trust, self.clock, target, !endpoint.added, seen).await;
        let session = match opened {
            Ok(session) => session,
            Err(end) => return end,
        };
        let authority = match target.port {
            443 => endpoint.host.clone(),
            port => Authority(&endpoint.host, port).to_string(),
        };
        let trusted = session.verdicts.public.is_ok() || session.verdicts.platform.is_ok();
        if !trusted {
            seen.clock = clock_by_answer(session, self.trust, self.clock, &authority).await;
            return End::Untrusted;
        }
        match ask {
            Ask::Page => self.page(session, endpoint, &authority, "Connection: close\r\n", seen).await,
            Ask::Upgrade => self.page(session, endpoint, &authority, &upgrade(), seen).await,
            Ask::WebSocket(path) | Ask::Opening(path) => {
                let hold = matches!(ask, Ask::WebSocket(_));
                let end = self.open_web_socket(session, &authority, path, opening, hold).await;
                if let WebSocketEnd::Held { opening, .. } = &end {
                    seen.http = Some(*opening);
                }
                End::WebSocket(end)
            }
            Ask::Late(silent) => late(session, &authority, silent).await,
        }
    }

    /// One request, and whether its answer is the service's.
    async fn page(
        &self,
        session: Session,
        endpoint: &Endpoint,
        authority: &str,
        fields: &str,
        seen: &mut Seen,
    ) -> End {
        let Session { mut stream, verdicts, .. } = session;
        let (began, sent) = (Instant::now(), (self.clock)());
        let answer = timeout(STEP, http::get(&mut stream, authority, "/", fields)).await;
        let took = began.elapsed();
        seen.http = Some(took);
        let mut answer = match answer {
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
        match answer::foreign(&answer, endpoint, public) {
            Some(why) => End::Foreign(why),
            None => End::Answered(answer.status),
        }
    }

    async fn open_web_socket(
        &self,
        session: Session,
        authority: &str,
        path: &str,
        opening: Instant,
        hold: bool,
    ) -> WebSocketEnd {
        let open = timeout(UPGRADE, WebSocket::open(session.stream, authority, path)).await;
        let mut socket = match open {
            Err(_) => return WebSocketEnd::Hung(UPGRADE),
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return why.into(),
        };
        let (opening, opened) = (opening.elapsed(), Instant::now());
        let used = if hold { self.use_web_socket(&mut socket).await } else { Ok(None) };
        let held = opened.elapsed();
        match used {
            Ok(None) => {
                socket.close().await;
                WebSocketEnd::Held { opening, held }
            }
            Ok(Some(buffered)) => WebSocketEnd::Buffered(buffered),
            Err(Cut(how)) => WebSocketEnd::Cut(held, how),
        }
    }

    /// Exchange, silence, sign of life; in words, what is held back.
    async fn use_web_socket(&self, socket: &mut WebSocket<Stream<Tap>>) -> Result<Option<String>, Cut> {
        let mut heaps = [0; 2];
        for heap in &mut heaps {
            *heap = match socket.exchange().await? {
                Exchange::Fluent => 0,
                Exchange::Heaps(count) => count,
                Exchange::Nothing => return Ok(Some("open, and no message comes back".to_owned())),
            };
            if *heap == 0 {
                break;
            }
        }
        // Once may be a packet that was lost.
        let fewest = heaps[0].min(heaps[1]);
        if fewest > 0 {
            return Ok(Some(format!("{fewest} messages came at once, sent one by one")));
        }
        let silent = SILENT.max(self.hold.unwrap_or_default());
        socket.hold(silent, SIGN).await.map(|()| None)
    }
}

/// A silent connection, and a request after it.
async fn late(session: Session, authority: &str, silent: Duration) -> End {
    let Session { mut stream, .. } = session;
    let began = Instant::now();
    let mut byte = [0; 1];
    let how = match timeout(silent, stream.read(&mut byte)).await {
        // Silence is what was asked of it; a server that speaks first is alive as well.
        Err(_) | Ok(Ok(1..)) => None,
        Ok(Ok(0)) => Some("closed by the far side".to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
    };
    if let Some(how) = how {
        let how = format!("a silent connection ended after {:?} of {silent:?}: {how}", secs(began));
        return of_cut(began.elapsed(), how);
    }
    match timeout(SIGN, http::get(&mut stream, authority, "/", "Connection: close\r\n")).await {
        Ok(Err(NoAnswer::Ended(how) | NoAnswer::Reset(how))) => {
            of_cut(silent, format!("after {silent:?} of silence, {how}"))
        }
        Ok(_) => End::Kept,
        Err(_) => of_cut(silent, format!("after {silent:?} of silence, a request gets no answer")),
    }
}

/// A connection that was cut after a silence: by a box on the way, or, after so long, by AWS itself.
fn of_cut(after: Duration, how: String) -> End {
    if after < KEPT_BY_AWS { End::Cut(how) } else { End::Kept }
}

fn secs(since: Instant) -> Duration {
    Duration::from_secs(since.elapsed().as_secs())
}

/// The fields that ask for a WebSocket; the key is 16 bytes that mean nothing (RFC 6455 section 4.1).
fn upgrade() -> String {
    let key = tokio_tungstenite::tungstenite::handshake::client::generate_key();
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    )
}

fn is_slow(dns: Option<Duration>) -> bool {
    let threshold = Cause::DnsSlow.about().threshold;
    dns.is_some_and(|took| threshold.is_some_and(|threshold| threshold.judge(took).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_that_aws_makes_itself_is_nobodys_fault() {
        for (after, blamed) in [(1, true), (60, true), (349, true), (350, false), (3600, false)] {
            let end = of_cut(Duration::from_secs(after), "reset".to_owned());
            assert_eq!(matches!(end, End::Cut(_)), blamed, "{after} s");
        }
    }
}
