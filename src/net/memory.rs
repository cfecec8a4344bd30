//! Gives back to the system what the allocator holds without need.

/// What reading a long list, or making one answer of several, took for a moment goes back to the system. Without
/// this, memory stays for good at what the largest needed, for each of the threads that have ever made one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library's own call, which no crate wraps")]
pub(crate) fn give_back() {
    // SAFETY: it takes no pointer, may be called at any time from any thread, and moves nothing that is in
    // use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give memory back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
