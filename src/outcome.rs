//! Every way for a handshake, a request or a tunnel to end, in closed words: those of the metrics'
//! labels, of the access lines and of `Proxy-Status`. No I/O.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use crate::cause::Cause;
use crate::policy::Reason;

/// How a tunnel that the policy let through ended: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, VariantArray, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Outcome {
    Ok,
    Dns,
    Connect,
    UpstreamReset,
    ClientReset,
    IdleTimeout,
    NotTls,
    SniMismatch,
    Drained,
}

impl Outcome {
    /// Whether it counts against the network in `ccpgate_error_ratio`.
    pub(crate) const fn is_error(self) -> bool {
        matches!(self, Self::Dns | Self::Connect | Self::UpstreamReset | Self::IdleTimeout)
    }

    /// Whether its target was reached, and let the first bytes through.
    pub(crate) const fn was_tunnel(self) -> bool {
        !matches!(self, Self::Dns | Self::Connect | Self::NotTls | Self::SniMismatch)
    }

    /// The outcome of a word.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|outcome| outcome.into_str() == word)
    }
}

/// Why a request was refused before anything was dialled: the label `reason` of `ccpgate_denied_total`. A
/// request that fails later is a tunnel with an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, VariantArray, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Denial {
    NoRule,
    Port,
    DenyRule,
    IpLiteral,
    Client,
    Method,
    PrivateAddress,
    OutsideRanges,
    Malformed,
    HeaderSize,
    HeaderTimeout,
    Overload,
    Draining,
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::NoRule => Self::NoRule,
            Reason::Port => Self::Port,
            Reason::DenyRule => Self::DenyRule,
            Reason::IpLiteral => Self::IpLiteral,
        }
    }
}

/// What report mode lets through and enforce mode would refuse or end, and what `policy.ranges = "warn"`
/// lets through: the label `reason` of
/// `ccpgate_reported_total`, and `would_deny` in an access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, VariantArray, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum WouldDeny {
    NoRule,
    Port,
    DenyRule,
    IpLiteral,
    NotTls,
    SniMismatch,
    /// By `policy.ranges = "warn"`, whatever the mode.
    OutsideRanges,
}

impl From<Reason> for WouldDeny {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::NoRule => Self::NoRule,
            Reason::Port => Self::Port,
            Reason::DenyRule => Self::DenyRule,
            Reason::IpLiteral => Self::IpLiteral,
        }
    }
}

/// How far a request came, from the decision to the end of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Stage {
    Decide,
    Dns,
    Connect,
    Hello,
    Relay,
}

/// Who ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum EndedBy {
    Client,
    Upstream,
    Proxy,
}

/// Why a TLS handshake with a client failed: the label `cause` of
/// `ccpgate_tls_handshake_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum HandshakeFailure {
    /// The client doesn't know who issued our certificate.
    UnknownCa,
    BadCertificate,
    CertificateExpired,
    CertificateRevoked,
    CertificateUnknown,
    UnsupportedCertificate,
    /// The name in the client's PAC file isn't in our certificate.
    UnrecognizedName,
    /// An alert that says nothing of our certificate.
    OtherAlert,
    NoProtocol,
    NoCipher,
    NoVersion,
    /// `tls.client_ca` asks for a certificate, and none was shown.
    ClientCertificateMissing,
    ClientCertificateBad,
    PlainHttp,
    /// Neither TLS nor HTTP: a PROXY header, SOCKS, SSH.
    NotTls,
    /// TLS that breaks its own rules.
    Protocol,
    /// The client closed or reset within the handshake, and said nothing.
    Closed,
    Timeout,
    /// This proxy failed.
    Internal,
}

/// Why something failed, for the journal: the cause, as far as this proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub cause: Cause,
    /// For [`Cause::Limit`].
    pub bound: Option<Bound>,
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { cause, bound: None }
    }
}

impl From<Bound> for Fault {
    fn from(bound: Bound) -> Self {
        Self { cause: Cause::Limit, bound: Some(bound) }
    }
}

impl Serialize for Fault {
    /// The cause, in its word.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.cause.serialize(serializer)
    }
}

/// A limit of this proxy that a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bound {
    Connections,
    ConnectionsPerClient,
    /// The machine gives no more sockets.
    Descriptors,
    RequestHeader,
}

impl Bound {
    /// What to raise.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connections => "limits.connections",
            Self::ConnectionsPerClient => "limits.connections_per_client",
            Self::Descriptors => "LimitNOFILE of the unit",
            Self::RequestHeader => "limits.request_header",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON lines take the words from serde, metrics and text lines from strum.
    #[test]
    fn every_word_is_the_same_in_every_form() {
        fn same<T: Serialize>(all: &[T], word: impl Fn(&T) -> &'static str) {
            for value in all {
                assert_eq!(serde_json::to_value(value).unwrap(), word(value));
            }
        }
        same(Outcome::VARIANTS, Outcome::into_str);
        same(Denial::VARIANTS, Denial::into_str);
        same(WouldDeny::VARIANTS, WouldDeny::into_str);
        same(&[Stage::Decide, Stage::Dns, Stage::Connect, Stage::Hello, Stage::Relay], Stage::into_str);
        same(&[EndedBy::Client, EndedBy::Upstream, EndedBy::Proxy], EndedBy::into_str);
        assert_eq!(Outcome::SniMismatch.into_str(), "sni_mismatch");
    }
}
