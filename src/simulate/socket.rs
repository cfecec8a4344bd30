//! The region's end of a WebSocket. The panel's own messages get the service's answers; all others
//! are sent back as they came.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The largest message that is taken: far more than the panel sends.
const LARGEST: usize = 1 << 20;

/// Answers until the client leaves; with `cut` until it has had one answer, and then without a word.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, cut: bool) {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    while let Some(Ok(message)) = socket.next().await {
        let answer = match message {
            Message::Text(text) => Message::text(answer(&text)),
            Message::Binary(bytes) => Message::Binary(bytes),
            // The library answers a ping, and a close.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => continue,
        };
        if socket.send(answer).await.is_err() || cut {
            return;
        }
    }
}

/// The messages are those of the panel's WebSocket manager: a topic, and what is asked of it.
fn answer(text: &str) -> String {
    let topic = serde_json::from_str::<serde_json::Value>(text).ok().and_then(|message| {
        let topic = message.get("topic")?.as_str()?;
        matches!(topic, "aws/heartbeat" | "aws/subscribe").then(|| topic.to_owned())
    });
    match topic.as_deref() {
        Some("aws/subscribe") => r#"{"topic":"aws/subscribe","content":{"status":"success"}}"#.to_owned(),
        Some(topic) => format!(r#"{{"topic":{topic:?},"statusCode":200,"statusContent":"OK"}}"#),
        None => text.to_owned(),
    }
}
