//! A running ccpgate: started on ports of its own, watched through its log and its metrics, killed
//! at the end of the test.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use toml::{Table, Value as Toml};

use super::log::{Leaving, Log, Slow};
use super::{Answer, Metrics, PATIENCE, Raw, eventually};

/// A process that is killed when this is dropped; it must never have panicked, and every line that
/// it logged must have been a JSON object.
pub(crate) struct Proxy {
    child: Child,
    exited: Option<ExitStatus>,
    log: Log,
    folder: TempDir,
}

impl Proxy {
    /// Starts `ccpgate serve` with this configuration, completed where it says nothing:
    /// kernel-chosen loopback ports, a JSON log, region us-west-2, instance acme, and
    /// `policy.tls = "off"`, so that a test may send any bytes.
    #[track_caller]
    pub(crate) fn start(toml: &str) -> Self {
        Self::launch(Some(toml), Command::new(env!("CARGO_BIN_EXE_ccpgate")))
    }

    /// The same with variables in its environment.
    #[track_caller]
    pub(crate) fn start_with_variables(toml: &str, variables: &[(&str, &str)]) -> Self {
        Self::launch_with(Some(toml), Command::new(env!("CARGO_BIN_EXE_ccpgate")), variables, |all| {
            Box::new(all)
        })
    }

    /// The same in a folder where processes find each other; with `takeover` it takes over from the one that
    /// serves.
    #[track_caller]
    pub(crate) fn start_in(folder: &Path, toml: &str, takeover: bool) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
        command.arg("serve").args(takeover.then_some("--takeover"));
        let variables = [("RUNTIME_DIRECTORY", folder.to_str().unwrap())];
        Self::launch_with(Some(toml), command, &variables, |all| Box::new(all))
    }

    /// Starts it as on a fresh machine, on the embedded default, but for ports and log, which the
    /// environment sets.
    #[track_caller]
    pub(crate) fn start_on_default() -> Self {
        Self::launch(None, Command::new(env!("CARGO_BIN_EXE_ccpgate")))
    }

    /// The same, with this many file descriptors at most.
    #[track_caller]
    pub(crate) fn start_with_files(toml: &str, files: u32) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}:{files}")).arg(env!("CARGO_BIN_EXE_ccpgate"));
        Self::launch(Some(toml), command)
    }

    /// The same with a log that is read slowly: what the pipe doesn't hold has to wait in the proxy.
    #[track_caller]
    pub(crate) fn start_with_slow_log(toml: &str) -> Self {
        let slowly = |from| -> Box<dyn Read + Send> {
            Box::new(Slow { from, pause: Duration::from_millis(20), bytes: 4096 })
        };
        Self::launch_with(Some(toml), Command::new(env!("CARGO_BIN_EXE_ccpgate")), &[], slowly)
    }

    /// The same with a log whose reader goes when it is told to, with the next line.
    #[track_caller]
    pub(crate) fn start_with_log_until(toml: &str, leaves: &Arc<AtomicBool>) -> Self {
        let leaves = leaves.clone();
        Self::launch_with(Some(toml), Command::new(env!("CARGO_BIN_EXE_ccpgate")), &[], |from| {
            Box::new(Leaving { from, leaves })
        })
    }

    /// The same by a command that runs what its arguments name, in surroundings of its own.
    #[track_caller]
    pub(crate) fn start_by(toml: &str, command: Command) -> Self {
        Self::launch(Some(toml), command)
    }

    #[track_caller]
    fn launch(toml: Option<&str>, command: Command) -> Self {
        Self::launch_with(toml, command, &[], |all| Box::new(all))
    }

    #[track_caller]
    fn launch_with(
        toml: Option<&str>,
        mut command: Command,
        variables: &[(&str, &str)],
        reader: impl FnOnce(ChildStderr) -> Box<dyn Read + Send>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        super::command::clean(&mut command);
        if !command.get_args().any(|argument| argument == "serve") {
            command.arg("serve");
        }
        command.envs(variables.iter().copied());
        if let Some(toml) = toml {
            let file = folder.path().join("ccpgate.toml");
            std::fs::write(&file, complete(toml)).unwrap();
            command.arg("-c").arg(file);
        } else {
            command.env("CCPGATE_PROXY__LISTEN", "[\"127.0.0.1:0\"]");
            command.env("CCPGATE_ADMIN__LISTEN", "127.0.0.1:0").env("CCPGATE_LOG__FORMAT", "json");
        }
        let mut child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::collect(reader(child.stderr.take().unwrap()));
        let proxy = Self { child, exited: None, log, folder };
        proxy.http();
        proxy.admin();
        proxy
    }

    /// Where a listener of this kind accepts, from its line in the log; of several, the first.
    #[track_caller]
    fn listening(&self, kind: &str) -> SocketAddr {
        let line = self.log.line(&format!("listening, {kind}"), |line| {
            line["event"] == "listening" && line["listener"] == kind
        });
        line["address"].as_str().unwrap().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn http(&self) -> SocketAddr {
        self.listening("http")
    }

    #[track_caller]
    pub(crate) fn https(&self) -> SocketAddr {
        self.listening("https")
    }

    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.listening("admin")
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("ccpgate.toml")
    }

    /// A connection to the proxy listener.
    #[track_caller]
    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.http())
    }

    /// A tunnel to `target`; fails unless the answer is 200.
    #[track_caller]
    pub(crate) fn tunnel(&self, target: &str) -> Raw {
        let mut client = self.connect();
        let answer = client.connect_target(target);
        assert_eq!(answer.status, 200, "CONNECT {target}: {}", answer.head);
        client
    }

    /// Sends one request to the proxy listener and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect();
        client.send(request);
        client.read_answer()
    }

    /// GETs a page of the admin listener.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut client = Raw::connect(self.admin());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin()));
        client.read_answer()
    }

    /// The object of `/api/status`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.get("/api/status").json()
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.head);
        Metrics::parse(&answer.text())
    }

    /// The value of a series now, which must exist: `name{label="value"}`.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        metrics.get(series).unwrap_or_else(|| panic!("no series {series} in:\n{}", metrics.text))
    }

    /// Waits until a series has this value.
    #[track_caller]
    pub(crate) fn metric_eventually(&self, series: &str, expected: f64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let got = self.metric(series);
            if got == expected {
                return;
            }
            assert!(Instant::now() < until, "{series} stays at {got}, expected {expected}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a log line with this property.
    #[track_caller]
    pub(crate) fn log_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.log.line(what, wanted)
    }

    /// The log so far; all of it once the exit was awaited.
    pub(crate) fn log_so_far(&self) -> Vec<Value> {
        if self.exited.is_some() {
            self.log.wait_for_end();
        }
        self.log.objects()
    }

    /// The line of the tunnel or denial with this target.
    #[track_caller]
    pub(crate) fn access_line(&self, event: &str, target: &str) -> Value {
        self.log
            .line(&format!("{event} of {target}"), |line| line["event"] == event && line["target"] == target)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// Replaces the configuration file, completed as at the start, in one step.
    pub(crate) fn rewrite_config(&self, toml: &str) {
        self.rewrite_config_raw(&complete(toml));
    }

    /// Replaces the configuration file by these very bytes.
    pub(crate) fn rewrite_config_raw(&self, text: &str) {
        let next = self.folder.path().join("next.toml");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.config_file()).unwrap();
    }

    /// Replaces the configuration, sends SIGHUP and waits until that reload has counted as
    /// `result` (`ok` or `error`).
    #[track_caller]
    pub(crate) fn reload(&self, toml: &str, result: &str) {
        self.rewrite_config(toml);
        self.hang_up(result);
    }

    /// Sends SIGHUP and waits for its result.
    #[track_caller]
    pub(crate) fn hang_up(&self, result: &str) {
        let series = format!("ccpgate_reloads_total{{result=\"{result}\"}}");
        let before = self.metric(&series);
        self.signal(Signal::HUP);
        self.metric_eventually(&series, before + 1.0);
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = eventually("the proxy's exit", || self.child.try_wait().unwrap());
        self.exited = Some(status);
        status
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.exited.is_none() && self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let killed = self.exited.is_none();
        if killed {
            // An error means that it has ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let mut lines = self.log.finish();
        if std::thread::panicking() {
            eprintln!("--- the proxy's log\n{}\n---", lines.join("\n"));
            return;
        }
        if killed && lines.last().is_some_and(|line| !line.ends_with('}')) {
            // The kill met it in the middle of a write.
            lines.pop();
        }
        for line in &lines {
            assert!(!line.contains("panicked"), "the proxy panicked:\n{}", lines.join("\n"));
            let object = serde_json::from_str::<Value>(line).is_ok_and(|json| json.is_object());
            assert!(object, "not a JSON object in the log: {line}");
        }
    }
}

/// Adds what a test needs and doesn't say.
fn complete(toml: &str) -> String {
    let mut table: Table = toml.parse().unwrap_or_else(|error| panic!("the test's own TOML: {error}"));
    let text = |t: &str| Toml::String(t.to_owned());
    let list = |t: &str| Toml::Array(vec![text(t)]);
    for (section, key, value) in [
        ("connect", "regions", list("us-west-2")),
        ("connect", "instances", list("acme")),
        ("proxy", "listen", list("127.0.0.1:0")),
        ("admin", "listen", text("127.0.0.1:0")),
        ("log", "format", text("json")),
        ("policy", "tls", text("off")),
    ] {
        let section = table.entry(section).or_insert_with(|| Toml::Table(Table::new()));
        section.as_table_mut().unwrap().entry(key).or_insert(value);
    }
    table.to_string()
}
