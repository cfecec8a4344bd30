//! A browser's one HTTP/2 connection to a proxy, which carries all its tunnels as streams. Once the proxy
//! says that it goes away, live streams stay on it, and the next tunnel gets a connection of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::header::{PROXY_AUTHORIZATION, USER_AGENT};
use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::Stream as Secured;
use crate::egress::failure::Failure;
use crate::egress::own::Own;
use crate::egress::parent::{PROGRAM, Parent};
use crate::egress::{Egress, REFUSAL, REFUSAL_TIME, Unreached, printable};
use crate::net::h2::poll_room;
use crate::target::Target;

/// A browser's windows, as Chromium announces them: a stream's, and a connection's.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;
/// Most bytes of fields in an answer: what browsers take.
const FIELDS: u32 = 256 << 10;
/// Connections that a tunnel is asked for on, one after the other, while they go away.
const ATTEMPTS: usize = 3;
/// Longest text of an error, in characters.
const WORDS: usize = 200;

/// A proxy, and how it is dialled.
pub(super) struct Proxy<'a> {
    pub egress: &'a Egress,
    pub parent: &'a Parent,
    pub own: &'a Own,
}

impl Proxy<'_> {
    fn failed(&self, failure: Failure) -> Unreached {
        self.parent.unreached(failure)
    }

    fn lost(&self, error: &h2::Error) -> Unreached {
        self.failed(Failure::Lost(printable(&error.to_string(), WORDS)))
    }
}

/// A browser, as the proxy sees it.
pub(super) struct Shared {
    name: ServerName<'static>,
    tls: TlsConnector,
    /// The connection that takes new streams.
    current: Mutex<Option<SendRequest<Bytes>>>,
}

impl Shared {
    /// Nothing is dialled yet. None where the proxy is spoken to without TLS.
    pub(super) fn new(parent: &Parent) -> Option<Self> {
        let (tls, name) = parent.offering(&[b"h2", b"http/1.1"])?;
        Some(Self { name, tls, current: Mutex::default() })
    }

    /// The same for another browser, without a connection.
    pub(super) fn another(&self) -> Self {
        Self { name: self.name.clone(), tls: self.tls.clone(), current: Mutex::default() }
    }

    /// Whether the proxy speaks HTTP/2. Where it does, the connection is there.
    ///
    /// # Errors
    /// When it isn't reached.
    pub(super) async fn is_spoken(&self, proxy: &Proxy<'_>) -> Result<bool, Unreached> {
        let mut current = self.current.lock().await;
        *current = self.connect(proxy).await?;
        Ok(current.is_some())
    }

    /// A tunnel to `target`.
    ///
    /// # Errors
    /// The proxy isn't reached, or refuses.
    pub(super) async fn open(&self, proxy: &Proxy<'_>, target: &Target) -> Result<Stream, Unreached> {
        let mut attempt = 1;
        loop {
            let mut sender = self.sender(proxy).await?;
            let mut request = Request::connect(target.to_string()).header(USER_AGENT, PROGRAM);
            if let Some(login) = proxy.parent.authorization() {
                request = request.header(PROXY_AUTHORIZATION, login);
            }
            let request = request.body(());
            let request = request.map_err(|error| proxy.failed(Failure::Lost(error.to_string())))?;
            let asked = match sender.send_request(request, false) {
                Ok((answer, send)) => answer.await.map(|answer| (answer, send)),
                Err(error) => Err(error),
            };
            match asked {
                Ok((answer, send)) if answer.status().is_success() => {
                    return Ok(Stream { send, receive: answer.into_body(), left: Bytes::new() });
                }
                Ok((answer, _)) => return Err(proxy.failed(refusal(proxy.parent, answer).await)),
                // It has not been looked at, and may be sent again (RFC 9113, section 8.7).
                Err(error) if attempt < ATTEMPTS && is_unseen(&error) => attempt += 1,
                Err(error) => return Err(proxy.lost(&error)),
            }
        }
    }

    /// Has no connection any more, once its streams have ended.
    pub(super) async fn leave(&self) {
        *self.current.lock().await = None;
    }

    /// The connection, a new one where there is none that takes streams.
    async fn sender(&self, proxy: &Proxy<'_>) -> Result<SendRequest<Bytes>, Unreached> {
        let mut current = self.current.lock().await;
        if let Some(sender) = current.clone()
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready);
        }
        *current = self.connect(proxy).await?;
        let ended = || proxy.failed(Failure::Lost("it speaks HTTP/2 no more".to_owned()));
        let sender = current.clone().ok_or_else(ended)?;
        sender.ready().await.map_err(|error| proxy.lost(&error))
    }

    /// A new connection; none where the proxy chooses HTTP/1.1.
    async fn connect(&self, proxy: &Proxy<'_>) -> Result<Option<SendRequest<Bytes>>, Unreached> {
        let stream = proxy.egress.dial_parent(proxy.parent, proxy.own).await?;
        let stream = Secured::connect(&self.tls, self.name.clone(), stream).await;
        let stream = stream.map_err(|error| proxy.failed(proxy.parent.no_tls(&error)))?;
        if stream.protocol() != Some(b"h2") {
            return Ok(None);
        }
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        builder.max_header_list_size(FIELDS).enable_push(false);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| proxy.lost(&error))?;
        // It ends when nothing sends on it any more, and each stream hears why.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Some(sender))
    }
}

/// Whether the proxy has not looked at a request.
fn is_unseen(error: &h2::Error) -> bool {
    error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM)
}

/// What a proxy says that doesn't open a tunnel.
async fn refusal(parent: &Parent, answer: Response<RecvStream>) -> Failure {
    let (head, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    let reading = async {
        while body.len() < REFUSAL
            && let Some(Ok(data)) = stream.data().await
        {
            body.extend_from_slice(&data);
        }
    };
    // Without its words it is still a refusal.
    let _ = timeout(REFUSAL_TIME, reading).await;
    let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    parent.refused(head.status, fields, &body)
}

/// A tunnel.
pub(crate) struct Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What has come and was not read yet.
    left: Bytes,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(data) => self.left = data.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.left.len().min(buffer.remaining());
        buffer.put_slice(&self.left.split_to(count));
        Poll::Ready(self.receive.flow_control().release_capacity(count).map_err(broken))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(poll_room(&mut self.send, cx, bytes.len())).ok_or(io::ErrorKind::BrokenPipe)?;
        let count = room.map_err(broken)?;
        let sent = self.send.send_data(Bytes::copy_from_slice(&bytes[..count]), false);
        Poll::Ready(sent.map(|()| count).map_err(broken))
    }

    /// The connection's own task writes as soon as it can.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into()),
        false => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}
