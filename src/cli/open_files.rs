//! The open files that a command needs, where it opens many connections at a time.

use super::Failure;
use crate::net::resources;

/// Takes as many open files as may be had. `too_few` says what to do where that is less than `needed`.
///
/// # Errors
/// When it is less: what follows would find a limit of this machine and take it for the network.
pub(super) fn open_files(needed: u64, too_few: impl FnOnce(u64) -> String) -> Result<(), Failure> {
    let (_, maximum) = resources::open_files();
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        return Err(Failure::Usage(too_few(maximum)));
    }
    resources::raise_open_files()
        .map_err(|error| Failure::Usage(format!("can't raise the number of open files: {error}")))
}
