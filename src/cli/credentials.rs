//! Files that a service manager hands to one service alone (systemd's `LoadCredential=`). A command
//! beside the service can't read them, not even one of its own `ExecReload=` (seen with systemd 252
//! to 256), so it must not take them for missing.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where systemd keeps the credentials of all services, systemd.exec(5).
const ALL: &str = "/run/credentials";

/// Whether this is a credential that this process may not read.
pub(super) fn is_kept(file: &Path) -> bool {
    is_credential(file, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref()) && File::open(file).is_err()
}

fn is_credential(file: &Path, own: Option<&OsStr>) -> bool {
    file.starts_with(ALL) || own.is_some_and(|own| !own.is_empty() && file.starts_with(own))
}

/// Says which files (`what`) could not be checked here, and what checks them.
pub(super) fn not_checked(what: &str, files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    format!(
        "{what} aren't checked, since only the service may read {}; it reads them at its start and \
         reload, and its log says what is wrong with them",
        files.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_folder() {
        let own = Some(OsStr::new("/run/other/ccpgate"));
        for file in ["/run/credentials/ccpgate.service/proxy.key", "/run/other/ccpgate/proxy.key"] {
            assert!(is_credential(Path::new(file), own), "{file}");
        }
        for file in ["/etc/ccpgate/keys/proxy.key", "/run/credentials2/x", "/run/other/ccpgate2/x", "x"] {
            assert!(!is_credential(Path::new(file), own), "{file}");
            assert!(!is_credential(Path::new(file), Some(OsStr::new(""))), "{file}");
        }
        // One that can be read is checked like any other file.
        assert!(!is_kept(Path::new("/proc/self/status")));
        assert!(is_kept(Path::new("/run/credentials/no-such.service/proxy.key")));
    }
}
