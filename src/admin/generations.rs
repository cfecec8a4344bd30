//! One proxy to whoever asks: metrics, tunnels, status and all lists are those of this process and of the
//! ones before it. What a process counted stays counted when it has ended.
//!
//! The newest process asks all others. Each answers for itself and for those that ended while it was the
//! newest, so nothing counts twice. [`super::older`] asks, [`super::together`] makes one answer of theirs.

use serde_json::Value;

use super::older::{Known, Last, Question, Report, Retired, Who, Whose};
use super::query::Query;
use super::status::{self, Remarks};
use super::together::{merge_rules, merge_status, remark};
use super::{Admin, anonymised, denied, desks, failures, history, learned, tunnels};
use crate::journal::failures::MOST;
use crate::journal::metrics::exposition::Exposition;
use crate::journal::metrics::generations::fold;

impl Admin {
    /// Who this process is.
    pub(crate) fn who(&self) -> Who {
        Who {
            id: self.shared.generation,
            pid: std::process::id(),
            serves: !self.shared.drain.is_leaving() && self.generations.is_newest(),
        }
    }

    /// Metrics of all processes, in Prometheus's text format.
    pub(super) fn metrics(&self) -> Exposition {
        let reports = self.generations.reports();
        let retired = self.generations.retired();
        let others = reports.iter().flat_map(|report| &report.families).chain(&retired.families);
        self.shared.journal.metrics.exposition(others)
    }

    /// What this process and those that ended under it counted, and its status.
    pub(crate) fn report(&self) -> Report {
        let retired = self.generations.retired();
        let mut families = self.shared.journal.metrics.families();
        fold(&mut families, retired.families.iter().cloned());
        Report { families, status: self.status_with(&retired) }
    }

    /// The status of this process without remarks, with what ended ones counted.
    fn status_with(&self, retired: &Retired) -> Value {
        let mut status = parsed(status::own(self, &Remarks::NONE).as_bytes());
        if let Value::Array(rules) = &mut status["rules"] {
            merge_rules(rules, Value::Array(retired.rules.clone()), |_| {});
        }
        status
    }

    /// The status of all processes.
    pub(crate) fn status(&self) -> String {
        let reports = self.generations.reports();
        let retired = self.generations.retired();
        if reports.is_empty() && retired.rules.is_empty() {
            drop(retired);
            return status::own(self, &Remarks::of(self));
        }
        let mut whole = self.status_with(&retired);
        drop(retired);
        for report in reports {
            let mut other = report.status.clone();
            if self.shared.journal.anonymises() {
                anonymised::status(&mut other);
            }
            merge_status(&mut whole, other);
        }
        remark(&mut whole, &Remarks::of(self));
        whole.to_string()
    }

    /// The answer of this process to another one's question; none to what isn't asked here.
    pub(crate) fn own_answer(&self, question: &Question) -> Option<Vec<u8>> {
        match question {
            Question::Report => serde_json::to_vec(&self.report()).ok(),
            Question::Tunnels(query) => {
                tunnels::told(self, Query(query), Whose::Own).ok().map(String::into_bytes)
            }
            Question::Denied => Some(denied::told(self, Whose::Own)),
            Question::Learned => Some(learned::told(self, Whose::Own)),
            Question::Failures(query) => failures::told(self, Query(query), Whose::Own).ok(),
            Question::Desks(query) => desks::told(self, Query(query), Whose::Own).ok(),
            Question::History(minutes) => serde_json::to_vec(&history::chronicle(self, *minutes)).ok(),
            _ => None,
        }
    }

    /// What this process leaves behind.
    pub(crate) fn last_words(&self) -> Last {
        let failures = format!("limit={MOST}");
        Last {
            id: self.shared.generation,
            report: self.report(),
            known: Known {
                tunnels: parsed(
                    tunnels::told(self, Query("limit=10000"), Whose::Own).unwrap_or_default().as_bytes(),
                ),
                denied: parsed(&denied::told(self, Whose::Own)),
                learned: parsed(&learned::told(self, Whose::Own)),
                failures: parsed(&failures::told(self, Query(&failures), Whose::Own).unwrap_or_default()),
                desks: parsed(&desks::told(self, Query(""), Whose::Own).unwrap_or_default()),
                history: serde_json::to_value(history::chronicle(self, history::MOST)).unwrap_or_default(),
            },
        }
    }
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}
