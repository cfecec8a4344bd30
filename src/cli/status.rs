//! `ccpgate status`.

use serde_json::{Value, json};

use super::Failure;
use super::out::{say, say_json, warn};
use super::running::AdminArg;
use super::seen;
use crate::config::Sources;

/// From the running proxy: how it does, in a sentence, and what stands behind it.
///
/// Exit code 1 when it isn't well.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArg,
    /// An object, as /api/status gives it.
    #[arg(long)]
    json: bool,
    /// Only whether it takes new connections, as load balancers ask it: the health check of a container.
    #[arg(long)]
    ready: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (running, unsound) = self.admin.find(sources)?;
        if self.ready {
            // A health check is asked every few seconds; a file that isn't sound matters to it where it may be
            // why nobody answers.
            let ready = running.is_ready().inspect_err(|_| unsound.iter().for_each(warn))?;
            if self.json {
                say_json(&json!({ "schema_version": 1, "ready": ready }))?;
            } else {
                say(if ready { "ready" } else { "not ready: starting or draining" })?;
            }
            return if ready { Ok(()) } else { Err(Failure::Negative) };
        }
        unsound.iter().for_each(warn);
        let status: Value = running.ask("/api/status")?;
        let Some(state) = status["state"].as_str() else {
            let why = "the answer has no `state`; is it ccpgate, and of this version?";
            return Err(Failure::Usage(format!("{}/api/status: {why}", running.url())));
        };
        if self.json {
            say_json(&status)?;
        } else {
            say(&seen::status(&status))?;
        }
        if state == "ok" { Ok(()) } else { Err(Failure::Negative) }
    }
}
