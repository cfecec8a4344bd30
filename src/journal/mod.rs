//! What the process says of itself: metrics, the log, and one line for each tunnel and denial.
//!
//! The data path tells the journal once of each beginning, end and denial. Everybody who wants to know of
//! them listens here: metrics, the error ratio, the access line, the ledger, what was denied and learned.

pub(crate) mod access;
pub(crate) mod denied;
pub(crate) mod desks;
mod distinct;
pub(crate) mod failures;
pub(crate) mod findings;
pub(crate) mod history;
pub(crate) mod id;
pub(crate) mod journald;
pub(crate) mod last;
pub(crate) mod learned;
pub(crate) mod ledger;
pub mod log;
pub mod metrics;
pub(crate) mod rate;
pub(crate) mod ratio;
mod recent;
pub(crate) mod sample;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{AccessLog, Event};
use denied::Denials;
use desks::{Checked, Desk, Desks};
use failures::Failures;
use findings::Findings;
use history::History;
use id::{Ids, RequestId};
use learned::Hosts;
use ledger::{Ended, Ledger, Settings};
use metrics::{Metrics, RuleSeries};
use ratio::Crossing;
use sample::{Sampler, Verdict};

use crate::address::cut;
use crate::catalogue::Choice;
use crate::findings::networks;
use crate::findings::report::Report;
use crate::findings::unlisted::Answers;
use crate::outcome::{Bound, Denial, WouldDeny};

/// Counts and logs what it is told.
pub(crate) struct Journal {
    pub metrics: Arc<Metrics>,
    pub(crate) ledger: Ledger,
    pub(crate) denials: Denials,
    /// The same and failed tunnels, by client.
    pub(crate) failures: Failures,
    pub(crate) history: History,
    pub(crate) learned: Hosts,
    pub(crate) desks: Desks,
    /// Client addresses are cut to their networks wherever they are shown.
    anonymise: AtomicBool,
    /// What fails now, for whom.
    pub(crate) findings: Findings,
    access: AccessLog,
    lines: Sampler,
    ids: Ids,
}

impl Journal {
    pub(crate) fn new(metrics: Arc<Metrics>, access: AccessLog) -> Self {
        Self {
            metrics,
            findings: Findings::default(),
            ledger: Ledger::default(),
            denials: Denials::default(),
            failures: Failures::default(),
            history: History::default(),
            learned: Hosts::default(),
            desks: Desks::default(),
            anonymise: AtomicBool::new(false),
            access,
            lines: Sampler::default(),
            ids: Ids::default(),
        }
    }

    /// Takes over what `[ledger]` says.
    pub(crate) fn configure(&self, settings: &Settings) {
        self.anonymise.store(settings.anonymise, Ordering::Relaxed);
        self.ledger.configure(settings);
    }

    pub(crate) fn next_id(&self) -> RequestId {
        self.ids.next()
    }

    /// A tunnel has begun: its 200 is on the way. `active` shows it until its record is dropped.
    pub(crate) fn began(&self, event: &Event<'_>) {
        if let Some(series) = event.series {
            series.began(event.time.as_second(), event.duration_ms.0);
        }
        if let Some(seat) = event.seat {
            self.learned.began(seat, event.client.ip(), event.time);
        }
        self.findings.began(event);
    }

    /// Report mode lets a request go on that `reason` denies.
    pub(crate) fn reported(&self, event: &Event<'_>, reason: WouldDeny) {
        self.metrics.reported(reason);
        // What a first byte breaks is a tunnel's end, which the ledger has.
        if !matches!(reason, WouldDeny::NotTls | WouldDeny::SniMismatch) {
            self.denials.note(event.target, reason.into_str(), event.client.ip(), event.time, true);
            self.failures.reported(event, reason);
        }
    }

    /// A tunnel has ended, or came to nothing although the policy let it through.
    pub(crate) fn ended(&self, event: &Event<'_>) {
        if let (Some(series), Some(outcome)) = (event.series, event.outcome) {
            series.ended(outcome, event.client.ip()).inspect(Crossing::announce);
            if event.live {
                series.category.duration.observe(event.duration_ms.0.as_secs_f64());
            }
        }
        if let (Some(seat), Some(outcome), Some(by)) = (event.seat, event.outcome, event.ended_by) {
            self.learned.ended(seat, event.sent, event.received, event.time);
            let lived = event.duration_ms.0;
            let idle = seat.idle();
            self.ledger.ends(Ended { seat: seat.clone(), at: event.time, outcome, by, lived, idle });
        }
        self.findings.ended(event);
        self.failures.ended(event);
        if event.logged {
            self.write(event);
        }
    }

    /// A request was refused before anything was dialled for it.
    pub(crate) fn denied(&self, event: &Event<'_>) {
        if let Some(denial) = event.reason {
            self.metrics.denied(denial);
            self.denials.note(event.target, denial.into_str(), event.client.ip(), event.time, false);
        }
        self.findings.denied(event);
        self.failures.denied(event);
        if event.logged && self.takes_line_about(event.client.ip()) {
            self.write(event);
        }
    }

    fn write(&self, event: &Event<'_>) {
        if !self.anonymises() {
            return self.access.write(event);
        }
        let whole = event.client.ip();
        // What says that a client may not use the proxy names its address.
        let detail = event.detail.map(|detail| detail.replace(&whole.to_string(), &cut(whole).to_string()));
        self.access.write(&Event { client: self.shown(event.client), detail: detail.as_deref(), ..*event });
    }

    /// Whether client addresses are shown by their networks alone.
    pub(crate) fn anonymises(&self) -> bool {
        self.anonymise.load(Ordering::Relaxed)
    }

    /// A client's address as it may be shown: itself, or with `ledger.anonymise` its network and no port.
    pub(crate) fn shown(&self, client: SocketAddr) -> SocketAddr {
        if self.anonymises() { SocketAddr::new(cut(client.ip()), 0) } else { client }
    }

    /// The same without a port.
    pub(crate) fn shown_address(&self, client: IpAddr) -> IpAddr {
        if self.anonymises() { cut(client) } else { client }
    }

    /// A connection was closed unheard, far beyond a limit.
    pub(crate) fn turned_away(&self, client: IpAddr, bound: Bound) {
        self.metrics.denied(Denial::Overload);
        self.findings.limited(client, bound.into());
    }

    /// A desk has told what came of its check. What is kept of it, with its code.
    pub(crate) fn desk_checked(&self, checked: Checked) -> Arc<Desk> {
        self.metrics.desk_checked(checked.judgement.verdict);
        let desk = self.desks.keep(checked);
        let Checked { client, browser, judgement, .. } = &desk.checked;
        tracing::info!(
            event = "desk_check",
            client = %self.shown_address(*client),
            network = %networks::of(*client, self.anonymises()),
            code = &*desk.code,
            verdict = judgement.verdict.as_str(),
            sentence = judgement.sentence,
            browser = &**browser,
            "a desk check"
        );
        desk
    }

    /// Reads the counters of these rules into the history.
    pub(crate) fn remember<'a>(&self, rules: impl Iterator<Item = &'a RuleSeries>) {
        let (full, resumed) = (self.metrics.tls.full.get(), self.metrics.tls.resumed.get());
        self.history.look(self.findings.now(), rules, [full + resumed, resumed]);
    }

    /// What fails now; the gauges show it. The answers are those to [`Findings::ask`].
    pub(crate) fn look(&self, answers: Answers, choice: &Choice) -> Report {
        let report = self.findings.look(answers, choice, self.anonymises());
        self.metrics.findings.show(&report);
        report
    }

    /// Whether a denial, or another failure that a client can cause without end, gets a line of its
    /// own. A flood is counted, and said in one line.
    pub(crate) fn takes_line_about(&self, client: IpAddr) -> bool {
        let Verdict { write, left_out } = self.lines.judge(client);
        tell_left_out(left_out);
        write
    }

    /// Says how many lines about a flood that is over were left out, where no later one has said it.
    pub(crate) fn tell_of_a_flood(&self) {
        tell_left_out(self.lines.left_out());
    }
}

fn tell_left_out(lines: u64) {
    if lines > 0 {
        tracing::warn!(event = "denials_left_out", lines, "left out lines about denials");
    }
}
