//! A certificate authority that lives as long as a test, servers with its certificates, and
//! ClientHellos as a real client makes them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::Upstream;

static MADE: AtomicUsize = AtomicUsize::new(0);

/// Makes certificates that its own clients trust.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        // Not the name of a leaf: OpenSSL would take that for signed by itself. And of its own, so
        // that no two are taken for one.
        Self::called(None, &format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed)))
    }

    /// One with this organisation and common name.
    pub(crate) fn called(organisation: Option<&str>, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        if let Some(organisation) = organisation {
            params.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Its own certificate.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// The same as PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate as these parameters say.
    pub(crate) fn issue(&self, params: CertificateParams, key: &KeyPair) -> Certificate {
        params.signed_by(key, &self.issuer).unwrap()
    }

    /// A server's configuration with a new certificate for these names, and the SHA-256 of its
    /// public key (what Chromium's --ignore-certificate-errors-spki-list takes, before base64).
    pub(crate) fn server(&self, names: &[&str]) -> (Arc<ServerConfig>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let pin = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.subject_public_key_info());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        (Arc::new(config), pin.as_ref().to_vec())
    }

    /// A client that trusts this authority alone.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(client_config(roots))
    }

    /// A server that sends back what it gets inside TLS.
    pub(crate) fn echo(&self, names: &[&str]) -> Upstream {
        let (config, _) = self.server(names);
        Upstream::serve(move |stream| {
            let Some(mut tls) = accept(&config, stream) else { return };
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = tls.read(&mut buffer) {
                if tls.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        })
    }

    /// A server that sends back each WebSocket message, inside TLS.
    pub(crate) fn websocket_echo(&self, names: &[&str]) -> Upstream {
        self.websocket_echo_at((Ipv4Addr::LOCALHOST, 0).into(), names)
    }

    /// The same at this address.
    pub(crate) fn websocket_echo_at(&self, address: SocketAddr, names: &[&str]) -> Upstream {
        let (config, _) = self.server(names);
        Upstream::serve_at(address, move |stream| {
            let Some(tls) = accept(&config, stream) else { return };
            let Ok(mut socket) = tokio_tungstenite::tungstenite::accept(tls) else { return };
            while let Ok(message) = socket.read() {
                if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                    return;
                }
            }
        })
    }
}

/// The server's side of a handshake; none when the client leaves within it.
pub(crate) fn accept(
    config: &Arc<ServerConfig>,
    stream: TcpStream,
) -> Option<StreamOwned<ServerConnection, TcpStream>> {
    let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).ok()?;
    }
    Some(tls)
}

fn client_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The first flight of a TLS client that wants `host`: one record with a ClientHello, more than
/// 1.2 KiB long because of its post-quantum key share, as browsers send it today.
pub(crate) fn client_hello(host: &str) -> Vec<u8> {
    hello(host, true)
}

/// The same without the server_name extension.
pub(crate) fn client_hello_without_name() -> Vec<u8> {
    hello("unnamed.example", false)
}

fn hello(host: &str, named: bool) -> Vec<u8> {
    let mut config = client_config(RootCertStore::empty());
    config.enable_sni = named;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello made by hand, with these extensions and nothing that a server could answer; its SNI
/// may be anything: see [`server_names`].
pub(crate) fn made_hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let block: Vec<u8> =
        extensions.iter().flat_map(|(kind, data)| [&kind.to_be_bytes(), &*vector(data)].concat()).collect();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector(&block));
    let message = [&[1, 0], &*vector(&body)].concat();
    // As one record of any length, then in records as long as they may be.
    let header = [&[22, 3, 1], &*vector(&[])].concat();
    records(&[header, message].concat(), 1 << 14)
}

/// A server_name extension with these entries of type host_name.
pub(crate) fn server_names(names: &[&[u8]]) -> (u16, Vec<u8>) {
    let entries: Vec<u8> = names.iter().flat_map(|name| [&[0], &*vector(name)].concat()).collect();
    (0, vector(&entries))
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The same handshake message in records of `size` bytes (RFC 8446 §5.1 lets a message span records).
pub(crate) fn records(hello: &[u8], size: usize) -> Vec<u8> {
    let (kind_and_version, message) = (&hello[..3], &hello[5..]);
    let mut bytes = Vec::new();
    for fragment in message.chunks(size) {
        bytes.extend_from_slice(kind_and_version);
        bytes.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(fragment);
    }
    bytes
}
