//! Standard output and standard error: results go to the one, everything else to the other.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use super::Failure;

/// Prints a line on standard error. Where that is closed or full, only the exit code can tell.
pub(super) fn tell(message: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "ccpgate: {message}");
}

/// Prints a warning on standard error.
pub(super) fn warn(warning: impl fmt::Display) {
    tell(format_args!("warning: {warning}"));
}

/// Prints a result.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    written(printed).map_err(Failure::Output)
}

/// Prints a result whose colours a terminal shows; elsewhere, and by `NO_COLOR`, they are left out.
pub(super) fn say_styled(text: &str) -> Result<(), Failure> {
    let mut out = anstream::AutoStream::auto(io::stdout());
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written(printed).map_err(Failure::Output)
}

/// Prints a result as JSON, for programs and people.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Usage(error.to_string()))?;
    // JSON lets these stand, and a terminal obeys some of them. They are within strings alone.
    let steers = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !text.contains(steers) {
        return say(&text);
    }
    let escaped = text.chars().map(|c| match steers(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    });
    say(&escaped.collect::<String>())
}

/// A reader that has seen enough, as `| head` has, is no error.
pub(super) fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
