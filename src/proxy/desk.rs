//! The desk check on the proxy listeners: the page, and the report that it sends back, which is joined with
//! what the ledger has of that client in those seconds.
//!
//! A report comes from a browser that any site may have led here. Only JSON is taken, which a foreign site's
//! script can't send without asking first, and nobody here says yes; `Origin` and `Sec-Fetch-Site` must name
//! this very page. Nothing of a report is trusted: it is looked up by what this proxy asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::admission::Peer;
use super::answer::Plain;
use super::head::Request;
use super::refusal::item;
use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::desk::judge::{Judgement, Said, Traces, judge};
use crate::desk::page::{self, Pages};
use crate::desk::plan::Plan;
use crate::desk::report::{LARGEST, Report};
use crate::desk::{PAGE, REPORT};
use crate::journal::Journal;
use crate::journal::desks::{Checked, Seen};
use crate::journal::ledger::Seat;
use crate::target::{self, Host, Target};

/// How much earlier than the page says its first tunnel may have begun: a clock of whole seconds lies between.
const SLACK: Duration = Duration::from_secs(2);
/// The page waits nine seconds for an answer.
const PAGE_WAITS: Duration = Duration::from_secs(9);
/// Browsers keep an idle connection for five minutes: for so long a tunnel may still lie with the process that
/// handed its sockets on.
const KEPT: SignedDuration = SignedDuration::from_mins(6);
/// Tunnels of one desk that are looked at; its browser holds 32 to a proxy.
const TUNNELS: usize = 200;
/// Of these, so many are kept with the result.
const SEEN: usize = 60;

/// What of the desk check is asked for.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Page,
    Report,
}

/// Which part a request is for: by its path, or by a URL whose host is this proxy.
pub(super) fn part(request: &Request, peer: &Peer, shared: &Shared, snapshot: &Snapshot) -> Option<Part> {
    // Only requests that may be for it have these fields.
    request.browser.as_ref()?;
    let path = match in_parts(&request.target) {
        None => &*request.target,
        Some((_, Some(place), path)) if is_here(&place, peer, shared, snapshot) => path,
        Some(_) => return None,
    };
    match target::path(path) {
        PAGE => Some(Part::Page),
        REPORT => Some(Part::Report),
        _ => None,
    }
}

/// Scheme, authority and path of a target in absolute form. No authority where it can't be read.
fn in_parts(target: &str) -> Option<(&str, Option<Target>, &str)> {
    let (scheme, rest) = target.split_once("://").filter(|(scheme, _)| target::is_scheme(scheme))?;
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Some((scheme, None, rest)),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((scheme, Target::parse_authority_or(authority.as_bytes(), port).ok(), path))
}

/// Whether a place is one of this proxy's listeners, as far as that is known without asking anybody.
fn is_here(place: &Target, peer: &Peer, shared: &Shared, snapshot: &Snapshot) -> bool {
    let own = |address: IpAddr| shared.own.is((address, place.port).into());
    match &place.host {
        Host::Ip(address) => peer.local == SocketAddr::new(*address, place.port) || own(*address),
        Host::Name(name) if **name == *"localhost" => {
            own(Ipv4Addr::LOCALHOST.into()) || own(Ipv6Addr::LOCALHOST.into())
        }
        Host::Name(name) => snapshot.advertises(name, place.port),
    }
}

/// The answer, as far as the head of the request decides it. None: the body of a report is to be read and
/// handed to [`receive`].
pub(super) fn serve(
    part: Part,
    request: &Request,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Option<Plain<'static>> {
    let Some(plan) = &snapshot.desk else { return Some(Plain::not_found()) };
    let answered = match (part, &*request.method) {
        (Part::Page, "GET" | "HEAD") => {
            called(request, snapshot).map(|()| Some(shown(plan, &snapshot.pages, request)))
        }
        (Part::Page, _) => Ok(Some(Plain::not_allowed("GET, HEAD"))),
        (Part::Report, "POST") => welcome(request, peer, shared, snapshot).map(|()| None),
        (Part::Report, _) => Ok(Some(Plain::not_allowed("POST"))),
    };
    answered.unwrap_or_else(|no| Some(refused(&no, peer, shared, snapshot)))
}

fn shown(plan: &Plan, pages: &Pages, request: &Request) -> Plain<'static> {
    // Another site's link, as far as the browser says so, starts nothing.
    let site = request.browser.as_ref().and_then(|browser| browser.fetch_site.as_deref());
    let start = matches!(site, None | Some("none" | "same-origin"));
    let fields = [
        ("Content-Type", "text/html; charset=utf-8".to_owned()),
        ("Content-Security-Policy", page::policy(plan)),
    ]
    .into_iter()
    .chain(
        [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    Plain { status: 200, reason: "OK", fields: fields.collect(), body: vec![pages.page(plan, start)] }
}

/// Why a request for the desk check is refused.
enum No {
    /// A name under which nobody knows this proxy: it may be a foreign site's that leads here (DNS rebinding).
    Name,
    /// Another site's script.
    Foreign,
    Type,
    Length,
    TooLarge,
    TooMany {
        seconds: u64,
    },
    /// The body didn't come in time.
    Late,
    Unreadable(String),
}

impl No {
    fn answer(&self, name: &str) -> Plain<'static> {
        const DENIED: &str = "http_request_denied";
        const WRONG: &str = "http_request_error";
        let (status, reason, error, details, why) = match self {
            Self::Name => (
                403,
                "Forbidden",
                DENIED,
                "host",
                "nobody knows this proxy by that name; open the page by its IP address, or by a name of proxy.advertise"
                    .to_owned(),
            ),
            Self::Foreign => {
                (403, "Forbidden", DENIED, "foreign_site", "only the page of this proxy itself may report".to_owned())
            }
            Self::Type => {
                (415, "Unsupported Media Type", WRONG, "malformed", "a report is application/json".to_owned())
            }
            Self::Length => {
                (411, "Length Required", WRONG, "malformed", "a report has a Content-Length".to_owned())
            }
            Self::TooLarge => {
                (413, "Content Too Large", WRONG, "malformed", format!("a report has at most {LARGEST} bytes"))
            }
            Self::TooMany { seconds } => (
                429,
                "Too Many Requests",
                DENIED,
                "rate",
                format!("too many reports of this client, or of all; again in {seconds} s"),
            ),
            Self::Late => {
                (408, "Request Timeout", WRONG, "malformed", "the report did not arrive in time".to_owned())
            }
            Self::Unreadable(why) => (400, "Bad Request", WRONG, "malformed", format!("no report: {why}")),
        };
        let mut answer = Plain::text(status, reason, format!("ccpgate: {why}\n"));
        answer.fields.push(("Proxy-Status", format!("{}; error={error}; details=\"{details}\"", item(name))));
        if let Self::TooMany { seconds } = self {
            answer.fields.push(("Retry-After", seconds.to_string()));
        }
        answer
    }
}

/// An administrator whose desks can't report finds out why; a flood is sampled.
fn refused(no: &No, peer: &Peer, shared: &Shared, snapshot: &Snapshot) -> Plain<'static> {
    let answer = no.answer(&snapshot.name);
    let journal = &shared.journal;
    if journal.takes_line_about(peer.address.ip()) {
        tracing::info!(
            event = "desk_check_refused",
            client = %journal.shown(peer.address),
            status = answer.status,
            "{}",
            String::from_utf8_lossy(&answer.body.concat()).trim_end()
        );
    }
    answer
}

/// Whether a browser that calls this proxy so can be its own page.
fn called(request: &Request, snapshot: &Snapshot) -> Result<(), No> {
    // What is in absolute form was found to be here.
    let Some(host) = request.host.as_deref().filter(|_| request.target.starts_with('/')) else {
        return Ok(());
    };
    let known = match Target::parse_authority_or(host.as_bytes(), 80).map(|place| place.host) {
        Ok(Host::Ip(_)) => true,
        // No foreign site has a name without a dot.
        Ok(Host::Name(name)) => {
            !name.contains('.') || snapshot.may_be_called(&name) || snapshot.is_admin_host(&name)
        }
        Err(_) => false,
    };
    if known { Ok(()) } else { Err(No::Name) }
}

/// Whether the body of a report is read.
fn welcome(request: &Request, peer: &Peer, shared: &Shared, snapshot: &Snapshot) -> Result<(), No> {
    called(request, snapshot)?;
    let Some(browser) = &request.browser else { return Err(No::Type) };
    // Browsers send an origin with every POST; a program that sends none is nobody's tool.
    let own = browser.origin.as_deref().is_none_or(|origin| is_own(origin, request));
    if !own || !matches!(browser.fetch_site.as_deref(), None | Some("same-origin")) {
        return Err(No::Foreign);
    }
    let kind = browser.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Err(No::Type);
    }
    match browser.length {
        None => return Err(No::Length),
        Some(length) if length > LARGEST => return Err(No::TooLarge),
        _ => {}
    }
    shared.journal.desks.enter(peer.address.ip()).map_err(|seconds| No::TooMany { seconds })
}

/// Whether an origin is the page that this request's host has.
fn is_own(origin: &str, request: &Request) -> bool {
    let Some((scheme, Some(place), "")) = in_parts(origin) else { return false };
    let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let here = match in_parts(&request.target) {
        Some((_, place, _)) => place,
        None => {
            request.host.as_deref().and_then(|host| Target::parse_authority_or(host.as_bytes(), port).ok())
        }
    };
    here == Some(place)
}

#[derive(Serialize)]
struct Answer<'a> {
    schema_version: u8,
    code: &'a str,
    #[serde(flatten)]
    judgement: &'a Judgement,
    said: &'a Said,
}

/// Takes a report; `body` is none where it didn't come, or not in time. The answer is what the page shows.
pub(super) fn receive(
    body: Option<Vec<u8>>,
    request: &Request,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Plain<'static> {
    let journal = &shared.journal;
    match checked(body, request, peer, shared, snapshot) {
        Ok(checked) => {
            let desk = journal.desk_checked(checked);
            let judgement = &desk.checked.judgement;
            let answer = Answer { schema_version: 1, code: &desk.code, judgement, said: &judgement.said };
            let mut plain = Plain::text(200, "OK", serde_json::to_string(&answer).unwrap_or_default());
            plain.fields[0].1 = "application/json".to_owned();
            plain
        }
        Err(no) => refused(&no, peer, shared, snapshot),
    }
}

fn checked(
    body: Option<Vec<u8>>,
    request: &Request,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Result<Checked, No> {
    let journal = &shared.journal;
    let body = body.ok_or(No::Late)?;
    if body.len() > LARGEST {
        return Err(No::TooLarge);
    }
    let report = Report::read(&body).map_err(No::Unreadable)?;
    // A reload may have switched it off meanwhile.
    let plan = snapshot.desk.as_ref().ok_or_else(|| No::Unreadable("the desk check is off".to_owned()))?;
    let (time, client) = (Timestamp::now(), peer.address.ip());
    let span = report.took() + SLACK;
    let since = time.checked_sub(span).unwrap_or(time);
    let (seen, mut traces) = seen(journal, client, plan, since, span);
    // Another proxy stands between: whose tunnels are this desk's isn't known.
    traces.complete &= request.via.is_none();
    // The page's connection was kept alive here, and its tunnels may be a successor's.
    traces.complete &= shared.drain.is_alone_since(since.as_second());
    traces.complete &= shared.generation == 1 || time.duration_since(journal.ledger.begun()) > KEPT;
    traces.prompt = snapshot.tells_within < PAGE_WAITS;
    let judgement = judge(plan, &report, &traces)
        .ok_or_else(|| No::Unreadable("nothing of what this proxy asks for is in it".to_owned()))?;
    Ok(Checked { time, client, browser: report.browser().into(), judgement, seen })
}

/// What the ledger has of this client and the hosts of the plan within the last `span`, which began at `since`.
fn seen(
    journal: &Journal,
    client: IpAddr,
    plan: &Plan,
    since: Timestamp,
    span: Duration,
) -> (Vec<Seen>, Traces) {
    let hosts: BTreeMap<&str, &Arc<str>> =
        plan.hosts.iter().map(|listed| (&*listed.host, &listed.host)).collect();
    let listed = |host: &Host| match host {
        Host::Name(name) => hosts.get(&**name).copied(),
        Host::Ip(_) => None,
    };
    let wanted = |seat: &Seat| seat.client().ip() == client && listed(&seat.target.host).is_some();
    let mut seen = Vec::new();
    let mut traces = Traces::default();
    let mut note = |host: &Host, end: Option<&'static str>| {
        if let Some(host) = listed(host) {
            // The last one is noted first. That a tunnel stood says more than that another one failed.
            let last = traces.hosts.entry(host.clone()).or_insert(end);
            if end.is_none() {
                *last = None;
            }
        }
    };
    let of = |seat: &Seat, end| {
        let [sent, received] = seat.bytes();
        Seen { id: Some(seat.id), target: seat.target.to_string().into(), end, sent, received }
    };
    let used = |seat: &Seat| wanted(seat) && u64::from(seat.idle()) <= span.as_secs();
    let live = journal.ledger.live(used, TUNNELS);
    for seat in live.items {
        note(&seat.target.host, None);
        seen.push(of(&seat, None));
    }
    let (ended, _) = journal.ledger.ended(wanted, TUNNELS);
    let all = ended.left_out == 0 || ended.items.last().is_some_and(|end| end.at < since);
    for end in ended.items.into_iter().take_while(|end| end.at >= since) {
        let word = end.outcome.into_str();
        let stood = end.seat.began().is_some();
        note(&end.seat.target.host, (!stood).then_some(word));
        seen.push(of(&end.seat, Some(word)));
    }
    for (target, reason) in journal.denials.of(client, since) {
        let Ok(Target { host, .. }) = Target::parse_authority(target.as_bytes()) else { continue };
        if listed(&host).is_some() {
            note(&host, Some(reason));
            seen.push(Seen { id: None, target: target.into(), end: Some(reason), sent: 0, received: 0 });
        }
    }
    seen.truncate(SEEN);
    // Many desks behind one address: a host of this one's may be among those that weren't looked at.
    traces.complete = journal.ledger.is_whole(since) && live.left_out == 0 && all;
    (seen, traces)
}
