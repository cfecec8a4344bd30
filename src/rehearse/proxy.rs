//! This very program as a proxy, in a process of its own, so that what it costs is told by the kernel and
//! not guessed: `ccpgate serve` on ports of loopback that the kernel chooses.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::param;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::report::Cost;
use crate::agent::fetch;
use crate::agent::tls::Trust;
use crate::egress::url::Url;
use crate::egress::{Egress, printable};

/// A start takes a tenth of it, on a busy machine as well.
const START: Duration = Duration::from_secs(30);
/// More than the metrics of any proxy.
const LARGEST: usize = 4 << 20;
/// Lines of its log that are kept, in case it ends.
const KEPT: usize = 5;

/// What the configuration of such a proxy needs besides what it is about.
pub(crate) const SECTIONS: &str = r#"
[proxy]
listen = ["127.0.0.1:0"]

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"
"#;

/// A running proxy; dropped, it is killed.
pub(crate) struct Proxy {
    child: Child,
    configuration: PathBuf,
    pub http: SocketAddr,
    /// Of the TLS listener, where the configuration has one.
    pub https: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts it with a configuration file, and waits until all its listeners accept; `https`: whether one
    /// of them speaks TLS.
    ///
    /// # Errors
    /// In words, with the end of its log.
    pub(crate) async fn start(configuration: &Path, https: bool) -> Result<Self, String> {
        Self::spawn(configuration, https, &[]).await
    }

    /// Starts the process that takes over from this one, as an upgrade does: it accepts from the same
    /// sockets, and this one keeps its live tunnels.
    ///
    /// # Errors
    /// In words, when it doesn't take over; this one goes on then.
    pub(crate) async fn successor(&self) -> Result<Self, String> {
        let next = Self::spawn(&self.configuration, self.https.is_some(), &["--takeover"]).await?;
        let addresses = |proxy: &Self| (proxy.http, proxy.https, proxy.admin);
        if addresses(&next) != addresses(self) {
            return Err("its successor doesn't find it, and has sockets of its own".to_owned());
        }
        Ok(next)
    }

    async fn spawn(configuration: &Path, https: bool, more: &[&str]) -> Result<Self, String> {
        // The program as it was started, also when its file was replaced since.
        let mut command = Command::new("/proc/self/exe");
        let own = std::process::id().to_string();
        command
            .arg0("ccpgate")
            .args(["serve", "--with-parent", &own])
            .args(more)
            .arg("-c")
            .arg(configuration);
        // Nothing of the environment is meant for it.
        let ours = |name: &str| name.starts_with("CCPGATE_") || name == "RUST_LOG";
        let names = std::env::vars_os().map(|(name, _)| name);
        names.filter(|name| ours(&name.to_string_lossy())).for_each(|name| {
            command.env_remove(name);
        });
        for name in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"] {
            command.env_remove(name);
        }
        // Where it is found by its successor, and by nobody else's.
        command.env("RUNTIME_DIRECTORY", configuration.parent().unwrap_or(configuration));
        // A Ctrl-C is for this process alone.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("can't start a proxy: {error}"))?;
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let configuration = configuration.to_owned();
        let mut proxy = Self { child, configuration, http: unknown, https: None, admin: unknown };
        let (told, mut hears) = mpsc::unbounded_channel();
        if let Some(log) = proxy.child.stderr.take() {
            std::thread::spawn(move || follow(log, &told));
        }
        let listening = async {
            while proxy.http == unknown || proxy.admin == unknown || proxy.https.is_some() != https {
                match hears.recv().await {
                    Some(Heard::Listening(kind, address)) if kind == "http" => proxy.http = address,
                    Some(Heard::Listening(kind, address)) if kind == "https" => proxy.https = Some(address),
                    Some(Heard::Listening(_, address)) => proxy.admin = address,
                    Some(Heard::End(last)) => return Err(format!("the proxy ended: {last}")),
                    None => return Err("the proxy has no log".to_owned()),
                }
            }
            Ok(())
        };
        timeout(START, listening).await.unwrap_or_else(|_| Err("the proxy doesn't start".to_owned()))?;
        Ok(proxy)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// The sums of its metrics whose names and labels begin so; none when it doesn't tell.
    pub(crate) async fn metrics<const N: usize>(
        &self,
        egress: &Egress,
        trust: &Arc<Trust>,
        names: [&str; N],
    ) -> Option<[f64; N]> {
        let text = String::from_utf8(self.get("metrics", egress, trust).await?).ok()?;
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        Some(names.map(|name| text.lines().filter(|line| line.starts_with(name)).filter_map(value).sum()))
    }

    /// The live tunnels of each process of the row that still has any, or accepts: the newest first; none
    /// when it doesn't tell.
    pub(crate) async fn generations(&self, egress: &Egress, trust: &Arc<Trust>) -> Option<Vec<u64>> {
        let status: Value = serde_json::from_slice(&self.get("api/status", egress, trust).await?).ok()?;
        let tunnels = status["generations"].as_array()?.iter().map(|one| one["tunnels"].as_u64());
        tunnels.collect()
    }

    async fn get(&self, path: &str, egress: &Egress, trust: &Arc<Trust>) -> Option<Vec<u8>> {
        let url = Url::parse(&format!("http://{}/{path}", self.admin)).ok()?;
        fetch::fetch(egress, trust, SystemTime::now(), &url, LARGEST).await.ok()
    }

    /// What it has cost so far, as the kernel tells (proc(5)); none when it has ended.
    pub(crate) fn cost(&self) -> Option<Cost> {
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).ok();
        // The name of the process stands in parentheses, and may have anything in it.
        let stat = of("stat")?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        // User and system time are the 14th and 15th field; the first behind the name is the third.
        let ticks = fields.nth(11)?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        let statm = of("statm")?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(Cost {
            cpu_s: ticks / param::clock_ticks_per_second() as f64,
            memory_bytes: pages * param::page_size() as u64,
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What its log says.
enum Heard {
    Listening(String, SocketAddr),
    /// Its last lines.
    End(String),
}

/// Reads the log to its end, so that the proxy never waits for a reader.
fn follow(log: impl Read, told: &mpsc::UnboundedSender<Heard>) {
    let mut last = VecDeque::new();
    for line in BufReader::new(log).lines() {
        let Ok(line) = line else { break };
        // Whoever started it may not want to hear it any more.
        let _ = listening(&line).map(|heard| told.send(heard));
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(line);
    }
    let last = last.into_iter().collect::<Vec<_>>().join(" ");
    let _ = told.send(Heard::End(printable(&last, 600)));
}

fn listening(line: &str) -> Option<Heard> {
    // Most lines are of tunnels.
    if !line.contains(r#""listening""#) {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| line.get(key)?.as_str();
    let address = text("address")?.parse().ok()?;
    (text("event")? == "listening")
        .then(|| Heard::Listening(text("listener").unwrap_or_default().to_owned(), address))
}
