//! Writes down which firewall fetched which list, so that the next process knows; and reads what another one
//! has written since. Runs as long as the process: the admin listener gives lists while it drains, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::ranges::Settings;
use crate::admin::lists::Lists;
use crate::proxy::shared::Shared;

/// A process that dies forgets what was asked in this time at most.
const EVERY: Duration = Duration::from_secs(10);

pub(in crate::serve) async fn run(
    shared: Arc<Shared>,
    lists: Arc<Lists>,
    settings: watch::Receiver<Settings>,
) {
    let mut said = None;
    let mut drains = false;
    loop {
        // A successor answers from now on, and wants to know.
        tokio::select! {
            () = sleep(EVERY) => {}
            () = shared.drain.begun(), if !drains => drains = true,
        }
        let state = settings.borrow().state().cloned();
        let Some(folder) = state else { continue };
        let lists = lists.clone();
        let Ok(kept) = spawn_blocking(move || lists.remember(&folder)).await else { return };
        let wrong = kept.err();
        if let Some(why) = wrong.as_ref().filter(|why| said.as_ref() != Some(*why)) {
            tell(why);
        }
        said = wrong;
    }
}

/// Says that it can't be written down, or read.
pub(in crate::serve) fn tell(why: &str) {
    tracing::warn!(
        event = "edl_consumers_failed",
        "which firewall fetched which list isn't kept for the next process, or isn't known from the one before: {why}"
    );
}
