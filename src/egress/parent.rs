//! A parent proxy, `egress.proxy`: we ask it for a tunnel by CONNECT, over TCP or TLS. It resolves the
//! target's name, so that we don't know the target's addresses.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http::{HeaderValue, StatusCode};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::Upstream;
use super::answer::{self, Look};
use super::certificate;
use super::failure::{Failure, ParentError};
use super::unreached::Unreached;
use super::url::ParentUrl;
use crate::policy::Pattern;
use crate::target::{Host, Target};
use crate::tls;
use crate::tls::certificate::certificates;
use crate::tls::secret::Secret;
use crate::tunnel::wire::arrival::Arrival;

/// What this program calls itself to a parent.
pub(crate) const PROGRAM: &str = concat!("ccpgate/", env!("CARGO_PKG_VERSION"));
/// How credentials begin (RFC 7617).
const BASIC: &str = "Basic ";

/// What is known of a parent proxy from the configuration.
pub(crate) struct Options<'a> {
    pub url: ParentUrl,
    /// Which hosts go through it; none: all.
    pub only: Vec<Pattern>,
    /// A file with `user:password`.
    pub credentials: Option<&'a Path>,
    /// Authorities for its certificate, PEM; none: those of the system.
    pub ca: Option<&'a Path>,
    /// What this deployment calls itself to it: `proxy.name`.
    pub name: &'a str,
}

/// A parent proxy in force.
pub(crate) struct Parent {
    url: ParentUrl,
    only: Vec<Pattern>,
    credentials: Option<Credentials>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What names a file of authorities for its certificate.
    ca: &'static str,
    /// How long its answer may take, the dial included; none: as long as the dial alone.
    patience: Option<Duration>,
    name: Box<str>,
}

/// Whether a parent with this `egress.proxy_for` carries a host; an empty list is all hosts.
pub(crate) fn carries(only: &[Pattern], host: &Host) -> bool {
    only.is_empty() || only.iter().any(|pattern| pattern.matches(host))
}

impl Parent {
    /// Reads the files that a parent needs.
    ///
    /// # Errors
    /// What is wrong with each of them, with the key and the file; never what a file of credentials holds.
    pub(crate) fn load(options: Options<'_>) -> Result<Self, Vec<String>> {
        let Options { url, only, credentials, ca, name } = options;
        let read = |path: &Path| {
            Credentials::read(path)
                .map_err(|why| format!("egress.proxy_credentials: {} {why}", path.display()))
        };
        let secure = |ca| secured(&url, authorities(ca)?).map_err(|why| format!("egress.proxy: {why}"));
        let credentials = credentials.map(read).transpose();
        let tls = url.https.then(|| secure(ca)).transpose();
        let (credentials, tls) = match (credentials, tls) {
            (Ok(credentials), Ok(tls)) => (credentials, tls),
            (credentials, tls) => return Err([credentials.err(), tls.err()].into_iter().flatten().collect()),
        };
        Ok(Self { url, only, credentials, tls, ca: "egress.proxy_ca", name: name.into(), patience: None })
    }

    /// A proxy that carries every host and that no key of the configuration names. `login` is
    /// `user:password`. Once it has taken the connection, its answer is waited for as long as `patience`.
    ///
    /// # Errors
    /// In words, never with what `login` holds.
    pub(crate) fn given(
        url: ParentUrl,
        login: Option<&str>,
        roots: RootCertStore,
        patience: Duration,
    ) -> Result<Self, String> {
        let credentials = login.map(|login| Credentials::parse(login.as_bytes())).transpose()?;
        let tls = if url.https { Some(secured(&url, roots)?) } else { None };
        let patience = Some(patience);
        Ok(Self { url, only: Vec::new(), credentials, tls, ca: "--ca", name: "ccpgate".into(), patience })
    }

    pub(crate) fn url(&self) -> &ParentUrl {
        &self.url
    }

    /// The hosts that go through it; none: all.
    pub(crate) fn only(&self) -> &[Pattern] {
        &self.only
    }

    /// What this deployment calls itself to it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is worth a warning.
    pub(crate) fn warnings(&self) -> Option<&str> {
        self.credentials.as_ref()?.warning.as_deref()
    }

    /// Whether a host goes through it.
    pub(super) fn takes(&self, host: &Host) -> bool {
        carries(&self.only, host)
    }

    /// How long the dial and its answer may take together, where the dial alone has this limit.
    pub(crate) fn patience(&self, dial: Duration) -> Duration {
        self.patience.unwrap_or(dial)
    }

    /// Why a target isn't reached through it.
    pub(crate) fn unreached(&self, failure: Failure) -> Unreached {
        let authenticated = self.credentials.is_some();
        Unreached::Parent(Box::new(ParentError { url: self.url.clone(), authenticated, failure }))
    }

    /// What a connection to it is secured with that offers these protocols, the first one most of all, and the name
    /// that its certificate must have; none where it is spoken to without TLS.
    pub(crate) fn offering(&self, protocols: &[&[u8]]) -> Option<(TlsConnector, ServerName<'static>)> {
        let (config, name) = self.tls.as_ref()?;
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Some((TlsConnector::from(Arc::new(config)), name.clone()))
    }

    /// The value of its `Proxy-Authorization`, where it gets one.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let credentials = self.credentials.as_ref()?;
        let text = Zeroizing::new(format!("{BASIC}{}", *credentials.encoded));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What an answer by HTTP/2 says that opens no tunnel.
    pub(crate) fn refused<'a>(
        &self,
        status: StatusCode,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        body: &[u8],
    ) -> Failure {
        answer::refusal(status, fields, body, self.secrets().as_ref().map_or(&[][..], |secrets| secrets))
    }

    /// Why no session with it came about.
    pub(crate) fn no_tls(&self, error: &std::io::Error) -> Failure {
        no_tls(error, self.ca)
    }

    /// Asks a parent that took a connection for a tunnel to `target`. What comes behind its 200 is
    /// left in the stream.
    ///
    /// # Errors
    /// At `deadline`, which is `limit` after the dial began, at the latest.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        target: &Target,
        via: &str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Upstream, Failure> {
        let opening = async {
            let Some((config, name)) = &self.tls else {
                let mut stream = stream;
                self.ask(&mut stream, target, via).await?;
                return Ok(Upstream::Tcp(stream));
            };
            let stream = Arrival::new(stream).connect(config.clone(), name.clone()).await;
            let mut stream = stream.map_err(|error| self.no_tls(&error))?;
            self.ask(&mut stream, target, via).await?;
            Ok(Upstream::Tls(stream))
        };
        timeout_at(deadline, opening).await.unwrap_or(Err(Failure::Silent(limit)))
    }

    async fn ask<S: Look + AsyncWriteExt + Unpin>(
        &self,
        stream: &mut S,
        target: &Target,
        via: &str,
    ) -> Result<(), Failure> {
        let mut request = Zeroizing::new(format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {PROGRAM}\r\nVia: {via}\r\n"
        ));
        if let Some(credentials) = &self.credentials {
            request.push_str("Proxy-Authorization: ");
            request.push_str(BASIC);
            request.push_str(&credentials.encoded);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        // A parent that has closed may have sent the reason before; the read below shows it.
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let _ = stream.flush().await;
        }
        answer::read(stream, self.secrets().as_ref().map_or(&[][..], |secrets| secrets)).await
    }

    /// What an answer of its may repeat, and nobody is shown.
    fn secrets(&self) -> Option<[&str; 3]> {
        self.credentials.as_ref().map(Credentials::secrets)
    }
}

/// User and password. Neither is ever shown.
struct Credentials {
    plain: Zeroizing<String>,
    /// As Basic authentication sends them (RFC 7617).
    encoded: Zeroizing<String>,
    warning: Option<String>,
}

impl Credentials {
    fn read(path: &Path) -> Result<Self, String> {
        const LONGEST: u64 = 1024;
        let unreadable = |error| format!("can't be read: {error}");
        let Some(secret) = Secret::open(path).map_err(unreadable)? else {
            return Err("is not a regular file, nor a link to one".into());
        };
        let (open_to_all, mode) = (secret.is_open_to_all(), secret.mode);
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
        secret.file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("has more than {LONGEST} bytes, must hold user:password in one line"));
        }
        let mut made = Self::parse(&bytes)?;
        if open_to_all {
            made.warning = Some(format!(
                "egress.proxy_credentials: {} has mode {mode:04o}, open to every user of this machine: run chmod o-rwx",
                path.display()
            ));
        }
        Ok(made)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not text in UTF-8")?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains(char::is_control) {
            return Err(
                "has more than one line or control characters, must hold user:password in one line".into()
            );
        }
        match line.split_once(':') {
            Some((user, _)) if !user.is_empty() => Ok(Self {
                plain: Zeroizing::new(line.to_owned()),
                encoded: Zeroizing::new(BASE64.encode(line.as_bytes())),
                warning: None,
            }),
            _ => Err("holds no user:password".into()),
        }
    }

    fn secrets(&self) -> [&str; 3] {
        let password = self.plain.split_once(':').map_or("", |(_, password)| password);
        [&self.encoded, &self.plain, password]
    }
}

/// The authorities for a parent's certificate: those of `egress.proxy_ca`, else the system's.
fn authorities(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        add_authorities(&mut roots, "egress.proxy_ca", path)?;
    } else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
            return Err(format!(
                "egress.proxy: this machine has no certificates of authorities{why}: name a file in egress.proxy_ca"
            ));
        }
    }
    Ok(roots)
}

/// Adds the authorities of a file that the key names.
///
/// # Errors
/// With the key and the file.
pub(super) fn add_authorities(roots: &mut RootCertStore, key: &str, path: &Path) -> Result<(), String> {
    for certificate in certificates(path).map_err(|error| format!("{key}: {error}"))? {
        roots.add(certificate).map_err(|error| {
            format!("{key}: {}: holds a certificate that is no authority: {error}", path.display())
        })?;
    }
    Ok(())
}

/// What a TLS connection for HTTP/1.1 is made with.
pub(super) fn http1(roots: impl Into<Arc<RootCertStore>>) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(tls::config::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The name that a server's certificate must have.
pub(super) fn server_name(host: &Host) -> Result<ServerName<'static>, String> {
    match host {
        Host::Ip(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => {
            ServerName::try_from(name.to_string()).map_err(|_| format!("no certificate can name {name}"))
        }
    }
}

/// What a TLS connection to a parent is made with.
fn secured(
    url: &ParentUrl,
    roots: RootCertStore,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let name = server_name(&url.host)?;
    Ok((http1(roots)?, name))
}

/// Describes a failed handshake so that the cause can be found.
fn no_tls(error: &std::io::Error, ca: &str) -> Failure {
    use rustls::Error;
    let of_certificate = |why: String| Failure::Tls { certificate: true, why };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => of_certificate(format!(
            "its certificate is from an authority that is unknown here: name that in {ca}"
        )),
        Some(Error::InvalidCertificate(why)) => of_certificate(certificate::in_words(why)),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Failure::Tls {
            certificate: false,
            why: "it speaks no TLS on this port: its address may have to begin with http://".into(),
        },
        Some(other) => Failure::Tls { certificate: false, why: other.to_string() },
        None => Failure::Lost(format!("{error}, within the TLS handshake")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_one_line_and_never_told() {
        for text in ["agent:S3cret", "agent:S3cret\n", "agent:S3cret\r\n", "\u{feff}agent:S3cret\n"] {
            let read = Credentials::parse(text.as_bytes()).ok().unwrap();
            assert_eq!(*read.encoded, "YWdlbnQ6UzNjcmV0", "{text:?}");
        }
        // A password may be empty and have colons; RFC 7617 forbids them in the user alone.
        assert_eq!(Credentials::parse(b"a:b:c").ok().unwrap().secrets()[2], "b:c");
        for text in
            [&b""[..], b"S3cret", b":S3cret", b"a:S3cret\nb:c\n", b"a:S3\tcret", b"a:S3cret\xff", b"\n"]
        {
            let Err(why) = Credentials::parse(text) else { panic!("{text:?}") };
            assert!(!why.contains("S3"), "{why}");
        }
    }
}
