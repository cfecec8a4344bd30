//! A connection before its TLS handshake, of either side: a server looks at the ClientHello before it chooses what
//! to offer.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;

use super::buffer::Buffer;
use super::session::Session;
use super::tls::{TlsWire, broken, poll_receive};

/// A connection, and what the other side has sent so far.
pub(crate) struct Arrival {
    tcp: TcpStream,
    incoming: Buffer,
}

impl Arrival {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, incoming: Buffer::default() }
    }

    /// What has come so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.incoming.filled()
    }

    /// Waits for more. How many bytes came; 0 is the end.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) async fn more(&mut self) -> io::Result<usize> {
        poll_fn(|cx| poll_receive(&mut self.tcp, cx, &mut self.incoming)).await
    }

    /// Gives the thread's buffer back before a wait for something else than bytes.
    pub(crate) fn settle(&mut self) {
        self.incoming.settle();
    }

    /// The bare socket. What was received is dropped.
    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Shakes hands as the server.
    ///
    /// # Errors
    /// With the bare socket; the alert has been sent.
    pub(crate) async fn accept(self, config: Arc<ServerConfig>) -> Result<TlsWire, (io::Error, TcpStream)> {
        match Session::server(config) {
            Ok(session) => TlsWire::shake_hands(self.tcp, self.incoming, session).await,
            Err(error) => Err((broken(error), self.tcp)),
        }
    }

    /// Shakes hands as the client of a server with this name.
    ///
    /// # Errors
    /// When the server leaves, or isn't who it should be.
    pub(crate) async fn connect(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<TlsWire> {
        let session = Session::client(config, name).map_err(broken)?;
        TlsWire::shake_hands(self.tcp, self.incoming, session).await.map_err(|(error, _)| error)
    }
}
