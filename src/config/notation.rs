//! How single values are written: text to value and back, for durations, sizes, addresses,
//! networks, names. Each reader says only why a text is wrong (an empty string where there is
//! nothing to add); what would be valid is said by the key's kind. No I/O.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::policy::Pattern;
use crate::target::{Host, ends_in_number};

/// `90s`, `8h`, `1h 30m`. At most a year, so that no deadline overflows the clock.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = format!("{text}s");
        return match duration(&seconds) {
            Ok(Duration::ZERO) if text == "0" => Ok(Duration::ZERO),
            Ok(Duration::ZERO) | Err(_) => Err("the unit is missing".to_owned()),
            Ok(_) => Err(format!("the unit is missing, did you mean {seconds:?}?")),
        };
    }
    let duration = humantime::parse_duration(text).map_err(|_| String::new())?;
    if duration > LONGEST {
        return Err("longer than a year".to_owned());
    }
    Ok(duration)
}

/// The shortest way to write a duration that [`duration`] reads back. humantime does both, because it
/// knows days, weeks and months of fixed lengths: of a duration jiff reads and writes nothing above hours.
pub(super) fn duration_text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// `16KiB`, `64KB`, or bytes without a unit. Letter case does not matter.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: usize = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(String::new()),
    };
    let number: usize = number.parse().map_err(|_| String::new())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// A size in the largest binary unit that divides it.
pub(super) fn size_text(bytes: usize) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

/// 1 to 65535: digits alone, since `u16::from_str` also takes `+443`.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(0) => Err("port 0 cannot be connected to".to_owned()),
        Ok(port) if digits => Ok(port),
        _ => Err(format!("the port {text:?} is not a number from 1 to 65535")),
    }
}

/// A local address to listen on; port 0 lets the system choose. An IPv4-mapped one is the IPv4
/// address in it.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let plain = |read: SocketAddr| SocketAddr::new(read.ip().to_canonical(), read.port());
    text.parse().map(plain).map_err(|_| match text.rsplit_once(':') {
        _ if text.parse::<IpAddr>().is_ok() => "the port is missing".to_owned(),
        Some((host, _)) if host_name(host).is_ok() => {
            "names are not looked up here, only IP addresses are".to_owned()
        }
        _ => String::new(),
    })
}

/// An address to connect to: like a listening one, but never port 0.
pub(super) fn remote_address(text: &str) -> Result<SocketAddr, String> {
    let address = listen_address(text)?;
    if address.port() == 0 { Err("port 0 cannot be connected to".to_owned()) } else { Ok(address) }
}

/// A DNS server: an IP address with or without a port, 53 by default.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address.to_canonical(), 53)),
        Err(_) => remote_address(text),
    }
}

/// An address; an IPv4-mapped one is the IPv4 address in it.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map(|address: IpAddr| address.to_canonical()).map_err(|_| String::new())
}

/// A CIDR; a bare address is the network of that one host. An IPv4-mapped network is the IPv4 network in
/// it. Bits beyond the prefix are an error that offers both networks: the author of `10.1.2.3/8` may have
/// meant either.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network = unmapped(text.parse().map_err(|_| String::new())?)?;
    if network.trunc() != network {
        let (wide, host) = (network.trunc(), IpNet::from(network.addr()));
        return Err(format!("bits beyond the prefix are set, write \"{wide}\" or \"{host}\""));
    }
    Ok(network)
}

/// The network in the notation that addresses are compared in: `::ffff:10.0.0.0/104` is
/// `10.0.0.0/8`.
fn unmapped(network: IpNet) -> Result<IpNet, String> {
    const MAPPED: u8 = 96;
    let IpNet::V6(six) = network else { return Ok(network) };
    let Some(four) = six.addr().to_ipv4_mapped() else { return Ok(network) };
    let length = six.prefix_len();
    if let Some(net) = length.checked_sub(MAPPED).and_then(|length| Ipv4Net::new(four, length).ok()) {
        return Ok(net.into());
    }
    let meant = match Ipv4Net::new(four, length) {
        Ok(net) => format!("did you mean \"{}\"?", net.trunc()),
        Err(_) => "write the IPv4 network".to_owned(),
    };
    Err(format!("the prefix of an IPv4-mapped network has 96 bits at least, {meant}"))
}

/// A host name in normal form, in A-labels; an address, or what C libraries read as one, is none.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let ascii = idna::domain_to_ascii(text).map_err(|_| String::new())?;
    match Host::parse(ascii.as_bytes()) {
        Ok(Host::Name(name)) if !ends_in_number(&name) => Ok(name.to_string()),
        Ok(_) => Err("an IP address is not a name".to_owned()),
        Err(_) if text.is_empty() => Err(String::new()),
        Err(why) => Err(why.to_string()),
    }
}

/// A host pattern.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).map_err(|error| error.to_string())
}

/// One or more printable ASCII characters, none of them blank at either end: what a
/// Structured Field string can carry (RFC 8941 section 3.3.3).
pub(super) fn printable(text: &str) -> Result<String, String> {
    match text {
        "" => Err("empty".to_owned()),
        _ if text.trim() != text => Err("blanks at its ends".to_owned()),
        _ if text.len() > 100 => Err("too long".to_owned()),
        _ if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => Err(String::new()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("90").unwrap_err().contains("\"90s\""));
        for wrong in ["", "soon", "-1s", "2000y", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("16KiB"), Ok(16384));
        assert_eq!(size("64kb"), Ok(64000));
        assert_eq!(size("5"), Ok(5));
        for wrong in ["", "KiB", "-1", "1.5MiB", "1TiB", "99999999999999999999", "99999999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_are_digits_alone() {
        assert_eq!(port("65535"), Ok(65535));
        for wrong in ["", "0", "+443", "65536", "-1", "4 3", "https"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(network("10.0.0.1").map(|net| net.to_string()), Ok("10.0.0.1/32".into()));
        assert_eq!(network("::1").map(|net| net.to_string()), Ok("::1/128".into()));
        let both = network("10.1.2.3/8").unwrap_err();
        assert!(both.contains("\"10.0.0.0/8\"") && both.contains("\"10.1.2.3/32\""), "{both}");
        assert!(network("10.0.0.0/33").is_err());
    }

    #[test]
    fn an_ipv4_mapped_address_or_network_is_the_ipv4_one_in_it() {
        for (mapped, plain) in [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:a01:203/128", "10.1.2.3/32"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ] {
            assert_eq!(network(mapped).map(|net| net.to_string()), Ok(plain.into()), "{mapped}");
        }
        let both = network("::ffff:10.1.2.3/104").unwrap_err();
        assert!(both.contains("\"10.0.0.0/8\"") && both.contains("\"10.1.2.3/32\""), "{both}");
        assert!(network("::ffff:10.0.0.0/8").unwrap_err().contains("did you mean \"10.0.0.0/8\"?"));
        assert!(network("::ffff:10.0.0.0/95").unwrap_err().contains("96 bits at least"));
        // No mapped ones: these stay what they are.
        for six in ["::/0", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96"] {
            assert_eq!(network(six).map(|net| net.to_string()), Ok(six.into()));
        }
        assert_eq!(ip("::ffff:10.0.0.5"), Ok("10.0.0.5".parse().unwrap()));
        assert_eq!(remote_address("[::ffff:10.0.0.5]:1"), Ok("10.0.0.5:1".parse().unwrap()));
        assert_eq!(dns_server("::ffff:10.0.0.5"), Ok("10.0.0.5:53".parse().unwrap()));
    }

    #[test]
    fn dns_servers_have_port_53_unless_told() {
        assert_eq!(dns_server("10.0.0.2"), Ok("10.0.0.2:53".parse().unwrap()));
        assert_eq!(dns_server("::1"), Ok("[::1]:53".parse().unwrap()));
        assert_eq!(dns_server("10.0.0.2:5353"), Ok("10.0.0.2:5353".parse().unwrap()));
        assert!(dns_server("10.0.0.2:0").is_err());
    }

    proptest! {
        #[test]
        fn sizes_read_back(bytes in 0..usize::MAX) {
            prop_assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_read_back(millis in 0u64..31_536_000_000) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(time)), Ok(time));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = (duration(&text), size(&text), port(&text), network(&text));
            let _ = (host_name(&text), dns_server(&text), listen_address(&text));
        }
    }
}
