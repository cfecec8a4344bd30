//! The region's name server: it knows the hosts of signalling alone; all others are reached by
//! `egress.connect_to`. Over UDP, with a time to live of zero.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::faults::{Fault, Faults};

/// Where the name of a signalling host leads.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Where the region answers.
    pub open: Ipv4Addr,
    /// Where nobody listens.
    pub refused: Ipv4Addr,
    /// Where nobody answers.
    pub silent: Ipv4Addr,
}

/// Answers for the hosts below `zone`, until it is dropped.
pub(super) async fn serve(socket: UdpSocket, zone: Name, places: Places, faults: Arc<Faults>) -> Infallible {
    let mut packet = [0; 1500];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut packet).await else { continue };
        if let Some(answer) = answer(&packet[..length], &zone, places, &faults) {
            send(&socket, &answer, client).await;
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    // A client that has gone is not missed.
    let _ = socket.send_to(answer, client).await;
}

/// None: silence.
fn answer(packet: &[u8], zone: &Name, places: Places, faults: &Faults) -> Option<Vec<u8>> {
    let query = Message::from_vec(packet).ok()?;
    let [question] = query.queries.as_slice() else { return None };
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let name = question.name();
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    let key = name.to_lowercase().to_ascii();
    if !zone.zone_of(name) || faults.hits(Fault::DnsNxdomain, &key) {
        answer.metadata.response_code = ResponseCode::NXDomain;
    } else if faults.hits(Fault::DnsTimeout, &key) {
        return None;
    } else if (question.query_class(), question.query_type()) == (DNSClass::IN, RecordType::A) {
        let address = match () {
            () if faults.hits(Fault::TcpRefused, &key) => places.refused,
            () if faults.hits(Fault::TcpTimeout, &key) => places.silent,
            () => places.open,
        };
        answer.add_answer(Record::from_rdata(name.clone(), 0, RData::A(A(address))));
    }
    answer.to_vec().ok()
}
