//! The open files that a command needs, where it opens many connections at a time.

use super::Failure;
use crate::net::resources;

/// Takes as many open files as may be had, of which `what` needs so many; `less` says what would do with the most
/// that there may be, if anything would.
///
/// # Errors
/// When there are fewer: what follows would find a limit of this machine and take it for the network.
pub(super) fn open_files(
    what: &str,
    needed: u64,
    less: impl FnOnce(u64) -> Option<String>,
) -> Result<(), Failure> {
    let (_, maximum) = resources::open_files();
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        let less = less(maximum).map(|less| format!(", or {less}")).unwrap_or_default();
        return Err(Failure::Usage(format!(
            "for {what} you need {needed} open files, and no process here may have more than {maximum}: raise that \
             (ulimit -Hn){less}"
        )));
    }
    resources::raise_open_files()
        .map_err(|error| Failure::Usage(format!("can't raise the number of open files: {error}")))
}
