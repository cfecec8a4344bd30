//! The one line of a `serve` that can't start or go on, where the log is JSON: whatever reads the log
//! expects an object on every line, also before the log runs and after it.

use std::io;

use tracing_subscriber::fmt::format::DefaultFields;

use super::journald::{self, Journal};
use super::log::{JsonLine, Utc};

/// Writes it to standard error as the log would have.
pub(crate) fn start_failed(error: &str) {
    let say = || tracing::error!(event = "start_failed", error, "ccpgate serve can't start");
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_timer(Utc).with_ansi(false);
    let builder = builder.event_format(JsonLine).fmt_fields(DefaultFields::new());
    if journald::is_stderr() {
        tracing::subscriber::with_default(builder.map_event_format(Journal).finish(), say);
    } else {
        tracing::subscriber::with_default(builder.finish(), say);
    }
}
