//! Where packets to a silent address end: datagrams whose hops are used up one router further each time.
//! Every router that drops such a packet says so (RFC 1812 section 5.3.1), and the kernel passes that on
//! without privileges. Routers that say nothing leave gaps; where all do, nothing is known.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::stun::{Ask, Request};
use crate::egress::Egress;
use crate::net::icmp::{self, What};

/// As far as it is looked; paths on the Internet are shorter.
const FARTHEST: u8 = 30;
/// How often each router is asked, and how long its answer may take.
const TIMES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(750);

/// The last router on the way to an address that gave a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastHop {
    /// 1 is the router next to this machine.
    pub hop: u8,
    pub router: IpAddr,
}

/// Asks all routers on the way at once. Takes 1.5 s at most; none where none of them answers.
pub(crate) async fn last_hop(egress: &Egress, address: SocketAddr) -> Option<LastHop> {
    let until = Instant::now() + PAUSE * TIMES;
    let asked = (1..=FARTHEST).map(|hop| async move {
        let socket = egress.datagrams(address).ok()?;
        icmp::keep(&socket).ok()?;
        icmp::set_hops(&socket, hop).ok()?;
        let router = timeout_at(until, expired(&socket)).await.ok()??;
        Some(LastHop { hop, router })
    });
    join_all(asked).await.into_iter().flatten().max_by_key(|found| found.hop)
}

/// Who says that a packet's hops are used up; none where something else is said.
async fn expired(socket: &UdpSocket) -> Option<IpAddr> {
    loop {
        let until = Instant::now() + PAUSE;
        // What a media endpoint is asked, lest a filter tell the two apart.
        let _ = socket.try_send(&Request::new(Ask::Binding).packet());
        while let Ok(Ok(_)) = timeout_at(until, socket.ready(Interest::ERROR)).await {
            let queue = || icmp::next(socket).map_err(|_| std::io::ErrorKind::WouldBlock.into());
            match socket.try_io(Interest::ERROR, queue) {
                Ok(report) => return report.by.filter(|_| report.what == What::Expired),
                Err(_) => tokio::task::consume_budget().await,
            }
        }
    }
}
