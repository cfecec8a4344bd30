//! HAProxy before two replicas, and agents that reconnect through it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Proxy, Secured, Upstream, eventually, fleet, handshakes, ticket_keys};

/// HAProxy on Unix sockets, so that it needs no port: one for clients, one to be told things.
struct Balancer {
    child: Child,
    door: PathBuf,
    orders: PathBuf,
}

impl Balancer {
    fn start(secured: &Secured, replicas: [&Proxy; 2]) -> Self {
        let (door, orders) = (secured.path("door"), secured.path("orders"));
        let config = format!(
            "global\n    stats socket {} level admin\n\
             defaults\n    mode tcp\n    balance roundrobin\n    option redispatch 1\n    retries 3\n    \
             timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n\
             listen proxies\n    bind unix@{}\n    server one {}\n    server two {}\n",
            orders.display(),
            door.display(),
            replicas[0].https(),
            replicas[1].https(),
        );
        std::fs::write(secured.path("haproxy.cfg"), config).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(secured.path("haproxy.cfg"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let balancer = Self { child, door, orders };
        eventually("HAProxy's sockets", || UnixStream::connect(&balancer.orders).ok());
        balancer
    }

    /// Sends the connections of the second replica to another one.
    fn second_is_now(&self, replica: &Proxy) {
        let mut socket = UnixStream::connect(&self.orders).unwrap();
        let order = format!("set server proxies/two addr 127.0.0.1 port {}\n", replica.https().port());
        socket.write_all(order.as_bytes()).unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        assert!(said.contains("port changed"), "{said}");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Agents that keep one session each, over two replicas of which one is restarted half-way. Returns
/// connections, and how many resumed.
pub(crate) fn behind_a_balancer(agents: (usize, usize, usize), version: &str) -> (usize, usize) {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let keys = ticket_keys(&[&secured.ticket_key("shared.key")]);
    let one = secured.start(&upstream, &keys, "");
    let mut two = Some(secured.start(&upstream, &keys, ""));
    let balancer = Balancer::start(&secured, [&one, two.as_ref().unwrap()]);
    let door = balancer.door.display().to_string();
    let mut again = None;
    let result = fleet(&secured, &[door], agents, version, || {
        drop(two.take());
        let restarted = secured.start(&upstream, &keys, "");
        balancer.second_is_now(&restarted);
        again = Some(restarted);
    });
    // Both took part.
    for replica in [&one, again.as_ref().unwrap()] {
        let (_, resumed) = handshakes(&replica.metrics());
        assert!(resumed as usize >= result.0 / 4, "{resumed} of {}", result.0);
    }
    result
}
