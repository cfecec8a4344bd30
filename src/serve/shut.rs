//! The service manager's sockets beside a drain that nobody has taken over. The manager keeps them open: a new
//! connection would wait in their queues for as long as the last call takes, where a browser that is refused goes
//! to the next proxy of its PAC file. So they are shut for that time, as this process's own would be closed.

use std::path::PathBuf;

use super::control;
use crate::net::passed::Passed;

/// Those sockets; none where there is nothing to shut.
#[derive(Default)]
pub(super) struct Shut {
    passed: Vec<Passed>,
    /// Where this process finds younger ones.
    folder: Option<PathBuf>,
    /// The place of this process in the row.
    generation: u32,
}

impl Shut {
    pub(super) fn new(passed: Vec<Passed>, folder: Option<PathBuf>, generation: u32) -> Self {
        Self { passed, folder, generation }
    }

    /// Refuses what comes from now on, unless a younger process accepts from the same sockets. What waits in the queues
    /// is accepted before.
    pub(super) fn refuse(&self) {
        if self.passed.is_empty() || self.has_younger() {
            return;
        }
        for passed in &self.passed {
            // One that was shut by another process needs nothing.
            let _ = passed.shut();
        }
        // One that has begun between the two found them listening.
        if self.has_younger() {
            self.listen();
        }
    }

    /// Lets them listen again as this process ends: what the manager makes of the next connection is its own affair.
    /// A younger process has them to itself.
    pub(super) fn end(&self) {
        if !self.passed.is_empty() && !self.has_younger() {
            self.listen();
        }
    }

    fn listen(&self) {
        for passed in &self.passed {
            // Where another process has bound the address meanwhile, it is that one's.
            let _ = passed.listen();
        }
    }

    fn has_younger(&self) -> bool {
        let Some(folder) = &self.folder else { return false };
        let living = tokio::task::block_in_place(|| control::living(folder));
        living.iter().any(|(who, _)| who.id > self.generation)
    }
}
