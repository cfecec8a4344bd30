//! Addresses in texts for people, cut where people must not be shown.

use std::net::IpAddr;

use ipnet::IpNet;

use super::cut_network;

/// The same text with every address and every network cut to what may be shown of a client. An address with a
/// port is a server's, and stays. What a `…` cuts off could have been any address, and is left out.
#[must_use]
pub fn cut_in(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(is_part) {
        let (before, from) = rest.split_at(begin);
        let (word, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        out.push_str(before);
        // A sentence may end with it, and a colon may follow.
        let bare = word.trim_end_matches(['.', ':']);
        let is_servers = before.ends_with('[') && after.starts_with("]:");
        let found =
            network(word).map(|net| (net, "")).or_else(|| Some((network(bare)?, &word[bare.len()..])));
        match found {
            _ if after.starts_with('…') && word.contains(['.', ':']) => {}
            Some((net, end)) if !is_servers => {
                out.push_str(&cut_network(net).to_string());
                out.push_str(end);
            }
            _ => out.push_str(word),
        }
        rest = after;
    }
    out + rest
}

/// An address is the network of itself alone.
fn network(word: &str) -> Option<IpNet> {
    word.parse().or_else(|_| word.parse::<IpAddr>().map(|address| address.to_canonical().into())).ok()
}

/// What an address or a network may have in it, and what would make another word of it.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || ".:/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_cut_wherever_they_stand() {
        for (text, shown) in [
            ("1 of 2 clients in 10.20.30.40", "1 of 2 clients in 10.20.30.0/24"),
            (
                "(10.4.7.21), 10.4.8.22; since 10.4.9.1: x.",
                "(10.4.7.0/24), 10.4.8.0/24; since 10.4.9.0/24: x.",
            ),
            ("It is 2001:db8:1:2::7.", "It is 2001:db8:1::/48."),
            ("2001:db8:1:2:: and ::ffff:10.1.2.3", "2001:db8:1::/48 and 10.1.2.0/24"),
            (
                "[\"10.1.2.3/32\", \"10.0.0.0/8\", \"2001:db8:1:2::/64\"]",
                "[\"10.1.2.0/24\", \"10.0.0.0/8\", \"2001:db8:1::/48\"]",
            ),
            (
                "10.1.2.3-10.1.2.9 client=10.1.2.3 fe80::1%eth0",
                "10.1.2.0/24-10.1.2.0/24 client=10.1.2.0/24 fe80::/48%eth0",
            ),
            // Cut off: it may have been any.
            ("[\"10.1.2.3/32\", \"10.20.30.4…", "[\"10.1.2.0/24\", \"…"),
            ("\"2001:db8:1:2:3…", "\"…"),
            // Servers, times, versions, words.
            ("192.0.2.1:443 [2001:db8::1]:443", "192.0.2.1:443 [2001:db8::1]:443"),
            ("09:01:12 UTC, 2026-11-28T09:03:02Z", "09:01:12 UTC, 2026-11-28T09:03:02Z"),
            (
                "ccpgate 1.2.3 started: http://10.0.0.5/x a.b/c 10.1.2.3.example 1.2.3.4.5",
                "ccpgate 1.2.3 started: http://10.0.0.5/x a.b/c 10.1.2.3.example 1.2.3.4.5",
            ),
            ("grün → …", "grün → …"),
        ] {
            assert_eq!(cut_in(text), shown, "{text}");
        }
    }
}
