//! What the machine says about names: the servers of `resolv.conf` and the hosts file, read as glibc reads
//! them. It skips the lines that glibc skips, so that no line keeps the proxy from starting.
//!
//! Of `resolv.conf` only `nameserver` counts. The search list would widen the policy; `timeout`,
//! `attempts` and `rotate` have their counterparts in `[dns]`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// glibc asks no more either (`MAXNS`).
const MAX_SERVERS: usize = 3;
/// No more of a file is read: about 100,000 lines.
const MAX_FILE: u64 = 4 << 20;
const PORT: u16 = 53;

/// Where the machine's files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// `/etc/resolv.conf`.
    pub servers: PathBuf,
    /// `/etc/hosts`.
    pub hosts: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { servers: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

/// The servers of a resolv.conf.
pub(crate) struct Servers {
    /// One at least.
    pub all: Vec<SocketAddr>,
    /// Why it is one that the file doesn't name.
    pub unnamed: Option<String>,
    /// What else an administrator should know about the file.
    pub remarks: Vec<String>,
}

/// The servers of a resolv.conf.
pub(crate) fn servers(file: &Path) -> Servers {
    let shown = file.display();
    let (text, remark) = match text(file) {
        Ok(text) => (text, None),
        Err(error) => (String::new(), Some(format!("{shown} can't be read: {error}"))),
    };
    let (mut all, mut remarks) = parse_servers(&text);
    for remark in &mut remarks {
        *remark = format!("{shown}: {remark}");
    }
    remarks.extend(remark);
    let unnamed = all
        .is_empty()
        .then(|| format!("{shown} names no DNS server: 127.0.0.1 is asked, as the C library does"));
    if unnamed.is_some() {
        all.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    Servers { all, unnamed, remarks }
}

/// The names of a hosts file with all their addresses. A file that isn't there names none.
pub(crate) fn hosts(file: &Path) -> (HashMap<Box<str>, Vec<IpAddr>>, Option<String>) {
    match text(file) {
        Ok(text) => (parse_hosts(&text), None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (HashMap::new(), None),
        Err(error) => (HashMap::new(), Some(format!("{} can't be read: {error}", file.display()))),
    }
}

fn text(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Servers in their order, and what is wrong with lines that name none.
pub(crate) fn parse_servers(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut remarks) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        // As in glibc the keyword begins the line; comments begin with `#` or `;`.
        let Some(rest) = line.strip_prefix("nameserver").filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        let word = rest.split([' ', '\t', '\r', '#', ';']).find(|word| !word.is_empty()).unwrap_or_default();
        match server(word) {
            Some(_) if servers.len() == MAX_SERVERS => {
                remarks.push(format!("line {}: only the first {MAX_SERVERS} servers are asked", at + 1));
                break;
            }
            Some(server) => servers.push(server),
            None if remarks.len() < MAX_SERVERS => {
                let shown: String = word.escape_debug().take(60).collect();
                remarks
                    .push(format!("line {}: \"{shown}\" is no IP address, the line is passed over", at + 1));
            }
            None => {}
        }
    }
    (servers, remarks)
}

fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    // A link-local address belongs to an interface, by name or number.
    let (address, scope) = word.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = scope.parse().ok().or_else(|| interface(scope))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

fn interface(name: &str) -> Option<u32> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

/// Names in lower case without a last dot, each with all addresses that stand beside it.
pub(crate) fn parse_hosts(text: &str) -> HashMap<Box<str>, Vec<IpAddr>> {
    let mut hosts: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for name in words {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let addresses = hosts.entry(name.into()).or_default();
            if addresses.len() < 2 * super::answer::MAX_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        parse_servers(text).0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_as_the_c_library_reads_them() {
        for (text, expected) in [
            ("nameserver 10.0.0.2\nnameserver 10.0.0.3\n", &["10.0.0.2:53", "10.0.0.3:53"][..]),
            ("nameserver\t10.0.0.2\r\nsearch corp..local\r\n", &["10.0.0.2:53"]),
            ("nameserver 2001:db8::1 # the old one\n", &["[2001:db8::1]:53"]),
            ("nameserver fe80::1%7\n", &["[fe80::1%7]:53"]),
            ("nameserver fe80::1%lo\n", &["[fe80::1%1]:53"]),
            ("nameserver 10.0.0.2;comment\n", &["10.0.0.2:53"]),
            ("options edns0 trust-ad rotate timeout:1 \u{1}\nnameserver 10.0.0.2", &["10.0.0.2:53"]),
            (
                "nameserver 10.0.0.1\nnameserver x\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4",
                &["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"],
            ),
        ] {
            assert_eq!(addresses(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_names_no_server_is_passed_over() {
        for text in [
            "",
            "# nothing\n; here\n",
            "search corp.local\n",
            "search corp..local\n",
            "nameserver\n",
            "nameserver [::1]:53\n",
            "nameserver 10.0.0.2:53\n",
            "nameserver fe80::1%nowhere\n",
            "nameservers 10.0.0.2\n",
            "  nameserver 10.0.0.2\n",
            "#nameserver 10.0.0.2\n",
            "\u{0}\u{0}\u{0}",
        ] {
            assert_eq!(addresses(text), [""; 0], "{text:?}");
        }
        let remarks = parse_servers("nameserver [::1]:53\n").1;
        assert_eq!(remarks, ["line 1: \"[::1]:53\" is no IP address, the line is passed over"]);
        let folder = tempfile::tempdir().unwrap();
        for file in ["missing", "."] {
            let Servers { all, unnamed, remarks } = servers(&folder.path().join(file));
            assert_eq!(all, ["127.0.0.1:53".parse().unwrap()]);
            assert!(unnamed.unwrap().contains("127.0.0.1 is asked"));
            assert!(remarks[0].contains("can't be read"), "{remarks:?}");
        }
    }

    #[test]
    fn a_name_has_all_addresses_of_the_hosts_file() {
        let hosts = parse_hosts(
            "127.0.0.1 localhost # loop\n::1\tlocalhost IP6-Localhost.\n#10.0.0.9 a\n10.0.0.1 a b\r\n10.0.0.1 a\n\
             nonsense a\n10.0.0.2",
        );
        let of = |name: &str| hosts.get(name).map(|a| a.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of("localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(of("ip6-localhost").unwrap(), ["::1"]);
        assert_eq!((of("a").unwrap(), of("b").unwrap()), (vec!["10.0.0.1".into()], vec!["10.0.0.1".into()]));
        assert_eq!(hosts.len(), 4);
    }
}
