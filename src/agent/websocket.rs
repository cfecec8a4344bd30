//! A WebSocket as the panel holds it: opened, spoken through, kept. Time is measured here; what it means
//! is not.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// What the panel's own heartbeat says. AWS answers it, and so does whatever echoes.
const HEARTBEAT: &str = r#"{"topic":"aws/heartbeat"}"#;
/// Messages of one exchange, and the pause between them.
const MESSAGES: usize = 8;
const PAUSE: Duration = Duration::from_millis(300);
/// How long the last answers of an exchange are waited for.
const LAST: Duration = Duration::from_secs(6);
/// The longest that an exchange takes.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(9);
/// Answers that come this close to each other came together.
const TOGETHER: Duration = Duration::from_millis(100);
/// So many messages in one heap were held back: they were sent over three pauses and more.
const HEAP: usize = 4;
/// How long the far side may take nothing of what is sent: one that only talks holds nobody up.
const TAKEN: Duration = Duration::from_secs(5);
/// Largest message that is taken.
const LARGEST: usize = 256 * 1024;

/// An open WebSocket.
pub(crate) struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// Messages that [`WebSocket::ask`] sent, and messages that came while it waited.
    asked: u32,
    answered: u32,
}

/// Why an upgrade came to nothing.
#[derive(Debug)]
pub(crate) enum NoUpgrade {
    /// Answered with this status.
    Status(u16),
    /// A 101 that is none: something is missing in it.
    Broken(String),
    /// The connection ended without an answer.
    Ended(String),
}

/// What came of an exchange of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Answers come as messages went.
    Fluent,
    /// So many came at once, although they were sent one by one.
    Heaps(usize),
    /// None came.
    Nothing,
}

/// How an open WebSocket ended although nobody here ended it.
#[derive(Debug)]
pub(crate) struct Cut(pub String);

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Asks for the upgrade.
    ///
    /// # Errors
    /// See [`NoUpgrade`].
    pub(crate) async fn open(stream: S, authority: &str, path: &str) -> Result<Self, NoUpgrade> {
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let url = format!("wss://{authority}{path}");
        match client_async_with_config(url, stream, Some(config)).await {
            Ok((stream, _)) => Ok(Self { stream, asked: 0, answered: 0 }),
            Err(Error::Http(answer)) => Err(NoUpgrade::Status(answer.status().as_u16())),
            Err(Error::Protocol(why)) => Err(NoUpgrade::Broken(why.to_string())),
            Err(error) => Err(NoUpgrade::Ended(error.to_string())),
        }
    }

    /// Sends messages one by one, and looks at how the answers come: a message's own, or a ping's.
    ///
    /// # Errors
    /// When the far side ends it.
    pub(crate) async fn exchange(&mut self) -> Result<Exchange, Cut> {
        let mut heard = Heard::default();
        for _ in 0..MESSAGES {
            self.speak().await?;
            self.listen(Instant::now() + PAUSE, &mut heard, |_| false).await?;
        }
        self.listen(Instant::now() + LAST, &mut heard, |heard| heard.messages.len() >= MESSAGES).await?;
        // Pings are answered nearer by, and by servers that have nothing to say to a message.
        let came = if heard.messages.is_empty() { &heard.pongs } else { &heard.messages };
        let heap = (0..came.len())
            .map(|first| came[first..].iter().take_while(|at| **at - came[first] <= TOGETHER).count())
            .max();
        Ok(match heap {
            None => Exchange::Nothing,
            Some(heap) if heap >= HEAP => Exchange::Heaps(heap),
            Some(_) => Exchange::Fluent,
        })
    }

    /// Stays silent for this long, then asks for a sign of life and waits for it as long as `patience`.
    ///
    /// # Errors
    /// When the far side ends it meanwhile, or gives no sign.
    pub(crate) async fn hold(&mut self, silent: Duration, patience: Duration) -> Result<(), Cut> {
        self.rest(silent).await?;
        self.speak().await?;
        let mut heard = Heard::default();
        let until = Instant::now() + patience;
        self.listen(until, &mut heard, |heard| !heard.is_empty()).await?;
        if heard.is_empty() {
            return Err(Cut(format!("after {silent:?} of silence nothing comes through any more")));
        }
        Ok(())
    }

    /// Sends one message, and waits for a sign of life: its answer or, from servers that have nothing to
    /// say to it, the answer to a ping. Returns how long that took.
    ///
    /// # Errors
    /// When the far side ends it meanwhile, or gives no sign within `patience`.
    pub(crate) async fn ask(&mut self, message: &str, patience: Duration) -> Result<Duration, Cut> {
        let begun = Instant::now();
        // The answer to an earlier message may still be on its way.
        self.asked = self.asked.wrapping_add(1);
        let mark = Bytes::copy_from_slice(&self.asked.to_be_bytes());
        self.send(Message::text(message)).await?;
        self.send(Message::Ping(mark.clone())).await?;
        loop {
            match timeout_at(begun + patience, self.stream.next()).await {
                Err(_) => return Err(Cut(format!("a message gets no answer within {patience:?}"))),
                Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => {
                    self.answered = self.answered.wrapping_add(1);
                    if self.answered >= self.asked {
                        break;
                    }
                }
                Ok(Some(Ok(Message::Pong(theirs)))) if theirs == mark => break,
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
                Ok(end) => return Err(over(end)),
            }
        }
        Ok(begun.elapsed())
    }

    /// Sends the panel's heartbeat, as [`Self::ask`] does.
    ///
    /// # Errors
    /// As of [`Self::ask`].
    pub(crate) async fn beat(&mut self, patience: Duration) -> Result<Duration, Cut> {
        self.ask(HEARTBEAT, patience).await
    }

    /// Stays silent.
    ///
    /// # Errors
    /// When the far side ends it meanwhile.
    pub(crate) async fn rest(&mut self, silent: Duration) -> Result<(), Cut> {
        self.listen(Instant::now() + silent, &mut Heard::default(), |_| false).await
    }

    /// Leaves, and waits for [`TAKEN`] at most.
    pub(crate) async fn close(mut self) {
        let _ = timeout(TAKEN, self.stream.close(None)).await;
    }

    async fn speak(&mut self) -> Result<(), Cut> {
        self.send(Message::text(HEARTBEAT)).await?;
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Cut> {
        match timeout(TAKEN, self.stream.send(message)).await {
            Ok(sent) => sent.map_err(|error| Cut(ended(&error))),
            Err(_) => Err(Cut(format!("the far side takes nothing for {TAKEN:?}"))),
        }
    }

    /// Notes when answers come, until then or until it is `enough`.
    async fn listen(
        &mut self,
        until: Instant,
        heard: &mut Heard,
        enough: impl Fn(&Heard) -> bool,
    ) -> Result<(), Cut> {
        // A far side that talks without end must not keep this from its clock.
        while !enough(heard) && Instant::now() < until {
            match timeout_at(until, self.stream.next()).await {
                Err(_) => break,
                Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => Heard::note(&mut heard.messages),
                Ok(Some(Ok(Message::Pong(_)))) => Heard::note(&mut heard.pongs),
                Ok(Some(Ok(Message::Ping(_) | Message::Frame(_)))) => {}
                Ok(end) => return Err(over(end)),
            }
        }
        Ok(())
    }
}

/// When answers came.
#[derive(Default)]
struct Heard {
    messages: Vec<Instant>,
    pongs: Vec<Instant>,
}

impl Heard {
    /// No more are needed to see a heap.
    const KEPT: usize = 4 * MESSAGES;

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.pongs.is_empty()
    }

    fn note(list: &mut Vec<Instant>) {
        if list.len() < Self::KEPT {
            list.push(Instant::now());
        }
    }
}

/// What ended it: no message of the panel's.
fn over(end: Option<Result<Message, Error>>) -> Cut {
    Cut(match end {
        Some(Ok(Message::Close(Some(frame)))) => {
            format!("closed by the far side with code {}", u16::from(frame.code))
        }
        Some(Err(error)) => ended(&error),
        Some(Ok(_)) => "closed by the far side".to_owned(),
        None => "ended by the far side".to_owned(),
    })
}

fn ended(error: &Error) -> String {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => "closed by the far side".to_owned(),
        Error::Io(error) => format!("ended: {error}"),
        other => format!("ended: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn a_far_side_that_takes_nothing_holds_nobody_up() {
        let (near, _far) = tokio::io::duplex(16);
        let stream = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut socket = WebSocket { stream, asked: 0, answered: 0 };
        let begun = Instant::now();
        let Err(Cut(how)) = socket.exchange().await else { panic!("nobody answers") };
        assert!(how.contains("takes nothing"), "{how}");
        timeout(TAKEN * 2, socket.close()).await.expect("leaving ends, too");
        assert!(begun.elapsed() < 4 * TAKEN);
    }
}
