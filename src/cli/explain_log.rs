//! `ccpgate explain --log FILE`. Needs no configuration.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Failure, say};
use crate::explain::agent_log::{LARGEST, read::read, report};

/// Reports; a failure of network or proxy makes the answer negative.
pub fn run(file: &Path, json: bool) -> Result<(), Failure> {
    let entries = read(&bytes(file)?).map_err(|why| Failure::Usage(format!("{}: {why}", file.display())))?;
    if entries.is_empty() {
        eprintln!("ccpgate: warning: {}: the log has no entries", file.display());
    }
    let report = report(entries, None);
    if json {
        let json = serde_json::to_string_pretty(&report);
        say(&json.map_err(|e| Failure::Usage(e.to_string()))?)?;
    } else {
        say(&report.to_string())?;
    }
    if report.is_negative() { Err(Failure::Negative) } else { Ok(()) }
}

/// The whole file, if it isn't larger than a log can be.
fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let opened = File::open(file).map_err(|e| wrong(format!("can't be read: {e}")))?;
    let mut bytes = Vec::new();
    let limit = LARGEST as u64 + 1;
    opened.take(limit).read_to_end(&mut bytes).map_err(|e| wrong(format!("can't be read: {e}")))?;
    if bytes.len() > LARGEST {
        return Err(wrong(format!("is larger than {} MiB, so it isn't a log of the panel", LARGEST >> 20)));
    }
    Ok(bytes)
}
