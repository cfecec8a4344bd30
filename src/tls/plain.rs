//! TLS for listeners that browsers don't hold open all day: a certificate, no sessions, no client
//! certificates, HTTP/1.1.

use std::sync::Arc;

use rustls::{Error, ServerConfig};

use super::certificate::{Identity, Resolver};
use super::config::provider;

/// What such a listener serves its connections with.
///
/// # Errors
/// The provider doesn't support the versions.
pub(crate) fn server(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Resolver::new(identity));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
