//! `ccpgate rehearse --via`: through a proxy that runs, as browsers go through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::simulate::Region;
use crate::support::{Proxy, Secured, ccpgate};

const CALLS: f64 = 10.0;

/// A simulated region, and the files of a TLS listener.
struct Site {
    region: Region,
    secured: Secured,
}

impl Site {
    fn new() -> Self {
        Self { region: Region::start(&[]), secured: Secured::new() }
    }

    /// A proxy that reaches the region, on both listeners.
    fn proxy(&self, tls: &str, more: &str) -> Proxy {
        let configuration = std::fs::read_to_string(self.region.configuration()).unwrap();
        Proxy::start(&format!("{configuration}\n{}\n{more}", self.secured.section(tls)))
    }

    /// Calls through a proxy; the region's authority is known, and the proxy's as well where `knows` says so.
    fn rehearse(&self, via: &str, knows: bool) -> Value {
        let file = self.region.configuration();
        let mut authorities = std::fs::read_to_string(self.region.ca()).unwrap();
        if knows {
            authorities += &self.secured.authority.pem();
        }
        let ca = self.secured.path("both.pem");
        std::fs::write(&ca, authorities).unwrap();
        let (file, ca) = (file.to_str().unwrap(), ca.to_str().unwrap());
        let all = ["rehearse", "-c", file, "--calls", "10", "--ws-url", self.region.url(), "--json"];
        ccpgate(None, &[&all[..], &["--via", via, "--ca", ca]].concat()).json()
    }
}

fn https(proxy: &Proxy) -> String {
    format!("https://{}", proxy.https())
}

#[test]
fn it_speaks_what_browsers_would() {
    let site = Site::new();
    let (both, old) = (site.proxy("", ""), site.proxy("alpn = [\"http/1.1\"]", ""));
    // By HTTP/2 each call has one connection; by HTTP/1.1 the file, the API and the signalling have one each. In
    // either case somebody had to ask.
    for (proxy, via, protocol, handshakes) in [
        (&both, format!("http://{}", both.http()), Value::Null, 0.0),
        (&both, https(&both), "HTTP/2".into(), CALLS + 1.0),
        (&old, https(&old), "HTTP/1.1".into(), 3.0 * CALLS + 1.0),
    ] {
        let report = site.rehearse(&via, true);
        assert_eq!((&report["failed"], &report["scope"]), (&0.into(), &"whole".into()), "{report:#}");
        assert_eq!(report["through"], format!("the proxy {via}"));
        assert_eq!(report["protocol"], protocol, "{report:#}");
        assert_eq!(proxy.metrics().sum("ccpgate_tls_handshakes_total"), handshakes, "{via}");
    }
}

/// Where connections to `to` lead, each of which is held up so long before anything is passed on.
async fn slow(to: SocketAddr, pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

/// Calls that begin at once don't wait for one of them to find out what the proxy speaks: each would count that as the
/// network's time, and the time-out of that one as its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_another_one() {
    let site = Site::new();
    let (both, old) = (site.proxy("", ""), site.proxy("alpn = [\"http/1.1\"]", ""));
    const PAUSE: Duration = Duration::from_secs(3);
    let vias = [slow(both.https(), PAUSE).await, slow(old.https(), PAUSE).await];
    let played = vias.map(|via| {
        let site = &site;
        tokio::task::block_in_place(move || site.rehearse(&format!("https://{via}"), true))
    });
    for report in played {
        assert_eq!(report["failed"], 0, "{report:#}");
        let times = &report["phases"]["static"];
        let (least, most) = (PAUSE.as_secs_f64() * 1000.0, PAUSE.as_secs_f64() * 1900.0);
        assert!((least..most).contains(&times["p50_ms"].as_f64().unwrap()), "{report:#}");
    }
}

/// What went wrong first.
fn detail(report: &Value, cause: &str) -> String {
    assert_eq!(report["causes"], serde_json::json!({ cause: 10 }), "{report:#}");
    report["failures"][0]["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_refusal_is_told_by_either_protocol_in_the_same_words() {
    let site = Site::new();
    // It refuses whoever comes.
    let proxy = site.proxy("", "[proxy]\nclients = [\"192.0.2.0/24\"]\n");
    let told = [format!("http://{}", proxy.http()), https(&proxy)].map(|via| {
        let detail = detail(&site.rehearse(&via, true), "proxy_denied");
        assert!(detail.contains("answered 403 Forbidden: ccpgate refused "), "{detail}");
        assert!(detail.ends_with(" (Proxy-Status: http_request_denied)"), "{detail}");
        // An id is drawn for each.
        detail.replace(&via, "").split(" (request ").next().unwrap().to_owned()
    });
    assert_eq!(told[0], told[1]);
}

#[test]
fn an_authority_that_is_not_known_is_to_be_named_with_ca() {
    let site = Site::new();
    let proxy = site.proxy("", "");
    let told = detail(&site.rehearse(&https(&proxy), false), "proxy_unreachable");
    assert!(told.contains("authority that is unknown here: name that in --ca"), "{told}");
    // One that is its own authority, as people make them.
    site.secured.renew(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let proxy = site.proxy("", "");
    let told = detail(&site.rehearse(&https(&proxy), true), "proxy_unreachable");
    assert!(told.contains("that of an authority (CA:TRUE)"), "{told}");
}

/// A proxy that speaks HTTP/2, and wants to know who asks.
async fn with_password(config: rustls::ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (status, body) = match request.headers().get("proxy-authorization") {
                        // me:S3cret
                        Some(value) if value == "Basic bWU6UzNjcmV0" => (451, "known as me:S3cret"),
                        _ => (407, "who is it?"),
                    };
                    let head =
                        Response::builder().status(status).header("proxy-authenticate", "Basic realm=x");
                    let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    send.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_by_http2_too_and_never_shown() {
    let site = Site::new();
    let mut config = rustls::ServerConfig::clone(&site.secured.authority.server(&["127.0.0.1"]).0);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = with_password(config).await;
    let played = tokio::task::spawn_blocking(move || {
        [
            format!("https://{address}"),
            format!("https://me:S3cret@{address}"),
            format!("https://me:x@{address}"),
        ]
        .map(|via| site.rehearse(&via, true))
    });
    let [without, right, wrong] = played.await.unwrap();
    let told = detail(&without, "proxy_auth");
    assert!(told.contains("answered 407 Proxy Authentication Required: who is it?"), "{told}");
    let told = detail(&right, "proxy_denied");
    assert!(told.contains("answered 451 ") && told.contains("known as ..."), "{told}");
    assert!(detail(&wrong, "proxy_auth").contains("user and password that were given don't pass"));
    assert!(!format!("{without}{right}{wrong}").contains("S3cret"));
}
