//! Addresses that may not be dialled although they don't look it: those inside others, and the
//! proxy's own; and networks written in a notation that no address is compared in.

use serde_json::Value;

use crate::support::{Dns, Proxy, Upstream, ccpgate, expect_refusal};

const NAME: &str = "name.example";

/// A CONNECT that is refused as `private_address`; its log line and body.
#[track_caller]
fn expect_barred(proxy: &Proxy, target: &str) -> (Value, String) {
    let mut client = proxy.connect();
    let answer = client.connect_target(target);
    let expected = (403, "destination_ip_prohibited", "private_address");
    let line = expect_refusal(proxy, &mut client, &answer, expected);
    assert_eq!(line["upstream"], Value::Null, "nothing was dialled: {line}");
    (line, answer.text())
}

#[test]
fn a_translators_network_opens_nothing_behind_it_that_is_not_public() {
    let dns = Dns::start();
    let allowed = "[\"64:ff9b::/96\", \"64:ff9b:1::/48\", \"2002::/16\", \"2001::/32\", \"fe80::/10\"]";
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.{NAME}\"\n{}[egress]\nallow_private = {allowed}\n",
        dns.as_config()
    ));
    for (at, (address, inner, kind)) in [
        ("64:ff9b::a9fe:a9fe", "169.254.169.254", "cloud metadata"),
        ("64:ff9b::a9fe:aa02", "169.254.170.2", "cloud metadata"),
        ("64:ff9b::a00:1", "10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "127.0.0.1", "loopback"),
        ("64:ff9b:1:a9fe:a9:fe00::", "169.254.169.254", "cloud metadata"),
        ("64:ff9b:1::a9fe:a9fe", "169.254.169.254", "cloud metadata"),
        ("2002:a9fe:a9fe::1", "169.254.169.254", "cloud metadata"),
        ("2001:0:808:808::5601:5601", "169.254.169.254", "cloud metadata"),
        ("fe80::5efe:a9fe:a9fe", "169.254.169.254", "cloud metadata"),
        ("2600:f0f2:7100::200:5efe:a00:1", "10.0.0.1", "private"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("a{at}.{NAME}");
        dns.addresses(&target, &[address]);
        let (line, body) = expect_barred(&proxy, &format!("{target}:443"));
        let told = format!("stands for {inner}, and that is {kind}");
        assert!(line["detail"].as_str().unwrap().contains(&told), "{address}: {line}");
        assert!(body.contains(&told), "{address}: {body}");
        // Nobody is led to open the way to credentials.
        let advice = "add the network of";
        assert_eq!(body.contains(advice), kind != "cloud metadata", "{body}");
    }
}

/// The refusal comes before any dial, so that nothing leaves this machine.
#[test]
fn a_wide_network_opens_no_metadata_service() {
    let addresses = [
        ("169.254.169.254", "169.254.169.254/32"),
        ("169.254.170.2", "169.254.170.2/32"),
        ("100.100.100.200", "100.100.100.200/32"),
        ("168.63.129.16", "168.63.129.16/32"),
        ("::ffff:169.254.169.254", "169.254.169.254/32"),
        ("fd00:ec2::254", "fd00:ec2::254/128"),
        ("fd00:ec2::23", "fd00:ec2::23/128"),
        ("fd20:ce::254", "fd20:ce::254/128"),
        ("64:ff9b::a9fe:a9fe", "169.254.169.254/32"),
        ("2002:a9fe:a9fe::1", "169.254.169.254/32"),
    ];
    let host = |at: usize| format!("a{at}.{NAME}");
    let hosts: Vec<_> = addresses
        .iter()
        .enumerate()
        .map(|(at, (address, _))| format!("\"{}\" = [\"{address}\"]", host(at)))
        .collect();
    let config = |networks: &str| {
        format!(
            "[[allow]]\npattern = \"*.{NAME}\"\n[dns]\nhosts = {{ {} }}\n[egress]\nallow_private = {networks}\n",
            hosts.join(", ")
        )
    };
    let proxy = Proxy::start(&config("[\"0.0.0.0/0\", \"::/0\"]"));
    for networks in [
        "[\"0.0.0.0/0\", \"::/0\"]",
        "[\"fd00::/8\", \"169.254.0.0/16\", \"100.64.0.0/10\", \"64:ff9b::/96\", \"2002::/16\"]",
        "[\"169.254.169.254/31\", \"fd00:ec2::254/127\", \"64:ff9b::a9fe:a9fe/128\", \"2002::/16\"]",
    ] {
        proxy.reload(&config(networks), "ok");
        for (at, (address, exactly)) in addresses.iter().enumerate() {
            let (line, body) = expect_barred(&proxy, &format!("{}:443", host(at)));
            assert!(line["detail"].as_str().unwrap().contains("cloud metadata"), "{address}: {line}");
            assert!(body.contains(&format!("only exactly {exactly}")), "{address} by {networks}: {body}");
        }
    }
}

/// `dns.hosts` is judged as DNS is, which is known before anybody asks.
#[test]
fn a_name_that_the_configuration_leads_to_private_addresses_alone_is_refused_for_that() {
    let config = "[[allow]]\npattern = \"in.example\"\n[[allow]]\npattern = \"some.example\"\n\
                  [[allow]]\npattern = \"open.example\"\n[egress]\nallow_private = [\"10.4.0.0/16\"]\n\
                  [dns.hosts]\n\"In.example\" = [\"10.1.2.3\", \"10.1.2.4\"]\n\
                  \"some.example\" = [\"10.1.2.3\", \"192.0.2.1\"]\n\"open.example\" = [\"10.4.5.6\"]\n";
    let proxy = Proxy::start(config);
    expect_barred(&proxy, "in.example:443");
    let explain = |host: &str, code| ccpgate(Some(config), &["explain", "--json", host]).expect(code).json();
    assert_eq!(explain("in.example", 1)["reason"], "private_address");
    assert_eq!(explain("open.example", 0)["decision"], "allowed");
    let warned = ccpgate(Some(config), &["config", "check"]).expect(0).stderr;
    let told =
        "allow[0].pattern is refused all the same: dns.hosts of the configuration leads the name to 10.1.2.3";
    assert!(warned.contains(told) && !warned.contains("allow[2]"), "{warned}");
}

/// No DNS answer led there, and `explain` says what the proxy does.
#[test]
fn an_allowed_address_that_is_not_public_is_refused_for_what_it_is() {
    let config = "[[allow]]\npattern = \"10.1.2.3\"\n[[allow]]\npattern = \"169.254.169.254\"\nports = [80]\n\
                  [[allow]]\npattern = \"10.4.5.6\"\n[[allow]]\npattern = \"10.7.8.9\"\n\
                  [egress]\nallow_private = [\"10.4.0.0/16\"]\n\
                  connect_to = { \"10.7.8.9:443\" = \"127.0.0.1:1\" }\n";
    let proxy = Proxy::start(config);
    let explain =
        |target: &str, code| ccpgate(Some(config), &["explain", "--json", target]).expect(code).json();
    for (target, advice) in [
        ("10.1.2.3:443", "add the network of 10.1.2.3 to egress.allow_private"),
        ("169.254.169.254:80", "only exactly 169.254.169.254/32"),
    ] {
        let (line, body) = expect_barred(&proxy, target);
        assert!(body.contains("the target is") && body.contains(advice), "{body}");
        assert!(!body.contains("DNS") && !body.contains("resolves"), "{body}");
        assert_eq!(line["cause"], Value::Null, "{line}");
        let told = explain(target, 1);
        assert_eq!((&told["decision"], &told["reason"]), (&"denied".into(), &"private_address".into()));
    }
    for open in ["10.4.5.6", "10.7.8.9"] {
        assert_eq!(explain(open, 0)["decision"], "allowed", "{open}");
    }
    let warned = ccpgate(Some(config), &["config", "check"]).expect(0).stderr;
    for (at, warns) in [true, true, false, false].into_iter().enumerate() {
        let of_it = format!("allow[{at}].pattern is refused all the same");
        assert_eq!(warned.contains(&of_it), warns, "{at}: {warned}");
    }
}

#[test]
fn what_stands_for_an_allowed_address_is_allowed() {
    // IPv4-mapped: the one kind that this machine itself unwraps, so that it can be dialled here.
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.addresses(NAME, &["::ffff:127.0.0.1"]);
    let target = format!("{NAME}:{}", upstream.address().port());
    // The network is written in the other notation, and a source address has a use.
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"{NAME}\"\nports = [{}]\n{}[egress]\nallow_private = [\"::ffff:127.0.0.0/104\"]\n\
         source_address = [\"::ffff:127.0.0.9\"]",
        upstream.address().port(),
        dns.as_config()
    ));
    let mut client = proxy.tunnel(&target);
    client.expect_echo(b"mapped");
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.access_line("tunnel", &target)["upstream"], upstream.address().to_string());
}

#[test]
fn mapped_networks_are_the_networks_in_them() {
    let proxy = Proxy::start("[proxy]\nclients = [\"::ffff:127.0.0.0/104\"]\n");
    assert_eq!(proxy.ask("GET /proxy.pac HTTP/1.1\r\nHost: p\r\n\r\n").status, 200);

    let config = "[proxy]\nclients = [\"::ffff:10.20.0.0/112\", \"::ffff:10.30.0.7\"]\n";
    let shown = ccpgate(Some(config), &["config", "show"]).expect(0).stdout;
    assert!(shown.contains("[\"10.20.0.0/16\", \"10.30.0.7/32\"]"), "as it is compared: {shown}");
    let refused = ccpgate(Some("[egress]\nallow_private = [\"::ffff:10.0.0.0/8\"]"), &["config", "check"]);
    let told = refused.expect(2).stderr;
    assert!(told.contains("allow_private[0]") && told.contains("\"10.0.0.0/8\""), "{told}");
}

#[test]
fn no_local_address_of_a_listener_on_all_is_a_target() {
    let dns = Dns::start();
    let config = |ports: &[u16], more: &str| {
        format!(
            "[[allow]]\npattern = \"*.{NAME}\"\nports = {ports:?}\n[proxy]\nlisten = [\"0.0.0.0:0\"]\n{}{more}",
            dns.as_config()
        )
    };
    // As it comes, and with the address to dial from that hid the loop once.
    for source in ["", "source_address = [\"127.0.0.2\"]\n"] {
        let egress =
            format!("[egress]\nallow_private = [\"127.0.0.0/8\", \"0.0.0.0/8\", \"64:ff9b::/96\"]\n{source}");
        let proxy = Proxy::start(&config(&[443], &egress));
        let port = proxy.http().port();
        proxy.reload(&config(&[port], &egress), "ok");
        for (at, address) in
            ["127.0.0.1", "127.0.0.7", "127.0.0.2", "0.0.0.0", "::ffff:127.0.0.9", "64:ff9b::7f00:9"]
                .into_iter()
                .enumerate()
        {
            let host = format!("a{at}.{NAME}");
            dns.addresses(&host, &[address]);
            let (line, body) = expect_barred(&proxy, &format!("{host}:{port}"));
            assert!(body.contains("this proxy itself"), "{address}: {body}");
            assert!(line["detail"].as_str().unwrap().contains("this proxy itself"), "{line}");
            assert!(!body.contains("allow_private"), "no such advice: {body}");
        }
    }
}

#[test]
fn connect_to_does_not_lead_to_the_proxy_itself() {
    let config = |to: &str| {
        format!(
            "[[allow]]\npattern = \"{NAME}\"\n[proxy]\nlisten = [\"0.0.0.0:0\"]\n\
             [egress.connect_to]\n\"{NAME}:443\" = \"{to}\"\n"
        )
    };
    let proxy = Proxy::start(&config("127.0.0.1:1"));
    for to in [
        format!("127.0.0.7:{}", proxy.http().port()),
        format!("[::ffff:127.0.0.7]:{}", proxy.http().port()),
        proxy.admin().to_string(),
    ] {
        proxy.reload(&config(&to), "ok");
        let (_, body) = expect_barred(&proxy, &format!("{NAME}:443"));
        assert!(body.contains("egress.connect_to") && body.contains("this proxy itself"), "{to}: {body}");
    }
}

#[test]
fn a_port_of_the_proxy_elsewhere_is_an_ordinary_target() {
    // A server on another local address, on the port of a listener that has its own alone.
    let dns = Dns::start();
    let proxy = Proxy::start("");
    let port = proxy.http().port();
    let Ok(listener) = std::net::TcpListener::bind(("127.0.0.7", port)) else { return };
    dns.addresses(NAME, &["127.0.0.1", "127.0.0.7"]);
    proxy.reload(
        &format!(
            "[[allow]]\npattern = \"{NAME}\"\nports = [{port}]\n{}[egress]\nallow_private = [\"127.0.0.0/8\"]",
            dns.as_config()
        ),
        "ok",
    );
    // Of its addresses the proxy's own is left out.
    let _client = proxy.tunnel(&format!("{NAME}:{port}"));
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.1");
}
