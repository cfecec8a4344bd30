//! Why a target is not reached. [`super::cause`] says which cause in the table of causes each reason is. No I/O.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::dialer::DialError;
use super::failure::ParentError;
use super::resolver::{Fixed, ResolveError};
use super::url::ParentUrl;
use crate::address::Barred;

/// Why a target is not reached.
#[derive(Debug)]
pub enum Unreached {
    Dns(ResolveError),
    /// No address of the name may be dialled. This is the reason for one of them, the most telling, and who
    /// gives the name such an address, where it isn't DNS.
    Barred(Barred, Option<Fixed>),
    /// No address of the name lies in AWS's published ranges. This is the first.
    Outside(Outside),
    /// The way leads back to this process.
    Own(Loop),
    /// Parent proxies have brought the request back here.
    Circle(Circle),
    Dial(DialError),
    Parent(Box<ParentError>),
}

impl From<ResolveError> for Unreached {
    fn from(error: ResolveError) -> Self {
        DialError::instead_of(error).map_or_else(Self::Dns, Self::Dial)
    }
}

/// An address outside AWS's published ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    pub address: IpAddr,
    /// `createDate` of the ranges.
    pub of: String,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, which isn't AWS's by ip-ranges.json of {}", self.address, self.of)
    }
}

/// Where a name leads that may not be dialled, and who says so.
pub(crate) fn leads_to(barred: &Barred, by: Option<Fixed>) -> String {
    match by {
        None => format!("the name resolves to {barred}"),
        Some(by) => format!("{by} leads the name to {barred}"),
    }
}

/// A way that leads back to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    pub address: SocketAddr,
    pub by: Lead,
}

/// A circle of parent proxies.
#[derive(Debug)]
pub struct Circle {
    /// The next one from here.
    pub parent: ParentUrl,
    /// What those on the way call themselves, as far as they do.
    pub names: Vec<String>,
}

/// What led to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// The target's own name.
    Name,
    /// `egress.connect_to`.
    ConnectTo,
    /// `egress.proxy`.
    Parent,
}
