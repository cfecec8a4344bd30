//! One line of the allow list and the closed vocabularies it is written in.

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

/// What a host is used for. The `category` label of a metric has only these values, and `none` for tunnels
/// that report mode let through.
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
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Category {
    Login,
    Signalling,
    Telecom,
    Static,
    Api,
    Chat,
    Attachments,
    Media,
    Extra,
}

impl Category {
    /// The word in metrics, lists and the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// How an endpoint is reached: `tcp` through the proxy, `udp` past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Whether AWS lists the name today, replaced it, or added it with the 2026 sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Generation {
    Current,
    Legacy,
    New,
}

/// Who can obtain a name that the pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Breadth {
    /// Only this customer.
    Tenant,
    /// Only the AWS service that the pattern is listed for.
    Service,
    /// Anybody with an AWS account: data can leave through it.
    Shared,
}

/// What the policy is there for: `policy.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Mode {
    /// What no rule allows is refused.
    Enforce,
    /// What would be denied is let through, and counted.
    Report,
}

/// What becomes of a name of AWS's that resolves to an address which AWS doesn't publish:
/// `policy.ranges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum OutsideRanges {
    /// It isn't looked at.
    Off,
    /// It is dialled, and counted.
    Warn,
    /// It isn't dialled.
    Enforce,
}

/// What a target that is an address may be: `policy.ip_targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum IpTargets {
    /// Nothing, unless a rule is exactly it.
    Off,
    /// One of the service in whose published ranges it lies.
    Ranges,
}

/// One line of the allow list as resolved from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In normal form: lower case, A-labels, no trailing dot; `*` as the contract defines it.
    pub pattern: super::Pattern,
    /// Sorted, without duplicates, never empty.
    pub ports: Vec<u16>,
    pub protocol: Protocol,
    pub category: Category,
    pub generation: Generation,
    pub breadth: Breadth,
    /// What traffic the endpoint carries, in a short phrase.
    pub carries: String,
    /// What the agent sees when the endpoint fails.
    pub agent_sees: String,
    /// Where the fact comes from: an AWS page, or the configuration key.
    pub source: String,
}

/// The source of rules that the configuration adds.
const ADDED: &str = "[[allow]]";

impl Rule {
    /// A rule that the configuration adds to those of the catalogue: TCP, and `Tenant` until the plan finds
    /// otherwise.
    #[must_use]
    pub fn added(pattern: super::Pattern, ports: Vec<u16>, category: Category) -> Self {
        Self {
            pattern,
            ports,
            protocol: Protocol::Tcp,
            category,
            generation: Generation::Current,
            breadth: Breadth::Tenant,
            carries: "what [[allow]] adds".to_owned(),
            agent_sees: "whatever needs this host fails; the configuration added it".to_owned(),
            source: ADDED.to_owned(),
        }
    }

    /// Whether the configuration added it, so that the host isn't known to be AWS's.
    #[must_use]
    pub(crate) fn is_added(&self) -> bool {
        self.source == ADDED
    }
}
