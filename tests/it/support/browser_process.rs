//! The processes of a browser: how it is started without a display, and without calling home.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// What keeps Chromium quiet.
pub(super) const QUIET: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-extensions",
    "--no-pings",
];

/// A browser with its profile, killed with all its processes at the end.
pub(super) struct BrowserProcess {
    child: Child,
    pub profile: TempDir,
}

impl BrowserProcess {
    pub(super) fn start(mut browser: Command, profile: TempDir, url: &str) -> Self {
        let log = std::fs::File::create(profile.path().join("stderr")).unwrap();
        let child = browser
            .arg(url)
            .env("HOME", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, profile }
    }
}

impl Drop for BrowserProcess {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
