//! What the kernel tells of the proxy's process (proc(5)).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::Proxy;

impl Proxy {
    fn told(&self, what: &str) -> PathBuf {
        format!("/proc/{}/{what}", self.id().as_raw_nonzero()).into()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> usize {
        let status = fs::read_to_string(self.told("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// User and system time so far: fields 14 and 15 of stat, in ticks of 10 ms.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.told("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(self.told("task")).unwrap().count()
    }

    /// Sockets and ends of pipes that it has open.
    pub(crate) fn descriptors(&self) -> (usize, usize) {
        // One that was closed meanwhile is none.
        let links =
            fs::read_dir(self.told("fd")).unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        let links: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        let of = |kind: &str| links.iter().filter(|link| link.starts_with(kind)).count();
        (of("socket:"), of("pipe:"))
    }
}
