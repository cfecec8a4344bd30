//! The one place that reads PEM. It rests on rustls-pemfile, which is marked unmaintained
//! (RUSTSEC-2025-0134) because it has become a thin layer over `rustls_pki_types::pem`; to leave it,
//! swap the two functions here and drop the exception in deny.toml.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Why a text is not the PEM that was hoped for.
#[derive(Debug, Error)]
pub enum PemError {
    /// Broken base64, a section without end, and the like.
    #[error("is not valid PEM: {0}")]
    Syntax(std::io::Error),
    /// Nothing of the kind in it.
    #[error("holds no certificate, must have sections BEGIN CERTIFICATE")]
    NoCertificate,
    /// Nothing of the kind in it.
    #[error(
        "holds no private key, must have a section BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY"
    )]
    NoKey,
    /// A passphrase would be needed.
    #[error("holds an encrypted private key: decrypt it with openssl pkey -in FILE -out NEW")]
    EncryptedKey,
}

/// All certificates of a PEM text, in its order; at least one.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> =
        rustls_pemfile::certs(&mut &*text).collect::<Result<_, _>>().map_err(PemError::Syntax)?;
    if found.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(found)
}

/// The first private key of a PEM text.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    match rustls_pemfile::private_key(&mut &*text).map_err(PemError::Syntax)? {
        Some(key) => Ok(key),
        None if is_encrypted(text) => Err(PemError::EncryptedKey),
        None => Err(PemError::NoKey),
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    let marker = b"BEGIN ENCRYPTED PRIVATE KEY";
    text.windows(marker.len()).any(|w| w == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        assert!(matches!(certificates(b"").unwrap_err(), PemError::NoCertificate));
        assert!(matches!(private_key(b"junk").unwrap_err(), PemError::NoKey));
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(matches!(private_key(encrypted).unwrap_err(), PemError::EncryptedKey));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(certificates(cut).is_err());
    }
}
