//! Tells the threads beside a test that it is over, also where it fails: a scope waits for its threads.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets the flag when it goes.
pub(crate) struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
