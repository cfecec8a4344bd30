//! `egress.connect_to`: which targets are dialled at a fixed address. No I/O.

use std::cmp::Reverse;
use std::net::SocketAddr;

use crate::policy::Pattern;
use crate::target::Target;

/// The address for each pattern and port; the most specific pattern first.
pub struct ConnectTo(Vec<(Pattern, u16, SocketAddr)>);

impl ConnectTo {
    /// The address that stands in for a target.
    pub(crate) fn address_for(&self, target: &Target) -> Option<SocketAddr> {
        let stands_in = |(pattern, port, _): &&(Pattern, u16, SocketAddr)| {
            *port == target.port && pattern.matches(&target.host)
        };
        self.0.iter().find(stands_in).map(|(.., address)| *address)
    }
}

impl FromIterator<(Pattern, u16, SocketAddr)> for ConnectTo {
    fn from_iter<T: IntoIterator<Item = (Pattern, u16, SocketAddr)>>(entries: T) -> Self {
        let mut entries = Vec::from_iter(entries);
        // An exact name, then the longest pattern.
        entries.sort_by_key(|(pattern, ..)| (!pattern.is_exact(), Reverse(pattern.as_str().len())));
        Self(entries)
    }
}
