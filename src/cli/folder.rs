//! Folders for what a command needs as files while it runs. Each goes with its process; a process that is killed
//! leaves its own behind, and the next one clears it away.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

/// How the names of all of them begin, and what follows.
const PREFIX: &str = "ccpgate-";
pub(super) const REHEARSE: &str = "rehearse-";
pub(super) const SIMULATE: &str = "simulate-";
/// A younger one may not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that nobody else reads. It is removed when this is dropped.
pub(super) struct Folder {
    folder: TempDir,
    /// Says that its process lives: the kernel takes the lock away with that.
    _lock: File,
}

impl Folder {
    /// Makes one where `TMPDIR` says, or in /tmp; `what` says in its name what it is for.
    ///
    /// # Errors
    /// With the place, and what to do.
    pub(super) fn new(what: &str) -> Result<Self, String> {
        let place = std::env::temp_dir();
        clear(&place);
        let made = || {
            let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{what}")).tempdir_in(&place)?;
            let lock = File::open(folder.path())?;
            // Where a file system has no locks, nothing is cleared away either.
            let _ = lock.lock();
            Ok(Self { folder, _lock: lock })
        };
        made().map_err(|error: io::Error| {
            let (place, why) = (place.display(), error.kind());
            format!("no folder can be made in {place}: {why}; TMPDIR names another place")
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of processes that are gone, as far as they are this user's.
fn clear(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        let old = about.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > YOUNG);
        // A link of that name is no folder: these are facts about the entry itself.
        if is_ours(&entry.file_name()) && about.is_dir() && about.uid() == own && old {
            remove_abandoned(&entry.path());
        }
    }
}

fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    [REHEARSE, SIMULATE].iter().any(|what| rest.starts_with(what))
}

fn remove_abandoned(folder: &Path) {
    let Ok(lock) = File::open(folder) else { return };
    if lock.try_lock().is_ok() {
        // What can't be removed now is tried again by the next one.
        let _ = fs::remove_dir_all(folder);
    }
}
