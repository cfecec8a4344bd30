//! The listener's own certificate: read from files and checked.
//! When files are read again is decided elsewhere; clients' certificates are in
//! [`client`](super::client).

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use super::pem::{self, PemError};
use super::secret::Secret;

/// A warning is due this long before the end of a certificate, or in the last third of its life, where
/// that is later: one of 47 days, or of one, is renewed by then.
const WARN_BEFORE: u64 = 30 * 24 * 3600;

/// RSA keys of fewer bits are refused by the TLS library and by browsers.
const RSA_BITS: usize = 2048;

/// No file of certificates or keys is larger: all public CAs together take a quarter of a megabyte.
const LARGEST: u64 = 4 << 20;

/// The validity of a certificate, in seconds since the epoch; dates before 1970 count as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Life {
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let start = u64::try_from(certificate.validity().not_before.timestamp()).unwrap_or(0);
        Self { start, end: ends_at(certificate) }
    }

    /// The first second at which a warning of its end is due.
    fn warned_from(self) -> u64 {
        self.end - WARN_BEFORE.min(self.end.saturating_sub(self.start) / 3).min(self.end)
    }
}

/// The validities of the certificates in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lives {
    /// The one whose end is warned of first.
    ends: Life,
    /// The one that begins last.
    begins: Life,
}

impl Lives {
    /// None for no certificate.
    pub(super) fn of(all: &[Life]) -> Option<Self> {
        let ends = *all.iter().min_by_key(|life| life.warned_from())?;
        let begins = *all.iter().max_by_key(|life| life.start)?;
        Some(Self { ends, begins })
    }

    /// What is to be said of them: of each, the certificate and words such as "expires in 12 days".
    pub(super) fn in_words(self, now: u64) -> impl Iterator<Item = (Life, String)> {
        let of = |life: Life, words: Option<String>| words.map(|words| (life, words));
        [
            of(self.begins, beginning_in_words(self.begins, now)),
            of(self.ends, expiry_in_words(self.ends, now)),
        ]
        .into_iter()
        .flatten()
    }
}

/// A chain and its key that belong together.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    certified: Arc<CertifiedKey>,
    life: Life,
    /// Those of the whole chain.
    lives: Lives,
    has_names: bool,
}

impl Identity {
    /// Reads the chain (leaf first) and the key, and checks one against the other. Expired ones, and ones
    /// that aren't valid yet, are accepted, with a warning: refusing to start would cut everybody off over a
    /// date.
    pub fn load(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let refuse = |file: &Path, problem| CertificateError::new(file, problem);
        let certificates = certificates(chain)?;
        let mut lives = Vec::with_capacity(certificates.len());
        for (index, der) in certificates.iter().enumerate() {
            let number = index + 1;
            let parsed =
                parse(der).ok_or_else(|| refuse(chain, CertificateProblem::Unreadable { number }))?;
            lives.push(Life::of(&parsed));
        }
        let (Some(&life), Some(lives)) = (lives.first(), Lives::of(&lives)) else {
            return Err(refuse(chain, PemError::NoCertificate.into()));
        };
        if let Some(leaf) = parse(&certificates[0]) {
            check_leaf(&leaf).map_err(|problem| refuse(chain, problem))?;
        }
        let has_names = parse(&certificates[0]).is_some_and(|leaf| {
            matches!(leaf.subject_alternative_name(), Ok(Some(names)) if !names.value.general_names.is_empty())
        });

        let der = pem::private_key(&read(key)?).map_err(|e| refuse(key, e.into()))?;
        let signing =
            provider.key_provider.load_private_key(der).map_err(|_| refuse(key, CertificateProblem::Key))?;
        let certified = CertifiedKey::new(certificates, signing);
        match certified.keys_match() {
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(TlsError::InconsistentKeys(_)) => {
                let owner = position_of_owner(&certified);
                let chain = chain.to_owned();
                return Err(refuse(
                    key,
                    match owner {
                        Some(number) => CertificateProblem::Order { chain, number },
                        None => CertificateProblem::Mismatch { chain },
                    },
                ));
            }
            Err(e) => return Err(refuse(chain, CertificateProblem::Unusable(e))),
        }
        Ok(Self { path: chain.to_owned(), certified: Arc::new(certified), life, lives, has_names })
    }

    /// The chain's file, the label of `ccpgate_certificate_expiry_timestamp_seconds`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// End of the leaf's validity, seconds since the epoch.
    pub(crate) fn not_after(&self) -> u64 {
        self.life.end
    }

    /// Beginning of the leaf's validity, seconds since the epoch.
    pub(crate) fn not_before(&self) -> u64 {
        self.life.start
    }

    /// Warnings for the start, every reload and once a day: the end is near, the time hasn't come, or browsers
    /// won't accept this certificate.
    pub(crate) fn warnings(&self, now: u64) -> Vec<String> {
        let path = self.path.display();
        let mut warnings = Vec::new();
        if !self.has_names {
            warnings.push(format!(
                "certificate {path}: has no subject alternative name, browsers will refuse it: issue one with the names that the PAC file uses"
            ));
        }
        for (life, when) in self.lives.in_words(now) {
            let what = if life == self.life { "it" } else { "an intermediate in it" };
            let remedy = match life.start > now {
                true => {
                    "browsers refuse it until then: set this machine's clock, or issue one that is valid now"
                }
                false => "replace the files, they are picked up by themselves",
            };
            warnings.push(format!("certificate {path}: {what} {when}: {remedy}"));
        }
        warnings
    }
}

/// "is not valid before 2026-12-01T00:00:00Z"; `None` when it is.
fn beginning_in_words(life: Life, now: u64) -> Option<String> {
    if life.start <= now {
        return None;
    }
    let start = i64::try_from(life.start).ok().and_then(|start| Timestamp::from_second(start).ok());
    Some(start.map_or_else(|| "is not valid yet".to_owned(), |start| format!("is not valid before {start}")))
}

/// "expires in 12 days", "has expired"; `None` while there is no need to say so.
fn expiry_in_words(life: Life, now: u64) -> Option<String> {
    match life.end.checked_sub(now) {
        None | Some(0) => Some("has expired".to_owned()),
        Some(_) if now < life.warned_from() => None,
        Some(left) if left < 2 * 86_400 => Some(format!("expires in {} hours", left / 3600)),
        Some(left) => Some(format!("expires in {} days", left / 86_400)),
    }
}

/// Finds what the TLS library would refuse in its own, less helpful words.
fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), CertificateProblem> {
    if leaf.version() != X509Version::V3 {
        return Err(CertificateProblem::Version { version: leaf.version().0.saturating_add(1) });
    }
    if let Ok(PublicKey::RSA(key)) = leaf.public_key().parsed()
        && key.key_size() < RSA_BITS
    {
        return Err(CertificateProblem::ShortKey { bits: key.key_size() });
    }
    Ok(())
}

/// Hands rustls a certificate, whatever name a client asks for.
#[derive(Debug)]
pub struct Resolver(Arc<CertifiedKey>);

impl Resolver {
    /// One with this certificate.
    pub fn new(identity: &Identity) -> Arc<Self> {
        Arc::new(Self(Arc::clone(&identity.certified)))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What is wrong with a certificate or key file.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct CertificateError {
    path: PathBuf,
    problem: CertificateProblem,
}

impl CertificateError {
    pub(super) fn new(path: &Path, problem: CertificateProblem) -> Self {
        Self { path: path.to_owned(), problem }
    }
}

#[derive(Debug, Error)]
pub(super) enum CertificateProblem {
    #[error("can't be read: {0}")]
    Read(io::Error),
    #[error("is not a regular file, nor a link to one")]
    NotAFile,
    #[error("is larger than {} MiB, too large for keys and certificates", LARGEST >> 20)]
    TooLarge,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("certificate {number} of the file is not a valid X.509 certificate")]
    Unreadable { number: usize },
    #[error(
        "is an X.509 version {version} certificate, TLS needs version 3: issue it with extensions, such as a subject alternative name"
    )]
    Version { version: u32 },
    #[error("its RSA key has {bits} bits, at least {RSA_BITS} are needed: make a new key and certificate")]
    ShortKey { bits: usize },
    #[error(
        "holds a private key that can't be used: make an ECDSA one (P-256, P-384, P-521), Ed25519, or RSA from {RSA_BITS} bits up"
    )]
    Key,
    #[error("can't be used: {0}")]
    Unusable(TlsError),
    #[error("does not belong to the certificate in {}", chain.display())]
    Mismatch { chain: PathBuf },
    #[error(
        "belongs to certificate {number} of {}, which must come first in that file",
        chain.display()
    )]
    Order { chain: PathBuf, number: usize },
    #[error("can't be used as client_ca: {0}")]
    Authority(String),
}

/// All certificates of a file, in its order; at least one.
///
/// # Errors
/// Why they can't be used, with the path.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    pem::certificates(&read(path)?).map_err(|error| CertificateError::new(path, error.into()))
}

/// A file of keys or certificates, erased from memory when dropped. Files are read again by themselves, while
/// agents talk: one that never ends, or that waits for a writer, must not take the process along.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let refuse = |problem| CertificateError::new(path, problem);
    let unreadable = |error| refuse(CertificateProblem::Read(error));
    let secret =
        Secret::open(path).map_err(unreadable)?.ok_or_else(|| refuse(CertificateProblem::NotAFile))?;
    // With room for one byte more, at which the end shows: it doesn't grow, which would leave copies behind.
    let room = usize::try_from(secret.size.min(LARGEST) + 1).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    secret.file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(refuse(CertificateProblem::TooLarge)),
        false => Ok(bytes),
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed)
}

/// End of validity in seconds since the epoch; dates before 1970 count as 1970.
pub(super) fn ends_at(certificate: &X509Certificate<'_>) -> u64 {
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0)
}

/// Which certificate of the file the key belongs to, counted from 1.
fn position_of_owner(certified: &CertifiedKey) -> Option<usize> {
    let key = certified.key.public_key()?;
    let owner = certified
        .cert
        .iter()
        .position(|der| parse(der).is_some_and(|c| c.public_key().raw == key.as_ref()))?;
    Some(owner + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
        chain: PathBuf,
        key: PathBuf,
    }

    fn issue(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn files(chain: &str, key: &str) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let (c, k) = (dir.path().join("proxy.pem"), dir.path().join("proxy.key"));
        fs::write(&c, chain).unwrap();
        fs::write(&k, key).unwrap();
        Files { dir, chain: c, key: k }
    }

    fn load(files: &Files) -> Result<Identity, String> {
        Identity::load(&files.chain, &files.key, &default_provider()).map_err(|e| {
            let text = e.to_string();
            text.replace(&format!("{}/", files.dir.path().display()), "")
        })
    }

    /// A buffer that grows leaves copies of the key behind, which nobody erases.
    #[test]
    fn a_file_is_read_into_a_buffer_that_never_grows() {
        for size in [0, 1, 31, 32, 33, 300, 8192, 20_000] {
            let files = files("", &"k".repeat(size));
            let bytes = read(&files.key).unwrap();
            assert_eq!((bytes.len(), bytes.capacity()), (size, size + 1));
        }
    }

    #[test]
    fn chain_and_key_must_belong_together() {
        let (ca, ka) = issue(&["proxy.corp.example"]);
        let (cb, kb) = issue(&["other.corp.example"]);
        assert!(load(&files(&ca, &ka)).is_ok());
        assert_eq!(
            load(&files(&ca, &kb)).unwrap_err(),
            "proxy.key: does not belong to the certificate in proxy.pem"
        );
        assert_eq!(
            load(&files(&format!("{ca}{cb}"), &kb)).unwrap_err(),
            "proxy.key: belongs to certificate 2 of proxy.pem, which must come first in that file"
        );
        assert_eq!(
            load(&files(&ka, &ka)).unwrap_err(),
            "proxy.pem: holds no certificate, must have sections BEGIN CERTIFICATE"
        );
        let missing = files(&ca, &ka);
        fs::remove_file(&missing.key).unwrap();
        assert!(load(&missing).unwrap_err().starts_with("proxy.key: can't be read: "));
        let truncated = &ca[..ca.len() / 2];
        assert!(load(&files(truncated, &ka)).is_err());
    }

    #[test]
    fn warns_in_the_last_thirty_days_or_the_last_third() {
        const DAY: u64 = 86_400;
        let end = 1_900_000_000;
        let life = |days: u64| Life { start: end - days * DAY, end };
        for (days, from) in [(365, 30), (91, 30), (90, 30), (47, 47 / 3), (6, 2), (3, 1)] {
            let due = life(days).warned_from();
            assert!(end - due >= from * DAY && end - due <= (from + 1) * DAY, "{days} days: {}", end - due);
            assert_eq!(expiry_in_words(life(days), due - 1), None, "{days} days");
            assert!(expiry_in_words(life(days), due).unwrap().starts_with("expires in"), "{days} days");
        }
        assert_eq!(expiry_in_words(life(1), end - 8 * 3600), Some("expires in 8 hours".into()));
        assert_eq!(expiry_in_words(life(1), end), Some("has expired".into()));
        // One whose dates are the wrong way round, and the oldest there can be.
        assert_eq!(Life { start: 20, end: 10 }.warned_from(), 10);
        assert_eq!(Life { start: 0, end: 0 }.warned_from(), 0);
    }

    #[test]
    fn says_what_is_near_its_end() {
        let (c, k) = issue(&["proxy.corp.example"]);
        let files = files(&c, &k);
        let identity = load(&files).unwrap();
        let end = identity.not_after();
        assert!(identity.warnings(end - WARN_BEFORE - 1).is_empty());
        let warned = identity.warnings(end - 12 * 86_400);
        assert_eq!(
            warned,
            [format!(
                "certificate {}: it expires in 12 days: replace the files, they are picked up by themselves",
                files.chain.display()
            )]
        );
        assert!(identity.warnings(end)[0].contains("has expired"));
    }

    #[test]
    fn says_that_its_time_has_not_come() {
        let (c, k) = issue(&["proxy.corp.example"]);
        let files = files(&c, &k);
        let identity = load(&files).unwrap();
        let start = identity.not_before();
        assert!(identity.warnings(start).is_empty());
        let warned = identity.warnings(start - 1);
        let day = Timestamp::from_second(start as i64).unwrap();
        assert_eq!(
            warned,
            [format!(
                "certificate {}: it is not valid before {day}: browsers refuse it until then: set this machine's \
                 clock, or issue one that is valid now",
                files.chain.display()
            )]
        );
        // Of several the one that begins last counts, and the one that ends first.
        let lives = [Life { start: 5, end: 100 }, Life { start: 20, end: 400 }, Life { start: 10, end: 200 }];
        let words: Vec<_> = Lives::of(&lives).unwrap().in_words(15).map(|(life, _)| life).collect();
        assert_eq!(words, [lives[1]]);
        let words: Vec<_> = Lives::of(&lives).unwrap().in_words(99).map(|(life, _)| life).collect();
        assert_eq!(words, [lives[0]]);
        assert!(Lives::of(&[]).is_none());
    }

    #[test]
    fn what_is_no_file_of_a_certificate_is_not_read_for_ever() {
        let (c, k) = issue(&["proxy.corp.example"]);
        let files = files(&c, &k);
        fs::remove_file(&files.key).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(&files.key).status().unwrap();
        assert!(pipe.success());
        assert_eq!(load(&files).unwrap_err(), "proxy.key: is not a regular file, nor a link to one");
        fs::File::create(&files.chain).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(
            load(&files).unwrap_err(),
            "proxy.pem: is larger than 4 MiB, too large for keys and certificates"
        );
        fs::remove_file(&files.chain).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &files.chain).unwrap();
        assert_eq!(load(&files).unwrap_err(), "proxy.pem: is not a regular file, nor a link to one");
    }

    #[test]
    fn warns_of_a_certificate_without_names() {
        let (c, k) = issue(&[]);
        let identity = load(&files(&c, &k)).unwrap();
        assert!(identity.warnings(0)[0].contains("no subject alternative name"));
    }
}
