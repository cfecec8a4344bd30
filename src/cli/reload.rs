//! `ccpgate reload`.

use serde::{Deserialize, Serialize};

use super::Failure;
use super::out::{say, say_json};
use super::running::{AdminArg, clean};
use crate::config::{self, Sources};

/// Make the running proxy reload its configuration, and say its verdict.
///
/// The proxy reads its own file, with its own environment and flags; this command's configuration only
/// says where its admin listener is. A file that would deny targets that agents use is refused; --yes
/// takes it. Exit code 1 when the reload is refused: the running configuration stays.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Also take a file that denies what agents use.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArg,
    /// An object with the verdict.
    #[arg(long)]
    json: bool,
}

/// The proxy's verdict, as /api/reload gives it.
#[derive(Serialize, Deserialize)]
struct Verdict {
    schema_version: u8,
    reloaded: bool,
    reason: Option<String>,
    by_yes: bool,
    changed: Vec<String>,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        // The file may well be broken: the proxy is the one to say so.
        let running = self.admin.running_at(config::admin_listen(sources))?;
        let path = if self.yes { "/api/reload?yes=1" } else { "/api/reload" };
        let verdict: Verdict = running.order(path)?;
        let reloaded = verdict.reloaded;
        if self.json {
            say_json(&verdict)?
        } else {
            say(&words(verdict))?
        }
        if reloaded { Ok(()) } else { Err(Failure::Negative) }
    }
}

fn words(verdict: Verdict) -> String {
    let Verdict { reloaded, reason, by_yes, changed, .. } = verdict;
    // Line by line: what came from outside may steer a terminal.
    let lines = |text: &str| text.lines().map(clean).collect::<Vec<_>>().join("\n");
    if reloaded {
        let changed: Vec<String> = changed.iter().map(|line| format!("\n  {}", clean(line))).collect();
        let nothing = if changed.is_empty() { ", nothing differs" } else { "" };
        return format!("reloaded{nothing}; live tunnels go on as they are{}", changed.concat());
    }
    let reason = lines(&reason.unwrap_or_default());
    let remedy = if by_yes { "\n`ccpgate reload --yes` takes it all the same" } else { "" };
    format!("refused, the running configuration stays: {reason}{remedy}")
}
