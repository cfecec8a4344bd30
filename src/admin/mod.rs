//! What the admin listener shows: metrics, probes, the PAC file, the status. Nothing here changes
//! anything but `reload`, and `vacate` in a process that was told to end.

pub(crate) mod anonymised;
mod consumers;
mod denied;
mod desks;
pub(crate) mod edl;
mod events;
mod explained;
mod failures;
mod generations;
mod held;
mod history;
mod http;
mod latest;
mod learned;
pub(crate) mod lists;
pub(crate) mod older;
mod page;
mod places;
mod process;
mod query;
mod ranges;
pub(crate) mod reload;
mod remembered;
mod rules;
mod status;
mod tls;
mod together;
mod tunnels;
pub(crate) mod users;
pub(crate) mod vacate;
mod watched;

use std::future::ready;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::explained::Explanations;
use self::http::{Answer, Ends, text};
use self::latest::Latest;
use self::lists::{Asked, Lists, who};
use self::older::Generations;
use self::query::Query;
use crate::net::entrance::Entrance;
use crate::pac::rendezvous::Key;
use crate::proxy::answer::Plain;
use crate::proxy::conditions::Conditions;
use crate::proxy::listener::Stop;
use crate::proxy::routes;
use crate::proxy::shared::Shared;
use crate::target::{self, Host};

/// What the admin listener shows.
#[derive(Clone)]
pub(crate) struct Admin {
    pub shared: Arc<Shared>,
    pub started: Instant,
    pub lists: Arc<Lists>,
    /// Places for streams of events.
    streams: Arc<Semaphore>,
    /// The last status, for all streams together.
    latest: Arc<Latest>,
    explanations: Arc<Explanations>,
    pub reloads: reload::Door,
    /// The processes before this one.
    pub generations: Arc<Generations>,
    /// Another process takes the admin port of this one, which drains.
    pub vacated: CancellationToken,
}

impl Admin {
    pub(crate) fn new(
        shared: Arc<Shared>,
        lists: Arc<Lists>,
        started: Instant,
        reloads: reload::Door,
    ) -> Self {
        Self {
            shared,
            started,
            lists,
            streams: Arc::new(Semaphore::new(events::STREAMS)),
            latest: Arc::default(),
            explanations: Arc::default(),
            reloads,
            generations: Arc::default(),
            vacated: CancellationToken::new(),
        }
    }
}

/// What of a request changes its answer.
struct Wanted<'a> {
    query: Query<'a>,
    conditions: Conditions,
}

/// A path, and what answers there.
struct Route {
    path: &'static str,
    /// Answers only requests whose `Host` is an address or a configured name of this listener: a foreign
    /// page in an agent's browser must not read it by pointing its own name here (DNS rebinding).
    own_names: bool,
    answer: fn(&Admin, &Wanted<'_>) -> Answer,
}

/// All routes, in the order in which a wrong path is told of them.
const ROUTES: [Route; 13] = [
    Route { path: "/", own_names: true, answer: |_, _| page::answer() },
    Route { path: "/metrics", own_names: false, answer: metrics },
    Route { path: "/healthz", own_names: false, answer: |_, _| text(StatusCode::OK, "ok\n") },
    Route { path: "/readyz", own_names: false, answer: |admin, _| readiness(admin) },
    Route { path: "/proxy.pac", own_names: false, answer: pac },
    Route { path: "/api/status", own_names: true, answer: |admin, _| status::answer(admin) },
    Route { path: "/api/events", own_names: true, answer: |admin, _| events::answer(admin) },
    Route {
        path: "/api/tunnels",
        own_names: true,
        answer: |admin, asked| tunnels::answer(admin, asked.query),
    },
    Route { path: "/api/denied", own_names: true, answer: |admin, _| denied::answer(admin) },
    Route {
        path: "/api/failures",
        own_names: true,
        answer: |admin, asked| failures::answer(admin, asked.query),
    },
    Route {
        path: "/api/history",
        own_names: true,
        answer: |admin, asked| history::answer(admin, asked.query),
    },
    Route { path: "/api/learned", own_names: true, answer: |admin, _| learned::answer(admin) },
    Route { path: "/api/desks", own_names: true, answer: |admin, asked| desks::answer(admin, asked.query) },
];

/// The lists for firewalls, and what there is of them. Their consumers come by any name, and what they get
/// is no secret.
const LISTS: &str = "/edl/";

/// The paths that there are.
fn paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|route| route.path).chain([LISTS])
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: StdListener, admin: Arc<Admin>, stop: Stop) {
    let shared = admin.shared.clone();
    let accept_failed = || shared.journal.metrics.accept_errors[Entrance::Admin as usize].inc();
    http::serve(
        listener,
        Entrance::Admin.into_str(),
        accept_failed,
        || None,
        move |request, peer| ready(admin.answer(&request, peer)),
        stop,
    )
    .await;
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
        let path = target::path(request.uri().path_and_query().map_or("/", |p| p.as_str()));
        if path == reload::PATH {
            return reload::answer(self, request);
        }
        if path == vacate::PATH {
            return vacate::answer(self, request);
        }
        let query = Query(request.uri().query().unwrap_or_default());
        if path.starts_with(LISTS) {
            let asked = Asked { method: request.method(), headers: request.headers() };
            return self.lists.answer(path, query, &asked, who(peer.ip(), None, request.headers()));
        }
        let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
            let known = paths().collect::<Vec<_>>().join(" ");
            return text(StatusCode::NOT_FOUND, format!("ccpgate: nothing here; there is {known}\n"));
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return http::only_reads();
        }
        if route.own_names && !self.knows_host(request) {
            let why = "ccpgate: this page answers for IP addresses, localhost and admin.hosts only\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        if route.own_names && is_foreign(request) {
            let why =
                "ccpgate: this is for the page of this listener and for programs, not for other pages\n";
            return text(StatusCode::FORBIDDEN, why);
        }
        (route.answer)(self, &Wanted { query, conditions: Conditions::of(request.headers()) })
    }

    /// Whether a program of this machine asks, and no browser: every one of them says where a POST comes from.
    fn is_asked_here(&self, request: &Request<Incoming>) -> bool {
        let here = request.extensions().get::<Ends>().is_some_and(|ends| ends.are_here());
        here && !request.headers().contains_key(header::ORIGIN) && self.knows_host(request)
    }

    fn knows_host(&self, request: &Request<Incoming>) -> bool {
        let Some(host) = request.headers().get(header::HOST) else { return true };
        match Host::parse_authority(host.as_bytes()) {
            Ok(Host::Ip(_)) => true,
            Ok(Host::Name(name)) => *name == *"localhost" || self.shared.snapshot().is_admin_host(&name),
            Err(_) => false,
        }
    }
}

/// Whether a script of another page asks. It could not read the answer, but hold a stream for hours.
/// Somebody who follows a link is welcome.
fn is_foreign(request: &Request<Incoming>) -> bool {
    let field = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let own = |origin: &[u8]| {
        let host = field("host").unwrap_or_default();
        // A proxy in front may bring TLS.
        let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    };
    let elsewhere = matches!(field("sec-fetch-site"), Some(b"cross-site" | b"same-site"));
    field("origin").is_some_and(|origin| !own(origin))
        || elsewhere && field("sec-fetch-mode") != Some(b"navigate")
}

fn metrics(admin: &Admin, asked: &Wanted<'_>) -> Answer {
    let gzip = asked.conditions.gzip;
    // Older processes may be asked, and to know the length is to go through all of it: DNS shares this thread.
    let (text, length) = tokio::task::block_in_place(|| {
        let text = admin.metrics();
        let length = (!gzip).then(|| text.length());
        (text, length)
    });
    http::pieces("text/plain; version=0.0.4; charset=utf-8", length, text)
}

fn readiness(admin: &Admin) -> Answer {
    let (ready, word) = routes::readiness(&admin.shared);
    text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, word)
}

fn pac(admin: &Admin, asked: &Wanted<'_>) -> Answer {
    match admin.shared.snapshot().standing_pac(Key::of_query(asked.query.0)) {
        Ok(pac) => http::plain(Plain::pac(pac, Some(&asked.conditions))),
        Err(why) => text(StatusCode::CONFLICT, format!("ccpgate: {why}\n")),
    }
}
