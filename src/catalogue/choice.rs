//! `[connect]`: the choice that decides which rows of the catalogue are switched on, and the closed words
//! that it is written in. The configuration reads it from text.

use serde::Deserialize;
use strum::{Display, IntoStaticStr, VariantArray};

/// The instances of Amazon Connect that agents work with. The default is that of the embedded
/// configuration; its values are as [`region`](super::region), [`alias`](super::alias) and
/// [`bucket`](super::bucket) give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Codes of AWS Regions, or `*` alone.
    pub regions: Vec<String>,
    /// Aliases of instances in lower case, or `*` alone.
    pub instances: Vec<String>,
    /// Names of S3 buckets.
    pub attachment_buckets: Vec<String>,
    /// Ids of the instances, as [`instance_id`](super::instance_id) gives them. No endpoint depends on them.
    pub instance_ids: Vec<String>,
    /// Sites that embed the panel, as [`origin`](super::origin) gives them. No endpoint depends on them.
    pub origins: Vec<String>,
    /// Whether agents take calls in the browser.
    pub media: bool,
    /// Whether names that AWS has replaced are let through as well.
    pub legacy: bool,
    pub signin: Vec<SignIn>,
    pub features: Vec<Feature>,
    pub wildcards: Wildcards,
}

/// `connect.signin`: the sign-in pages agents use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, VariantArray, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum SignIn {
    /// Names and passwords kept by Amazon Connect or its directory.
    Password,
    /// An identity provider of the company.
    Saml,
    /// The AWS access portal of IAM Identity Center.
    IdentityCenter,
}

/// `connect.features`: optional groups of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, VariantArray, IntoStaticStr, Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Feature {
    /// Video calls and screen sharing.
    Video,
    /// Recording of agents' screens.
    ScreenRecording,
    /// Forecasting, capacity planning and agent scheduling.
    Scheduling,
    /// Traffic distribution over a pair of regions.
    GlobalResiliency,
    /// The AWS service endpoints that integrations call.
    ServiceApis,
    /// FIPS endpoints where AWS has them.
    Fips,
}

/// `connect.wildcards`: how wide the patterns are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Wildcards {
    /// As AWS prints them.
    Documented,
    /// Published hosts in place of wildcards that are open to any AWS customer.
    Narrow,
}
