//! The form of a line on standard error that the systemd journal reads: the level in front (`<4>`,
//! sd-daemon(3)), on every line of a text of several, and no time, since the journal adds its own. The
//! journal takes the prefix off again, so that a JSON line is still an object.

use std::fmt;
use std::io;

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The level of access lines, denials included: a policy that does its work is no warning.
pub(super) const INFO: &str = "<6>";
const ERROR: &str = "<3>";

/// Whether our standard error goes straight to the journal: `JOURNAL_STREAM` names it by device and
/// inode, systemd.exec(5). A service whose output was redirected elsewhere inherits the variable, so
/// both are compared.
pub(crate) fn is_stderr() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| is_stream(&named, stat.st_dev, stat.st_ino))
}

fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    named.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// The text of an error before or after the log runs, in the form for the journal.
pub(crate) fn last_words(text: &str) -> String {
    if is_stderr() { prefixed(ERROR, text) } else { text.to_owned() }
}

const fn prefix(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => ERROR,
        Level::WARN => "<4>",
        Level::INFO => INFO,
        _ => "<7>",
    }
}

/// Puts the prefix before each line, or the journal would give all but the first one its default level.
fn prefixed(prefix: &str, text: &str) -> String {
    let lines = text.lines().map(|line| format!("{prefix}{line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A format that puts the level in front of another format's line.
pub(super) struct Journal<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for Journal<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut text = String::with_capacity(256);
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writeln!(writer, "{}", prefixed(prefix(event.metadata().level()), &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_stream_is_the_journal() {
        assert!(is_stream("9:123456", 9, 123_456));
        for other in ["9:123457", "8:123456", "", "9", ":", "9:123456:", "a:b", "-9:1"] {
            assert!(!is_stream(other, 9, 123_456), "{other}");
        }
    }

    #[test]
    fn every_line_has_its_level() {
        assert_eq!(prefixed(prefix(&Level::WARN), "one\ntwo\n"), "<4>one\n<4>two");
        assert_eq!(prefixed(prefix(&Level::ERROR), "one"), "<3>one");
        assert_eq!(prefix(&Level::INFO), "<6>");
        assert_eq!((prefix(&Level::DEBUG), prefix(&Level::TRACE)), ("<7>", "<7>"));
    }
}
