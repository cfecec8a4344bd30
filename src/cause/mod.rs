//! Why a network fails: every cause that ccpgate names, in closed words, with what stands behind it.
//!
//! One table for all that speaks of causes: command line, page, findings, alerts and documentation.
//! Pure: nothing is measured here, and nothing decides which cause holds.

mod table;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// A cause, in the order that decides between two which explain equally many failures.
///
/// The words in metrics and JSON are the names in snake case.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Cause {
    ClockSkew,
    ProxyUnreachable,
    ProxyAuth,
    ProxyDenied,
    ProxyLimit,
    PacMissing,
    DnsNxdomain,
    DnsServfail,
    DnsTimeout,
    DnsPrivate,
    OutsideRanges,
    DnsSlow,
    InstanceUnknown,
    TcpRefused,
    TcpTimeout,
    TcpReset,
    TcpUnreachable,
    SourceAddress,
    PathMtu,
    TlsIntercepted,
    TlsExpired,
    TlsWrongName,
    TlsFailed,
    HttpUnexpected,
    WsRefused,
    WsStripped,
    WsHung,
    WsCut,
    WsBuffered,
    WsSlow,
    IdleCut,
    UdpBlocked,
    TurnPartial,
    TurnLoss,
    NotConfigured,
    TunnelReset,
    TunnelIdle,
    OneDesk,
    ForeignProtocol,
    Limit,
    RangesStale,
    RangesAside,
    RangesDue,
}

/// Whose turn it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, VariantArray, IntoStaticStr, EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Owner {
    /// The agent's PC, its browser and its policies.
    Desk,
    /// DNS, routing, the line.
    Network,
    /// Packet filters on the way out.
    Firewall,
    /// What inspects or filters TLS and HTTP.
    Security,
    /// ccpgate's own configuration file.
    Configuration,
    /// The proxy on the way, ccpgate included, and the PAC file that leads to it.
    Proxy,
}

impl Owner {
    /// The word in metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// How much of the service a cause takes away.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Severity {
    /// It works, worse than it should.
    Degraded,
    /// It doesn't work.
    Failed,
}

/// The severity of a cause, as far as the cause alone decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    Always(Severity),
    /// Decided by what else was seen; the words say by what.
    Depends(&'static str),
}

/// Where a measurement becomes a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// Degraded from the first on, failed from the second on.
    From { degraded: Duration, failed: Duration },
    /// Longer than this.
    Over(Duration),
    /// No answer for this long.
    Silence(Duration),
    /// At least `least` probes lost, and more than this share of all.
    Loss { least: u32, percent: u32 },
}

impl Threshold {
    /// The severity of a measured time; none where the threshold isn't reached, or isn't one of time.
    #[must_use]
    pub fn judge(self, measured: Duration) -> Option<Severity> {
        match self {
            Self::From { failed, .. } if measured >= failed => Some(Severity::Failed),
            Self::From { degraded, .. } if measured >= degraded => Some(Severity::Degraded),
            Self::Over(limit) if measured > limit => Some(Severity::Degraded),
            Self::Silence(limit) if measured >= limit => Some(Severity::Failed),
            Self::From { .. } | Self::Over(_) | Self::Silence(_) | Self::Loss { .. } => None,
        }
    }

    /// The severity of `lost` of `sent` probes; none where the threshold isn't reached, or isn't one
    /// of loss.
    #[must_use]
    pub fn judge_loss(self, lost: u32, sent: u32) -> Option<Severity> {
        match self {
            Self::Loss { least, percent }
                if lost >= least && u64::from(lost) * 100 > u64::from(sent) * u64::from(percent) =>
            {
                Some(Severity::Degraded)
            }
            _ => None,
        }
    }
}

/// In the words of the documentation.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From { degraded, failed } => {
                write!(f, "degraded from {}, failed from {}", words(*degraded), words(*failed))
            }
            Self::Over(limit) => write!(f, "over {}", words(*limit)),
            Self::Silence(limit) => write!(f, "no answer in {}", words(*limit)),
            Self::Loss { least, percent } => write!(f, "at least {least} lost and over {percent} %"),
        }
    }
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What stands behind a cause.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// When the cause holds.
    pub definition: &'static str,
    pub threshold: Option<Threshold>,
    /// What the agent notices, where the endpoint alone doesn't say it.
    pub agent_sees: &'static str,
    /// What the owner does about it.
    pub remedy: &'static str,
    pub owner: Owner,
    pub grade: Grade,
}

/// The steps of a test, in the order in which each needs those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Proxy,
    Dns,
    Tcp,
    Tls,
    Http,
    WebSocket,
    Hold,
}

impl Cause {
    /// The word in metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Definition, words, owner.
    #[must_use]
    pub const fn about(self) -> About {
        table::about(self)
    }

    /// The documentation of the cause, from the top of the repository.
    #[must_use]
    pub fn page(self) -> String {
        format!("docs/causes.md#{}", self.as_str())
    }

    /// Whether `other` says nothing of its own where this one holds: on one endpoint, or on endpoints
    /// that share the resolver, the proxy or the local address that it is about. Never in a circle, so
    /// that a root always remains.
    ///
    /// What only degrades a step lets the steps behind it speak for themselves.
    #[must_use]
    pub fn hides(self, other: Self) -> bool {
        use Cause as C;
        match (self, other) {
            (C::InstanceUnknown, C::DnsNxdomain)
            | (C::ClockSkew, C::TlsExpired)
            | (C::SourceAddress, C::TcpRefused | C::TcpTimeout | C::TcpReset | C::TcpUnreachable)
            // Without interception nobody can change what goes through a TLS tunnel.
            | (C::TlsIntercepted, C::WsStripped | C::WsBuffered)
            | (C::UdpBlocked, C::TurnPartial | C::TurnLoss)
            | (C::OneDesk, C::TunnelReset | C::TunnelIdle)
            | (C::Limit, C::OneDesk | C::TunnelReset | C::TunnelIdle) => true,
            _ if self.about().grade != Grade::Always(Severity::Failed) => false,
            // Media goes past the proxy, and needs the name alone.
            (_, C::UdpBlocked | C::TurnPartial | C::TurnLoss) => self.step() == Some(Step::Dns),
            _ => match (self.step(), other.step()) {
                (Some(mine), Some(its)) => mine < its,
                _ => false,
            },
        }
    }

    /// The step that the cause ends; none where it isn't found by walking through them.
    const fn step(self) -> Option<Step> {
        Some(match self {
            Self::ProxyUnreachable | Self::ProxyAuth | Self::ProxyDenied | Self::ProxyLimit => Step::Proxy,
            Self::DnsNxdomain
            | Self::DnsServfail
            | Self::DnsTimeout
            | Self::DnsPrivate
            | Self::OutsideRanges
            | Self::DnsSlow
            | Self::InstanceUnknown => Step::Dns,
            Self::TcpRefused
            | Self::TcpTimeout
            | Self::TcpReset
            | Self::TcpUnreachable
            | Self::SourceAddress
            | Self::PathMtu => Step::Tcp,
            Self::TlsIntercepted | Self::TlsExpired | Self::TlsWrongName | Self::TlsFailed => Step::Tls,
            Self::HttpUnexpected => Step::Http,
            Self::WsRefused
            | Self::WsStripped
            | Self::WsHung
            | Self::WsCut
            | Self::WsBuffered
            | Self::WsSlow => Step::WebSocket,
            Self::IdleCut => Step::Hold,
            Self::ClockSkew
            | Self::PacMissing
            | Self::UdpBlocked
            | Self::TurnPartial
            | Self::TurnLoss
            | Self::NotConfigured
            | Self::TunnelReset
            | Self::TunnelIdle
            | Self::OneDesk
            | Self::ForeignProtocol
            | Self::Limit
            | Self::RangesStale
            | Self::RangesAside
            | Self::RangesDue => return None,
        })
    }
}

#[cfg(test)]
mod tests;
