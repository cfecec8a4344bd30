//! What a probe saw of an endpoint, as it was: times, the end, who was at the other side. What it means
//! is [`finding`](super::finding)'s to say.

use std::net::IpAddr;
use std::time::Duration;

use super::voice::Tested;
use crate::agent::certificate::Shown;
use crate::agent::http::NoAnswer;
use crate::agent::tls::{NoTls, Verdicts};
use crate::agent::websocket::NoUpgrade;
use crate::cause::Cause;
use crate::egress::resolver::Fixed;
use crate::egress::{Trace, Unreached};

/// What came of a test.
pub(super) enum Observed {
    Tested(Box<Seen>),
    /// A media endpoint, as judged beside the others.
    Media(Box<Tested>),
    Untested(String),
    /// Not tried, because what it rests on had failed by this cause.
    Hidden(Cause),
}

/// How far a probe came, and how long its steps took.
#[derive(Default)]
pub(crate) struct Seen {
    /// DNS and connection, as the proxy's own way tells of them.
    pub trace: Trace,
    /// How long DNS took when it was asked once more, because it had been slow.
    pub dns_anew: Option<Duration>,
    /// The addresses that the name has, where it was resolved here.
    pub found: Vec<IpAddr>,
    /// Who says so, where it isn't DNS.
    pub fixed: Option<Fixed>,
    /// Whether a proxy on the way carries it, so that names and addresses are that one's.
    pub by_proxy: bool,
    /// The target is an address, and has no name.
    pub is_address: bool,
    pub tls: Option<Duration>,
    pub http: Option<Duration>,
    pub end: Option<End>,
    /// What came of a handshake of another form, where one had failed twice.
    pub otherwise: Option<Otherwise>,
    /// What the far side showed, and what the authorities say of it.
    pub shown: Option<(Shown, Verdicts)>,
    pub clock: Option<Clock>,
}

/// What came of TLS handshakes of other forms than that which failed, to the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// In segments of at most so many bytes each one succeeds.
    InSegments(u16),
    /// With a ClientHello that fits into one packet each one succeeds.
    ShortHello,
    /// In segments of at most so many bytes there is no answer either.
    Silent(u16),
}

/// The clock here against that of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Milliseconds that this machine is ahead.
    pub ahead_ms: i64,
    /// Whether the certificate is valid by this machine's clock; else it is by the answer's.
    pub verified: bool,
}

/// Where a probe ended.
pub(crate) enum End {
    Unreached(Unreached),
    NoTls(NoTls),
    /// TLS came about, and the certificate is nobody's that is known here.
    Untrusted,
    NoAnswer(NoAnswer),
    /// No whole answer within this time.
    Silent(Duration),
    /// An answer that the service doesn't give, in words.
    Foreign(String),
    /// An answer of this status.
    Answered(u16),
    /// An ordinary request is answered, an upgrade isn't within this time.
    UpgradeHung(Duration),
    /// An ordinary request is answered, and an upgrade ends the connection: how.
    UpgradeRefused(String),
    WebSocket(WebSocketEnd),
    /// A silent connection ended before its time; how, and what was asked of it.
    Cut(String),
    /// A silent connection was kept for as long as it was to be.
    Kept,
    /// The time for the whole endpoint was over.
    Late(Duration),
}

/// What came of a WebSocket that was to be held.
pub(crate) enum WebSocketEnd {
    /// It was open for this long, and answered at its end. It took `opening` to open it.
    Held {
        opening: Duration,
        held: Duration,
    },
    Refused(String),
    Stripped(String),
    /// No answer to the upgrade within this time.
    Hung(Duration),
    /// It ended after this long: how.
    Cut(Duration, String),
    Buffered(String),
}

impl From<NoUpgrade> for WebSocketEnd {
    fn from(why: NoUpgrade) -> Self {
        match why {
            // Nobody refuses so who has seen that an upgrade was asked for.
            NoUpgrade::Status(status @ (200..=299 | 426)) => {
                Self::Stripped(format!("answered {status} in place of 101"))
            }
            NoUpgrade::Status(status) => Self::Refused(format!("answered {status} in place of 101")),
            NoUpgrade::Broken(why) => Self::Stripped(why),
            NoUpgrade::Ended(why) => Self::Refused(why),
        }
    }
}
