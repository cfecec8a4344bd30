//! What `[tls]` and `[shift]` name, read and checked as a whole: certificate, client CAs, ticket
//! keys, window. Read at start, at every reload, and when a file changes; whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::alpn::Alpn;
use super::{ClientAuthority, Identity, Resolver, Shift, SystemClock, Template, TemplateOptions};
use super::{TicketKeys, Window};

/// What `[tls]` and `[shift]` say of certificates and sessions.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) client_ca: Option<&'a Path>,
    pub(crate) ticket_keys: &'a [PathBuf],
    pub(crate) alpn: &'a [Alpn],
    pub(crate) length: Duration,
    pub(crate) breaks: Duration,
    pub(crate) lunch: Duration,
}

impl Options<'_> {
    /// The paths that are read.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let named = [self.certificate, self.key].into_iter().chain(self.client_ca).map(Path::to_owned);
        named.chain(self.ticket_keys.iter().cloned()).collect()
    }
}

/// What the files hold.
pub(crate) struct TlsFiles {
    identity: Identity,
    authority: Option<Arc<ClientAuthority>>,
    keys: Option<TicketKeys>,
    window: Window,
    alpn: Vec<Alpn>,
}

impl TlsFiles {
    /// Reads everything.
    ///
    /// # Errors
    /// All problems at once, each naming its key and file.
    pub(crate) fn load(named: Options<'_>) -> Result<Self, Vec<String>> {
        let provider = super::config::provider();
        let mut problems = Vec::new();
        let identity = Identity::load(named.certificate, named.key, &provider)
            .map_err(|error| problems.push(format!("tls.certificate, tls.key: {error}")));
        let authority = named.client_ca.map(|path| ClientAuthority::load(path, provider)).transpose();
        let authority = authority.map_err(|error| problems.push(format!("tls.client_ca: {error}")));
        let keys = TicketKeys::load(named.ticket_keys)
            .map_err(|errors| problems.extend(errors.iter().map(|e| format!("tls.ticket_keys: {e}"))));
        let window = Window::of_shift(named.length, named.breaks, named.lunch)
            .map_err(|error| problems.push(format!("shift: {error}")));
        match (identity, authority, keys, window) {
            (Ok(identity), Ok(authority), Ok(keys), Ok(window)) => Ok(Self {
                identity,
                authority: authority.map(Arc::new),
                keys,
                window,
                alpn: named.alpn.to_vec(),
            }),
            _ => Err(problems),
        }
    }

    /// Warnings about the files, as of now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        warnings(&self.identity, self.authority.as_deref(), self.keys.is_some())
    }
}

/// What connections are served with; a reload makes another over the same sessions.
pub(crate) struct Serving {
    pub template: Template,
    identity: Identity,
    authority: Option<Arc<ClientAuthority>>,
    shared_keys: bool,
}

impl Serving {
    /// The certificate's file and the end of its validity, seconds since 1970.
    pub(crate) fn certificate(&self) -> (String, u64) {
        (self.identity.path().display().to_string(), self.identity.not_after())
    }

    /// The beginning of that validity.
    pub(crate) fn certificate_begins(&self) -> u64 {
        self.identity.not_before()
    }

    /// Warnings about the files, as of now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        warnings(&self.identity, self.authority.as_deref(), self.shared_keys)
    }
}

fn warnings(identity: &Identity, authority: Option<&ClientAuthority>, shared_keys: bool) -> Vec<String> {
    let now = super::Clock::now(&SystemClock);
    let mut warnings = identity.warnings(now);
    if let Some(authority) = authority {
        warnings.extend(authority.warnings(now));
        if shared_keys {
            warnings.push(
                "tls.ticket_keys with tls.client_ca: whoever has a ticket key and sees a ticket can \
                 pass for the client that it was given to; guard the key files like the CA's"
                    .into(),
            );
        }
    }
    warnings
}

impl Shift {
    /// The sessions of this process, at most so many, and what the first connections are served with.
    ///
    /// # Errors
    /// As of [`Template::new`].
    pub(crate) fn start(files: TlsFiles, sessions: usize) -> Result<(Arc<Self>, Serving), rustls::Error> {
        let shift = Self::new(files.window, sessions as u64, None, Arc::new(SystemClock));
        let serving = shift.adopt(files)?;
        Ok((shift, serving))
    }

    /// Puts files that were read again in force over the sessions that there are.
    ///
    /// # Errors
    /// As of [`Template::new`]; then nothing has changed.
    pub(crate) fn adopt(self: &Arc<Self>, files: TlsFiles) -> Result<Serving, rustls::Error> {
        let TlsFiles { identity, authority, keys, window, alpn } = files;
        let template = Template::new(TemplateOptions {
            shift: self.clone(),
            resolver: Resolver::new(&identity),
            client_authority: authority.clone(),
            alpn,
        })?;
        let shared_keys = keys.is_some();
        self.set_keys(keys);
        self.set_window(window);
        Ok(Serving { template, identity, authority, shared_keys })
    }
}
