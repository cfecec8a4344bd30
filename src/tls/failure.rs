//! Why a TLS handshake with a client failed: which cause an error of the TLS library means, and the
//! words for it. The causes themselves stand in [`crate::outcome`]. No I/O.

use rustls::{AlertDescription as Alert, Error, PeerIncompatible};

use crate::outcome::HandshakeFailure;

impl HandshakeFailure {
    /// What an error of the TLS library means.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            Error::InvalidCertificate(_) => Self::ClientCertificateBad,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::NoVersion,
            Error::PeerIncompatible(_) => Self::NoCipher,
            Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::General(_)
            | Error::EncryptError => Self::Internal,
            _ => Self::Protocol,
        }
    }

    fn of_alert(alert: Alert) -> Self {
        match alert {
            Alert::UnknownCA => Self::UnknownCa,
            Alert::BadCertificate
            | Alert::BadCertificateStatusResponse
            | Alert::BadCertificateHashValue
            | Alert::CertificateUnobtainable => Self::BadCertificate,
            Alert::CertificateExpired => Self::CertificateExpired,
            Alert::CertificateRevoked => Self::CertificateRevoked,
            Alert::CertificateUnknown => Self::CertificateUnknown,
            Alert::UnsupportedCertificate => Self::UnsupportedCertificate,
            Alert::UnrecognisedName => Self::UnrecognizedName,
            Alert::NoApplicationProtocol => Self::NoProtocol,
            Alert::ProtocolVersion | Alert::InappropriateFallback => Self::NoVersion,
            Alert::InsufficientSecurity | Alert::HandshakeFailure => Self::NoCipher,
            Alert::CloseNotify | Alert::UserCanceled => Self::Closed,
            _ => Self::OtherAlert,
        }
    }

    /// Whether the client refused our certificate.
    pub(crate) const fn is_refusal_of_ours(self) -> bool {
        self.refusal().is_some()
    }

    const fn refusal(self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownCa => {
                "it doesn't know the CA: put the CA's certificate on that computer, or look at the last renewal of tls.certificate"
            }
            Self::BadCertificate => {
                "it finds the certificate bad: look at its names, its chain and the CA on that computer"
            }
            Self::CertificateExpired => {
                "it finds it expired: renew tls.certificate, or set that computer's clock"
            }
            Self::CertificateRevoked => "its CA has revoked it: renew tls.certificate and its key",
            Self::CertificateUnknown => {
                "it doesn't accept it: put the CA's certificate on that computer, and look at the names and dates of tls.certificate"
            }
            Self::UnsupportedCertificate => {
                "it can't use such a certificate: issue one for servers (extendedKeyUsage serverAuth) with a key that browsers take"
            }
            Self::UnrecognizedName => {
                "the name by which it came isn't in it: issue one with the names that the PAC file uses"
            }
            _ => return None,
        })
    }

    /// Whether an administrator can put it right; the rest are scans, cancelled tabs and networks.
    pub(crate) const fn has_remedy(self) -> bool {
        self.is_refusal_of_ours()
            || matches!(
                self,
                Self::NoProtocol
                    | Self::NoCipher
                    | Self::NoVersion
                    | Self::ClientCertificateMissing
                    | Self::ClientCertificateBad
                    | Self::PlainHttp
                    | Self::Internal
            )
    }

    /// In words; `text` is what the TLS library says, fit to be shown.
    pub(crate) fn why(self, text: &str) -> String {
        if let Some(remedy) = self.refusal() {
            return format!("the client refuses this proxy's certificate ({}): {remedy}", self.into_str());
        }
        match self {
            Self::NoProtocol => {
                "the client speaks none of the protocols of tls.alpn: its ALPN list has neither http/1.1 nor h2, or tls.alpn leaves out what it has".into()
            }
            Self::NoVersion => "the client speaks neither TLS 1.2 nor TLS 1.3: update it".into(),
            Self::NoCipher => {
                format!("client and proxy have no cipher suite, group or signature scheme in common: update the client ({text})")
            }
            Self::ClientCertificateMissing => {
                "the client shows no certificate, and tls.client_ca asks for one".into()
            }
            Self::ClientCertificateBad => format!("the client's certificate: {text}"),
            Self::Closed => "the client left within the TLS handshake".into(),
            Self::Timeout => "the TLS handshake was not finished within limits.header_timeout".into(),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_of_our_certificate_is_ours_to_mend() {
        for (alert, word) in [
            (Alert::UnknownCA, "unknown_ca"),
            (Alert::BadCertificate, "bad_certificate"),
            (Alert::CertificateExpired, "certificate_expired"),
            (Alert::CertificateRevoked, "certificate_revoked"),
            (Alert::CertificateUnknown, "certificate_unknown"),
            (Alert::UnsupportedCertificate, "unsupported_certificate"),
            (Alert::UnrecognisedName, "unrecognized_name"),
        ] {
            let cause = HandshakeFailure::of(&Error::AlertReceived(alert));
            assert_eq!(cause.into_str(), word);
            assert!(cause.is_refusal_of_ours() && cause.has_remedy());
            assert!(cause.why("x").starts_with("the client refuses this proxy's certificate"), "{cause:?}");
        }
        for alert in [Alert::UserCanceled, Alert::InternalError, Alert::Unknown(200)] {
            assert!(!HandshakeFailure::of(&Error::AlertReceived(alert)).has_remedy(), "{alert:?}");
        }
    }
}
