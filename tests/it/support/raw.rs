//! A client that sends the very bytes it is told to, and reads answers strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::{ClientConnection, HandshakeKind};
use serde::de::DeserializeOwned;

use super::{PATIENCE, Proxy};

/// One HTTP/1.1 response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// Status line and fields as they came, without the empty line.
    pub head: String,
    fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| {
            let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
            rest.get(..3)?.parse().ok()
        });
        let status = status.unwrap_or_else(|| panic!("not a status line: {head:?}"));
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self { status, head: head.to_owned(), fields, body: Vec::new() }
    }

    /// The value of a field; fails when the field comes twice.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "two fields {name}: {}", self.head);
        first
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in:\n{}", self.text()))
    }

    /// A parameter of `Proxy-Status`, without its quotes: `error`, `details`, `rcode`.
    pub(crate) fn proxy_status(&self, parameter: &str) -> Option<&str> {
        let value = self.field("proxy-status")?;
        let mut parameters = value.split(';').skip(1).filter_map(|p| p.trim().split_once('='));
        parameters.find(|(name, _)| *name == parameter).map(|(_, value)| value.trim_matches('"'))
    }
}

/// A connection to the proxy, over TLS or not; every read and write has a time limit.
pub(crate) struct Raw {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    buffer: Vec<u8>,
}

impl Raw {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// From another local address: another client, to the proxy.
    #[track_caller]
    pub(crate) fn connect_from(local: IpAddr, address: SocketAddr) -> Self {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = socket(family, SocketType::STREAM, None).unwrap();
        bind(&fd, &SocketAddr::new(local, 0)).unwrap();
        connect(&fd, &address).unwrap();
        Self::of(TcpStream::from(fd))
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, tls: None, buffer: Vec::new() }
    }

    /// Makes a TLS handshake; everything after it goes through TLS.
    ///
    /// # Errors
    /// When the handshake fails on this side, or the other one closes within it. Under TLS 1.3 the
    /// server's verdict on a client certificate comes later, at the first read.
    pub(crate) fn secure(mut self, mut tls: ClientConnection) -> io::Result<Self> {
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// Whether the TLS session was resumed.
    #[track_caller]
    pub(crate) fn resumed(&self) -> bool {
        self.tls.as_ref().unwrap().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the proxy showed, or that the resumed session had begun with.
    #[track_caller]
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.tls.as_ref().unwrap().peer_certificates().unwrap()[0].to_vec()
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends everything; that the other side has closed already shows when reading.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.write_all(bytes.as_ref()) {
            let gone = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            assert!(gone, "sending: {error}");
        }
    }

    /// Sends byte by byte, each in a segment of its own.
    #[track_caller]
    pub(crate) fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Asks for a tunnel and reads the head of the answer (all of the answer, when it is a refusal).
    #[track_caller]
    pub(crate) fn connect_target(&mut self, target: &str) -> Answer {
        self.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        self.read_answer_to_connect()
    }

    #[track_caller]
    pub(crate) fn read_answer_to_connect(&mut self) -> Answer {
        let head = self.read_head();
        if (200..300).contains(&head.status) { head } else { self.read_body(head) }
    }

    /// Reads up to and with the empty line.
    #[track_caller]
    pub(crate) fn read_head(&mut self) -> Answer {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
                return Answer::parse(&head[..end]);
            }
            match self.fill() {
                Ok(0) => {
                    panic!("closed instead of an answer; got {:?}", String::from_utf8_lossy(&self.buffer))
                }
                Ok(_) => {}
                Err(error) => panic!("no answer: {error}; got {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }

    /// Reads a whole response: by Content-Length, or else to the end.
    #[track_caller]
    pub(crate) fn read_answer(&mut self) -> Answer {
        let head = self.read_head();
        self.read_body(head)
    }

    #[track_caller]
    fn read_body(&mut self, mut answer: Answer) -> Answer {
        assert_eq!(answer.field("transfer-encoding"), None, "nothing here needs chunks");
        answer.body = match answer.field("content-length") {
            Some(length) => self.read_exactly(length.parse().unwrap()),
            None => self.read_to_end().unwrap_or_else(|error| panic!("body: {error}")),
        };
        answer
    }

    #[track_caller]
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            match self.fill() {
                Ok(0) => panic!("closed after {} of {count} bytes", self.buffer.len()),
                Ok(_) => {}
                Err(error) => panic!("{error} after {} of {count} bytes", self.buffer.len()),
            }
        }
        self.buffer.drain(..count).collect()
    }

    /// The same; none when the connection ends before, politely or not.
    #[track_caller]
    pub(crate) fn try_read_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            match self.fill() {
                Ok(1..) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came for {PATIENCE:?}")
                }
                Ok(0) | Err(_) => return None,
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Everything up to the other side's FIN.
    ///
    /// # Errors
    /// When the connection is reset or the time limit passes.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// The other side has closed, and sent nothing more before.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => panic!("expected a clean end: {error}"),
        }
    }

    /// The other side has gone, politely or not, and sent nothing more before.
    #[track_caller]
    pub(crate) fn expect_gone(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// The other side has reset the connection.
    #[track_caller]
    pub(crate) fn expect_reset(&mut self) {
        match self.read_to_end() {
            Ok(_) => panic!("expected a reset, got a clean end"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Nothing comes for this long, and the connection stays open.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, time: Duration) {
        assert!(self.buffer.is_empty(), "came already: {:?}", String::from_utf8_lossy(&self.buffer));
        self.stream.set_read_timeout(Some(time)).unwrap();
        let got = self.read_some(&mut [0; 1]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match got {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("expected silence, got {other:?}"),
        }
    }

    /// Sends these bytes and waits for them to come back.
    #[track_caller]
    pub(crate) fn expect_echo(&mut self, bytes: &[u8]) {
        self.send(bytes);
        let got = self.read_exactly(bytes.len());
        super::assert_same_bytes(&got, bytes);
    }

    /// Writes until every buffer on the way to somebody who doesn't read is full. How much they hold is
    /// the kernel's business (`tcp_rmem`, `tcp_wmem`), and a pause on a busy machine isn't the end: that
    /// has come when the proxy has moved nothing between two pauses either.
    #[track_caller]
    pub(crate) fn stuff(&mut self, proxy: &Proxy) {
        const MOST: usize = 1 << 30;
        let pause = Some(Duration::from_millis(300));
        self.stream.set_write_timeout(pause).unwrap();
        // A TLS client tries to read where it can't write.
        self.stream.set_read_timeout(pause).unwrap();
        let (chunk, mut written, mut moved) = (vec![0; 1 << 20], 0, None);
        loop {
            match self.write(&chunk) {
                Ok(count) => written += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let now = proxy.metrics().sum("ccpgate_tunnel_bytes_total");
                    if moved.replace(now) == Some(now) {
                        break;
                    }
                }
                Err(error) => panic!("{error} after {written} bytes"),
            }
            assert!(written < MOST, "{written} bytes vanished into buffers");
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Changes the keys of a TLS connection, and asks the other side to do so.
    ///
    /// # Errors
    /// When that has gone.
    pub(crate) fn update_keys(&mut self) -> io::Result<()> {
        self.tls.as_mut().unwrap().refresh_traffic_keys().unwrap();
        self.flush()
    }

    /// FIN, after TLS's own farewell: this side has nothing more to say.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut self.stream);
        }
        // An error means that the other side has gone, which shows when reading.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// RST.
    pub(crate) fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = self.read_some(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(into),
            None => self.stream.read(into),
        }
    }
}

/// Plain reading and writing, for a TLS or WebSocket client on top.
impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            return self.read_some(into);
        }
        let count = into.len().min(self.buffer.len());
        into[..count].copy_from_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        Ok(count)
    }
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write(bytes),
            None => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).flush(),
            None => Ok(()),
        }
    }
}
