//! `ccpgate reload`.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Failure;
use super::out::{say, say_json};
use super::running::{AdminArg, clean};
use crate::admin::older::Question;
use crate::config::{self, Sources};
use crate::net::control::Line;
use crate::serve::control;

/// A reload reads files and waits for workers.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// A process of an earlier version doesn't tell.
    #[serde(default)]
    needs_restart: Vec<String>,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let verdict = match self.beside() {
            Some(verdict) => verdict?,
            None => {
                // The file may well be broken: the proxy is the one to say so.
                let running = self.admin.running_at(config::admin_listen(sources))?;
                running.order(if self.yes { "/api/reload?yes=1" } else { "/api/reload" })?
            }
        };
        let reloaded = verdict.reloaded;
        if self.json {
            say_json(&verdict)?
        } else {
            say(&words(verdict))?
        }
        if reloaded { Ok(()) } else { Err(Failure::Negative) }
    }

    /// The verdict of the process that shares this one's folder, as `ExecReload=` of a unit does: it is found
    /// also when the file moves the admin listener. None where nobody could be asked; a process that was
    /// isn't asked again by another way: it would reload twice, and say the second time that nothing differs.
    fn beside(&self) -> Option<Result<Verdict, Failure>> {
        let folder = control::folder(None).filter(|_| !self.admin.is_given())?;
        let (who, socket) = control::living(&folder).into_iter().find(|(who, _)| who.serves)?;
        let mut line = Line::connect(&socket, PATIENCE).ok()?;
        line.say(&Question::Reload { yes: self.yes }).ok()?;
        Some(line.hear().map_err(|error| unheard(who.pid, &error)))
    }
}

fn unheard(pid: u32, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock => format!("none came within {} s", PATIENCE.as_secs()),
        _ => error.to_string(),
    };
    Failure::Usage(format!(
        "process {pid} was asked to reload, and its verdict wasn't heard: {why}; its log says what became of it"
    ))
}

fn words(verdict: Verdict) -> String {
    let Verdict { reloaded, reason, by_yes, changed, needs_restart, .. } = verdict;
    // Line by line: what came from outside may steer a terminal.
    let lines = |text: &str| text.lines().map(clean).collect::<Vec<_>>().join("\n");
    if reloaded {
        let changed: Vec<String> = changed.iter().map(|line| format!("\n  {}", clean(line))).collect();
        let nothing = if changed.is_empty() { ", nothing differs" } else { "" };
        let keys: Vec<String> = needs_restart.iter().map(|key| clean(key)).collect();
        let later = match keys.is_empty() {
            true => String::new(),
            false => format!("\nnot in force before a restart: {}", keys.join(", ")),
        };
        return format!("reloaded{nothing}; live tunnels go on as they are{}{later}", changed.concat());
    }
    // What needs a restart isn't told here: it is about the running configuration, and would be read as about the file.
    let reason = lines(&reason.unwrap_or_default());
    let remedy = if by_yes { "\n`ccpgate reload --yes` takes it all the same" } else { "" };
    format!("refused, the running configuration stays: {reason}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(verdict: &str) -> String {
        words(serde_json::from_str(verdict).unwrap())
    }

    #[test]
    fn what_needs_a_restart_is_said_where_a_process_tells_it() {
        let taken = r#""schema_version":1,"reloaded":true,"reason":null,"by_yes":false"#;
        assert_eq!(
            said(&format!(r#"{{{taken},"changed":["log.format: a → b"]}}"#)),
            "reloaded; live tunnels go on as they are\n  log.format: a → b",
            "an earlier version"
        );
        assert_eq!(
            said(&format!(r#"{{{taken},"changed":[],"needs_restart":[]}}"#)),
            "reloaded, nothing differs; live tunnels go on as they are"
        );
        assert_eq!(
            said(&format!(r#"{{{taken},"changed":[],"needs_restart":["log.format","shift.sessions"]}}"#)),
            "reloaded, nothing differs; live tunnels go on as they are\n\
             not in force before a restart: log.format, shift.sessions"
        );
    }
}
