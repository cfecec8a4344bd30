//! HTTP/1.1 on both listeners: requests one after the other until one becomes a tunnel.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout_at;

use super::admission::{Peer, Permit};
use super::answer::{ESTABLISHED, Plain};
use super::desk;
use super::head::{Head, HeadError, Reader, Request};
use super::refusal::Refusal;
use super::routes::{self, Served};
use super::session::{self, FAREWELL, KEEP_ALIVE, Tunnel, admit, malformed};
use super::shared::Shared;
use super::shown;
use super::snapshot::Snapshot;
use crate::net::scratch;
use crate::outcome::{EndedBy, Outcome};
use crate::target::Target;
use crate::tunnel::relay::Moved;
use crate::tunnel::wire::Wire;

/// Serves one connection; `permit` counts it until the end.
pub(super) fn serve<C: Wire>(
    client: C,
    peer: Peer,
    permit: Permit,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send {
    session::carry(negotiate(client, peer, shared), permit)
}

/// Answers requests until one becomes a tunnel or the connection ends.
///
/// What a connection holds while it negotiates is kept below a kilobyte, which glibc hands out and
/// takes back without searching.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
pub(super) fn negotiate<C: Wire>(
    mut client: C,
    peer: Peer,
    shared: Arc<Shared>,
) -> impl Future<Output = Option<Box<Tunnel<C>>>> + Send {
    async move {
        let mut reader = Reader::default();
        let mut deadline = tokio::time::Instant::now() + shared.limits().header_timeout;
        let mut kept = false;
        loop {
            let limit = shared.limits().request_header;
            // A scope of its own: what was read keeps no room while a tunnel is opened.
            let (snapshot, next) = {
                let read = timeout_at(deadline, reader.read(&mut client, limit)).await;
                // Taken only now: a reload while the connection waited is in force for its request.
                let snapshot = shared.snapshot();
                let next = match read {
                    Ok(Ok(head)) => next_step(head, kept, &peer, &shared, &snapshot),
                    Err(_) if reader.began() => {
                        let refusal = admit(&peer, &snapshot).err().unwrap_or(Refusal::HeaderTimeout);
                        Next::refusal(refusal, None)
                    }
                    Ok(Err(_)) | Err(_) => Next::End,
                };
                (snapshot, next)
            };
            // Boxes but for the tunnel: what is rare would take room in every negotiation.
            let answer = match next {
                Next::Tunnel(asked, early) => {
                    return connect(client, &peer, &shared, snapshot, asked, early).await;
                }
                Next::Answer(answer) => answer,
                Next::Report(report) => {
                    Box::pin(take_report(*report, &mut client, &peer, &shared, &snapshot)).await;
                    return None;
                }
                Next::Refusal { refusal, target, head_only } => {
                    let answer =
                        session::refuse(&peer, &shared.journal, &snapshot, target.as_deref(), &refusal);
                    Box::pin(answer.send_last(&mut client, head_only)).await;
                    return None;
                }
                Next::End => return None,
            };
            reader = Box::pin(go_on(*answer, &mut client, &shared)).await?;
            deadline = tokio::time::Instant::now() + shared.limits().header_timeout;
            kept = true;
        }
    }
}

/// What follows from a head.
enum Next {
    /// A tunnel to this target, for a request that came through these proxies. The bytes came with it and
    /// belong to the tunnel.
    Tunnel((Target, Option<Box<str>>), Vec<u8>),
    /// Boxed: an answer is rare and large, everything else is small.
    Answer(Box<Answer>),
    /// A report of a desk check, with what came of its body.
    Report(Box<(Request, Vec<u8>)>),
    Refusal {
        refusal: Refusal,
        /// In a form that can be shown.
        target: Option<String>,
        /// The request was a HEAD: its answer has no body (RFC 9110 §9.3.2).
        head_only: bool,
    },
    End,
}

impl Next {
    fn refusal(refusal: Refusal, target: Option<String>) -> Self {
        Self::Refusal { refusal, target, head_only: false }
    }
}

/// An answer after which the connection may go on.
struct Answer {
    answer: Plain<'static>,
    request: Request,
    /// Bytes behind the request.
    rest: Vec<u8>,
}

/// `kept`: this connection had an answer before.
fn next_step(head: Head, kept: bool, peer: &Peer, shared: &Shared, snapshot: &Snapshot) -> Next {
    // The client is judged before its request is.
    let admitted = admit(peer, snapshot);
    let refusal = match head {
        Head::Request(request, rest) => {
            let drains = kept && shared.drain.is_draining() && !shared.drain.is_handed_over();
            let admitted = if drains { admitted.and(Err(Refusal::Draining)) } else { admitted };
            return consider(request, rest, admitted, peer, shared, snapshot);
        }
        Head::Ended { began: false } => return Next::End,
        Head::Ended { began: true } => malformed("the connection ended within the request header"),
        Head::Bad(HeadError::Malformed(what)) => Refusal::Malformed(what),
        // The client isn't known: what must be told is that a load balancer is not.
        Head::Bad(HeadError::Introduced(what)) => {
            return Next::refusal(Refusal::Malformed(what.to_owned()), None);
        }
        Head::Bad(HeadError::TooLarge) => Refusal::HeaderSize { limit: snapshot.limits.request_header },
        Head::Bad(HeadError::TooManyFields) => Refusal::TooManyFields,
    };
    Next::refusal(admitted.err().unwrap_or(refusal), None)
}

fn consider(
    request: Request,
    rest: Vec<u8>,
    admitted: Result<(), Refusal>,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Next {
    if &*request.method == "CONNECT" {
        return match session::asked(admitted, &request.target, request.body) {
            Ok(target) => Next::Tunnel((target, request.via), rest),
            Err((refusal, target)) => Next::refusal(refusal, target),
        };
    }
    match routes::serve(&request, admitted, peer, shared, snapshot) {
        Ok(Served::Answer(answer)) => Next::Answer(Box::new(Answer { answer, request, rest })),
        Ok(Served::Report) => Next::Report(Box::new((request, rest))),
        Err(refusal) => {
            let head_only = &*request.method == "HEAD";
            Next::Refusal { refusal, target: shown::target(&request.target), head_only }
        }
    }
}

/// Reads the rest of a report and answers it.
async fn take_report<C: Wire>(
    (request, begun): (Request, Vec<u8>),
    client: &mut C,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) {
    let limit = shared.limits().header_timeout;
    let body = tokio::time::timeout(limit, body(client, &request, begun)).await;
    let answer = desk::receive(body.ok().flatten(), &request, peer, shared, snapshot);
    answer.send_last(client, false).await;
}

/// The body of a request that announces its length, which was judged; none where the client leaves before its end.
async fn body<C: Wire>(client: &mut C, request: &Request, mut begun: Vec<u8>) -> Option<Vec<u8>> {
    let length = request.browser.as_ref().and_then(|browser| browser.length)?;
    while begun.len() < length {
        let read = poll_fn(|cx| {
            scratch::poll_read(client, cx, |bytes| {
                begun.extend_from_slice(bytes);
                bytes.len()
            })
        });
        if !matches!(read.await, Ok(1..)) {
            return None;
        }
    }
    begun.truncate(length);
    Some(begun)
}

/// Opens what was asked for, answers, and reads the ClientHello.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
fn connect<C: Wire>(
    mut client: C,
    peer: &Peer,
    shared: &Arc<Shared>,
    snapshot: Arc<Snapshot>,
    (target, via): (Target, Option<Box<str>>),
    early: Vec<u8>,
) -> impl Future<Output = Option<Box<Tunnel<C>>>> + Send {
    async move {
        let busy = shared.drain.busy();
        // Only a look at the socket shows that a client leaves while its target is dialled.
        let reached = match session::decide(peer, &shared.journal, &snapshot, target) {
            Ok(record) => {
                session::reach(record, via.as_deref(), (shared, &snapshot), pin!(client.gone())).await
            }
            Err(refused) => Err(refused),
        };
        let (mut record, upstream) = match reached {
            Ok(reached) => reached,
            Err(refused) => {
                if let Some(answer) = refused.answer(&shared.journal, &snapshot) {
                    Box::pin(answer.send_last(&mut client, false)).await;
                }
                return None;
            }
        };
        let written = async { client.write_all(ESTABLISHED).await.and(client.flush().await) };
        if written.await.is_err() {
            record.ended(&shared.journal, Outcome::ClientReset, EndedBy::Client, Moved::default());
            return None;
        }
        record.established(&shared.journal);
        session::guard(client, upstream, record, shared.clone(), snapshot, early, busy).await
    }
}

/// Sends an answer, and waits for the next request; none where the connection is over.
async fn go_on<C: Wire>(answer: Answer, client: &mut C, shared: &Shared) -> Option<Reader> {
    let Answer { answer, request, rest } = answer;
    let sent = answer.send(client, &request).await;
    if sent.is_err() || request.close || request.body {
        return None;
    }
    let mut reader = Reader::with(rest);
    begins(&mut reader, client, shared).await.then_some(reader)
}

/// Waits for the next request of a connection that is kept alive; false when none comes.
async fn begins<C: Wire>(reader: &mut Reader, client: &mut C, shared: &Shared) -> bool {
    // A drain closes connections that wait for a request, unless a successor takes the new ones: then nobody
    // needs to turn to another proxy.
    let drained = async {
        shared.drain.begun().await;
        if shared.drain.is_handed_over() {
            std::future::pending::<()>().await;
        }
    };
    let begins = tokio::select! {
        begins = tokio::time::timeout(KEEP_ALIVE, reader.begin(client)) => matches!(begins, Ok(Ok(true))),
        () = drained => false,
    };
    if !begins {
        // Without a close_notify a TLS client may suspect a truncation.
        let _ = tokio::time::timeout(FAREWELL, client.shutdown()).await;
    }
    begins
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::tunnel::wire::tls::TlsWire;

    const fn size<A, B, C, F>(_: &impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_negotiation_takes_less_than_a_kilobyte() {
        let sizes = [size(&negotiate::<TcpStream>), size(&negotiate::<TlsWire>)];
        assert!(sizes.iter().all(|size| *size <= session::NEGOTIATION), "{sizes:?}");
    }
}
