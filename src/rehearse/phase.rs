//! The phases of a call, in their order. Pure.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

/// A phase of a call, in the order in which a softphone goes through them. The words in JSON are the names
/// in snake case.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, VariantArray, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Phase {
    /// A file of the panel, to its last byte.
    Static,
    /// A request to the instance.
    Api,
    /// Of the signalling connection: until there is a way to the host. DNS and the proxy's own dial are in it.
    Connect,
    /// Of the same: the handshake.
    Tls,
    /// Of the same: from the request for a WebSocket to its 101.
    Upgrade,
    /// All three together: what the panel allows 1 s for before it opens a second WebSocket.
    Signalling,
    /// The older signalling hosts, as far as they answer without a login.
    Telecom,
    /// The first message, of an invitation's size, and its answer.
    Exchange,
    /// STUN and TURN over UDP, to the first answer.
    Media,
    Heartbeat,
    Transfer,
    Conference,
    /// The last message, and the end of the WebSocket.
    HangUp,
}

impl Phase {
    /// The word in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        self.into_str()
    }
}
