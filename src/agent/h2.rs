//! A browser's one HTTP/2 connection to a proxy, which carries all its tunnels as streams. Once the proxy
//! says that it goes away, live streams stay on it, and the next tunnel gets a connection of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::egress::Egress;
use crate::net::h2::poll_room;
use crate::target::Target;

/// A browser's windows, as Chromium announces them: a stream's, and a connection's.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;
/// Connections that a tunnel is asked for on, one after the other, while they go away.
const ATTEMPTS: usize = 3;

/// A browser, as the proxy sees it.
pub(crate) struct Shared {
    /// How the proxy is dialled.
    egress: Egress,
    proxy: Target,
    name: ServerName<'static>,
    tls: TlsConnector,
    /// The connection that takes new streams.
    current: Mutex<Option<SendRequest<Bytes>>>,
}

impl Shared {
    /// Nothing is dialled yet. `tls` agrees on `h2`, and holds the sessions.
    ///
    /// # Errors
    /// In words, when no certificate can be for that host.
    pub(crate) fn new(egress: Egress, proxy: Target, tls: TlsConnector) -> Result<Self, String> {
        let name = ServerName::try_from(proxy.host.to_string()).map_err(|error| error.to_string())?;
        Ok(Self { egress, proxy, name, tls, current: Mutex::default() })
    }

    /// A tunnel to `target`.
    ///
    /// # Errors
    /// In words: the proxy isn't reached, or refuses.
    pub(crate) async fn open(&self, target: &Target) -> Result<Stream, String> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let mut sender = self.sender().await?;
            let request = Request::connect(target.to_string()).body(());
            let request = request.map_err(|error| error.to_string())?;
            let asked = match sender.send_request(request, false) {
                Ok((answer, send)) => answer.await.map(|answer| (answer, send)),
                Err(error) => Err(error),
            };
            match asked {
                Ok((answer, send)) if answer.status() == StatusCode::OK => {
                    return Ok(Stream { send, receive: answer.into_body(), left: Bytes::new() });
                }
                Ok((answer, _)) => return Err(format!("the proxy answers {}", answer.status())),
                // It has not been looked at, and may be sent again (RFC 9113, section 8.7).
                Err(error) if error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM) => {
                    last = error.to_string();
                }
                Err(error) => return Err(format!("the connection to the proxy: {error}")),
            }
        }
        Err(format!("{ATTEMPTS} connections to the proxy went away: {last}"))
    }

    /// Has no connection any more, once its streams have ended.
    pub(crate) async fn leave(&self) {
        *self.current.lock().await = None;
    }

    /// The connection, a new one where there is none that takes streams.
    async fn sender(&self) -> Result<SendRequest<Bytes>, String> {
        let mut current = self.current.lock().await;
        if let Some(sender) = current.clone()
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready);
        }
        let unreached = |error: &dyn std::fmt::Display| format!("the proxy isn't reached: {error}");
        let stream = self.egress.dial_unjudged(&self.proxy).await.map_err(|error| unreached(&error))?;
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|error| unreached(&error))?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| unreached(&error))?;
        // It ends when nothing sends on it any more, and each stream hears why.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let ready = sender.ready().await.map_err(|error| unreached(&error))?;
        *current = Some(ready.clone());
        Ok(ready)
    }
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
