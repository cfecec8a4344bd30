//! Flow control of HTTP/2, as both ends of a tunnel need it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Error, SendStream};

/// Waits until the other end takes more. How many of `wanted` bytes may be sent now, one at least; none where the
/// stream takes nothing more.
pub(crate) fn poll_room(
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<Option<Result<usize, Error>>> {
    send.reserve_capacity(wanted);
    while send.capacity() == 0 {
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
    }
    Poll::Ready(Some(Ok(send.capacity().min(wanted))))
}
