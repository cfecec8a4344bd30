//! What `/api/status` says of the process itself, and of it as one of `generations`.

use jiff::Timestamp;
use serde::Serialize;

use super::Admin;
use crate::as_text;

/// What is known of the process itself.
#[derive(Serialize)]
pub(super) struct Process {
    pub version: &'static str,
    pub commit: &'static str,
    #[serde(serialize_with = "as_text::one")]
    pub time: Timestamp,
    pub uptime_seconds: u64,
    pub draining: bool,
    pub config: String,
    pub last_reload_successful: bool,
    pub tls_files_last_load_successful: bool,
    pub mode: &'static str,
    pub client_connections: i64,
    pub busy: usize,
}

/// A process that has tunnels.
#[derive(Serialize)]
pub(super) struct Generation {
    pub id: String,
    pub pid: u32,
    pub version: &'static str,
    #[serde(serialize_with = "as_text::one")]
    pub since: Timestamp,
    pub draining: bool,
    pub tunnels: usize,
    pub rss_bytes: Option<u64>,
    #[serde(serialize_with = "as_text::some")]
    pub predicted_end: Option<Timestamp>,
}

pub(super) fn of(admin: &Admin) -> Process {
    let (shared, snapshot) = (&admin.shared, admin.shared.snapshot());
    let metrics = &shared.journal.metrics;
    Process {
        version: crate::VERSION,
        commit: crate::COMMIT,
        time: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
        uptime_seconds: admin.started.elapsed().as_secs(),
        draining: shared.drain.is_leaving(),
        config: snapshot.source.clone(),
        last_reload_successful: metrics.reload_successful.get() == 1,
        tls_files_last_load_successful: metrics.tls_files_successful.get() == 1,
        mode: if snapshot.report { "report" } else { "enforce" },
        client_connections: metrics.client_connections.iter().map(|g| g.get()).sum::<i64>(),
        busy: shared.drain.busy_now(),
    }
}

impl Process {
    /// What whoever looks at it should know.
    pub(super) fn remarks(&self) -> impl Iterator<Item = String> {
        let drains = self
            .draining
            .then(|| "This process drains: it takes no new connections, and live tunnels go on.".to_owned());
        let refused = (!self.last_reload_successful).then(|| {
            "The last reload, of the configuration or of files that it names, was refused, and what was in force before still is: `ccpgate reload` tries it again and says why."
                .to_owned()
        });
        drains.into_iter().chain(refused)
    }
}

impl Default for Process {
    /// A process that has just begun.
    fn default() -> Self {
        Self {
            version: crate::VERSION,
            commit: crate::COMMIT,
            time: Timestamp::UNIX_EPOCH,
            uptime_seconds: 0,
            draining: false,
            config: String::new(),
            last_reload_successful: true,
            tls_files_last_load_successful: true,
            mode: "enforce",
            client_connections: 0,
            busy: 0,
        }
    }
}

pub(super) fn generation(admin: &Admin) -> Generation {
    let shared = &admin.shared;
    Generation {
        id: shared.generation.to_string(),
        pid: std::process::id(),
        version: crate::VERSION,
        since: shared.journal.findings.time(0),
        draining: shared.drain.is_draining(),
        tunnels: shared.journal.metrics.live(),
        rss_bytes: resident(),
        predicted_end: shared.predicted_end(),
    }
}

/// The memory that the process has, where the kernel says so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
