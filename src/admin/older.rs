//! The processes before this one that still have tunnels: asked over their Unix sockets, and remembered
//! when they have ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::together::{merge_rules, take};
use crate::findings::Second;
use crate::journal::metrics::generations::{Family, fold};
use crate::lock::lock;
use crate::net::control::Line;

/// An older process is on this machine, and answers at once; one that hangs holds up no scrape for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Processes of which more than their counts is remembered after their end.
const REMEMBERED: usize = 4;

/// What one process asks another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Who are you?
    Who,
    Report,
    /// With the query of a URL.
    Tunnels(String),
    Denied,
    Learned,
    /// With the query of a URL.
    Failures(String),
    /// With the query of a URL.
    Desks(String),
    /// How it went in so many minutes.
    History(Second),
    /// The asker ends.
    Ends(Box<Last>),
    /// As `POST /api/reload`.
    Reload {
        yes: bool,
    },
    TakeOver {
        pid: u32,
        version: String,
    },
}

/// Answers to [`Question::Who`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Who {
    pub id: u32,
    pub pid: u32,
    /// It accepts connections, and nobody has taken over.
    pub serves: bool,
}

/// What a process counted and shows.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub families: Vec<Family>,
    /// As `/api/status`.
    pub status: Value,
}

/// The last words of a process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Last {
    pub id: u32,
    pub report: Report,
    #[serde(flatten)]
    pub known: Known,
}

/// What a process knew, as it would have answered. What another version doesn't tell is empty.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    pub tunnels: Value,
    pub denied: Value,
    pub learned: Value,
    pub failures: Value,
    pub desks: Value,
    pub history: Value,
}

/// A process before this one that lives.
#[derive(Clone)]
pub(crate) struct Older {
    pub id: u32,
    pub socket: PathBuf,
    last: Option<Arc<Report>>,
}

impl Older {
    pub(crate) fn new(id: u32, socket: PathBuf) -> Self {
        Self { id, socket, last: None }
    }
}

/// What ended processes counted, and what the last of them knew.
#[derive(Default)]
pub(super) struct Retired {
    pub families: Vec<Family>,
    pub rules: Vec<Value>,
    known: Vec<Known>,
}

/// All processes but this one.
#[derive(Default)]
pub(crate) struct Generations {
    older: Mutex<Vec<Older>>,
    retired: Mutex<Retired>,
    /// A successor asks the older ones now.
    handed_over: AtomicBool,
}

/// Whose lists are told of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of this process and of those that ended while it was the newest: what it tells a successor,
    /// which asks the others itself.
    Own,
    /// Those of the older processes that live as well.
    Everyones,
}

/// Asks a process.
///
/// # Errors
/// When it doesn't answer in time.
pub(crate) fn ask(socket: &Path, question: &Question) -> io::Result<Vec<u8>> {
    let mut line = Line::connect(socket, PATIENCE)?;
    line.say(question)?;
    line.hear_bytes()
}

impl Generations {
    /// Puts these in place of the older processes that are known.
    pub(crate) fn follow(&self, older: Vec<Older>) {
        *lock(&self.older) = older;
        self.refresh();
    }

    /// Older processes that live, as far as is known.
    pub(crate) fn living(&self) -> Vec<(u32, PathBuf)> {
        lock(&self.older).iter().map(|older| (older.id, older.socket.clone())).collect()
    }

    /// Keeps those of the older processes that the predecessor knew last; it counts what the others had.
    pub(crate) fn keep(&self, ids: &[u32]) {
        lock(&self.older).retain(|older| ids.contains(&older.id));
    }

    /// From now on a successor asks the older processes, or no more.
    pub(crate) fn hand_over(&self, over: bool) {
        self.handed_over.store(over, Ordering::Release);
    }

    /// Whether no successor has taken over from this process.
    pub(crate) fn is_newest(&self) -> bool {
        !self.handed_over.load(Ordering::Acquire)
    }

    /// Asks all older processes how they do, where this one is the newest. What one counted stays when it
    /// has ended.
    pub(crate) fn refresh(&self) {
        if !self.is_newest() {
            return;
        }
        let mut all = lock(&self.older);
        let mut gone = Vec::new();
        for older in all.iter_mut() {
            match ask(&older.socket, &Question::Report).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            {
                Ok(report) => older.last = Some(Arc::new(report)),
                Err(error) if is_gone(&error) => gone.push(older.id),
                // It is busy, or ends just now: what it said last counts.
                Err(_) => {}
            }
        }
        for id in gone {
            self.retire(&mut all, id, None);
        }
    }

    /// An older process has said its last words.
    pub(crate) fn ended(&self, last: Last) {
        let mut all = lock(&self.older);
        if all.iter().any(|older| older.id == last.id) {
            self.retire(&mut all, last.id, Some(last));
        }
    }

    fn retire(&self, all: &mut Vec<Older>, id: u32, last: Option<Last>) {
        let Some(at) = all.iter().position(|older| older.id == id) else { return };
        let older = all.remove(at);
        let (report, known) = match last {
            Some(Last { report, known, .. }) => (Some(report), Some(known)),
            None => (older.last.map(Arc::unwrap_or_clone), None),
        };
        tracing::info!(event = "generation_ended", generation = id, "an older process has ended");
        let mut retired = lock(&self.retired);
        if let Some(Report { families, mut status }) = report {
            fold(&mut retired.families, families.into_iter().filter(Family::lasts));
            let rules = take(&mut status, "rules");
            merge_rules(&mut retired.rules, rules, |rule| {
                rule["active"] = json!(0);
                rule["lately"] = json!({"ended": 0, "failed": 0});
            });
        }
        retired.known.extend(known);
        let too_many = retired.known.len().saturating_sub(REMEMBERED);
        retired.known.drain(..too_many);
    }

    /// What the ended processes counted.
    pub(super) fn retired(&self) -> MutexGuard<'_, Retired> {
        lock(&self.retired)
    }

    /// The reports of the older processes, where this one is the newest.
    pub(super) fn reports(&self) -> Vec<Arc<Report>> {
        if !self.is_newest() {
            return Vec::new();
        }
        self.refresh();
        lock(&self.older).iter().filter_map(|older| older.last.clone()).collect()
    }

    /// What others told: those that have ended, and for [`Whose::Everyones`] the older ones that live, where this
    /// process is the newest.
    pub(super) fn answers(
        &self,
        whose: Whose,
        question: &Question,
        of_ended: impl Fn(&Known) -> &Value,
    ) -> Vec<Value> {
        let mut all: Vec<Value> =
            lock(&self.retired).known.iter().map(|known| of_ended(known).clone()).collect();
        if whose == Whose::Everyones && self.is_newest() {
            let asked = self.living().into_iter().filter_map(|(_, socket)| ask(&socket, question).ok());
            all.extend(asked.filter_map(|bytes| serde_json::from_slice(&bytes).ok()));
        }
        all
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}
