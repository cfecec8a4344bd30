//! TLS handshakes of a worker take turns. Each computes for a millisecond or so in one piece (key exchange and
//! signature), and at nine o'clock hundreds come at once: without turns all of them would be computed before the
//! worker looked at its sockets again, and live tunnels would stand still for that long.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

thread_local! {
    /// One for each worker.
    static TURN: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// Polls a handshake once when it is its turn; none when it isn't done with that. Whatever tunnels have to do comes
/// first.
pub(super) async fn begin<F: Future>(mut handshake: Pin<&mut F>) -> Option<F::Output> {
    let turn = TURN.with(Arc::clone);
    // Never an error: it is never closed.
    let _turn = turn.acquire().await;
    // A task that yields goes on after all that are ready, and after the next look at the sockets.
    yield_now().await;
    poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream as Blocking;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    /// So many that a worker would not look at its sockets before the last one.
    const HANDSHAKES: usize = 50;

    #[tokio::test]
    async fn what_tunnels_have_to_do_comes_between_two_handshakes() {
        let (near, far) = Blocking::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut tunnel = UnixStream::from_std(far).unwrap();
        let (near, computed) = (Arc::new(near), Arc::new(AtomicUsize::new(0)));
        let shake = |_| {
            let (near, computed) = (near.clone(), computed.clone());
            tokio::spawn(async move {
                // Each has something for the tunnel arrive.
                let computing = async {
                    computed.fetch_add(1, Ordering::Relaxed);
                    (&*near).write_all(&[1]).unwrap();
                };
                begin(pin!(computing)).await.unwrap();
            })
        };
        let all: Vec<_> = (0..HANDSHAKES).map(shake).collect();
        for arrived in 1..=HANDSHAKES {
            tunnel.read_u8().await.unwrap();
            let computed = computed.load(Ordering::Relaxed);
            assert!(computed <= arrived + 1, "{computed} handshakes before byte {arrived}");
        }
        for one in all {
            one.await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_waits_for_its_client_holds_nobody_up() {
        let mut waits = pin!(std::future::pending::<()>());
        assert!(begin(waits.as_mut()).await.is_none());
        assert_eq!(begin(pin!(async { 5 })).await, Some(5));
    }
}
