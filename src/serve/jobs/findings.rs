//! Looks at what fails now, for the log and the metrics, at the lines that a flood has left out, and at the
//! counters, for the history. Ends with the process: also while it drains its tunnels can fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::findings::change::Change;
use crate::proxy::shared::Shared;

/// A finding is seen this long after it holds, at the latest.
const EVERY: Duration = Duration::from_secs(1);

pub(in crate::serve) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resolver = 0;
    loop {
        tick.tick().await;
        let changes = shared.snapshot().egress.resolver.changes();
        // A reload that brings another resolver begins anew, and says what it changed itself.
        if changes > resolver {
            shared.journal.findings.changed(Change::Resolver);
        }
        resolver = changes;
        shared.look();
        shared.journal.tell_of_a_flood();
        if shared.journal.history.is_due(shared.journal.findings.now()) {
            shared.remember();
        }
    }
}
