//! The one place that reads PEM. It uses rustls-pemfile, which is marked unmaintained (RUSTSEC-2025-0134)
//! because it has become a thin layer over `rustls_pki_types::pem`; to leave it, swap the two functions
//! here and drop the exception in deny.toml.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Why a text can't be used as PEM.
#[derive(Debug, Error)]
pub enum PemError {
    /// Broken base64, a section without end, and the like. The library's message quotes the file, which may
    /// be a key without line breaks, so it is dropped.
    #[error(
        "is not valid PEM: its lines BEGIN and END must stand alone, be complete and say the same, with base64 between them"
    )]
    Syntax,
    /// Nothing of the kind in it.
    #[error("holds no certificate, must have sections BEGIN CERTIFICATE")]
    NoCertificate,
    /// Nothing of the kind in it.
    #[error(
        "holds no private key, must have a section BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY"
    )]
    NoKey,
    /// Something that editors, tools or people do to such files.
    #[error("{0}")]
    Form(&'static str),
    /// A passphrase would be needed.
    #[error("holds an encrypted private key: decrypt it with openssl pkey -in FILE -out NEW")]
    EncryptedKey,
}

/// What is wrong with the form of a file, beside what it holds.
fn form(text: &[u8]) -> Result<(), PemError> {
    let is = |what| Err(PemError::Form(what));
    match text {
        [0xef, 0xbb, 0xbf, ..] => {
            return is("begins with a byte order mark (BOM): save it as UTF-8 without one");
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return is("is UTF-16 text: save it as UTF-8 without a byte order mark");
        }
        [0x30, 0x80..=0x84, ..] => {
            return is(
                "is binary (DER or PKCS #12): make PEM of it with openssl x509 -inform der, openssl pkey -inform der or openssl pkcs12 -nodes",
            );
        }
        _ => {}
    }
    let mut lines = text.split(|b| *b == b'\n');
    if lines.any(|line| {
        line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) && begins(line.trim_ascii_start())
    }) {
        return is("is indented: remove the blanks before its lines");
    }
    Ok(())
}

fn begins(line: &[u8]) -> bool {
    line.starts_with(b"-----BEGIN ")
}

fn has(text: &[u8], marker: &[u8]) -> bool {
    memchr::memmem::find(text, marker).is_some()
}

/// All certificates of a PEM text, in its order; at least one.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    form(text)?;
    let found: Vec<_> =
        rustls_pemfile::certs(&mut &*text).collect::<Result<_, _>>().map_err(|_| PemError::Syntax)?;
    if found.is_empty() {
        if has(text, b"-----BEGIN CERTIFICATE REQUEST-----") {
            return Err(PemError::Form(
                "holds a certificate request: send it to the CA, and put the certificate here",
            ));
        }
        return Err(PemError::NoCertificate);
    }
    Ok(found)
}

/// The first private key of a PEM text.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    form(text)?;
    // The old form is encrypted where a header says so, the new one where the section's name does.
    if has(text, b"-----BEGIN ENCRYPTED PRIVATE KEY") || has(text, b"\nProc-Type: 4,ENCRYPTED") {
        return Err(PemError::EncryptedKey);
    }
    match rustls_pemfile::private_key(&mut &*text).map_err(|_| PemError::Syntax)? {
        Some(key) => Ok(key),
        None if has(text, b"-----BEGIN PUBLIC KEY-----") => {
            Err(PemError::Form("holds a public key, the private one belongs here"))
        }
        None => Err(PemError::NoKey),
    }
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
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(matches!(private_key(old).unwrap_err(), PemError::EncryptedKey));
        for cut in [
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            assert!(matches!(certificates(cut.as_bytes()).unwrap_err(), PemError::Syntax));
        }
    }

    #[test]
    fn says_what_became_of_the_form() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(certificates(pem.as_bytes()).is_ok());
        let utf16: Vec<u8> = "\u{feff}-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (text, words) in [
            (format!("\u{feff}{pem}").into_bytes(), "byte order mark"),
            (pem.replace("-----B", "  -----B").into_bytes(), "indented"),
            (format!("chain: |\n\t{}", pem.replace('\n', "\n\t")).into_bytes(), "indented"),
            (utf16, "UTF-16"),
            (vec![0x30, 0x82, 1, 2], "DER"),
            (pem.replace("CERTIFICATE", "CERTIFICATE REQUEST").into_bytes(), "certificate request"),
        ] {
            let error = certificates(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        let public = pem.replace("CERTIFICATE", "PUBLIC KEY");
        assert!(private_key(public.as_bytes()).unwrap_err().to_string().contains("public key"));
    }
}
