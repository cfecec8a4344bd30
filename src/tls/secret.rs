//! Files that hold a secret: how they are opened, and whether others may read them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// An open file with a secret.
pub(crate) struct Secret {
    pub file: File,
    /// In bytes, when it was opened.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
}

impl Secret {
    /// Opens a regular file, or a link to one; none for anything else.
    ///
    /// # Errors
    /// As of open(2). One that wants permission names the user who lacks it: an administrator who checks the
    /// configuration as root has it, and the service has not.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        // Without NONBLOCK, opening a named pipe would wait for a writer.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(told)?;
        // The metadata of the open file, so that the file checked is the file read.
        let metadata = file.metadata()?;
        let (size, mode) = (metadata.len(), metadata.mode() & 0o7777);
        Ok(metadata.is_file().then_some(Self { file, size, mode }))
    }

    /// Whether every user of this machine may read, write or execute it.
    pub(crate) const fn is_open_to_all(&self) -> bool {
        self.mode & 0o007 != 0
    }
}

fn told(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let user = geteuid().as_raw();
    let why = format!(
        "{error}: the user of this process, uid {user}, may not; deploy/README.md says how keys reach the service"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever runs the tests may be root, to whom no file says no.
    #[test]
    fn a_file_that_is_kept_from_this_process_says_from_whom() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        let refused = told(refused);
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let user = format!("uid {}", geteuid().as_raw());
        let words = refused.to_string();
        assert!(words.starts_with("Permission denied") && words.contains(&user), "{words}");
        let missing = Secret::open(Path::new("/nowhere")).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!missing.to_string().contains("uid"), "{missing}");
    }
}
