//! Bytes in and out, whatever lies below.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::egress::Upstream;

/// A stream to a target.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What [`crate::egress`] has reached.
pub(super) fn boxed(upstream: Upstream) -> Box<dyn Io> {
    match upstream {
        Upstream::Tcp(stream) => Box::new(stream),
        Upstream::Tls(stream) => Box::new(stream),
    }
}
