//! The result of a check, in the words and numbers of `--json`. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::cause::{Cause, Owner, Severity};
use crate::policy::{Category, Protocol};

/// The state of an endpoint or a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Status {
    Untested,
    /// Another cause hides what would be found.
    Skipped,
    Ok,
    Degraded,
    Failed,
}

impl From<Severity> for Status {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Degraded => Self::Degraded,
            Severity::Failed => Self::Failed,
        }
    }
}

/// The answer as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub schema_version: u32,
    /// `Ok`, `Degraded` or `Failed`.
    pub verdict: Status,
    /// The first line.
    pub summary: String,
    /// The root cause.
    pub cause: Option<Cause>,
    pub owner: Option<Owner>,
    pub endpoints: Vec<Endpoint>,
    pub categories: BTreeMap<Category, CategoryVerdict>,
    /// How far this machine's clock is ahead, in milliseconds; none where no answer told.
    pub clock_skew_ms: Option<i64>,
    /// The proxy that was gone through, without user and password.
    pub via: Option<String>,
    pub regions: Option<Vec<Region>>,
    /// The PAC file that was asked, and how it stands.
    pub pac: Option<Pac>,
}

/// A PAC file: `Ok` where it sends every listed host to the proxy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pac {
    pub source: String,
    pub status: Status,
    pub detail: String,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Endpoint {
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub category: Category,
    /// The address that took the connection; none where a proxy resolves the name.
    pub address: Option<String>,
    /// All that the name has, as far as it was resolved here.
    pub addresses: Vec<IpAddr>,
    /// What was shown in TLS.
    pub certificate: Option<Certificate>,
    pub status: Status,
    pub cause: Option<Cause>,
    /// The cause that hides this one.
    pub because: Option<Cause>,
    /// One printable line.
    pub detail: String,
    pub remedy: Option<&'static str>,
    pub rtt_ms: Option<u64>,
    pub steps: Steps,
    /// The share of Bindings that were lost, of a media endpoint.
    #[serde(skip)]
    pub loss: Option<f64>,
}

/// Who made a certificate. All of it is printable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Certificate {
    pub issuer: String,
    pub subject: String,
    pub sha256: String,
    /// The product that the issuer is known from.
    pub product: Option<&'static str>,
    /// Whether Mozilla's authorities, or the one of `--ca`, vouch for it.
    pub public: bool,
}

/// Milliseconds of each step; those after a failed one are null.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys are fixed, and name the unit")]
pub(crate) struct Steps {
    pub dns_ms: Option<u64>,
    pub connect_ms: Option<u64>,
    pub tls_ms: Option<u64>,
    pub http_ms: Option<u64>,
}

/// The state of a category, in the agent's words.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CategoryVerdict {
    pub status: Status,
    /// Empty where nothing is wrong.
    pub agent_sees: String,
    pub remedy: Option<&'static str>,
}

/// A Region and its distance from here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Region {
    pub region: String,
    pub rtt_ms: Option<u64>,
}
