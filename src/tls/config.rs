//! The rustls configuration of the listener: one template per reload, one cheap copy per connection
//! with that connection's own tickets in it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ServerConfig};
use rustls::{CipherSuite, CommonState, Error, SupportedCipherSuite};

use super::alpn::Alpn;
use super::alpn::{self, Offer};
use super::certificate::Resolver;
use super::client::{self, ClientAuthority, ClientCertificateError};
use super::seal::Context;
use super::ticket::{ConnTickets, Shift, TICKETS};
use super::window::ClockTime;

/// What a [`Template`] is made of.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Sessions; the same one over all reloads.
    pub shift: Arc<Shift>,
    /// The certificate in force.
    pub resolver: Arc<Resolver>,
    /// Set when clients must show a certificate.
    pub client_authority: Option<Arc<ClientAuthority>>,
    /// The protocols offered, in the order of preference.
    pub alpn: Vec<Alpn>,
}

/// A configuration for any number of connections.
#[derive(Debug)]
pub struct Template {
    options: TemplateOptions,
    provider: Arc<CryptoProvider>,
    config: ServerConfig,
}

/// The cipher suites in the order in which this server chooses among what a client offers.
///
/// AES-128-GCM with SHA-256 first, as browsers have it. OpenSSL and rustls prefer AES-256 with
/// SHA-384, whose key schedule makes a handshake a fifth dearer, for a strength that neither the
/// certificate nor the key exchange has.
static SUITES: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The crypto provider of this process: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() })
}

impl Template {
    /// Builds the template. Fails only if the provider doesn't support the versions.
    pub fn new(options: TemplateOptions) -> Result<Self, Error> {
        let provider = provider();
        let config = build(&provider, &options, Arc::new(NoClientAuth))?;
        Ok(Self { options, provider, config })
    }

    /// What a client is offered that lists these suites and protocols. A `stranger` is one outside
    /// `proxy.clients`.
    pub(crate) fn offer(&self, suites: &[CipherSuite], protocols: &[Vec<u8>], stranger: bool) -> Offer {
        Offer::to(&self.config.alpn_protocols, suites, protocols, stranger)
    }

    /// The configuration for one connection, and its tickets. Drop both when the handshake has ended;
    /// before that, read [`ConnTickets::resumed_age`].
    ///
    /// Must not be used for a second connection: its sessions would inherit the time of the first one's
    /// handshake.
    pub fn per_connection(&self, offer: Offer) -> Result<(Arc<ServerConfig>, Arc<ConnTickets>), Error> {
        let shift = Arc::clone(&self.options.shift);
        let (mut config, tickets) = match &self.options.client_authority {
            None => (self.config.clone(), ConnTickets::new(shift, Context::ANONYMOUS)),
            // Built anew: rustls can't swap the verifier of an existing configuration.
            Some(authority) => {
                let tickets = ConnTickets::new(shift, authority.context());
                let verifier = authority.recording(&tickets);
                (build(&self.provider, &self.options, verifier)?, tickets)
            }
        };
        offer.apply(&mut config.alpn_protocols);
        config.ticketer = tickets.clone();
        config.session_storage = tickets.clone();
        Ok((Arc::new(config), tickets))
    }

    /// Checks a resumed session's client certificate again, where one is required. Call it after every
    /// handshake, and close the connection on an error.
    pub fn verify_resumed(&self, connection: &CommonState) -> Result<(), ClientCertificateError> {
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        if self.options.client_authority.is_none() || !resumed {
            return Ok(());
        }
        client::judge_resumed(connection.peer_certificates(), self.options.shift.store().now())
    }
}

fn build(
    provider: &Arc<CryptoProvider>,
    options: &TemplateOptions,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, Error> {
    let time = Arc::new(ClockTime(options.shift.store().clock()));
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), time)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(options.resolver.clone());
    config.alpn_protocols = alpn::identifiers(&options.alpn);
    config.ignore_client_order = true;
    // A replayed CONNECT would open a second tunnel.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}
