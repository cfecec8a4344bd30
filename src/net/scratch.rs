//! One read buffer for each thread: reads land here, and only what must outlive the read is copied
//! out of it, so that no connection holds a buffer while it is quiet.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// One read takes at most this much: a head and a ClientHello usually come whole.
pub(crate) const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Lends this thread's buffer.
///
/// # Panics
/// When it is lent already.
pub(crate) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| work(buffer))
}

/// Reads once into this thread's buffer and lets `take` look at the bytes; 0 bytes is the end.
pub(crate) fn poll_read<R: AsyncRead + Unpin, T>(
    reader: &mut R,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    with(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// Reads and drops until the end, an error, or so many bytes. No `async fn`, which would keep its arguments
/// twice: this future is part of an idle tunnel's.
pub(crate) fn discard<R: AsyncRead + Unpin>(from: &mut R, most: usize) -> impl Future<Output = ()> {
    let mut left = most;
    poll_fn(move |cx| {
        while left > 0 {
            match ready!(poll_read(from, cx, <[u8]>::len)) {
                Ok(n @ 1..) => left = left.saturating_sub(n),
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(())
    })
}
