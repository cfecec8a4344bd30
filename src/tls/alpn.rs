//! Which protocols the listener offers a client by ALPN (RFC 7301): those of `tls.alpn`, without HTTP/2 for
//! clients that work better without it. No I/O.

use rustls::CipherSuite;
use strum::{IntoStaticStr, VariantArray};

/// `tls.alpn`: protocols of the HTTPS listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
pub enum Alpn {
    /// HTTP/2.
    #[strum(serialize = "h2")]
    H2,
    /// HTTP/1.1, and HTTP/1.0.
    #[strum(serialize = "http/1.1")]
    Http11,
}

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// What curl offers, alone, with `--http1.0`. It is served as HTTP/1.1 is.
const HTTP_1_0: &[u8] = b"http/1.0";

/// The identifiers of what is configured, in its order.
pub(super) fn identifiers(configured: &[Alpn]) -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    for protocol in configured {
        match protocol {
            Alpn::H2 => list.push(H2.to_vec()),
            Alpn::Http11 => list.extend([HTTP_1_1.to_vec(), HTTP_1_0.to_vec()]),
        }
    }
    list
}

/// What of the configured list a client is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    All,
    WithoutHttp2,
}

impl Offer {
    /// Leaves out HTTP/2 for a client that HTTP/2 would harm, or that could harm us with it, if the client
    /// offers another protocol of the list.
    ///
    /// A client outside `proxy.clients` gets one refusal and nothing more. HTTP/1.1 can carry that; over
    /// HTTP/2 a stranger could send any number of frames.
    ///
    /// Firefox can't open a WebSocket over an HTTP/2 proxy while it keeps an idle tunnel to the same host:
    /// it makes a connection for the WebSocket, finds that HTTP/2 was negotiated, adds that connection to
    /// its pool for the proxy, starts over, and gives up after ten. It reads nothing that a server sends
    /// before it starts over, so that only ALPN helps: docs/tls-sessions.md has what was tried.
    pub(super) fn to(
        list: &[Vec<u8>],
        suites: &[CipherSuite],
        protocols: &[Vec<u8>],
        stranger: bool,
    ) -> Self {
        let badly = stranger || is_firefox(suites);
        if badly && list.iter().any(|ours| ours != H2 && protocols.contains(ours)) {
            Self::WithoutHttp2
        } else {
            Self::All
        }
    }

    pub(super) fn apply(self, list: &mut Vec<Vec<u8>>) {
        if self == Self::WithoutHttp2 {
            list.retain(|ours| ours != H2);
        }
    }
}

/// Firefox's library (NSS) lists ChaCha20 between the two AES suites of TLS 1.3, and has since TLS 1.3
/// came; the libraries of Chrome, curl, Java, Go and .NET don't. Whatever else does gets HTTP/1.1,
/// which serves it as well.
fn is_firefox(suites: &[CipherSuite]) -> bool {
    const NSS: [CipherSuite; 2] =
        [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256];
    suites.starts_with(&NSS)
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite as Suite;

    use super::*;

    #[test]
    fn firefox_is_known_by_its_suites_and_nothing_else_is() {
        let (aes128, aes256, chacha) = (
            Suite::TLS13_AES_128_GCM_SHA256,
            Suite::TLS13_AES_256_GCM_SHA384,
            Suite::TLS13_CHACHA20_POLY1305_SHA256,
        );
        let tls12 = Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        assert!(is_firefox(&[aes128, chacha, aes256, tls12]));
        assert!(is_firefox(&[aes128, chacha, tls12]), "security.tls13.aes_256_gcm_sha384 = false");
        for (who, suites) in [
            ("Chrome, which begins with a random one", vec![Suite::Unknown(0x5a5a), aes128, aes256, chacha]),
            ("OpenSSL", vec![aes256, chacha, aes128, tls12]),
            ("rustls and Java", vec![aes256, aes128, chacha, tls12]),
            ("Go", vec![aes128, aes256, chacha]),
            ("Go without AES in hardware", vec![chacha, aes128, aes256]),
            ("TLS 1.2 alone", vec![tls12]),
            ("none", vec![]),
        ] {
            assert!(!is_firefox(&suites), "{who}");
        }
    }

    #[test]
    fn the_identifiers_keep_the_order_of_the_configuration() {
        let of = |list: &[Alpn]| {
            identifiers(list).iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[Alpn::H2, Alpn::Http11]), ["h2", "http/1.1", "http/1.0"]);
        assert_eq!(of(&[Alpn::Http11, Alpn::H2]), ["http/1.1", "http/1.0", "h2"]);
        assert_eq!(of(&[Alpn::H2]), ["h2"]);
    }
}
