//! From the start of a process to its end: what it serves, how its listeners move, what it says.

mod ends;
mod moves;
mod paths;
mod starts;

use std::net::SocketAddr;

use crate::support::{Answer, Raw, Upstream};

const TARGET: &str = "good.example:443";
const SUCCESSFUL: &str = "ccpgate_config_last_reload_successful";
const TLS_FILES: &str = "ccpgate_tls_files_last_load_successful";

fn rules(upstream: &Upstream) -> String {
    format!("[[allow]]\npattern = \"good.example\"\n{}", upstream.for_targets(&[TARGET]))
}

fn at(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut client = Raw::connect(address);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"));
    if method == "HEAD" { client.read_head() } else { client.read_answer() }
}
