//! What a parent is asked, for which hosts, and what goes through its tunnels.

use std::io::Write;
use std::time::Duration;

use super::{OK, TARGET, config, echo, echoing_parent, parent_that_says, request, url};
use crate::support::{
    Dns, Proxy, Upstream, assert_same_bytes, client_hello, eventually, expect_refusal, payload,
};

#[test]
fn a_tunnel_is_asked_for_by_connect_and_nothing_is_resolved_here() {
    let ((parent, asked), dns) = (echoing_parent(), Dns::start());
    let proxy = Proxy::start(&format!("{}{}", config(&url(&parent), ""), dns.as_config()));
    let mut client = proxy.tunnel(TARGET);
    let bytes = payload();
    client.send(&bytes[..300_000]);
    assert_same_bytes(&client.read_exactly(300_000), &bytes[..300_000]);
    client.finish();
    client.expect_closed();

    let asked = asked.lock().unwrap().join("");
    let mut lines = asked.split("\r\n");
    assert_eq!(lines.next(), Some("CONNECT good.example:443 HTTP/1.1"));
    assert!(lines.any(|line| line == "Host: good.example:443"), "{asked}");
    assert!(!asked.contains("Proxy-Authorization"), "{asked}");
    assert_eq!(dns.asked(), [""; 0], "the parent resolves");
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["upstream"], parent.address().to_string(), "{line}");
    assert_eq!(line["outcome"], "ok", "{line}");
    assert!(line["dns_ms"].is_null() && line["connect_ms"].is_number(), "{line}");
    // What that means is said at the start.
    let said = proxy.log_line("the parent", |line| line["event"] == "parent");
    let said = said.to_string();
    assert!(said.contains(&url(&parent)) && said.contains("all hosts") && said.contains("judged"), "{said}");
}

#[test]
fn what_is_denied_never_gets_to_the_parent() {
    let (parent, asked) = echoing_parent();
    let proxy = Proxy::start(&config(&url(&parent), ""));
    for target in ["evil.example:443", "good.example:444", "192.0.2.1:443", "127.1:443"] {
        assert_eq!(proxy.connect().connect_target(target).status, 403, "{target}");
    }
    // An address that is allowed as a target needs no resolving and is judged as ever.
    let literal = "[[allow]]\npattern = \"169.254.169.254\"\n";
    proxy.reload(&format!("{literal}{}", config(&url(&parent), "")), "ok");
    let answer = proxy.connect().connect_target("169.254.169.254:443");
    assert_eq!(answer.proxy_status("details"), Some("private_address"), "{}", answer.head);
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn bytes_behind_the_parents_answer_reach_the_client() {
    // In one segment with the head; and so many that no single look shows them.
    for early in [b"220 hello\r\n".to_vec(), payload()[..200_000].to_vec()] {
        let mut said =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nX-Odd : y\r\nContent-Length: 5\r\n\r\n"
                .to_vec();
        said.extend(&early);
        let (parent, _) = parent_that_says(said);
        let proxy = Proxy::start(&config(&url(&parent), ""));
        let mut client = proxy.tunnel(TARGET);
        client.finish();
        assert_same_bytes(&client.read_to_end().unwrap(), &early);
    }
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_an_answer() {
    let parent = Upstream::serve(|mut stream| {
        stream.set_nodelay(true).unwrap();
        request(&mut stream);
        for byte in OK.iter().chain(b"early") {
            stream.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        echo(&mut stream);
    });
    let proxy = Proxy::start(&config(&url(&parent), ""));
    let mut client = proxy.tunnel(TARGET);
    assert_eq!(client.read_exactly(5), b"early");
    client.expect_echo(b"and on");
}

#[test]
fn the_guard_stands_before_the_parent_too() {
    let (parent, _) = echoing_parent();
    let proxy = Proxy::start(&format!("{}[policy]\ntls = \"sni\"\n", config(&url(&parent), "")));
    let hello = client_hello("good.example");
    let mut client = proxy.tunnel(TARGET);
    client.send(&hello);
    assert_eq!(client.read_exactly(hello.len()), hello);
    let mut client = proxy.tunnel(TARGET);
    client.send(client_hello("evil.example"));
    client.expect_reset();
}

#[test]
fn a_client_that_leaves_lets_the_parent_go() {
    let parent = Upstream::recorder();
    let proxy = Proxy::start(&config(&url(&parent), "connect_timeout = \"60s\"\n"));
    let mut client = proxy.connect();
    client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n"));
    eventually("the parent to be asked", || (!parent.received().is_empty()).then_some(()));
    client.reset();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["stage"]), (&"client_reset".into(), &"connect".into()), "{line}");
}

#[test]
fn patterns_say_which_hosts_go_through_it_and_connect_to_wins() {
    let ((parent, asked), straight, dns) = (echoing_parent(), Upstream::echo(), Dns::start());
    let port = straight.address().port();
    dns.addresses("straight.good.example", &["127.0.0.1"]);
    let hosts = format!("[[allow]]\npattern = \"*.good.example\"\nports = [443, {port}]\n");
    let proxy = Proxy::start(&format!(
        "{hosts}[egress]\nproxy = \"{}\"\nproxy_for = [\"far.good.example\", \"pinned.good.example\"]\n\
         allow_private = [\"127.0.0.1\"]\n{}{}",
        url(&parent),
        straight.for_targets(&["pinned.good.example:443"]),
        dns.as_config(),
    ));
    proxy.tunnel("far.good.example:443").expect_echo(b"by the parent");
    proxy.tunnel(&format!("straight.good.example:{port}")).expect_echo(b"straight");
    proxy.tunnel("pinned.good.example:443").expect_echo(b"by connect_to");
    assert_eq!((parent.accepted(), straight.accepted()), (1, 2));
    assert!(asked.lock().unwrap()[0].starts_with("CONNECT far.good.example:443 "));
    let said = proxy.log_line("the parent", |line| line["event"] == "parent").to_string();
    assert!(said.contains("far.good.example, pinned.good.example"), "{said}");
}

#[test]
fn a_parents_name_is_resolved_here_and_dialled_from_the_source_address() {
    let dns = Dns::start();
    let parent = Upstream::serve(|mut stream| {
        request(&mut stream);
        let from = stream.peer_addr().unwrap().ip().to_string();
        stream.write_all(OK).and_then(|()| stream.write_all(from.as_bytes())).unwrap();
    });
    dns.addresses("parent.corp", &["127.0.0.1"]);
    let of = |name: &str| {
        let url = format!("http://{name}:{}", parent.address().port());
        format!("{}{}", config(&url, "source_address = [\"127.0.0.9\"]\n"), dns.as_config())
    };
    let proxy = Proxy::start(&of("parent.corp"));
    assert_eq!(proxy.tunnel(TARGET).read_to_end().unwrap(), b"127.0.0.9");
    assert!(dns.asked().iter().all(|name| name == "parent.corp"), "{:?}", dns.asked());

    proxy.reload(&of("nowhere.corp"), "ok");
    let mut client = proxy.connect();
    let answer = client.connect_target(TARGET);
    let line = expect_refusal(&proxy, &mut client, &answer, (502, "dns_error", "dns"));
    assert!(line["detail"].as_str().unwrap().contains("http://nowhere.corp"), "{line}");
    assert_eq!(answer.proxy_status("rcode"), Some("NXDOMAIN"), "{}", answer.head);
}

#[test]
fn the_proxy_is_not_its_own_parent() {
    let listen = "[proxy]\nlisten = [\"0.0.0.0:0\"]\n";
    let proxy = Proxy::start(&format!("{}{listen}", config("http://127.0.0.1:1", "")));
    let own = format!("http://127.0.0.7:{}", proxy.http().port());
    proxy.reload(&format!("{}{listen}", config(&own, "")), "ok");
    let mut client = proxy.connect();
    let answer = client.connect_target(TARGET);
    let expected = (403, "destination_ip_prohibited", "private_address");
    let line = expect_refusal(&proxy, &mut client, &answer, expected);
    let told = line["detail"].as_str().unwrap();
    assert!(told.contains("egress.proxy leads to") && told.contains("this proxy itself"), "{told}");
}
