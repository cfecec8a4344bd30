//! The kinds of listener.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// What a listener serves: the label `listener`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Entrance {
    /// The proxy, plain.
    Http,
    /// The proxy over TLS.
    Https,
    Admin,
    /// Lists for firewalls.
    Edl,
}

impl Entrance {
    /// The key that names its addresses.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Http => "proxy.listen",
            Self::Https => "tls.listen",
            Self::Admin => "admin.listen",
            Self::Edl => "edl.listen",
        }
    }
}
