//! Locks that a panic leaves open: it ends one tunnel or one answer, and everybody else goes on with what is
//! there.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock. What it guards must make sense at every step of whoever changes it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
