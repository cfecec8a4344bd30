//! The relay between real sockets: every byte, every close, every reset, and nothing left behind.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::ready;

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::task::coop::has_budget_remaining;
use tokio::time::timeout;

use super::*;
use crate::net::sockopt;
use crate::tunnel::pipe::Pipe;

/// Longer than anything here takes unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);
const FOREVER: Patience = Patience { idle: Duration::ZERO, half_closed: Duration::ZERO };

struct Counted {
    patience: Patience,
    /// From the client, and from upstream.
    bytes: [AtomicU64; 2],
}

impl Counted {
    fn with(patience: Patience) -> Arc<Self> {
        Arc::new(Self { patience, bytes: Default::default() })
    }
}

impl Meter for Arc<Counted> {
    fn patience(&self) -> Patience {
        self.patience
    }

    fn moved(&self, by_now: Moved) {
        self.bytes[0].store(by_now.sent, Ordering::Relaxed);
        self.bytes[1].store(by_now.received, Ordering::Relaxed);
    }
}

/// A relay that runs, with the far ends of its sockets.
struct Running {
    client: TcpStream,
    upstream: TcpStream,
    counted: Arc<Counted>,
    relay: JoinHandle<(End, Moved)>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

impl Running {
    async fn new(patience: Patience) -> Self {
        Self::with(patience, &[]).await
    }

    async fn with(patience: Patience, early: &[u8]) -> Self {
        let ((client, near), (upstream, far)) = (pair().await, pair().await);
        let counted = Counted::with(patience);
        let (meter, early) = (counted.clone(), early.to_vec());
        let relay = tokio::spawn(async move {
            let mut relay = Relay::new(near, far, &early, 0);
            let end = relay.run(&meter).await;
            relay.finish(end).await;
            (end, relay.moved())
        });
        Self { client, upstream, counted, relay }
    }

    /// The end, with the bytes that the relay and its meter counted, which must agree.
    async fn end(relay: JoinHandle<(End, Moved)>, counted: &Counted) -> (End, Moved) {
        let (end, moved) = timeout(PATIENCE, relay).await.expect("the relay ends").unwrap();
        let [sent, received] = [0, 1].map(|i| counted.bytes[i].load(Ordering::Relaxed));
        assert_eq!(Moved { sent, received }, moved, "log and metrics");
        (end, moved)
    }
}

/// The bytes of a fixed seed, so that a failure repeats.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    some_bytes(&mut Rng::with_seed(seed), length)
}

fn some_bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

#[track_caller]
fn same(got: &[u8], expected: &[u8]) {
    if got != expected {
        let at = got.iter().zip(expected).position(|(g, e)| g != e).unwrap_or(got.len().min(expected.len()));
        panic!("got {} bytes, expected {}; they differ from byte {at} on", got.len(), expected.len());
    }
}

fn reset(stream: TcpStream) {
    sockopt::reset_on_close(&stream);
}

async fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut got = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("an end")?;
    Ok(got)
}

async fn expect_reset(stream: &mut TcpStream) {
    let mut sink = vec![0; 64 * 1024];
    let error = loop {
        match timeout(PATIENCE, stream.read(&mut sink)).await.expect("a reset") {
            Ok(0) => panic!("a clean end instead of a reset"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// Writes until nothing more fits anywhere; returns how much did.
async fn fill(stream: &mut TcpStream) -> usize {
    let chunk = vec![5; 256 * 1024];
    let mut total = 0;
    while let Ok(n) = timeout(Duration::from_millis(300), stream.write(&chunk)).await {
        total += n.unwrap();
        assert!(total < 256 << 20, "no back-pressure");
    }
    total
}

/// Writes in pieces of any size, as a client that is now busy and now isn't.
async fn say(mut half: tokio::net::tcp::OwnedWriteHalf, bytes: Vec<u8>, mut random: Rng) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let most = [1, 100, 2000, 40_000, 2_000_000][random.usize(..5)];
        let (now, later) = rest.split_at(rest.len().min(1 + random.usize(..most)));
        half.write_all(now).await.unwrap();
        rest = later;
        if random.usize(..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
    half.shutdown().await.unwrap();
}

/// Reads likewise, to the end.
async fn hear(mut half: tokio::net::tcp::OwnedReadHalf, mut random: Rng) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let most = [1, 1000, 70_000, 1_000_000][random.usize(..4)];
        let before = got.len();
        got.resize(before + most, 0);
        let n = half.read(&mut got[before..]).await.unwrap();
        got.truncate(before + n);
        if n == 0 {
            return got;
        }
        if random.usize(..8) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn transfers_of_any_size_both_ways_arrive_and_are_counted() {
    for seed in 1..=24_u64 {
        let mut random = Rng::with_seed(seed);
        let size = |random: &mut Rng| {
            let most = [1, 300, 70_000, 6_000_000][random.usize(..4)];
            random.usize(..most + 1)
        };
        let (up, down) = (size(&mut random), size(&mut random));
        let (early, up, down) = (
            random.usize(..2) * random.usize(..80_000),
            some_bytes(&mut random, up),
            some_bytes(&mut random, down),
        );
        let early = some_bytes(&mut random, early);
        let Running { client, upstream, counted, relay } = Running::with(FOREVER, &early).await;
        let ((client_in, client_out), (upstream_in, upstream_out)) =
            (client.into_split(), upstream.into_split());
        let mut fork = || random.fork();
        let saying = tokio::spawn(say(client_out, up.clone(), fork()));
        let answering = tokio::spawn(say(upstream_out, down.clone(), fork()));
        let hearing = tokio::spawn(hear(upstream_in, fork()));
        same(&timeout(PATIENCE, hear(client_in, fork())).await.unwrap(), &down);
        let expected = [early, up].concat();
        same(&timeout(PATIENCE, hearing).await.unwrap().unwrap(), &expected);
        saying.await.unwrap();
        answering.await.unwrap();
        let (end, moved) = Running::end(relay, &counted).await;
        assert!(matches!(end, End::Closed(_)), "{end:?}, seed {seed}");
        assert_eq!(moved, Moved { sent: expected.len() as u64, received: down.len() as u64 }, "seed {seed}");
    }
}

#[tokio::test]
async fn an_end_in_one_direction_leaves_the_other_open() {
    for size in [10, 3_000_000] {
        let bytes = bytes(7, size);
        let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut upstream).await.unwrap(), b"question");
        let answer = bytes.clone();
        let answering = tokio::spawn(async move {
            upstream.write_all(&answer).await.unwrap();
            upstream.shutdown().await.unwrap();
        });
        same(&read_all(&mut client).await.unwrap(), &bytes);
        answering.await.unwrap();
        let ended = Running::end(relay, &counted).await;
        assert_eq!(ended, (End::Closed(Side::Client), Moved { sent: 8, received: size as u64 }));

        let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
        upstream.write_all(b"farewell").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), b"farewell");
        let question = bytes.clone();
        let asking = tokio::spawn(async move {
            client.write_all(&question).await.unwrap();
            client.shutdown().await.unwrap();
        });
        same(&read_all(&mut upstream).await.unwrap(), &bytes);
        asking.await.unwrap();
        let ended = Running::end(relay, &counted).await;
        assert_eq!(ended, (End::Closed(Side::Upstream), Moved { sent: size as u64, received: 8 }));
    }
}

#[tokio::test]
async fn when_both_close_at_once_no_byte_is_lost() {
    for round in 1..=40 {
        let (up, down) = (bytes(round, 30_000 * round as usize % 200_000), bytes(round, 99_999));
        let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
        let (ended_client, ended_upstream) = tokio::join!(
            async {
                client.write_all(&up).await.unwrap();
                client.shutdown().await.unwrap();
                read_all(&mut client).await.unwrap()
            },
            async {
                upstream.write_all(&down).await.unwrap();
                upstream.shutdown().await.unwrap();
                read_all(&mut upstream).await.unwrap()
            }
        );
        same(&ended_client, &down);
        same(&ended_upstream, &up);
        let (end, moved) = Running::end(relay, &counted).await;
        assert!(matches!(end, End::Closed(_)), "{end:?}");
        assert_eq!(moved, Moved { sent: up.len() as u64, received: down.len() as u64 });
    }
}

#[tokio::test]
async fn a_reset_of_a_silent_side_is_passed_on() {
    let Running { client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    reset(client);
    expect_reset(&mut upstream).await;
    assert_eq!(
        Running::end(relay, &counted).await,
        (End::Reset(Side::Client), Moved { sent: 0, received: 0 })
    );

    let Running { mut client, upstream, counted, relay } = Running::new(FOREVER).await;
    reset(upstream);
    expect_reset(&mut client).await;
    assert_eq!(
        Running::end(relay, &counted).await,
        (End::Reset(Side::Upstream), Moved { sent: 0, received: 0 })
    );
}

#[tokio::test]
async fn a_reset_behind_the_other_sides_end_is_passed_on() {
    let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut upstream).await.unwrap(), b"");
    reset(upstream);
    expect_reset(&mut client).await;
    assert_eq!(Running::end(relay, &counted).await.0, End::Reset(Side::Upstream));

    let Running { client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    upstream.shutdown().await.unwrap();
    let mut client = client;
    assert_eq!(read_all(&mut client).await.unwrap(), b"");
    reset(client);
    expect_reset(&mut upstream).await;
    assert_eq!(Running::end(relay, &counted).await.0, End::Closed(Side::Upstream));
}

/// As curl does with the close_notify that answers its own: the kernel makes a reset of the bytes that it
/// left unread.
#[tokio::test]
async fn a_client_that_leaves_the_upstreams_last_words_unread_has_not_been_reset() {
    let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    client.write_all(b"close_notify").await.unwrap();
    timeout(PATIENCE, upstream.read_exact(&mut [0; 12])).await.expect("its last words").unwrap();
    upstream.write_all(b"close_notify").await.unwrap();
    upstream.shutdown().await.unwrap();
    // Its end has come to the client, too, behind the bytes.
    while !timeout(PATIENCE, client.ready(Interest::READABLE))
        .await
        .expect("an end")
        .unwrap()
        .is_read_closed()
    {}
    drop(client);
    let moved = Moved { sent: 12, received: 12 };
    assert_eq!(Running::end(relay, &counted).await, (End::Closed(Side::Upstream), moved));
    expect_reset(&mut upstream).await;
}

#[tokio::test]
async fn a_client_that_resets_before_it_has_the_upstreams_end_is_a_reset() {
    let Running { client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    upstream.write_all(b"the answer").await.unwrap();
    timeout(PATIENCE, client.readable()).await.expect("an answer").unwrap();
    drop(client);
    expect_reset(&mut upstream).await;
    assert_eq!(Running::end(relay, &counted).await.0, End::Reset(Side::Client));
}

/// One side resets while the other sends as fast as it can: the kernel tells whoever asks first,
/// and that may be the write.
#[tokio::test]
async fn a_reset_in_the_middle_of_a_transfer_is_a_reset_for_the_sender() {
    for round in 0..30 {
        let size = [100, 20_000, 300_000][round % 3];
        for resetting in [Side::Upstream, Side::Client] {
            let Running { client, upstream, counted, relay } = Running::new(FOREVER).await;
            let (mut resets, sends) = match resetting {
                Side::Upstream => (upstream, client),
                Side::Client => (client, upstream),
            };
            let (mut sender_in, mut sender_out) = sends.into_split();
            let sending = tokio::spawn(async move {
                let chunk = vec![1; size];
                loop {
                    if let Err(error) = sender_out.write_all(&chunk).await {
                        return error.kind();
                    }
                }
            });
            let mut sink = vec![0; 1 + 70_000 * round];
            resets.read_exact(&mut sink).await.unwrap();
            reset(resets);
            let mut got = Vec::new();
            let ended = timeout(PATIENCE, sender_in.read_to_end(&mut got)).await.expect("an end");
            let (end, _) = Running::end(relay, &counted).await;
            assert_eq!(end, End::Reset(resetting), "round {round}");
            // Whoever of the two asked first was told.
            let told = [ended.err().map(|error| error.kind()), Some(sending.await.unwrap())];
            assert!(told.contains(&Some(ErrorKind::ConnectionReset)), "round {round}: {told:?}");
        }
    }
}

/// A server that answers and closes without reading on is a reset on the wire.
#[tokio::test]
async fn an_answer_ahead_of_a_reset_arrives() {
    for round in 0..30 {
        // Less than a first window: what the upstream has not sent yet goes with its own reset.
        let answer = bytes(round + 1, 1 + 2000 * round as usize);
        let Running { client, mut upstream, counted, relay } = Running::new(FOREVER).await;
        let (mut client_in, mut client_out) = client.into_split();
        let uploading = tokio::spawn(async move {
            let chunk = vec![1; 50_000];
            while client_out.write_all(&chunk).await.is_ok() {}
        });
        upstream.read_exact(&mut [0; 1024]).await.unwrap();
        upstream.write_all(&answer).await.unwrap();
        if round % 2 == 0 {
            upstream.shutdown().await.unwrap();
        }
        drop(upstream);
        let mut got = Vec::new();
        let _ = timeout(PATIENCE, client_in.read_to_end(&mut got)).await.expect("an end");
        same(&got, &answer);
        uploading.abort();
        let _ = uploading.await;
        let (_, moved) = Running::end(relay, &counted).await;
        assert_eq!(moved.received, answer.len() as u64);
    }
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_up_its_sender_and_loses_nothing() {
    let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    let (up, down) = (fill(&mut client).await, fill(&mut upstream).await);
    // Two sockets' buffers on each way and a pipe: what the kernel allows, and nothing beside it.
    assert!(up.max(down) < 64 << 20, "{up} and {down} bytes under way");
    // Both ways are stuck at once; now both move on.
    client.shutdown().await.unwrap();
    upstream.shutdown().await.unwrap();
    let (got_down, got_up) = tokio::join!(read_all(&mut client), read_all(&mut upstream));
    assert_eq!((got_up.unwrap().len(), got_down.unwrap().len()), (up, down));
    assert_eq!(Running::end(relay, &counted).await.1, Moved { sent: up as u64, received: down as u64 });
}

#[tokio::test]
async fn one_way_that_is_stuck_does_not_hold_up_the_other() {
    let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    fill(&mut client).await;
    let bytes = bytes(3, 5_000_000);
    let mut got = vec![0; bytes.len()];
    let (mut upstream_in, mut upstream_out) = upstream.split();
    let (mut client_in, _client_out) = client.split();
    let (sent, received) = tokio::join!(upstream_out.write_all(&bytes), client_in.read_exact(&mut got));
    sent.unwrap();
    received.unwrap();
    same(&got, &bytes);
    let mut some = [0; 100];
    upstream_in.read_exact(&mut some).await.unwrap();
    drop((client, upstream));
    Running::end(relay, &counted).await;
}

#[tokio::test]
async fn a_client_that_resets_behind_a_stuck_upload_is_noticed() {
    let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    fill(&mut client).await;
    reset(client);
    let (end, _) = Running::end(relay, &counted).await;
    assert_eq!(end, End::Reset(Side::Client));
    expect_reset(&mut upstream).await;
}

#[tokio::test]
async fn what_an_upstream_sent_before_its_reset_reaches_a_slow_client() {
    let Running { mut client, mut upstream, counted, relay } = Running::new(FOREVER).await;
    let filled = fill(&mut upstream).await;
    reset(upstream);
    // The client takes its time, longer than the relay looks away.
    sleep(GLANCE * 2).await;
    let mut got = 0;
    let mut sink = vec![0; 1 << 20];
    let error = loop {
        match timeout(PATIENCE, client.read(&mut sink)).await.expect("an end") {
            Ok(0) => panic!("a clean end instead of a reset"),
            Ok(n) => got += n,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (end, moved) = Running::end(relay, &counted).await;
    assert_eq!(end, End::Reset(Side::Upstream));
    // Only what was still in the upstream's own buffer is gone with it.
    assert!(got as u64 <= moved.received && got > filled / 3, "{got} of {filled}");
}

/// A browser tab that hangs is no reason to call an upstream's reset a silence.
#[tokio::test]
async fn an_upstreams_reset_behind_what_a_client_never_takes_is_a_reset() {
    let patience = Patience { idle: Duration::ZERO, half_closed: Duration::from_millis(300) };
    let Running { client, mut upstream, counted, relay } = Running::new(patience).await;
    fill(&mut upstream).await;
    reset(upstream);
    assert_eq!(Running::end(relay, &counted).await.0, End::Reset(Side::Upstream));
    drop(client);
}

#[tokio::test]
async fn a_tunnel_closed_on_one_side_and_silent_on_the_other_ends() {
    let patience = Patience { idle: Duration::ZERO, half_closed: Duration::from_millis(300) };
    for side in [Side::Client, Side::Upstream] {
        let Running { mut client, mut upstream, counted, relay } = Running::new(patience).await;
        match side {
            Side::Client => client.shutdown().await.unwrap(),
            Side::Upstream => upstream.shutdown().await.unwrap(),
        }
        // Not while the other side speaks.
        let (speaker, hearer) = match side {
            Side::Client => (&mut upstream, &mut client),
            Side::Upstream => (&mut client, &mut upstream),
        };
        for _ in 0..8 {
            speaker.write_all(b"busy").await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        let mut got = [0; 32];
        hearer.read_exact(&mut got).await.unwrap();
        assert_eq!(Running::end(relay, &counted).await.0, End::Idle);
        expect_reset(hearer).await;
    }
}

/// The end of the closed side lies behind bytes that nobody takes.
#[tokio::test]
async fn a_tunnel_closed_behind_a_stuck_transfer_ends_too() {
    let patience = Patience { idle: Duration::ZERO, half_closed: Duration::from_millis(300) };
    let Running { mut client, upstream, counted, relay } = Running::new(patience).await;
    // In small pieces up to the first that does not go on; the end must not wait at the client.
    let mut sent = 0;
    loop {
        client.write_all(&[6; 16 * 1024]).await.unwrap();
        sent += 16 * 1024;
        let arrived = async {
            while counted.bytes[0].load(Ordering::Relaxed) < sent {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(Duration::from_millis(300), arrived).await.is_err() {
            break;
        }
    }
    client.write_all(b"behind it").await.unwrap();
    client.shutdown().await.unwrap();
    let (end, moved) = Running::end(relay, &counted).await;
    assert!(end == End::Idle && moved.sent < sent, "{end:?}");
    drop(upstream);
}

#[tokio::test]
async fn idle_tunnels_end_only_when_that_is_asked_for() {
    let patience = Patience { idle: Duration::from_millis(300), half_closed: Duration::from_secs(60) };
    let Running { mut client, mut upstream, counted, relay } = Running::new(patience).await;
    let mut got = [0; 4];
    for _ in 0..8 {
        client.write_all(b"busy").await.unwrap();
        upstream.read_exact(&mut got).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(Running::end(relay, &counted).await, (End::Idle, Moved { sent: 32, received: 0 }));
    expect_reset(&mut client).await;
    expect_reset(&mut upstream).await;
}

#[tokio::test]
async fn silence_that_began_after_a_look_ends_a_quarter_late_at_most() {
    let patience = Patience { idle: Duration::from_secs(3), half_closed: Duration::ZERO };
    let Running { mut client, mut upstream, counted, relay } = Running::new(patience).await;
    let mut got = [0; 4];
    sleep(Duration::from_millis(300)).await;
    let last = Instant::now();
    client.write_all(b"busy").await.unwrap();
    upstream.read_exact(&mut got).await.unwrap();
    assert_eq!(Running::end(relay, &counted).await.0, End::Idle);
    // With one look at its end alone it would be 5.7 s; what is over 3.75 s is for a busy machine.
    let silent = last.elapsed().as_secs_f64();
    assert!((3.0..5.2).contains(&silent), "{silent}");
}

/// Polls a future once.
async fn poll_once(mut future: Pin<&mut impl Future>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// A message each way, and the end.
async fn expect_life(mut client: TcpStream, mut upstream: TcpStream, relay: JoinHandle<()>) {
    let mut heard = [0; 9];
    client.write_all(b"heartbeat").await.unwrap();
    timeout(PATIENCE, upstream.read_exact(&mut heard)).await.expect("it is woken").unwrap();
    upstream.write_all(b"heartbeat").await.unwrap();
    timeout(PATIENCE, client.read_exact(&mut heard)).await.expect("it is woken").unwrap();
    drop((client, upstream));
    timeout(PATIENCE, relay).await.expect("an end").unwrap();
}

async fn relay_between(near: TcpStream, far: TcpStream) {
    Relay::new(near, far, &[], 0).run(&Counted::with(FOREVER)).await;
}

#[tokio::test]
async fn a_relay_that_changes_tasks_is_woken_in_the_new_one() {
    let ((client, near), (upstream, far)) = (pair().await, pair().await);
    let mut relay = Box::pin(relay_between(near, far));
    poll_once(relay.as_mut()).await;
    let relay = tokio::spawn(relay);
    // It has looked at its sockets, and waits.
    tokio::task::yield_now().await;
    expect_life(client, upstream, relay).await;
}

/// A task that has used up its turn is told to wait before the sockets are asked.
#[tokio::test]
async fn the_end_of_a_turn_is_not_taken_for_silence() {
    let ((client, near), (upstream, far)) = (pair().await, pair().await);
    let relay = tokio::spawn(async {
        let mut relay = std::pin::pin!(relay_between(near, far));
        while has_budget_remaining() {
            tokio::task::consume_budget().await;
        }
        poll_once(relay.as_mut()).await;
        relay.await;
    });
    tokio::task::yield_now().await;
    expect_life(client, upstream, relay).await;
}

/// An end as TLS would make it: written bytes may stay behind, and the end of the stream is bytes
/// too, which find no room when the peer does not read.
struct Layered {
    stream: TcpStream,
    held: Vec<u8>,
    can_end: bool,
}

impl AsyncRead for Layered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Layered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() >= 16 * 1024 {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let n = bytes.len().min(16 * 1024);
        self.held.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, held, .. } = self.get_mut();
        while !held.is_empty() {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, held))?;
            held.drain(..n);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if !self.can_end {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Wire for Layered {
    const SPLICE: bool = false;
    const BUFFERS: bool = true;

    fn poll_fill(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        unreachable!("no splice")
    }

    fn poll_drain(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        unreachable!("no splice")
    }

    async fn gone(&self) {}

    fn liveness(&mut self, cx: &mut Context<'_>) -> Liveness {
        self.stream.liveness(cx)
    }

    fn reset(&mut self) {
        Wire::reset(&mut self.stream);
    }
}

#[tokio::test]
async fn a_layer_that_holds_bytes_back_loses_none() {
    for seed in 1..=8 {
        let (up, down) = (bytes(seed, 700_000 + seed as usize), bytes(seed + 100, 1_300_001));
        let ((client, near), (upstream, far)) = (pair().await, pair().await);
        let counted = Counted::with(FOREVER);
        let meter = counted.clone();
        let relay = tokio::spawn(async move {
            let layered = Layered { stream: near, held: Vec::new(), can_end: true };
            let mut relay = Relay::new(layered, far, b"early", 0);
            let end = relay.run(&meter).await;
            (end, relay.moved())
        });
        let ((client_in, client_out), (upstream_in, upstream_out)) =
            (client.into_split(), upstream.into_split());
        let saying = tokio::spawn(say(client_out, up.clone(), Rng::with_seed(seed + 200)));
        let answering = tokio::spawn(say(upstream_out, down.clone(), Rng::with_seed(seed + 300)));
        let hearing = tokio::spawn(hear(upstream_in, Rng::with_seed(seed + 400)));
        same(&timeout(PATIENCE, hear(client_in, Rng::with_seed(seed + 500))).await.unwrap(), &down);
        same(&timeout(PATIENCE, hearing).await.unwrap().unwrap(), &[b"early", up.as_slice()].concat());
        saying.await.unwrap();
        answering.await.unwrap();
        let (end, moved) = Running::end(relay, &counted).await;
        assert!(matches!(end, End::Closed(_)), "{end:?}");
        assert_eq!(moved, Moved { sent: up.len() as u64 + 5, received: down.len() as u64 });
    }
}

/// The end can't be said to a client that does not read, and that is bounded.
#[tokio::test]
async fn an_end_that_cannot_be_passed_on_is_bounded() {
    let ((client, near), (mut upstream, far)) = (pair().await, pair().await);
    let counted = Counted::with(Patience { idle: Duration::ZERO, half_closed: Duration::from_millis(300) });
    let meter = counted.clone();
    let relay = tokio::spawn(async move {
        let layered = Layered { stream: near, held: Vec::new(), can_end: false };
        let mut relay = Relay::new(layered, far, &[], 0);
        let end = relay.run(&meter).await;
        (end, relay.moved())
    });
    upstream.write_all(b"farewell").await.unwrap();
    upstream.shutdown().await.unwrap();
    assert_eq!(Running::end(relay, &counted).await, (End::Idle, Moved { sent: 0, received: 8 }));
    drop(client);
}
