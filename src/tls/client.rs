//! Clients' certificates (`tls.client_ca`): which CAs issue them, and whether the one shown at the first
//! handshake is still valid when its session is resumed. rustls hands back the old chain unchecked.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use thiserror::Error;

use super::certificate::{CertificateError, CertificateProblem, Life, Lives, certificates, ends_at, parse};
use super::seal::Context;
use super::ticket::ConnTickets;

const LONGEST_SUBJECT: usize = 256;

/// The CAs whose certificates clients must show.
#[derive(Debug)]
pub struct ClientAuthority {
    verifier: Arc<dyn ClientCertVerifier>,
    context: Context,
    path: String,
    lives: Option<Lives>,
}

impl ClientAuthority {
    /// Reads the file of CA certificates.
    pub fn load(path: &Path, provider: Arc<CryptoProvider>) -> Result<Self, CertificateError> {
        let refuse = |problem| CertificateError::new(path, problem);
        let certificates = certificates(path)?;
        let mut roots = RootCertStore::empty();
        let mut lives = Vec::new();
        for (index, der) in certificates.iter().enumerate() {
            let number = index + 1;
            let parsed = parse(der).ok_or_else(|| refuse(CertificateProblem::Unreadable { number }))?;
            lives.push(Life::of(&parsed));
            roots.add(der.clone()).map_err(|e| refuse(CertificateProblem::Authority(e.to_string())))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| refuse(CertificateProblem::Authority(e.to_string())))?;
        let (lives, path) = (Lives::of(&lives), path.display().to_string());
        Ok(Self { verifier, context: context(&certificates), path, lives })
    }

    /// What sessions made under these CAs are bound to. The same CAs in another order, or with
    /// comments in the file, are the same.
    pub(crate) fn context(&self) -> Context {
        self.context
    }

    /// Warnings for the start and every reload: a CA's end is near, or its time hasn't come.
    pub(crate) fn warnings(&self, now: u64) -> Vec<String> {
        let words = self.lives.into_iter().flat_map(|lives| lives.in_words(now));
        words.map(|(_, when)| format!("client_ca {}: a certificate in it {when}", self.path)).collect()
    }

    /// A verifier that records in one connection's tickets when the client's certificate ends.
    pub(super) fn recording(&self, tickets: &Arc<ConnTickets>) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Recording { inner: Arc::clone(&self.verifier), tickets: Arc::clone(tickets) })
    }
}

/// Why a client's certificate is not good enough, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientCertificateError {
    /// The session holds none.
    #[error("the session has no client certificate, and tls.client_ca asks for one")]
    Missing,
    /// It can't be read.
    #[error("the client certificate of the session can't be read")]
    Unreadable,
    /// Its time, or that of a certificate above it, is over.
    #[error("the client certificate of the session has expired")]
    Expired,
}

/// Judges a resumed session's chain again at `now` (seconds since the epoch). Tickets are bound to the CAs
/// and to the certificate's end already; this is a second check, in case that binding fails. On failure
/// close the connection.
pub fn judge_resumed(chain: Option<&[CertificateDer<'_>]>, now: u64) -> Result<(), ClientCertificateError> {
    let chain = chain.filter(|c| !c.is_empty()).ok_or(ClientCertificateError::Missing)?;
    match chain_ends_at(chain) {
        None => Err(ClientCertificateError::Unreadable),
        Some(end) if end <= now => Err(ClientCertificateError::Expired),
        Some(_) => Ok(()),
    }
}

/// The subject of the leaf, for the log's `client_cert`: control characters and line separators
/// are escaped, and it is cut at 256 characters.
pub fn subject(chain: &[CertificateDer<'_>]) -> Option<String> {
    let leaf = parse(chain.first()?)?;
    let mut text = String::new();
    for c in leaf.subject().to_string().chars().take(LONGEST_SUBJECT) {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            let _ = write!(text, "{}", c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    Some(text)
}

/// The first second at which one of the certificates that the client showed is no longer valid: the one
/// after its notAfter, which still counts (RFC 5280 §4.1.2.5).
fn chain_ends_at(chain: &[CertificateDer<'_>]) -> Option<u64> {
    chain
        .iter()
        .map(|der| parse(der).map(|c| ends_at(&c).saturating_add(1)))
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .min()
}

fn context(authorities: &[CertificateDer<'_>]) -> Context {
    let mut digests: Vec<_> =
        authorities.iter().map(|der| digest::digest(&digest::SHA256, der).as_ref().to_vec()).collect();
    digests.sort_unstable();
    digests.dedup();
    let mut all = digest::Context::new(&digest::SHA256);
    all.update(b"ccpgate client_ca v1");
    for digest in &digests {
        all.update(digest);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(all.finish().as_ref());
    Context(bytes)
}

#[derive(Debug)]
struct Recording {
    inner: Arc<dyn ClientCertVerifier>,
    tickets: Arc<ConnTickets>,
}

impl ClientCertVerifier for Recording {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        // A certificate that we can't read ends at once: its session is used and never resumed.
        let leaf = chain_ends_at(std::slice::from_ref(end_entity)).unwrap_or(0);
        let above =
            chain_ends_at(intermediates).unwrap_or(if intermediates.is_empty() { u64::MAX } else { 0 });
        self.tickets.client_certificate_ends(leaf.min(above));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }
}
