//! The region's media endpoint: STUN and TURN over UDP. Dummy credentials get their 401, good ones an
//! allocation that really relays.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use turn_server_proto::api::{SocketAllocateError, Transmit, TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::types::AddressFamily;
use turn_server_proto::types::prelude::DelayedTransmitBuild;
use turn_server_proto::types::stun::TransportType;

use super::faults::{Fault, Faults};

/// Who may have an allocation.
pub(crate) const USER: &str = "agent";
pub(crate) const PASSWORD: &str = "simulated";
/// Allocations at a time.
const ALLOCATIONS: usize = 4096;
/// Datagrams of peers that wait; those beyond are dropped, as UDP is.
const WAITING: usize = 1024;

/// A datagram that came to an allocation.
struct Heard {
    at: SocketAddr,
    from: SocketAddr,
    data: Vec<u8>,
}

/// The media endpoint and its allocations.
struct Endpoint {
    socket: UdpSocket,
    own: SocketAddr,
    server: TurnServer,
    relays: HashMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)>,
    heard: mpsc::Sender<Heard>,
}

/// Serves on a socket with this address, until it is dropped.
pub(super) async fn serve(socket: UdpSocket, own: SocketAddr, faults: Arc<Faults>) -> Infallible {
    let mut server = TurnServer::new(TransportType::Udp, own, "simulated.example".to_owned());
    server.add_user(USER.to_owned(), PASSWORD.to_owned());
    let (heard, mut peers) = mpsc::channel(WAITING);
    let mut endpoint = Endpoint { socket, own, server, relays: HashMap::new(), heard };
    let epoch = Instant::now();
    let now = || turn_server_proto::stun::Instant::from_std(epoch);
    let mut packet = vec![0; 64 * 1024];
    loop {
        let until = endpoint.proceed(now()).await;
        let pause = until.saturating_duration_since(now());
        tokio::select! {
            received = endpoint.socket.recv_from(&mut packet) => {
                // An ICMP error of an answer: that client has gone.
                let Ok((length, client)) = received else { continue };
                // A call keeps its port: all its packets, or none.
                if !faults.hits(Fault::UdpBlocked, client) {
                    endpoint.take(&packet[..length], client, own, now()).await;
                }
            }
            Some(Heard { at, from, data }) = peers.recv() => endpoint.take(&data, from, at, now()).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.relays.values().for_each(|(_, task)| task.abort());
    }
}

type Now = turn_server_proto::stun::Instant;

impl Endpoint {
    async fn take(&mut self, data: &[u8], from: SocketAddr, to: SocketAddr, now: Now) {
        let heard = Transmit::new(data, TransportType::Udp, from, to);
        if let Some(answer) = self.server.recv(heard, now) {
            let (from, to) = (answer.from, answer.to);
            self.send(&answer.data.build(), from, to).await;
        }
    }

    async fn send(&self, data: &[u8], from: SocketAddr, to: SocketAddr) {
        let socket = match self.relays.get(&from) {
            Some((relay, _)) => relay,
            None if from == self.own => &self.socket,
            None => return,
        };
        // As UDP: sent or not.
        let _ = socket.send_to(data, to).await;
    }

    /// Does what the protocol asks for; returns when to ask again.
    async fn proceed(&mut self, now: Now) -> Now {
        loop {
            while let Some(Transmit { data, from, to, .. }) = self.server.poll_transmit(now) {
                self.send(&data, from, to).await;
            }
            match self.server.poll(now) {
                TurnServerPollRet::WaitUntil(until) => {
                    if let Some(Transmit { data, from, to, .. }) = self.server.poll_transmit(now) {
                        self.send(&data, from, to).await;
                        continue;
                    }
                    return until;
                }
                TurnServerPollRet::AllocateSocket {
                    transport,
                    listen_addr,
                    client_addr,
                    allocation_transport,
                    family,
                } => {
                    let made = self.allocate(allocation_transport, family).await;
                    self.server.allocated_socket(
                        transport,
                        listen_addr,
                        client_addr,
                        allocation_transport,
                        family,
                        made,
                        now,
                    );
                }
                TurnServerPollRet::SocketClose { listen_addr, .. } => {
                    if let Some((_, task)) = self.relays.remove(&listen_addr) {
                        task.abort();
                    }
                }
                // Calls are relayed over UDP alone: no allocation over TCP was made.
                TurnServerPollRet::TcpConnect { .. } | TurnServerPollRet::TcpClose { .. } => {}
            }
        }
    }

    async fn allocate(
        &mut self,
        transport: TransportType,
        family: AddressFamily,
    ) -> Result<SocketAddr, SocketAllocateError> {
        if family != AddressFamily::IPV4 || transport != TransportType::Udp {
            return Err(SocketAllocateError::AddressFamilyNotSupported);
        }
        if self.relays.len() >= ALLOCATIONS {
            return Err(SocketAllocateError::InsufficientCapacity);
        }
        let full = |_| SocketAllocateError::InsufficientCapacity;
        let relay = Arc::new(UdpSocket::bind((self.own.ip(), 0)).await.map_err(full)?);
        let at = relay.local_addr().map_err(full)?;
        let (heard, reading) = (self.heard.clone(), relay.clone());
        let task = tokio::spawn(async move {
            let mut packet = vec![0; 2048];
            while let Ok((length, from)) = reading.recv_from(&mut packet).await {
                let _ = heard.try_send(Heard { at, from, data: packet[..length].to_vec() });
            }
        });
        self.relays.insert(at, (relay, task.abort_handle()));
        Ok(at)
    }
}
