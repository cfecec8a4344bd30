//! TLS for the HTTPS-proxy listener: certificates, client certificates, and sessions that can be
//! resumed for a whole shift and not a second longer. Accepting connections is not done here.
//!
//! How the parts fit: a [`Shift`] outlives every reload and holds the window, the session store and
//! the ticket keys. A [`Template`] is built at start and at each reload over that one `Shift`. Each
//! accepted connection gets its own cheap configuration from [`Template::per_connection`].

mod alpn;
pub mod certificate;
pub mod client;
pub mod config;
mod failure;
mod inheritance;
pub mod keys;
pub mod material;
pub mod pem;
pub(crate) mod plain;
mod seal;
pub(crate) mod secret;
pub mod session;
pub(crate) mod stream;
pub mod ticket;
pub mod window;

pub use alpn::{Alpn, Offer};
pub use certificate::{CertificateError, Identity, Resolver};
pub use client::{ClientAuthority, ClientCertificateError};
pub use config::{Template, TemplateOptions};
pub use keys::{KeyFileError, TicketKeys};
pub use seal::Context;
pub use session::SessionStore;
pub use ticket::{ConnTickets, Shift};
pub use window::{Clock, ManualClock, SystemClock, Window, WindowError};
