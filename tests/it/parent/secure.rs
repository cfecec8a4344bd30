//! A parent over TLS.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{OK, TARGET, config, echo, expect_failure, request};
use crate::support::{Proxy, Secured, Upstream, accept, assert_same_bytes, ccpgate, client_hello, payload};

/// A parent over TLS with the authority's certificate, which then serves.
fn secure_parent(
    secured: &Secured,
    serve: impl Fn(&mut rustls::StreamOwned<rustls::ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> Upstream {
    let config = secured.authority.server(&["127.0.0.1"]).0;
    Upstream::serve(move |stream| {
        if let Some(mut tls) = accept(&config, stream) {
            serve(&mut tls);
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    })
}

#[test]
fn a_parent_over_tls() {
    let secured = Secured::new();
    let ca = format!("proxy_ca = {:?}\n", secured.path("ca.pem"));
    let parent = secure_parent(&secured, |tls| {
        assert!(request(tls).starts_with("CONNECT good.example:443 "));
        // With early bytes in the record of the answer.
        tls.write_all(&[OK, b"early"].concat()).unwrap();
        echo(tls);
    });
    let url = format!("https://{}", parent.address());
    let proxy = Proxy::start(&format!("{}[policy]\ntls = \"off\"\n", config(&url, &ca)));
    let mut client = proxy.tunnel(TARGET);
    assert_eq!(client.read_exactly(5), b"early");
    // Far more than any buffer on the way, in both directions at once.
    let bytes = payload();
    let mut writing = client.stream().try_clone().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || writing.write_all(&sent).unwrap());
    assert_same_bytes(&client.read_exactly(bytes.len()), &bytes);
    writer.join().unwrap();
    client.finish();
    client.expect_closed();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(
        (&line["outcome"], &line["upstream"]),
        (&"ok".into(), &parent.address().to_string().into()),
        "{line}"
    );

    // The guard's first write goes through TLS as well.
    proxy.reload(&format!("{}[policy]\ntls = \"sni\"\n", config(&url, &ca)), "ok");
    let mut client = proxy.tunnel(TARGET);
    let hello = client_hello("good.example");
    client.send(&hello);
    assert_eq!(client.read_exactly(5), b"early");
    assert_eq!(client.read_exactly(hello.len()), hello);
}

#[test]
fn a_parent_over_tls_that_fails() {
    let secured = Secured::new();
    let ca = format!("proxy_ca = {:?}\n", secured.path("ca.pem"));
    let refusing = secure_parent(&secured, |tls| {
        request(tls);
        tls.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
    });
    let secure = |address: std::net::SocketAddr| format!("https://{address}");
    let proxy = Proxy::start(&config(&secure(refusing.address()), &ca));
    let (answer, _) = expect_failure(&proxy, 502, "connection_refused");
    assert!(answer.text().contains("403 Forbidden: no"), "{}", answer.text());

    // An authority that nobody here knows.
    let stranger = Secured::new();
    let other = format!("proxy_ca = {:?}\n", stranger.path("ca.pem"));
    proxy.reload(&config(&secure(refusing.address()), &other), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "tls_certificate_error");
    assert!(answer.text().contains("name that in egress.proxy_ca"), "{}", answer.text());

    // A name that the certificate has not.
    let hosts = "[dns]\nhosts = { \"parent.corp\" = [\"127.0.0.1\"] }\n";
    let named = format!("https://parent.corp:{}", refusing.address().port());
    proxy.reload(&format!("{}{hosts}", config(&named, &ca)), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "tls_certificate_error");
    assert!(answer.text().contains("parent.corp"), "{}", answer.text());

    // A plain parent.
    let plain = Upstream::serve(|mut stream| {
        let _ = stream.read(&mut [0; 64 * 1024]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    proxy.reload(&config(&secure(plain.address()), &ca), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "tls_protocol_error");
    assert!(answer.text().contains("begin with http://"), "{}", answer.text());

    // No handshake at all, within the one limit.
    let mute = Upstream::recorder();
    proxy.reload(&config(&secure(mute.address()), &format!("{ca}connect_timeout = \"1s\"\n")), "ok");
    expect_failure(&proxy, 504, "connection_timeout");

    let missing = config("https://parent.corp:1", "proxy_ca = \"no.pem\"\n");
    let told = ccpgate(Some(&missing), &["config", "check"]).expect(2).stderr;
    assert!(told.contains("egress.proxy_ca") && told.contains("no.pem"), "{told}");
}
