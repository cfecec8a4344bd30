//! The region's own certificate authority: a certificate for whichever name a client asks for.

use std::io;
use std::sync::Arc;

use moka::sync::Cache;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

/// Certificates that are kept. Clients choose the names.
const KEPT: u64 = 1000;

/// A certificate authority that lives as long as the region.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// One for all certificates.
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    issued: Cache<String, Arc<CertifiedKey>>,
}

impl Authority {
    /// Makes its keys; `name` is what a client is shown as the issuer.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "ccpgate simulate");
        let own = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, own).map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = sign::any_supported_type(&der).map_err(io::Error::other)?;
        Ok(Self { issuer, key, signing, issued: Cache::new(KEPT) })
    }

    /// Its certificate as PEM: what a client must trust.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a name, and its key, as PEM: for a server of another process.
    pub(super) fn leaf(&self, name: &str) -> io::Result<(String, String)> {
        let certificate = self.sign(name).map_err(io::Error::other)?;
        Ok((certificate.pem(), self.key.serialize_pem()))
    }

    /// What a server with these certificates speaks: HTTP/1.1 over TLS.
    pub(super) fn server(self: &Arc<Self>) -> io::Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(BySni(self.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// None where no certificate can be for such a name.
    fn issue(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let leaf = self.sign(name).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![leaf.der().clone()], self.signing.clone())))
    }

    fn sign(&self, name: &str) -> Result<Certificate, rcgen::Error> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "a simulated host of Amazon Connect");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.signed_by(&self.key, &self.issuer)
    }
}

/// Shows each client a certificate for the name in its ClientHello.
struct BySni(Arc<Authority>);

impl std::fmt::Debug for BySni {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BySni")
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        if let Some(known) = self.0.issued.get(name) {
            return Some(known);
        }
        let made = self.0.issue(name)?;
        self.0.issued.insert(name.to_owned(), made.clone());
        Some(made)
    }
}
