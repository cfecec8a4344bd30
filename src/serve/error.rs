//! Why `serve` can't start or go on.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigErrors;

/// Why `serve` can't start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{key}: can't listen on {address}: {error}{hint}")]
    Bind { key: &'static str, address: SocketAddr, error: io::Error, hint: String },
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Parent(String),
    #[error("{0}")]
    Watch(String),
    /// Of a reload that somebody asked for, who may take it all the same.
    #[error("{0}")]
    Losses(String),
    /// Sockets that this process was given.
    #[error("{0}")]
    Passed(String),
    #[error("{0}")]
    Ranges(String),
    /// Nowhere to find the process before this one.
    #[error("{0}")]
    NoFolder(String),
    /// The process before this one goes on.
    #[error("{0}")]
    TakeOver(String),
    #[error("{0}")]
    Edl(String),
    #[error("the TLS provider refuses the configuration: {0}")]
    Provider(#[from] rustls::Error),
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
}

impl ServeError {
    /// Whether the same start may succeed later without a change to any file: another process still holds
    /// an address, or descriptors are scarce.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Tls(_)
            | Self::Parent(_)
            | Self::Watch(_)
            | Self::Losses(_)
            | Self::Passed(_)
            | Self::Ranges(_)
            | Self::NoFolder(_)
            | Self::Edl(_)
            | Self::Provider(_) => false,
            // No later start mends a missing permission, or an address that can't be listened on.
            Self::Bind { error, .. } => {
                !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
            }
            Self::Start(_) | Self::TakeOver(_) => true,
        }
    }
}
