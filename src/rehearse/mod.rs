//! `rehearse`: plays agents' calls over this network, and judges the share that fails by AWS's line of 2 %.
//!
//! [`script`] says what a call is here, [`call`] plays one, [`voice`] its media; [`pace`] keeps hosts from being flooded;
//! [`tally`] counts in the order in which the calls began, [`statistics`] judges; [`report`] is the answer,
//! [`text`] and [`junit`] show it. [`shift`] is a whole morning of many agents. [`proxy`] is this very program as a proxy in a process of its own.

mod call;
pub(crate) mod junit;
mod pace;
mod phase;
pub(crate) mod proxy;
pub(crate) mod report;
pub(crate) mod script;
pub(crate) mod shift;
pub(crate) mod statistics;
pub(crate) mod tally;
pub(crate) mod text;
mod voice;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use call::Call;
use script::Scene;
use tally::Tally;

/// How many calls are played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// At most.
    pub calls: u32,
    pub at_once: usize,
    /// Ends as soon as the sequential test has a verdict.
    pub until_sure: bool,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Never,
    /// No more calls begin; agents of a shift leave.
    Soon,
    /// What is under way is given up.
    Now,
}

impl Stop {
    /// What one more Ctrl-C asks for.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Never => Self::Soon,
            Self::Soon | Self::Now => Self::Now,
        }
    }
}

/// Plays calls, so many at once. What came of each is counted in the order in which they began: a call
/// that fails mostly takes longer than one that doesn't, so that among those that end first too few fail.
pub(crate) async fn run(
    scene: Arc<Scene>,
    amount: Amount,
    mut stop: watch::Receiver<Stop>,
    progress: impl Fn(&Tally),
) -> Tally {
    let mut tally = Tally::default();
    let mut running = JoinSet::new();
    let mut next = 0;
    if let Some(way) = &scene.via {
        // Before the first call: else all of those that begin at once would wait for one of them to find out, and that
        // would count as the network's time.
        tokio::select! {
            () = way.ask(&scene.own) => {}
            Ok(()) = stop.changed() => {}
        }
    }
    loop {
        while *stop.borrow() == Stop::Never && running.len() < amount.at_once && next < amount.calls {
            let (scene, number) = (scene.clone(), next);
            running.spawn(async move { (number, Box::pin(Call::play(&scene, number)).await) });
            next += 1;
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            Some(ended) = running.join_next() => {
                let (number, played) = match ended {
                    Ok(played) => played,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // Nobody ends a call from outside but this function, at its end.
                        Err(_) => continue,
                    },
                };
                tally.take(number, played, amount.until_sure);
                progress(&tally);
                if amount.until_sure && tally.is_sure() {
                    break;
                }
            }
            Ok(()) = stop.changed() => {
                if *stop.borrow() == Stop::Now {
                    break;
                }
            }
        }
    }
    tally
}
