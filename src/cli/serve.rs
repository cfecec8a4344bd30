//! `ccpgate serve`, and how it says that it can't start: to the log in the log's own form, and to
//! the service manager.

use std::io::{self, Write};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::{FAILED, Failure};
use crate::config::{self, Sources};
use crate::journal::log::Format;
use crate::journal::{journald, last};
use crate::serve::{self, ServeError, notify};

/// EX_TEMPFAIL of sysexits.h, for a service manager only: the units restart after it, and not after 2,
/// which no second start mends.
const TRY_AGAIN: u8 = 75;

/// Run the proxy and the admin listener until SIGTERM; SIGHUP reloads the configuration.
///
/// At SIGTERM the listeners close and live tunnels run on for limits.drain, so that no call
/// is cut; a second SIGTERM ends them now. SIGPWR says that the machine goes down: then they have
/// limits.reboot_drain.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Take over from the process that serves already, without a refused connection.
    ///
    /// It is found by its Unix socket in $RUNTIME_DIRECTORY, hands its listening sockets over once this one is
    /// ready, and keeps its live tunnels until they end. Where none serves, this one starts as usual.
    #[arg(long)]
    takeover: bool,
    /// Ends when the process that started it, which has this id, has ended, however that was: for a
    /// rehearsal's own proxy.
    #[arg(long, value_name = "ID", hide = true)]
    with_parent: Option<i32>,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        if let Some(parent) = self.with_parent {
            let set = set_parent_process_death_signal(Some(Signal::KILL));
            set.map_err(|error| Failure::Output(error.into()))?;
            // It may have ended before this was set.
            if getppid().is_none_or(|id| id.as_raw_nonzero().get() != parent) {
                return Ok(());
            }
        }
        serve::serve(sources, self.takeover).map_err(Failure::Start)
    }
}

/// Says why the process can't start; returns its exit code.
pub(super) fn failed(error: &ServeError, sources: &Sources) -> u8 {
    let message = error.to_string();
    match config::log_format(sources) {
        Format::Json => last::start_failed(&message),
        Format::Text => {
            let _ = writeln!(io::stderr(), "{}", journald::last_words(&format!("ccpgate: {message}")));
        }
    }
    notify::failed(&message);
    if notify::is_managed() && error.may_pass() { TRY_AGAIN } else { FAILED }
}

/// Says what is wrong with the command line as an event, where `serve` was meant and its log is JSON.
/// Returns whether it was.
pub(super) fn refused(error: &clap::Error) -> bool {
    let serve = std::env::args_os().any(|argument| argument == "serve");
    let refused = serve
        && error.use_stderr()
        && config::log_format(&Sources::from_process(None, Vec::new())) == Format::Json;
    if refused {
        last::start_failed(error.to_string().trim_end());
    }
    refused
}
