//! `/edl/…`: the lists that firewalls fetch by themselves, made of the configuration and the ranges in force.
//! None is ever empty: a firewall that gets an empty list lets nothing through.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use super::consumers::{Consumers, Content, Who};
use super::http::{Answer, only_reads, text};
use super::query::Query;
use super::remembered;
use crate::export::edl::{self, Absent, Fetched, Made, Prefixes, Source};
use crate::lock::lock;
use crate::net::watch::{Fingerprint, fingerprint};
use crate::policy::Policy;
use crate::proxy::conditions::Conditions;
use crate::proxy::shared::Shared;
use crate::proxy::snapshot::Snapshot;
use crate::ranges::current::Current;
use crate::ranges::diff::Version;
use crate::ranges::keep::State as Folder;

/// Seconds after which somebody may ask again who found no good list.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

/// A list in the forms in which it is served.
pub(super) struct Served {
    pub content: Arc<Content>,
    plain: Text,
    commented: Text,
    modified: HeaderValue,
}

struct Text {
    body: Bytes,
    tag: HeaderValue,
}

impl Text {
    fn new(text: String) -> Self {
        // Digits between quotes.
        let tag = HeaderValue::from_str(&edl::tag(&text)).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body: Bytes::from(text), tag }
    }
}

/// One list over time.
pub(super) struct Kept {
    pub list: &'static Fetched,
    served: Option<Served>,
    /// Why there is none now, with the status that says so.
    pub none: Option<(StatusCode, &'static str)>,
}

impl Kept {
    /// The list as it is now.
    pub(super) fn current(&self) -> Option<&Served> {
        self.served.as_ref().filter(|_| self.none.is_none())
    }
}

/// All lists, and who fetched them.
pub(crate) struct Lists {
    state: Mutex<State>,
    shared: Arc<Shared>,
    /// The file of consumers, as it was when it was last read or written.
    seen: Mutex<Fingerprint>,
}

pub(super) struct State {
    pub kept: Vec<Kept>,
    pub consumers: Consumers,
    /// What the lists were made of.
    made_of: (Weak<Snapshot>, Option<Arc<Current>>),
}

impl Lists {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let kept = edl::ALL.iter().map(|list| Kept { list, served: None, none: None });
        let state =
            State { kept: kept.collect(), consumers: Consumers::default(), made_of: (Weak::new(), None) };
        Arc::new(Self { state: Mutex::new(state), shared, seen: Mutex::new(Fingerprint::Missing) })
    }

    /// Reads what other processes wrote down of consumers in the folder, and writes down what has changed
    /// here. Blocks on files.
    ///
    /// # Errors
    /// In one line, with the path; then nothing is lost here, and the next call tries again.
    pub(crate) fn remember(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(remembered::NAME);
        let mut seen = lock(&self.seen);
        if fingerprint(&path) == *seen && !self.locked().consumers.changed {
            return Ok(());
        }
        let folder = Folder::open(folder.to_owned())?;
        let alone = remembered::alone(&folder)?;
        let read = remembered::File::read(&path);
        let mut state = self.locked();
        let State { kept, consumers, .. } = &mut *state;
        let unread = match read {
            Ok(file) => {
                let same = |list: &str, entries: &[String]| {
                    let kept = kept.iter().find(|kept| kept.list.name == list)?;
                    let content = &kept.served.as_ref()?.content;
                    (content.entries == entries).then(|| content.clone())
                };
                file.tell(consumers, Timestamp::now(), same);
                Ok(())
            }
            // What is unreadable is written anew as soon as somebody asks.
            Err(why) => Err(why),
        };
        if std::mem::take(&mut consumers.changed) {
            let file = remembered::File::of(consumers);
            drop(state);
            file.write(&folder).inspect_err(|_| self.locked().consumers.changed = true)?;
        }
        *seen = fingerprint(&path);
        drop(alone);
        unread
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The lists as they are now: made anew where the configuration or the ranges have changed since.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.locked();
        let (snapshot, current) = (self.shared.snapshot(), self.shared.ranges.load());
        let same = match (&state.made_of.1, &current) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        let snapshot_now = Arc::downgrade(&snapshot);
        if !same || !state.made_of.0.ptr_eq(&snapshot_now) {
            state.renew(&snapshot.policy, current.as_deref(), snapshot.ranges_named);
            state.made_of = (snapshot_now, current);
        }
        state
    }

    /// Answers a request for a path below `/edl/`, and remembers who asked.
    pub(super) fn answer(&self, path: &str, query: Query<'_>, asked: &Asked<'_>, who: Who) -> Answer {
        let mut state = self.state();
        let State { kept, consumers, .. } = &mut *state;
        let list = edl::by_path(path);
        let found = kept.iter().find(|kept| Some(kept.list) == list);
        let answer = match (found, asked.reads()) {
            (_, false) => only_reads(),
            (None, _) if path == "/edl/" => text(StatusCode::OK, index(kept)),
            (None, _) => {
                text(StatusCode::NOT_FOUND, "ccpgate: no such list; /edl/ names those that there are\n")
            }
            (Some(kept), _) => match (kept.current(), &kept.none) {
                (Some(served), _) => {
                    let commented = query.get("comments").as_deref() == Some("1");
                    let answer = served.answer(commented, asked);
                    let holds = asked.method != Method::HEAD || answer.status() == StatusCode::NOT_MODIFIED;
                    let held = Some(&served.content).filter(|_| holds);
                    consumers.asked(who, kept.list, held, Timestamp::now());
                    answer
                }
                (None, Some((status, why))) => {
                    let mut answer = text(*status, format!("ccpgate: {why}\n"));
                    if *status == StatusCode::SERVICE_UNAVAILABLE {
                        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
                    }
                    consumers.asked(who, kept.list, None, Timestamp::now());
                    answer
                }
                // Never: a list that isn't there has a reason.
                (None, None) => text(StatusCode::SERVICE_UNAVAILABLE, "ccpgate: there is no list\n"),
            },
        };
        self.shared.journal.metrics.edl.asked(list, answer.status().as_u16());
        answer
    }

    /// Counts a request that was turned away before.
    pub(super) fn turned_away(&self, path: &str, status: StatusCode) {
        self.shared.journal.metrics.edl.asked(edl::by_path(path), status.as_u16());
    }
}

impl State {
    /// Makes all lists anew; `named`: the configuration says where ranges come from, so that a list that isn't
    /// there may come.
    fn renew(&mut self, policy: &Policy, current: Option<&Current>, named: bool) {
        let version = current.map(|current| &current.version);
        let prefixes = version.map(|version| Prefixes {
            selection: &version.selection,
            create_date: &version.ranges.create_date,
            sync_token: version.ranges.sync_token,
        });
        let source = Source { policy, prefixes };
        let now = Timestamp::now();
        let Self { kept, consumers, .. } = self;
        for kept in kept {
            let none = match kept.list.make(&source) {
                Ok(made) => {
                    let held = || consumers.held(kept.list, &made.entries);
                    let known = if kept.served.is_none() { held() } else { None };
                    kept.take(&made, version.filter(|_| kept.list.needs_ranges()), known, now);
                    None
                }
                Err(Absent::NoRanges) if named => Some((
                    StatusCode::SERVICE_UNAVAILABLE,
                    "there is no good ip-ranges.json yet; ccpgate status says why",
                )),
                Err(Absent::NoRanges) => {
                    Some((StatusCode::NOT_FOUND, "[ranges] names no ip-ranges.json to make this list of"))
                }
                Err(Absent::Nothing) => Some((
                    StatusCode::NOT_FOUND,
                    "this configuration needs nothing of it, or AWS has no entry of that family",
                )),
            };
            kept.none = none;
        }
    }
}

/// The paths of the lists that there are.
fn index(kept: &[Kept]) -> String {
    let there = kept.iter().filter(|kept| kept.current().is_some());
    there.map(|kept| format!("/edl/{}.txt\n", kept.list.name)).collect()
}

impl Kept {
    /// Puts a list that was made in force. `known`: somebody holds it since before this process began.
    fn take(&mut self, made: &Made, of: Option<&Version>, known: Option<Arc<Content>>, now: Timestamp) {
        let created = of.map(|version| version.ranges.created);
        let former = self.served.as_ref().map(|served| &served.content).or(known.as_ref());
        let same = former.filter(|content| content.entries == made.entries);
        let content = match (same, former) {
            (Some(content), _) => {
                content.is_also_of(created);
                content.clone()
            }
            (None, former) => Arc::new(Content::new(
                made.entries.clone(),
                // Two lists never share a date, which has whole seconds.
                former.map_or(now, |former| now.max(former.since + SignedDuration::from_secs(1))),
                created,
                of.map(|version| version.selection.regions.clone()).unwrap_or_default(),
            )),
        };
        self.served = Some(Served {
            plain: Text::new(made.text(false)),
            commented: Text::new(made.text(true)),
            modified: date(content.since),
            content,
        });
    }
}

/// What of a request an answer depends on.
pub(super) struct Asked<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

impl Asked<'_> {
    fn reads(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD)
    }

    /// Whether the client has this text already (RFC 9110 section 13.2.2). A date counts only where it is
    /// the very one: proxies of a fleet may have got a list at different times.
    fn has(&self, tag: &HeaderValue, modified: &HeaderValue) -> bool {
        let conditions = Conditions::of(self.headers);
        match conditions.known {
            None => self.headers.get(header::IF_MODIFIED_SINCE) == Some(modified),
            Some(_) => conditions.knows(tag.to_str().unwrap_or_default()),
        }
    }
}

impl Served {
    fn answer(&self, commented: bool, asked: &Asked<'_>) -> Answer {
        let Text { body, tag } = if commented { &self.commented } else { &self.plain };
        let mut answer = if asked.has(tag, &self.modified) {
            let mut answer = text(StatusCode::NOT_MODIFIED, Bytes::new());
            answer.headers_mut().remove(header::CONTENT_TYPE);
            answer
        } else {
            text(StatusCode::OK, body.clone())
        };
        let headers = answer.headers_mut();
        headers.insert(header::ETAG, tag.clone());
        headers.insert(header::LAST_MODIFIED, self.modified.clone());
        // To be asked for each time.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }
}

/// As HTTP writes it.
fn date(moment: Timestamp) -> HeaderValue {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&moment);
    let value = text.ok().and_then(|text| HeaderValue::from_str(&text).ok());
    value.unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Who asks, from what is known of a request.
pub(super) fn who(address: IpAddr, user: Option<String>, headers: &HeaderMap) -> Who {
    let agent = headers.get(header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    Who::new(address, user, agent.as_deref().unwrap_or_default())
}
