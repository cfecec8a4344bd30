//! Who a server says it is: a certificate for whatever name it is asked for, good or bad.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::file::Tls;
use crate::support::Authority;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes a certificate for each name that a client asks for.
pub(super) struct Identity {
    issuer: Arc<Authority>,
    tls: Tls,
    /// In place of the common name, for what certificates say of themselves.
    subject: Option<String>,
    key: KeyPair,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Identity {
    pub(super) fn server(issuer: Arc<Authority>, tls: Tls, subject: Option<String>) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let identity = Self { issuer, tls, subject, key, made: Mutex::default() };
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(identity));
        Arc::new(config)
    }

    fn make(&self, name: &str) -> CertifiedKey {
        let name = if self.tls == Tls::WrongName { "portal.hotel.example" } else { name };
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        let (from, until) = match self.tls {
            Tls::Expired => (now - 30 * DAY, now - DAY),
            Tls::NotYetValid => (now + DAY, now + 30 * DAY),
            Tls::FreshTomorrow => (now + DAY - HOUR, now + 30 * DAY),
            _ => (now - 30 * DAY, now + 30 * DAY),
        };
        (params.not_before, params.not_after) = (from.into(), until.into());
        if let Some(subject) = &self.subject {
            params.distinguished_name.push(DnType::CommonName, subject.as_str());
        }
        let leaf = self.issuer.issue(params, &self.key);
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        CertifiedKey::new(vec![leaf.der().clone()], any_supported_type(&key).unwrap())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or("nameless.example").to_owned();
        let mut made = self.made.lock().unwrap();
        Some(made.entry(name.clone()).or_insert_with(|| Arc::new(self.make(&name))).clone())
    }
}
