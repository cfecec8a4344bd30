//! What a process has only so much of on its machine: open files, and memory of the kernel.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Whether a system call failed for want of a descriptor or of the kernel's memory, by the number of its error:
/// this machine's limit, and nobody else's fault.
pub(crate) const fn are_used_up(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}

/// How many open files this process may have: now, and at most. None: as many as it likes.
pub(crate) fn open_files() -> (Option<u64>, Option<u64>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    (current, maximum)
}

/// Takes as many open files as may be had.
///
/// # Errors
/// When the kernel refuses; then all is as before.
pub(crate) fn raise_open_files() -> io::Result<()> {
    let (_, maximum) = open_files();
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
