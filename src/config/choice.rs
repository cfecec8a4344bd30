//! The closed vocabularies of the configuration: each key that takes one of a few words has its
//! enum here, with the words as users write them. What a word does is decided elsewhere.

use std::fmt;

use crate::policy::Category;

/// An enum that is written as one of a few words.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Every value, in the order in which messages and the schema list them.
    const EVERY: &'static [Self];
    /// The word as users write it.
    fn word(self) -> &'static str;
}

macro_rules! words {
    ($($(#[$about:meta])+ $Name:ident { $($(#[$doc:meta])+ $Variant:ident = $word:literal),+ $(,)? })+) => {$(
        $(#[$about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
        pub enum $Name { $($(#[$doc])+ #[serde(rename = $word)] $Variant),+ }

        impl $Name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The word as users write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $word),+ }
            }
        }

        impl Words for $Name {
            const EVERY: &'static [Self] = Self::ALL;
            fn word(self) -> &'static str { self.as_str() }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    )+};
}

words! {
    /// `connect.signin`: the sign-in pages agents use.
    SignIn {
        /// Names and passwords kept by Amazon Connect or its directory.
        Password = "password",
        /// An identity provider of the company.
        Saml = "saml",
        /// The AWS access portal of IAM Identity Center.
        IdentityCenter = "identity-center",
    }
    /// `connect.features`: optional groups of endpoints.
    Feature {
        /// Video calls and screen sharing.
        Video = "video",
        /// Recording of agents' screens.
        ScreenRecording = "screen-recording",
        /// Forecasting, capacity planning and agent scheduling.
        Scheduling = "scheduling",
        /// Traffic distribution over a pair of regions.
        GlobalResiliency = "global-resiliency",
        /// The AWS service endpoints that integrations call.
        ServiceApis = "service-apis",
        /// FIPS endpoints where AWS has them.
        Fips = "fips",
    }
    /// `connect.wildcards`: how wide the patterns are.
    Wildcards {
        /// As AWS prints them.
        Documented = "documented",
        /// Published hosts in place of wildcards that are open to any AWS customer.
        Narrow = "narrow",
    }
    /// `policy.mode`.
    Mode {
        /// What no rule allows is refused.
        Enforce = "enforce",
        /// What would be denied is let through, and counted.
        Report = "report",
    }
    /// `policy.tls`: what the first bytes in a tunnel must be.
    TlsCheck {
        /// A ClientHello that names the host of the CONNECT.
        Sni = "sni",
        /// Any ClientHello.
        Tls = "tls",
        /// Any bytes.
        Off = "off",
    }
    /// `tls.alpn`: protocols of the HTTPS listener.
    Alpn {
        /// HTTP/2.
        H2 = "h2",
        /// HTTP/1.1, and HTTP/1.0.
        Http11 = "http/1.1",
    }
    /// `log.format`.
    LogFormat {
        /// Lines for people.
        Text = "text",
        /// Every line an object.
        Json = "json",
    }
    /// `log.level`: the least severe level that is written.
    Level {
        /// Act now.
        Error = "error",
        /// Degraded.
        Warn = "warn",
        /// Start, reload, drain, access.
        Info = "info",
        /// Ordinary endings.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl Words for Category {
    const EVERY: &'static [Self] = &Self::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}
