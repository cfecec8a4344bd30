//! A real Squid.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Port, eventually};

/// Squid in a folder of its own, on a port that was kept for it.
pub(crate) struct Squid {
    child: Child,
    pub port: Port,
    _folder: tempfile::TempDir,
}

impl Squid {
    /// `rules` follow the settings that make it run here.
    pub(crate) fn start(rules: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), Port::keep());
        let file = folder.path().join("squid.conf");
        let at = folder.path().display();
        let text = format!(
            "http_port 127.0.0.1:{port}\npid_filename none\ncache_log {at}/cache.log\naccess_log none\n\
             coredump_dir {at}\ncache deny all\nshutdown_lifetime 0 seconds\nvisible_hostname squid.test\n{rules}"
        );
        std::fs::write(&file, text).unwrap();
        // As root it changes to a user of its own.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let child = Command::new("squid")
            // A name of its own, since shared memory is called by it.
            .args(["-N", "-d", "0", "-n", &format!("ccpgate{port}"), "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut squid = Self { child, port, _folder: folder };
        eventually("Squid to listen", || {
            assert_eq!(squid.child.try_wait().unwrap(), None, "Squid ended: its words are above");
            TcpStream::connect(("127.0.0.1", squid.port.number())).ok()
        });
        squid
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // In order, so that it takes its shared memory away.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
