//! `pac.direct`: the hosts that never go to a proxy. What one entry is, how it is written, and which hosts
//! it covers; the PAC file says the same in JavaScript.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::policy::Pattern;
use crate::target::Host;

/// One entry of `pac.direct`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direct {
    /// Names without a dot: the word `plain`.
    Plain,
    /// Hosts that are written as an address of this network. No name is looked up for it.
    Network(IpNet),
    /// Names, by the wildcard rules of the allow list.
    Pattern(Pattern),
}

impl Direct {
    /// The word for names without a dot.
    pub(crate) const PLAIN: &str = "plain";

    /// Reads what isn't an address: the word or a pattern.
    ///
    /// # Errors
    /// Says what is wrong, and what was probably meant where that can be told.
    pub(crate) fn parse_name(text: &str) -> Result<Self, String> {
        // The word of Windows for plain names in a list of exceptions.
        if text.eq_ignore_ascii_case("<local>") {
            return Err(format!("names without a dot are called {:?} here", Self::PLAIN));
        }
        if text.eq_ignore_ascii_case(Self::PLAIN) {
            return Ok(Self::Plain);
        }
        if let Some(network) = starred_network(text) {
            return Err(format!("networks are written as prefixes, write \"{network}\""));
        }
        Pattern::parse(text).map(Self::Pattern).map_err(|error| error.to_string())
    }

    /// Whether this entry sends a host past every proxy.
    #[must_use]
    pub(crate) fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Plain, Host::Name(name)) => !name.contains('.'),
            (Self::Network(network), Host::Ip(address)) => {
                canonical(*network).contains(&address.to_canonical())
            }
            (Self::Pattern(pattern), host) => pattern.matches(host),
            _ => false,
        }
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str(Self::PLAIN),
            Self::Network(network) => network.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// `10.*` and `192.168.*.*`, as lists of exceptions have them elsewhere, as the network they mean.
fn starred_network(text: &str) -> Option<Ipv4Net> {
    let octets = text.trim_end_matches(".*");
    let known = octets.split('.').count();
    if octets == text || known > 3 || text.split('.').count() > 4 {
        return None;
    }
    let address = format!("{octets}{}", ".0".repeat(4 - known));
    Ipv4Net::new(address.parse().ok()?, u8::try_from(8 * known).ok()?).ok()
}

/// A network of IPv4 addresses in IPv6 notation, as the IPv4 network that it is.
pub(super) fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    match (IpAddr::V6(six.addr()).to_canonical(), six.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(bits)) => Ipv4Net::new(address, bits).map_or(network, IpNet::V4),
        _ => network,
    }
}
