//! Real parents: a second ccpgate and Squid.

use super::{TARGET, config};
use crate::support::{H2, Proxy, Secured, Squid, Upstream, assert_same_bytes, have, payload};

#[test]
fn a_ccpgate_is_the_parent_of_another() {
    // A branch and the head office, plain and over TLS, the agents over HTTP/1.1 and HTTP/2.
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let office = secured.start(&upstream, "", "");
    let ca = format!("proxy_ca = {:?}\n", secured.path("ca.pem"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for url in [format!("http://{}", office.http()), format!("https://{}", office.https())] {
        let branch = Proxy::start(&format!("{}{}", config(&url, &ca), secured.section("")));
        let mut client = branch.tunnel(TARGET);
        client.expect_echo(b"through both");
        client.finish();
        client.expect_closed();
        runtime.block_on(async {
            let mut agent = H2::connect(&branch, &secured.agent()).await;
            let mut tunnel = agent.tunnel(TARGET).await;
            for chunk in payload()[..600_000].chunks(100_000) {
                tunnel.expect_echo(chunk).await;
            }
        });
        // What the office denies, the branch tells.
        let mut client = branch.connect();
        let answer = client.connect_target("other.good.example:443");
        assert_eq!(answer.status, 502, "{}", answer.head);
        let body = answer.text();
        assert!(body.contains("answered 403 Forbidden") && body.contains("reason: no_rule"), "{body}");
    }
}

#[test]
fn squid_is_a_parent() {
    if !have("squid") {
        return;
    }
    let upstream = Upstream::echo();
    let port = upstream.address().port();
    let squid = Squid::start(
        "acl good dst 127.0.0.1\nacl bad dstdomain denied.good.example\nhttp_access deny bad\nhttp_access allow good\nhttp_access deny all\n",
    );
    // A name that Squid resolves by the hosts file.
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"localhost\"\nports = [{port}]\n[[allow]]\npattern = \"*.good.example\"\n[egress]\nproxy = \"http://127.0.0.1:{}\"\n",
        squid.port
    ));
    let target = format!("localhost:{port}");
    let mut client = proxy.tunnel(&target);
    let bytes = payload();
    client.send(&bytes[..100_000]);
    assert_same_bytes(&client.read_exactly(100_000), &bytes[..100_000]);
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.access_line("tunnel", &target)["upstream"], format!("127.0.0.1:{}", squid.port));

    let mut client = proxy.connect();
    let answer = client.connect_target("denied.good.example:443");
    assert_eq!(answer.status, 502, "{}", answer.head);
    let body = answer.text();
    assert!(body.contains("answered 403 Forbidden") && body.contains("Access Denied"), "{body}");
}
