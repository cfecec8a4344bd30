//! Files that hold a secret: how they are opened, and whether others may read them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// An open file with a secret.
pub(crate) struct Secret {
    pub file: File,
    /// Its permissions.
    pub mode: u32,
}

impl Secret {
    /// Opens a regular file, or a link to one; none for anything else.
    ///
    /// # Errors
    /// As of open(2).
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        // Without NONBLOCK, opening a named pipe would wait for a writer.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        // The metadata of the open file, so that the file checked is the file read.
        let metadata = file.metadata()?;
        let mode = metadata.mode() & 0o7777;
        Ok(metadata.is_file().then_some(Self { file, mode }))
    }

    /// Whether every user of this machine may read, write or execute it.
    pub(crate) const fn is_open_to_all(&self) -> bool {
        self.mode & 0o007 != 0
    }
}
