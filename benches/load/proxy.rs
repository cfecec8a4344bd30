//! The proxies under load, each a process of its own, and what its process costs.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Failure;
use crate::clients::{ADDRESSES, Route, host};
use crate::table::Kind;

/// A running proxy, killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub route: Route,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    pub(crate) async fn start(kind: Kind, upstream: u16, folder: &Path) -> Result<Self, Failure> {
        let output = folder.join("output");
        let mut command = match kind {
            Kind::Bare => {
                let mut command = Command::new(std::env::current_exe()?);
                command.env("BARE_RELAY_UPSTREAM_PORT", upstream.to_string());
                command
            }
            Kind::Ccpgate | Kind::Secured => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
                command.arg("serve").arg("-c").arg(configuration(kind, upstream, folder)?);
                command
            }
        };
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&output)?).spawn()?;
        let mut proxy = Self { child, route: Route::new((Ipv4Addr::LOCALHOST, 0).into())? };
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy.route.proxy.port() == 0 {
            let text = std::fs::read_to_string(&output)?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let listener = if kind == Kind::Secured { "https" } else { "http" };
            let mut listening = lines.filter(|l| l["event"] == "listening" && l["listener"] == listener);
            if let Some(address) = listening.find_map(|l| l["address"].as_str().map(str::to_owned)) {
                proxy.route.proxy = address.parse()?;
            } else if Instant::now() > deadline {
                return Err(format!("no proxy listens:\n{text}").into());
            } else {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(proxy)
    }

    fn of_proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    /// CPU time of all threads. Unlike `stat`, which counts in 10 ms, this is in nanoseconds.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let mut sum = 0;
        for thread in std::fs::read_dir(self.of_proc("task"))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Proportional set size in bytes.
    pub(crate) fn pss(&self) -> Result<u64, Failure> {
        let text = std::fs::read_to_string(self.of_proc("smaps_rollup"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).ok_or("no Pss in smaps_rollup")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    pub(crate) fn descriptors(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(self.of_proc("fd"))?.count())
    }

    /// Waits until the tunnels that were closed are gone: no more descriptors than this, or, with
    /// 0, no fewer than a moment ago.
    pub(crate) async fn settle(&self, descriptors: usize) -> Result<(), Failure> {
        let (deadline, mut last) = (Instant::now() + Duration::from_secs(10), usize::MAX);
        loop {
            let now = self.descriptors()?;
            if now <= descriptors || descriptors == 0 && now == last {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{now} descriptors are left, {descriptors} were there before").into());
            }
            last = now;
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What the certificate of the HTTPS listener names.
pub(crate) const NAME: &str = "proxy.example";

/// Everything on that costs something: ClientHello check, metrics, access log.
fn configuration(kind: Kind, upstream: u16, folder: &Path) -> Result<PathBuf, Failure> {
    let mut text = String::from(
        "[proxy]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connect]\nregions = [\"us-west-2\"]\n[log]\nformat = \"json\"\n\
         [limits]\nconnections = 30000\nconnections_per_client = 30000\n[egress.connect_to]\n",
    );
    if kind == Kind::Secured {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let (certificate, key) = (folder.join("proxy.pem"), folder.join("proxy.key"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        text.insert_str(
            0,
            &format!("[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {certificate:?}\nkey = {key:?}\n"),
        );
    }
    for i in 1..=ADDRESSES {
        text.push_str(&format!("\"{}:443\" = \"127.0.0.{i}:{upstream}\"\n", host(i)));
    }
    let file = folder.join("ccpgate.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}
