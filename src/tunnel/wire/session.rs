//! A TLS session without its socket: records in, records out. rustls keeps no buffer here; it opens records
//! where they were received, and seals them where they are sent from.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use super::buffer::Buffer;

/// What one record carries at most (RFC 8446 section 5.1).
pub(super) const RECORD: usize = 16 * 1024;
/// More than a record takes beyond what it carries: five bytes of header, and at most 29 with any suite here.
pub(super) const OVERHEAD: usize = 64;

/// Either side of a session.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What to do once the session has seen to what was received.
#[derive(Clone, Copy)]
pub(super) enum Want<'a> {
    Nothing,
    Seal(&'a [u8]),
    Close,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A record was opened, or the session has something to send: there may be more to do.
    Went,
    /// The other side has closed; it sends nothing more.
    Ended,
    /// What was wanted is done. Nothing more can be done without more bytes.
    Done,
    /// The session can't do what is wanted.
    Blocked,
}

impl Session {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(Self::Server)
    }

    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(Self::Client)
    }

    pub(super) fn state(&self) -> &CommonState {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }

    /// Goes one step on with what was `received`. The number of its bytes that are done with, and what the
    /// step did. `opened` gets what a record carried; what is to be sent goes into `outgoing`.
    pub(super) fn step(
        &mut self,
        received: &mut [u8],
        outgoing: &mut Buffer,
        opened: impl FnMut(&[u8]),
        want: Want<'_>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Server(server) => step(server.process_tls_records(received), outgoing, opened, want),
            Self::Client(client) => step(client.process_tls_records(received), outgoing, opened, want),
        }
    }
}

fn step<Data>(
    UnbufferedStatus { mut discard, state, .. }: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Buffer,
    mut opened: impl FnMut(&[u8]),
    want: Want<'_>,
) -> (usize, Result<Step, Error>) {
    let did = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        opened(record.payload);
                    }
                    Err(error) => return (discard, Err(error)),
                }
            }
            Ok(Step::Went)
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            match sized(
                outgoing,
                |room| data.encode(room),
                |error| match error {
                    EncodeError::InsufficientSize(size) => Some(size.required_size),
                    EncodeError::AlreadyEncoded => None,
                },
            ) {
                true => Ok(Step::Went),
                false => Ok(Step::Blocked),
            }
        }
        // It is on its way: nothing overtakes what is in `outgoing`.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Went)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::Ended),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let required = |error| match error {
                EncryptError::InsufficientSize(size) => Some(size.required_size),
                EncryptError::EncryptExhausted => None,
            };
            let done = match want {
                Want::Nothing => true,
                Want::Seal(bytes) => sized(outgoing, |room| traffic.encrypt(bytes, room), required),
                Want::Close => sized(outgoing, |room| traffic.queue_close_notify(room), required),
            };
            Ok(if done { Step::Done } else { Step::Blocked })
        }
        // Early data is never asked for. Where the handshake needs more bytes, nothing can be sealed.
        Ok(_) => match want {
            Want::Nothing => Ok(Step::Done),
            Want::Seal(_) | Want::Close => Ok(Step::Blocked),
        },
    };
    (discard, did)
}

/// Lets `write` write into a buffer, with as much room as it turns out to require. Whether it could.
fn sized<E>(
    outgoing: &mut Buffer,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    required: impl Fn(E) -> Option<usize>,
) -> bool {
    let mut least = 2 * OVERHEAD;
    loop {
        match write(outgoing.room(least)).map_err(&required) {
            Ok(written) => {
                outgoing.add(written);
                return true;
            }
            Err(Some(more)) if more > least => least = more,
            Err(_) => return false,
        }
    }
}
