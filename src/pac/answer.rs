//! What `FindProxyForURL` answers: where a browser goes first.

use super::proxies::Advertised;

/// Where the first usable word of an answer leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To an HTTP proxy.
    Proxy(Advertised),
    /// Past every HTTP proxy: `DIRECT`, SOCKS, or nothing that a browser understands.
    Past,
}

/// Reads an answer as browsers do: words apart by semicolons, of which the first is tried first.
#[must_use]
pub fn leads(answer: &str) -> Leads {
    let first = answer.split(';').map(str::trim).find(|word| !word.is_empty()).unwrap_or_default();
    let mut parts = first.split_whitespace();
    let (kind, place) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let https = kind.eq_ignore_ascii_case("HTTPS");
    if !https && !["PROXY", "HTTP"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Leads::Past;
    }
    let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, port.parse().ok()),
        // As browsers assume it.
        None => (place, Some(if https { 443 } else { 80 })),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match port {
        Some(port) if !host.is_empty() => Leads::Proxy(Advertised { https, host, port }),
        _ => Leads::Past,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_leads() {
        let proxy = |https, host: &str, port| Leads::Proxy(Advertised { https, host: host.to_owned(), port });
        for (answer, expected) in [
            ("PROXY p.corp:3128", proxy(false, "p.corp", 3128)),
            ("  ; proxy  P.corp:3128 ; DIRECT", proxy(false, "p.corp", 3128)),
            ("HTTPS p.corp:3129; PROXY p.corp:3128", proxy(true, "p.corp", 3129)),
            ("PROXY p.corp", proxy(false, "p.corp", 80)),
            ("HTTPS [2001:db8::1]", proxy(true, "2001:db8::1", 443)),
            ("HTTP [2001:db8::1]:3128", proxy(false, "2001:db8::1", 3128)),
            ("DIRECT", Leads::Past),
            ("DIRECT; PROXY p.corp:3128", Leads::Past),
            ("SOCKS5 p.corp:1080; PROXY p.corp:3128", Leads::Past),
            ("PROXY", Leads::Past),
            ("PROXY :3128", Leads::Past),
            ("PROXY p.corp:port", Leads::Past),
            ("", Leads::Past),
            ("null", Leads::Past),
        ] {
            assert_eq!(leads(answer), expected, "{answer}");
        }
    }
}
