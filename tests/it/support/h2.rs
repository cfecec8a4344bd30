//! HTTP/2 clients of the TLS listener: an honest one, on the h2 crate, and one that writes any
//! frames it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::response::Parts;
use http::{Method, Request};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Agent, NAME, PATIENCE, Proxy, Raw, assert_same_bytes};

/// Awaits something within the bound of all tests.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for: {what}"))
}

/// A connection of a browser, and its streams.
pub(crate) struct H2 {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
    pub local: SocketAddr,
    pub resumed: bool,
}

impl H2 {
    pub(crate) async fn connect(proxy: &Proxy, agent: &Agent) -> Self {
        // As Chrome: windows that no single stream fills.
        let mut builder = Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(64 << 20);
        Self::connect_with(proxy.https(), agent, &builder).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, agent: &Agent, builder: &Builder) -> Self {
        Self::connect_offering(address, agent, builder, &["h2", "http/1.1"]).await
    }

    /// The same with these protocols on offer, of which HTTP/2 must be chosen.
    pub(crate) async fn connect_offering(
        address: SocketAddr,
        agent: &Agent,
        builder: &Builder,
        protocols: &[&str],
    ) -> Self {
        let agent = agent.clone().alpn(protocols);
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let local = stream.local_addr().unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let connector = TlsConnector::from(Arc::clone(&agent.config()));
        let tls = soon("a handshake", connector.connect(name, stream)).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let resumed = tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let (requests, connection) = soon("the preface", builder.handshake(tls)).await.unwrap();
        Self { requests, driver: tokio::spawn(connection), local, resumed }
    }

    /// Sends a request's header and reads the answer's; the streams behind them come along.
    ///
    /// # Errors
    /// With the reset of the stream, or the end of the connection.
    pub(crate) async fn ask(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> Result<(Parts, H2Tunnel), h2::Error> {
        let mut requests = soon("room for a stream", self.requests.clone().ready()).await?;
        let (response, send) = requests.send_request(request, end)?;
        let (parts, receive) = soon("an answer", response).await?.into_parts();
        Ok((parts, H2Tunnel { send, receive, rest: Bytes::new() }))
    }

    /// What sends requests with a body of their own.
    pub(crate) async fn sender(&self) -> SendRequest<Bytes> {
        soon("room for a stream", self.requests.clone().ready()).await.unwrap()
    }

    /// Asks for a tunnel.
    ///
    /// # Errors
    /// As of [`H2::ask`].
    pub(crate) async fn connect_target(&mut self, target: &str) -> Result<(Parts, H2Tunnel), h2::Error> {
        self.ask(connect_request(target), false).await
    }

    /// A tunnel to `target`; fails unless the answer is 200.
    pub(crate) async fn tunnel(&mut self, target: &str) -> H2Tunnel {
        let (parts, tunnel) = self.connect_target(target).await.unwrap();
        assert_eq!(parts.status, 200, "CONNECT {target}: {parts:?}");
        tunnel
    }

    /// Streams that the proxy allows at once, as far as it has said.
    pub(crate) fn allowed_streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// Closes the connection without a word.
    pub(crate) fn leave(self) {
        self.driver.abort();
    }

    /// The connection's end.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        soon("the connection's end", self.driver).await.unwrap()
    }
}

pub(crate) fn connect_request(target: &str) -> Request<()> {
    Request::builder().method(Method::CONNECT).uri(target).body(()).unwrap()
}

/// A stream with a tunnel in it, or an answer's body.
pub(crate) struct H2Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    rest: Bytes,
}

impl H2Tunnel {
    /// Sends everything, as fast as the proxy grants room.
    ///
    /// # Errors
    /// When the stream is reset meanwhile.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), h2::Error> {
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            self.send.reserve_capacity(rest.len());
            let granted = std::future::poll_fn(|cx| self.send.poll_capacity(cx)).await;
            let room = granted.unwrap_or(Ok(0))?.min(rest.len());
            if room > 0 {
                self.send.send_data(rest.split_to(room), false)?;
            }
        }
        Ok(())
    }

    /// The next bytes; none at the end of the stream.
    ///
    /// # Errors
    /// With the reset of the stream.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, h2::Error> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let Some(data) = self.receive.data().await.transpose()? else { return Ok(None) };
        self.receive.flow_control().release_capacity(data.len())?;
        Ok(Some(data))
    }

    pub(crate) async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let mut data =
                self.read().await.unwrap().unwrap_or_else(|| panic!("ended after {}", bytes.len()));
            bytes.extend_from_slice(&data.split_to(data.len().min(count - bytes.len())));
            self.rest = data;
        }
        bytes
    }

    /// Everything up to the end of the stream.
    ///
    /// # Errors
    /// With the reset of the stream.
    pub(crate) async fn read_to_end(&mut self) -> Result<Vec<u8>, h2::Error> {
        let mut bytes = Vec::new();
        while let Some(data) = soon("more, or the end", self.read()).await? {
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    pub(crate) async fn expect_echo(&mut self, bytes: &[u8]) {
        self.send(bytes).await.unwrap();
        let got = soon("an echo", self.read_exactly(bytes.len())).await;
        assert_same_bytes(&got, bytes);
    }

    /// END_STREAM: this side has nothing more to say.
    pub(crate) fn finish(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// RST_STREAM.
    pub(crate) fn reset(mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// The proxy resets the stream, for this reason.
    pub(crate) async fn expect_reset(mut self) -> Option<Reason> {
        loop {
            match soon("a reset", self.read()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("expected a reset, got a clean end"),
                Err(error) => return error.reason(),
            }
        }
    }

    /// Nothing comes for this long.
    pub(crate) async fn expect_silence(&mut self, time: Duration) {
        let got = timeout(time, self.read()).await;
        assert!(got.is_err(), "expected silence, got {got:?}");
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame (RFC 9113 §4.1).
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// The code of RST_STREAM, or of GOAWAY.
    pub(crate) fn code(&self) -> Reason {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()).into()
    }
}

/// RFC 7541 §6.2.2: literal fields without indexing, names and values as they stand.
pub(crate) fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    fn text(block: &mut Vec<u8>, text: &str) {
        // §5.1: a length in a prefix of 7 bits.
        match u8::try_from(text.len()) {
            Ok(length @ ..127) => block.push(length),
            _ => {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
        }
        block.extend_from_slice(text.as_bytes());
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A client that writes frames as a test says and sees those that come.
pub(crate) struct Frames {
    raw: Raw,
}

impl Frames {
    /// Sends the preface with empty settings.
    #[track_caller]
    pub(crate) fn connect(proxy: &Proxy, agent: &Agent) -> Self {
        let mut raw = agent.clone().alpn(&["h2"]).connect(proxy);
        raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(Frame::encode(SETTINGS, 0, 0, &[]));
        Self { raw }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw.send(Frame::encode(kind, flags, stream, payload));
    }

    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.raw.send(bytes);
    }

    /// A request's header.
    #[track_caller]
    pub(crate) fn request(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send(HEADERS, END_HEADERS | flags, stream, &header_block(fields));
    }

    /// The next frame; none at the end of the connection, however that came.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let head = self.raw.try_read_exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let payload = self.raw.try_read_exactly(length)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind on this stream; others before it are dropped.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            match self.next() {
                Some(frame) if frame.kind == kind && frame.stream == stream => return frame,
                Some(frame) if frame.kind == GOAWAY => panic!("GOAWAY {:?}", frame.code()),
                Some(_) => {}
                None => panic!("the connection ended, no frame {kind} on stream {stream}"),
            }
        }
    }

    /// Pings, and waits for the answer: the connection lives, and all before it was read.
    #[track_caller]
    pub(crate) fn expect_alive(&mut self) {
        self.send(PING, 0, 0, b"are you?");
        while {
            let frame = self.expect(PING, 0);
            frame.flags != ACK || frame.payload != b"are you?"
        } {}
    }
}
