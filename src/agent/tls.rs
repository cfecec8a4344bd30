//! A TLS session as a browser opens it, whose certificate is verified twice: by the roots of this machine,
//! which companies add their own to, and by Mozilla's, which they can't. The session goes on whatever they
//! say: the caller decides what that means, and nothing secret is sent.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
    crypto,
};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::io::Io;
use super::tap::{Heard, Tap};
use crate::lock::lock;
use crate::target::Host;
use crate::tls::certificate::certificates;
pub(crate) use crate::tls::stream::Stream;

/// The verdict of one set of authorities on a chain.
type Judged = Result<(), Error>;

/// The two sets of authorities.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Mozilla's, and those that the administrator names as public.
    public: Arc<WebPkiServerVerifier>,
    /// This machine's, and the same ones; none where it has no authorities at all.
    platform: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Reads the machine's authorities; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. `more` are
    /// authorities that count among both.
    ///
    /// # Errors
    /// When `more` holds something that is no authority: which, and why.
    fn load(more: &[CertificateDer<'static>]) -> Result<Self, String> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let mut public = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut platform = platform();
        for certificate in more {
            for store in [&mut public, &mut platform] {
                let added = store.add(certificate.clone());
                added.map_err(|error| format!("holds a certificate that is no authority: {error}"))?;
            }
        }
        let verifier = |roots: RootCertStore| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()
        };
        let public = verifier(public).map_err(|error| error.to_string())?;
        Ok(Self { public, platform: verifier(platform).ok(), provider })
    }

    /// The same with the authorities of a file, which are returned as well; `key` is what names the file.
    ///
    /// # Errors
    /// With the key and the file.
    pub(crate) fn with(
        key: &str,
        file: Option<&Path>,
    ) -> Result<(Self, Vec<CertificateDer<'static>>), String> {
        let Some(file) = file else { return Ok((Self::load(&[])?, Vec::new())) };
        let more = certificates(file).map_err(|error| format!("{key}: {error}"))?;
        let trust = Self::load(&more).map_err(|why| format!("{key}: {}: {why}", file.display()))?;
        Ok((trust, more))
    }

    /// What both sets say of a chain at a moment.
    pub(crate) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        at: SystemTime,
    ) -> Verdicts {
        let Some((leaf, rest)) = chain.split_first() else {
            let none = || Err(Error::NoCertificatesPresented);
            return Verdicts { public: none(), platform: none() };
        };
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        let by = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(leaf, rest, name, &[], at).map(|_| ())
        };
        let unknown = || Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        Verdicts { public: by(&self.public), platform: self.platform.as_deref().map_or_else(unknown, by) }
    }
}

/// These authorities alone.
pub(crate) fn roots(authorities: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    roots
}

/// What a browser keeps for all its sessions, with these authorities alone: those that it has begun are
/// resumed. It wants HTTP/1.1.
///
/// # Errors
/// In words, when it can't be made.
pub(crate) fn browser(roots: RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The authorities of this machine, as far as they can be read.
pub(crate) fn platform() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// What the two sets of authorities say of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts {
    pub public: Judged,
    pub platform: Judged,
}

/// A session, whoever is at its other end.
pub(crate) struct Session {
    pub stream: Stream<Tap>,
    pub chain: Vec<CertificateDer<'static>>,
    pub verdicts: Verdicts,
    pub name: ServerName<'static>,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum NoTls {
    /// The far side, or somebody in its name, reset the connection within the handshake.
    Reset(io::Error),
    /// It closed the connection before it sent anything.
    Closed,
    /// It sends something else. These are the first bytes.
    Foreign(Vec<u8>),
    /// Nothing, or not enough, within this time.
    Silent(Duration),
    /// It speaks TLS, and the handshake failed.
    Failed(String),
    /// No certificate can be for such a name.
    Name,
}

/// How a handshake begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// As browsers' do: with a post-quantum key share, for which a packet is too small.
    Long,
    /// Without that share, in one packet.
    Short,
}

impl Hello {
    fn provider(self, trust: &Trust) -> Arc<CryptoProvider> {
        let mut provider = trust.provider.clone();
        if self == Self::Short {
            let groups = &mut Arc::make_mut(&mut provider).kx_groups;
            groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
        }
        provider
    }
}

/// Makes the handshake of a browser that wants HTTP/1.1.
///
/// # Errors
/// See [`NoTls`]. A certificate that no authority issued is no error here.
pub(crate) async fn handshake(
    stream: Box<dyn Io>,
    host: &Host,
    hello: Hello,
    trust: &Arc<Trust>,
    now: SystemTime,
    limit: Duration,
) -> Result<Session, NoTls> {
    let name = match host {
        Host::Ip(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| NoTls::Name)?,
    };
    let watching = Arc::new(Watching { trust: trust.clone(), now, seen: Mutex::default() });
    let mut config = ClientConfig::builder_with_provider(hello.provider(trust))
        .with_safe_default_protocol_versions()
        .map_err(|error| NoTls::Failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(watching.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (tap, heard) = Tap::new(stream);
    let connector = TlsConnector::from(Arc::new(config));
    let connecting = Stream::connect(&connector, name.clone(), tap);
    let stream = match timeout(limit, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(why(error, &heard)),
        Err(_) => return Err(NoTls::Silent(limit)),
    };
    let seen = lock(&watching.seen).take();
    let Some((chain, verdicts)) = seen else { return Err(NoTls::Failed("no certificate was shown".into())) };
    Ok(Session { stream, chain, verdicts, name })
}

fn why(error: io::Error, heard: &Heard) -> NoTls {
    let heard = heard.bytes();
    // Records of alerts and handshakes, of any version.
    let is_tls = matches!(heard.as_slice(), [0x14..=0x18, 3, ..]);
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        _ if !heard.is_empty() && !is_tls => NoTls::Foreign(heard),
        Some(error) => NoTls::Failed(error.to_string()),
        None if error.kind() == io::ErrorKind::ConnectionReset => NoTls::Reset(error),
        None if !heard.is_empty() => {
            NoTls::Failed(format!("the connection ended within the handshake: {error}"))
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => NoTls::Closed,
        None => NoTls::Reset(error),
    }
}

/// Asks both sets, keeps what they say, and lets the session go on.
#[derive(Debug)]
struct Watching {
    trust: Arc<Trust>,
    now: SystemTime,
    seen: Mutex<Option<(Vec<CertificateDer<'static>>, Verdicts)>>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(rest).map(|one| one.clone().into_owned()).collect();
        let verdicts = self.trust.judge(&chain, name, self.now);
        *lock(&self.seen) = Some((chain, verdicts));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.public.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.public.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.public.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The length of the first record that a handshake with this host sends.
    async fn hello(kind: Hello, host: &str) -> usize {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (host, trust) = (Host::parse(host.as_bytes()).unwrap(), Arc::new(Trust::load(&[]).unwrap()));
        let head = async {
            let mut head = [0; 5];
            far.read_exact(&mut head).await.unwrap();
            drop(far);
            head
        };
        let made = handshake(Box::new(near), &host, kind, &trust, SystemTime::now(), Duration::from_secs(60));
        let (made, head) = tokio::join!(made, head);
        assert!(made.is_err() && head[..2] == [0x16, 3], "{head:?}");
        head.len() + usize::from(u16::from_be_bytes([head[3], head[4]]))
    }

    /// A browser's takes two packets of 1,500 bytes: what drops packets of full size, or reads the first one
    /// alone, must meet the same from here.
    #[tokio::test]
    async fn a_hello_is_as_long_as_a_browsers() {
        const FULL: usize = 1460;
        for host in ["a.aws", "agents.transport.connect.us-west-2.amazonaws.com"] {
            let (long, short) = (hello(Hello::Long, host).await, hello(Hello::Short, host).await);
            assert!((FULL + 1..2 * FULL).contains(&long), "{host}: {long}");
            // So that a path of 576 bytes takes it as well.
            assert!(short <= 536, "{host}: {short}");
        }
    }
}
