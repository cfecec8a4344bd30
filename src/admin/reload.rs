//! `POST /api/reload?yes=1`: makes this process reload, and answers with its verdict. It changes
//! something, so it is for this machine alone, and not for a browser.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::Admin;
use super::http::{Answer, json, not_allowed, text};
use super::query::Query;

pub(super) const PATH: &str = "/api/reload";
/// Reloads that wait for their turn; each takes the whole file anew.
const WAITING: usize = 16;

/// Somebody wants a reload.
pub(crate) struct Ask {
    /// Also when it takes away what agents use.
    pub yes: bool,
    pub verdict: oneshot::Sender<Verdict>,
}

/// Where reloads are asked for.
pub(crate) type Door = mpsc::Sender<Ask>;

/// A door, and what comes in by it.
pub(crate) fn door() -> (Door, mpsc::Receiver<Ask>) {
    mpsc::channel(WAITING)
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    schema_version: u8,
    pub reloaded: bool,
    /// Why it was refused.
    pub reason: Option<String>,
    /// `--yes` would take it all the same.
    pub by_yes: bool,
    /// What differs from the configuration before, as `key: old → new`.
    pub changed: Vec<String>,
    /// Keys whose value in the configuration in force isn't the one that this process runs on.
    pub needs_restart: Vec<&'static str>,
}

impl Verdict {
    pub(crate) fn taken(changed: Vec<String>, needs_restart: Vec<&'static str>) -> Self {
        Self { schema_version: 1, reloaded: true, reason: None, by_yes: false, changed, needs_restart }
    }

    /// Of a process that takes no reload.
    pub(crate) fn none() -> Self {
        let reason = "this proxy takes no reload: it is draining, or too many wait".to_owned();
        Self::refused(reason, false, Vec::new())
    }

    /// `by_yes`: somebody may take it all the same.
    pub(crate) fn refused(reason: String, by_yes: bool, needs_restart: Vec<&'static str>) -> Self {
        let (reason, changed) = (Some(reason), Vec::new());
        Self { schema_version: 1, reloaded: false, reason, by_yes, changed, needs_restart }
    }
}

pub(super) fn answer(admin: &Admin, request: &Request<Incoming>) -> Answer {
    if *request.method() != Method::POST {
        return not_allowed("POST", "ccpgate: only POST; `ccpgate reload` does it\n");
    }
    // No page may reload this proxy.
    if !admin.is_asked_here(request) {
        return text(
            StatusCode::FORBIDDEN,
            "ccpgate: reloads are asked for by `ccpgate reload` on this machine\n",
        );
    }
    let yes = Query(request.uri().query().unwrap_or_default()).get("yes").is_some();
    let (verdict, told) = oneshot::channel();
    let ask = Ask { yes, verdict };
    // A reload reads files and waits for workers; DNS shares this thread.
    let verdict = tokio::task::block_in_place(|| {
        admin.reloads.try_send(ask).ok()?;
        told.blocking_recv().ok()
    });
    let (status, verdict) = match verdict {
        Some(verdict) if verdict.reloaded => (StatusCode::OK, verdict),
        Some(verdict) => (StatusCode::CONFLICT, verdict),
        None => (StatusCode::SERVICE_UNAVAILABLE, Verdict::none()),
    };
    let mut answer = json(&verdict);
    *answer.status_mut() = status;
    answer
}
