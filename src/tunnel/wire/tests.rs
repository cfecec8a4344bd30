//! Ends over TLS and HTTP/2 by themselves: how much one call moves, and what a connection holds meanwhile.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ::h2::{Reason, SendStream};
use bytes::Bytes;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::arrival::Arrival;
use super::buffer::SIZE;
use super::h2::H2Wire;
use super::tls::TlsWire;
use super::turns::Turns;
use super::*;
use crate::tunnel::relay::{End, Meter, Moved, Patience, Relay, Side};

/// More than two TLS records, and less than one read takes.
const SEVERAL: usize = 40_000;
/// What TLS 1.3 with AES-GCM adds to a record.
const OVERHEAD: usize = 22;

/// Both ends of a TLS connection, the server's as the end of a tunnel.
async fn pair() -> (TlsWire, TlsStream<TcpStream>) {
    let made = rcgen::generate_simple_self_signed(["proxy.example".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = crate::tls::config::provider();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connect = async {
        let name = ServerName::try_from("proxy.example").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
    };
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        Arrival::new(stream).accept(Arc::new(server)).await.map_err(|(error, _)| error).unwrap()
    };
    let (mut client, mut server) = tokio::join!(connect, accept);
    // Session tickets have come, too.
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    (server, client)
}

/// Bytes whose place shows.
fn numbered(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

async fn read_once(wire: &mut impl Wire, buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| wire.poll_recv(cx, buffer)).await
}

#[tokio::test]
async fn one_read_takes_all_records_that_have_come() {
    let (mut server, mut client) = pair().await;
    let sent = numbered(SEVERAL);
    client.write_all(&sent).await.unwrap();
    client.flush().await.unwrap();
    let mut whole = vec![0; 2 * SEVERAL];
    while server.tcp().peek(&mut whole).await.unwrap() < SEVERAL + 3 * OVERHEAD {}
    let n = read_once(&mut server, &mut whole).await.unwrap();
    assert!(whole[..n] == sent, "{n} bytes of {SEVERAL}");
    assert!(server.held() == 0, "a quiet connection holds no buffer");
}

#[tokio::test]
async fn what_was_read_ahead_comes_in_order_and_before_the_end() {
    let (mut server, mut client) = pair().await;
    let sent = numbered(SEVERAL);
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut whole = vec![0; 2 * SEVERAL];
    while server.tcp().peek(&mut whole).await.unwrap() < SEVERAL + 3 * OVERHEAD {}
    let (mut got, mut few) = (Vec::new(), [0; 1000]);
    loop {
        match read_once(&mut server, &mut few).await.unwrap() {
            0 => break,
            n => got.extend_from_slice(&few[..n]),
        }
        assert!(server.held() > 0 || got.len() + 16 * 1024 >= SEVERAL);
    }
    assert!(got == sent, "{} bytes of {SEVERAL}", got.len());
    assert!(server.held() == 0);
}

/// Reads as long as there is something; what came.
async fn read_what_is_there(wire: &mut impl Wire) -> usize {
    let (mut buffer, mut all) = (vec![0; SIZE], 0);
    poll_fn(|cx| {
        loop {
            match wire.poll_recv(cx, &mut buffer) {
                Poll::Ready(n) => all += n.unwrap(),
                Poll::Pending => return Poll::Ready(all),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_quiet_connection_holds_no_buffer_and_half_a_record_holds_itself() {
    let (mut server, mut client) = pair().await;
    assert_eq!(server.held(), 0, "after the handshake");
    client.write_all(&[7; 3000]).await.unwrap();
    client.flush().await.unwrap();
    server.tcp().readable().await.unwrap();
    assert_eq!(read_what_is_there(&mut server).await, 3000);
    server.write_all(&[7; 3000]).await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(server.held(), 0, "after a message each way");

    // Application data of 16,000 bytes, of which few come.
    let mut half = vec![0; 1000];
    half[..5].copy_from_slice(&[23, 3, 3, 0x3e, 0x80]);
    client.get_mut().0.write_all(&half).await.unwrap();
    server.tcp().readable().await.unwrap();
    assert_eq!(read_what_is_there(&mut server).await, 0);
    assert_eq!(server.held(), half.len());
}

#[tokio::test]
async fn a_spoilt_record_is_answered_with_its_alert_and_ends_the_connection() {
    let (mut server, mut client) = pair().await;
    client.write_all(b"before").await.unwrap();
    client.flush().await.unwrap();
    let mut spoilt = vec![0; 205];
    spoilt[..5].copy_from_slice(&[23, 3, 3, 0, 200]);
    client.get_mut().0.write_all(&spoilt).await.unwrap();
    let mut buffer = [0; 100];
    while server.tcp().peek(&mut [0; 500]).await.unwrap() < 6 + OVERHEAD + spoilt.len() {}
    assert_eq!(read_once(&mut server, &mut buffer).await.unwrap(), 6, "what came before is given first");
    for _ in 0..2 {
        let error = read_once(&mut server, &mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(server.write_all(b"x").await.is_err());
    }
    let told = client.read_u8().await.unwrap_err();
    assert!(told.to_string().contains("BadRecordMac"), "{told}");
}

#[tokio::test]
async fn new_keys_of_either_side_change_nothing_for_the_tunnel() {
    let (mut server, mut client) = pair().await;
    for round in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        let sent = numbered(SEVERAL);
        let both = async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            let mut back = vec![0; SEVERAL];
            client.read_exact(&mut back).await.unwrap();
            back
        };
        let echo = async {
            let mut got = vec![0; SEVERAL];
            server.read_exact(&mut got).await.unwrap();
            server.write_all(&got).await.unwrap();
            server.flush().await.unwrap();
        };
        let (back, ()) = tokio::join!(both, echo);
        assert!(back == sent, "round {round}");
    }
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn a_reader_with_little_room_gets_all_of_a_record() {
    let (mut server, mut client) = pair().await;
    let sent = numbered(SEVERAL);
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    // Writes between the reads see to what was received, too.
    while got.len() < SEVERAL {
        let mut few = [0; 700];
        let n = read_once(&mut server, &mut few).await.unwrap();
        assert!(n > 0, "ended after {} bytes", got.len());
        got.extend_from_slice(&few[..n]);
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        assert!(server.held() <= 2 * SIZE, "{} bytes", server.held());
    }
    assert!(got == sent);
    assert_eq!(read_once(&mut server, &mut [0]).await.unwrap(), 0);
    assert_eq!(server.held(), 0);
}

/// What has come is as good as endless: so it looks where a client never pauses.
#[tokio::test]
async fn a_task_that_reads_on_and_on_lets_others_have_their_turn() {
    let (mut server, mut client) = pair().await;
    client.write_all(&numbered(SEVERAL)).await.unwrap();
    client.flush().await.unwrap();
    while server.tcp().peek(&mut vec![0; 2 * SEVERAL]).await.unwrap() < SEVERAL + 3 * OVERHEAD {}
    let mut read = 0;
    let mut read_on = async || {
        poll_fn(|cx| {
            while let Poll::Ready(n) = server.poll_recv(cx, &mut [0]) {
                read += n.unwrap();
            }
            Poll::Ready(read)
        })
        .await
    };
    assert!(read_on().await < SEVERAL, "all was read in one turn");
    while read_on().await < SEVERAL {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_written_in_a_turn_goes_out_at_its_end() {
    let (server, mut client) = pair().await;
    let (turns, mut gathered) = Turns::of(server);
    let sent = numbered(SEVERAL);
    poll_fn(|cx| {
        turns.take(cx, |cx| {
            for part in sent.chunks(1000) {
                let slices = [IoSlice::new(&part[..9]), IoSlice::new(&part[9..])];
                let written = Pin::new(&mut gathered).poll_write_vectored(cx, &slices);
                assert!(matches!(written, Poll::Ready(Ok(1000))), "{written:?}");
                assert!(Pin::new(&mut gathered).poll_flush(cx).is_ready());
                let early = client.get_ref().0.try_read(&mut [0]).unwrap_err();
                assert_eq!(early.kind(), io::ErrorKind::WouldBlock, "sent within the turn");
            }
            Poll::Ready(())
        })
    })
    .await;
    let mut got = vec![0; SEVERAL];
    client.read_exact(&mut got).await.unwrap();
    assert!(got == sent);
    assert!(turns.held() == 0, "what is empty is given back");
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_no_more_than_is_said() {
    let (server, mut client) = pair().await;
    let (turns, mut gathered) = Turns::of(server);
    let part = numbered(16 * 1024);
    let mut written = 0;
    // The kernel's buffers first; then nothing more is taken, in this turn or in the next.
    for _ in 0..3 {
        poll_fn(|cx| {
            turns.take(cx, |cx| {
                while let Poll::Ready(n) =
                    Pin::new(&mut gathered).poll_write(cx, &part[written % part.len()..])
                {
                    written += n.unwrap();
                }
                Poll::Ready(())
            })
        })
        .await;
    }
    let full = written;
    let held = turns.held();
    assert!(held > 0 && held <= SIZE, "{held} bytes");
    let read = async {
        let mut got = vec![0; full];
        client.read_exact(&mut got).await.unwrap();
        got
    };
    let send = async { poll_fn(|cx| turns.poll_sent(cx)).await.unwrap() };
    let (got, ()) = tokio::join!(read, send);
    assert!(got.chunks(part.len()).all(|chunk| *chunk == part[..chunk.len()]));
    assert!(turns.held() == 0);
}

#[tokio::test]
async fn the_last_words_of_a_client_that_takes_nothing_more_are_read() {
    let (mut server, mut client) = pair().await;
    let part = numbered(16 * 1024);
    poll_fn(|cx| {
        while let Poll::Ready(n) = Pin::new(&mut server).poll_write(cx, &part) {
            n.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    assert!(server.held() > 0, "there is something that can't be sent");
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    // Behind its orderly end a reset, since it leaves so much unread.
    drop(client);
    server.gone().await;
    let mut buffer = [0; 100];
    let n = read_once(&mut server, &mut buffer).await.unwrap();
    assert_eq!(buffer[..n], *b"last words");
    assert!(read_once(&mut server, &mut buffer).await.is_err(), "then the reset");
}

/// A tunnel's stream of HTTP/2: the client's two halves, and the server's end. Nothing moves while the test's
/// own task has its turn.
async fn stream() -> (SendStream<Bytes>, ::h2::client::ResponseFuture, H2Wire) {
    let (client_end, server_end) = tokio::io::duplex(1 << 20);
    let (client, server) =
        tokio::join!(::h2::client::handshake(client_end), ::h2::server::handshake(server_end));
    let ((mut client, connection), mut server) = (client.unwrap(), server.unwrap());
    tokio::spawn(connection);
    let request = http::Request::connect("a.example:443").body(()).unwrap();
    let (answer, body) = client.send_request(request, false).unwrap();
    let (request, mut respond) = server.accept().await.unwrap().unwrap();
    let send = respond.send_response(http::Response::new(()), false).unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    (body, answer, H2Wire::new(request.into_body(), send))
}

#[tokio::test]
async fn one_read_takes_all_frames_that_have_come() {
    let (mut body, _answer, mut wire) = stream().await;
    let sent = numbered(SEVERAL);
    body.send_data(Bytes::from(sent.clone()), false).unwrap();
    // The other tasks have done all they can when they have had so many turns.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut whole = vec![0; 2 * SEVERAL];
    let n = read_once(&mut wire, &mut whole).await.unwrap();
    assert!(whole[..n] == sent, "{n} bytes of {SEVERAL}");
}

/// Nobody counts.
struct Nobody;

impl Meter for Nobody {
    fn patience(&self) -> Patience {
        Patience { idle: std::time::Duration::ZERO, half_closed: std::time::Duration::ZERO }
    }

    fn moved(&self, _: Moved) {}
}

#[tokio::test]
async fn what_an_upstream_said_before_its_reset_arrives_before_it() {
    let (_body, answer, wire) = stream().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (upstream, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (upstream, mut far) = (upstream.unwrap(), far.unwrap().0);
    let sent = numbered(SEVERAL);
    far.write_all(&sent).await.unwrap();
    while upstream.peek(&mut vec![0; SEVERAL]).await.unwrap() < SEVERAL {}
    sockopt::reset_on_close(&far);
    drop(far);
    // Bytes and reset are both there before the relay looks, so that it has them in one turn.
    upstream.gone().await;
    let mut relay = Relay::new(wire, upstream, &[], 0);
    let end = relay.run(&Nobody).await;
    assert_eq!((end, relay.moved().received), (End::Reset(Side::Upstream), SEVERAL as u64));
    relay.finish(end).await;
    drop(relay);
    let (mut body, mut got) = (answer.await.unwrap().into_body(), Vec::new());
    let error = loop {
        match body.data().await.expect("a reset and no end") {
            Ok(data) => got.extend_from_slice(&data),
            Err(error) => break error,
        }
    };
    assert!(got == sent, "{} bytes of {SEVERAL}", got.len());
    assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
}
