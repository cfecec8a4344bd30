//! The TLS listener in a test: its certificate and keys in a folder of their own, and agents'
//! browsers as far as TLS goes, each with the sessions that it was given.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{Authority, Proxy, Raw, Upstream, ccpgate};

/// What the proxy's certificate names, and clients ask for.
pub(crate) const NAME: &str = "proxy.corp.example";

/// The files of a TLS listener, and the authority behind its certificate.
pub(crate) struct Secured {
    pub authority: Authority,
    folder: TempDir,
}

impl Secured {
    pub(crate) fn new() -> Self {
        let secured = Self { authority: Authority::new(), folder: tempfile::tempdir().unwrap() };
        fs::write(secured.path("ca.pem"), secured.authority.pem()).unwrap();
        secured.renew(|_| {});
        secured
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new certificate and key, as parameters changed by `change` say, put in place by renames.
    pub(crate) fn renew(&self, change: impl FnOnce(&mut CertificateParams)) {
        let (chain, key) = self.certificate(change);
        self.replace("proxy.pem", &chain);
        self.replace("proxy.key", &key);
    }

    /// The same as PEM, and put nowhere.
    pub(crate) fn certificate(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (self.certify(&key, change), key.serialize_pem())
    }

    /// A new certificate for this key, put in place with it.
    pub(crate) fn renew_with(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) {
        self.replace("proxy.pem", &self.certify(key, change));
        self.replace("proxy.key", &key.serialize_pem());
    }

    fn certify(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
        let names = [NAME, "localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        self.authority.issue(params, key).pem()
    }

    /// The SHA-256 of the public key in force, as Chromium takes it (before base64).
    pub(crate) fn pin(&self) -> Vec<u8> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.path("proxy.key")).unwrap()).unwrap();
        digest(&SHA256, &key.subject_public_key_info()).as_ref().to_vec()
    }

    /// Replaces a file in one step.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let next = self.path(&format!("{name}.next"));
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }

    /// A new ticket key, made by the command that the manual names.
    pub(crate) fn ticket_key(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        ccpgate(None, &["ticket-key", path.to_str().unwrap()]).expect(0);
        path
    }

    /// `[tls]` with these files, and `more` in it.
    pub(crate) fn section(&self, more: &str) -> String {
        format!(
            "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {:?}\nkey = {:?}\n{more}\n",
            self.path("proxy.pem"),
            self.path("proxy.key")
        )
    }

    /// A configuration with this listener that allows `good.example`, which is `upstream`.
    pub(crate) fn policy(&self, upstream: &Upstream, tls: &str, more: &str) -> String {
        let targets = upstream.for_targets(&["good.example:443"]);
        format!("[[allow]]\npattern = \"good.example\"\n{}\n{more}\n{targets}", self.section(tls))
    }

    /// A proxy with this listener that allows `good.example`, which is `upstream`.
    #[track_caller]
    pub(crate) fn start(&self, upstream: &Upstream, tls: &str, more: &str) -> Proxy {
        Proxy::start(&self.policy(upstream, tls, more))
    }

    /// An agent that trusts the authority, speaks HTTP/1.1 and prefers TLS 1.3.
    pub(crate) fn agent(&self) -> Agent {
        Agent::new(&self.authority)
    }
}

/// As configuration: `ticket_keys = [...]`.
pub(crate) fn ticket_keys(paths: &[&Path]) -> String {
    format!("ticket_keys = {paths:?}\n")
}

/// A browser's side of TLS, with its sessions.
#[derive(Clone)]
pub(crate) struct Agent {
    config: ClientConfig,
    shared: Arc<ClientConfig>,
}

impl Agent {
    pub(crate) fn new(authority: &Authority) -> Self {
        Self::build(authority, rustls::ALL_VERSIONS, None)
    }

    /// One that speaks this version alone.
    pub(crate) fn of_version(authority: &Authority, version: &'static SupportedProtocolVersion) -> Self {
        Self::build(authority, &[version], None)
    }

    /// One that shows a certificate of `issuer` with this common name.
    pub(crate) fn with_certificate(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        certificate: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    ) -> Self {
        Self::build(authority, versions, Some(certificate))
    }

    fn build(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        // Its clock stands still, so that it offers every session, however old: whatever ends one
        // is the proxy's doing.
        let builder = ClientConfig::builder_with_details(
            Arc::new(default_provider()),
            Arc::new(Standing(UnixTime::now())),
        )
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { shared: Arc::new(config.clone()), config }
    }

    /// The same agent, sessions included, offering these protocols.
    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self.shared = Arc::new(self.config.clone());
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.shared.clone()
    }

    /// A connection after its handshake.
    ///
    /// # Errors
    /// As of [`Raw::secure`].
    pub(crate) fn try_connect(&self, address: SocketAddr) -> io::Result<Raw> {
        let name = ServerName::try_from(NAME).unwrap();
        Raw::connect(address).secure(ClientConnection::new(self.config(), name).unwrap())
    }

    #[track_caller]
    pub(crate) fn connect(&self, proxy: &Proxy) -> Raw {
        self.try_connect(proxy.https()).unwrap()
    }

    /// Fetches the PAC file over a connection of its own, by the end of which new tickets have come.
    ///
    /// # Errors
    /// When the proxy refuses the handshake or closes early.
    pub(crate) fn try_visit(&self, address: SocketAddr) -> io::Result<Raw> {
        let mut client = self.try_connect(address)?;
        client.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(client.read_to_end()?).unwrap();
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(client)
    }

    /// The same, and whether the session was resumed.
    #[track_caller]
    pub(crate) fn resumes(&self, proxy: &Proxy) -> bool {
        self.try_visit(proxy.https()).unwrap().resumed()
    }
}

impl Authority {
    /// A client's certificate with this common name, over at `ends` where that is given.
    pub(crate) fn client_certificate(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = self.issue(params, &key);
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

#[derive(Debug)]
struct Standing(UnixTime);

impl TimeProvider for Standing {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}
