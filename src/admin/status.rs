//! `/api/status`: the state of this process, for programs.

use hyper::StatusCode;
use serde_json::json;

use super::Admin;
use super::http::{Answer, typed};

pub(super) fn answer(admin: &Admin) -> Answer {
    let (shared, snapshot) = (&admin.shared, admin.shared.snapshot());
    let metrics = &shared.journal.metrics;
    let status = json!({
        "version": crate::VERSION,
        "commit": crate::COMMIT,
        "uptime_seconds": admin.started.elapsed().as_secs(),
        "draining": shared.drain.is_leaving(),
        "config": snapshot.source,
        "last_reload_successful": metrics.reload_successful.get() == 1,
        "tls_files_last_load_successful": metrics.tls_files_successful.get() == 1,
        "mode": if snapshot.report { "report" } else { "enforce" },
        "rules": snapshot.policy.rules().len(),
        "client_connections": metrics.client_connections.iter().map(|g| g.get()).sum::<i64>(),
        "busy": shared.drain.busy_now(),
    });
    typed(StatusCode::OK, "application/json", status.to_string())
}
