//! `ccpgate tunnels`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::Failure;
use super::out::{say, say_json};
use super::running::{AdminArg, encoded};
use super::seen::{self, Tunnels};
use crate::config::Sources;
use crate::policy::Pattern;

/// From the running proxy: its live tunnels and the last ended ones, the newest first.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Only those of this client, or of the clients in this network.
    #[arg(long, value_name = "ADDRESS|NETWORK", value_parser = clients)]
    client: Option<String>,
    /// Only those to this host, or to hosts of this pattern.
    #[arg(long, value_name = "HOST", value_parser = host)]
    host: Option<String>,
    /// How many of each at most.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    admin: AdminArg,
    /// An object, as /api/tunnels gives it.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let running = self.admin.running(sources)?;
        let path = path(self.client.as_deref(), self.host.as_deref(), self.limit);
        if self.json {
            return say_json(&running.ask::<Value>(&path)?);
        }
        say(&seen::tunnels(&running.ask::<Tunnels>(&path)?))
    }
}

/// Where the tunnels are that are wanted. `clients` is an address or a network.
pub(super) fn path(clients: Option<&str>, host: Option<&str>, limit: u32) -> String {
    let client = clients.map(|clients| format!("&client={}", encoded(clients)));
    let host = host.map(|host| format!("&host={}", encoded(host)));
    format!("/api/tunnels?limit={limit}{}{}", client.unwrap_or_default(), host.unwrap_or_default())
}

/// # Errors
/// With what would be valid.
pub(super) fn client(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|address| address.to_canonical());
    address.map_err(|_| "expected the IP address of a client, such as 10.20.30.40".to_owned())
}

fn clients(text: &str) -> Result<String, String> {
    match text.parse::<IpNet>() {
        Ok(network) => Ok(network.to_string()),
        Err(_) => client(text)
            .map(|address| address.to_string())
            .map_err(|why| format!("{why}, or a network, such as 10.20.0.0/16")),
    }
}

fn host(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|pattern| pattern.to_string()).map_err(|error| error.to_string())
}
