//! A replica and a browser, in memory: the library's TLS configuration against rustls' client.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ccpgate::tls::Alpn;
use ccpgate::tls::{
    ClientAuthority, ConnTickets, Identity, ManualClock, Offer, Resolver, Shift, Template, TemplateOptions,
    TicketKeys, Window, config,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, ServerConnection,
    SupportedProtocolVersion,
};

/// 9:00.
pub(crate) const MORNING: u64 = 1_800_000_000;
/// 8 h, breaks and lunch.
pub(crate) const WINDOW: u64 = 36_000;

/// One certificate authority with a folder for its files.
pub(crate) struct Ca {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
    pub dir: tempfile::TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["proxy.example".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file("proxy.pem"), leaf.pem()).unwrap();
        std::fs::write(self.file("proxy.key"), key.serialize_pem()).unwrap();
        Identity::load(&self.file("proxy.pem"), &self.file("proxy.key"), &config::provider()).unwrap()
    }

    pub(crate) fn client_authority(&self) -> Arc<ClientAuthority> {
        Arc::new(ClientAuthority::load(&self.file("ca.pem"), config::provider()).unwrap())
    }

    /// A browser's certificate that is over from this second on: its notAfter is the one before.
    pub(crate) fn agent(&self, ends: u64) -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "agent\n7");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(ends - 1);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()))
    }
}

/// One process of the proxy.
pub(crate) struct Replica {
    pub shift: Arc<Shift>,
    resolver: Arc<Resolver>,
    pub template: Template,
}

impl Replica {
    pub(crate) fn start(ca: &Ca, clock: &Arc<ManualClock>, keys: &[PathBuf]) -> Self {
        Self::with(ca, clock, keys, 100_000, None)
    }

    pub(crate) fn with(
        ca: &Ca,
        clock: &Arc<ManualClock>,
        keys: &[PathBuf],
        sessions: u64,
        client_authority: Option<Arc<ClientAuthority>>,
    ) -> Self {
        let window = Window::from_seconds(WINDOW).unwrap();
        let keys = TicketKeys::load(keys).unwrap();
        let shift = Shift::new(window, sessions, keys, clock.clone());
        let resolver = Resolver::new(&ca.identity());
        let mut replica =
            Self { template: template(&shift, &resolver, client_authority.clone()), shift, resolver };
        replica.ask_for(client_authority);
        replica
    }

    /// What a reload does when `client_ca` changes.
    pub(crate) fn ask_for(&mut self, authority: Option<Arc<ClientAuthority>>) {
        self.template = template(&self.shift, &self.resolver, authority);
    }

    /// What a reload does when the certificate was renewed.
    pub(crate) fn renew(&mut self, ca: &Ca) {
        self.resolver = Resolver::new(&ca.identity());
        self.ask_for(None);
    }

    pub(crate) fn set_keys(&self, files: &[PathBuf]) {
        self.shift.set_keys(TicketKeys::load(files).unwrap());
    }
}

fn template(
    shift: &Arc<Shift>,
    resolver: &Arc<Resolver>,
    client_authority: Option<Arc<ClientAuthority>>,
) -> Template {
    Template::new(TemplateOptions {
        shift: shift.clone(),
        resolver: resolver.clone(),
        client_authority,
        alpn: vec![Alpn::H2, Alpn::Http11],
    })
    .unwrap()
}

/// How a handshake ended, as both sides see it.
#[derive(Debug)]
pub(crate) struct Met {
    pub kind: HandshakeKind,
    pub age: Option<u64>,
    pub alpn: Option<Vec<u8>>,
    pub server: ServerConnection,
}

impl Met {
    pub(crate) fn resumed(&self) -> bool {
        self.kind == HandshakeKind::Resumed
    }
}

/// A client that offers the last session it got, however old: its clock never moves.
pub(crate) struct Browser {
    config: Arc<ClientConfig>,
    pub wallet: Arc<Wallet>,
}

impl Browser {
    pub(crate) fn new(ca: &Ca, version: &'static SupportedProtocolVersion) -> Self {
        Self::build(ca, version, Tls12Resumption::SessionIdOrTickets, None)
    }

    pub(crate) fn by_session_id(ca: &Ca) -> Self {
        Self::build(ca, &rustls::version::TLS12, Tls12Resumption::SessionIdOnly, None)
    }

    pub(crate) fn build(
        ca: &Ca,
        version: &'static SupportedProtocolVersion,
        tls12: Tls12Resumption,
        certificate: Option<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca.issuer.der().clone()).unwrap();
        let time = ccpgate::tls::window::ClockTime(ManualClock::new(MORNING));
        let builder = ClientConfig::builder_with_details(config::provider(), Arc::new(time))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key.into()).unwrap(),
        };
        let wallet = Arc::new(Wallet::default());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::store(wallet.clone()).tls12_resumption(tls12);
        Self { config: Arc::new(config), wallet }
    }

    pub(crate) fn meet(&self, replica: &Replica) -> Met {
        self.try_meet(replica, "proxy.example").unwrap()
    }

    pub(crate) fn try_meet(&self, replica: &Replica, name: &'static str) -> Result<Met, rustls::Error> {
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(self.config.clone(), name)?;
        let (config, tickets): (_, Arc<ConnTickets>) = replica.template.per_connection(Offer::All)?;
        let mut server = ServerConnection::new(config)?;
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        let kind = server.handshake_kind().expect("the handshake ended");
        assert_eq!(Some(kind), client.handshake_kind());
        let (age, alpn) = (tickets.resumed_age(Some(kind)), server.alpn_protocol().map(<[u8]>::to_vec));
        Ok(Met { kind, age, alpn, server })
    }
}

/// The sessions of one browser.
#[derive(Debug, Default)]
pub(crate) struct Wallet {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
    lifetimes: Mutex<Vec<u64>>,
}

impl Wallet {
    /// The lifetimes of the sessions that came since the last call.
    pub(crate) fn lifetimes(&self) -> Vec<u64> {
        std::mem::take(&mut self.lifetimes.lock().unwrap())
    }

    /// rustls shows the lifetime in its debug output alone.
    fn note(&self, session: &dyn std::fmt::Debug) {
        let text = format!("{session:?}");
        let (_, rest) = text.split_once("lifetime_secs: ").unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        self.lifetimes.lock().unwrap().push(digits.parse().unwrap());
    }
}

impl ClientSessionStore for Wallet {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.note(&value);
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.note(&value);
        self.tls13.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop()
    }
}
