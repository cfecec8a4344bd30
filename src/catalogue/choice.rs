//! What an administrator chooses in `[connect]`. The vocabulary only: `check.rs` says whether a
//! choice can be meant, `resolve.rs` what follows from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The section `[connect]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectChoice {
    /// Region codes, or `*` for all.
    pub regions: Vec<String>,
    /// Instance aliases, or `*` for any instance.
    pub instances: Vec<String>,
    /// S3 buckets, without wildcards.
    pub attachment_buckets: Vec<String>,
    /// False: a media-less panel without TURN.
    pub media: bool,
    /// Also the names that AWS replaced.
    pub legacy: bool,
    pub signin: Vec<SignIn>,
    pub features: Vec<Feature>,
    pub wildcards: Wildcards,
}

impl Default for ConnectChoice {
    /// The embedded configuration: it serves any instance of us-east-1.
    fn default() -> Self {
        Self {
            regions: vec!["us-east-1".to_owned()],
            instances: vec!["*".to_owned()],
            attachment_buckets: Vec::new(),
            media: true,
            legacy: true,
            signin: vec![SignIn::Password, SignIn::Saml],
            features: Vec::new(),
            wildcards: Wildcards::Documented,
        }
    }
}

/// How agents sign in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SignIn {
    /// On AWS's own login page.
    Password,
    /// Through an identity provider, whose own names go into `[[allow]]`.
    Saml,
}

impl SignIn {
    pub const ALL: [Self; 2] = [Self::Password, Self::Saml];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Saml => "saml",
        }
    }
}

/// Optional groups of endpoints.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    Video,
    ScreenRecording,
    Scheduling,
    GlobalResiliency,
    ServiceApis,
    Fips,
}

impl Feature {
    pub const ALL: [Self; 6] = [
        Self::Video,
        Self::ScreenRecording,
        Self::Scheduling,
        Self::GlobalResiliency,
        Self::ServiceApis,
        Self::Fips,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::ScreenRecording => "screen-recording",
            Self::Scheduling => "scheduling",
            Self::GlobalResiliency => "global-resiliency",
            Self::ServiceApis => "service-apis",
            Self::Fips => "fips",
        }
    }
}

/// What to do with wildcards that are open to any AWS customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wildcards {
    /// As AWS prints them.
    Documented,
    /// Published hosts instead, where a list exists.
    Narrow,
}
