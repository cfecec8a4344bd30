//! Parents in a circle: a request that comes back to the process that sent it is refused there, and
//! nothing else is, though proxies may well have one name.

use super::{TARGET, config, expect_failure, parent_that_says, url};
use crate::support::h2::connect_request;
use crate::support::{H2, Proxy, Secured, Upstream};

/// Proxies of which each has the next one for its parent, and the last one the first.
fn circle(of: usize, more: &str) -> Vec<Proxy> {
    let proxies: Vec<_> =
        (0..of).map(|_| Proxy::start(&format!("{}{more}", config("http://127.0.0.1:1", "")))).collect();
    for (at, proxy) in proxies.iter().enumerate() {
        let next = proxies[(at + 1) % of].http();
        proxy.reload(&format!("{}{more}", config(&format!("http://{next}"), "")), "ok");
    }
    proxies
}

#[test]
fn a_request_that_comes_round_is_refused_and_the_circle_named() {
    for of in [2, 3, 5] {
        let proxies = circle(of, "");
        let (answer, line) = expect_failure(&proxies[0], 502, "proxy_loop_detected");
        // Who asked first hears of it by way of the parents, and who closes the circle says it.
        for told in [answer.text().as_str(), line["detail"].as_str().unwrap()] {
            assert!(told.contains("leads in a circle"), "{of}: {told}");
        }
        let found = proxies[0].log_line("the circle", |line| {
            line["event"] == "tunnel"
                && line["detail"]
                    .as_str()
                    .is_some_and(|detail| detail.starts_with("egress.proxy leads in a circle"))
        });
        let (next, detail) = (proxies[1].http(), found["detail"].as_str().unwrap());
        assert!(detail.contains(&format!("this proxy, http://{next} (by way of ")), "{detail}");
        assert_eq!(detail.matches("\"ccpgate\"").count(), of - 1, "{detail}");
        // Each was gone through once.
        for (at, proxy) in proxies.iter().enumerate() {
            proxy.access_line("tunnel", TARGET);
            let tunnels = proxy.log_so_far().iter().filter(|line| line["event"] == "tunnel").count();
            assert_eq!(tunnels, if at == 0 { 2 } else { 1 }, "{at} of {of}");
        }
    }
}

/// What a proxy calls itself towards this parent.
fn via(asked: &std::sync::Mutex<Vec<String>>) -> String {
    let heads = asked.lock().unwrap();
    let head = heads.last().unwrap();
    let field = head.lines().find_map(|line| line.strip_prefix("Via: ")).unwrap_or_else(|| panic!("{head}"));
    field.to_owned()
}

#[test]
fn over_either_protocol_and_by_whatever_field_it_comes_round() {
    let (parent, asked) = parent_that_says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let secured = Secured::new();
    let branch = Proxy::start(&format!(
        "{}{}[proxy]\nname = \"Branch, north\"\n",
        config(&url(&parent), ""),
        secured.section("")
    ));
    let ask = |fields: &str| {
        let request = format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n{fields}\r\n");
        branch.ask(request).proxy_status("error").map(str::to_owned)
    };
    assert_eq!(ask("").as_deref(), Some("connection_refused"));
    let ours = via(&asked);
    assert!(
        ours.starts_with("1.1 Branch--north-") && ours.len() == "1.1 Branch--north-".len() + 16,
        "{ours}"
    );

    let round = Some("proxy_loop_detected");
    assert_eq!(ask(&format!("Via: {ours}\r\n")).as_deref(), round);
    assert_eq!(ask(&format!("vIa: 1.0 fred (a, comment), {ours}, 1.1 squid\r\n")).as_deref(), round);
    assert_eq!(ask(&format!("Via: 1.0 fred\r\nVia: {ours}\r\nVia: 1.1 squid\r\n")).as_deref(), round);
    assert_eq!(asked.lock().unwrap().len(), 1, "no further word to the parent");

    // What others have written goes on, and one of our name with another number is another.
    let twin = format!("{}0123456789abcdef", &ours[..ours.len() - 16]);
    assert_eq!(ask(&format!("Via: 1.0 fred\r\nVia: {twin}\r\n")).as_deref(), Some("connection_refused"));
    assert_eq!(via(&asked), format!("1.0 fred, {twin}, {ours}"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut agent = H2::connect(&branch, &secured.agent()).await;
        for (field, error) in [(&ours, "proxy_loop_detected"), (&twin, "connection_refused")] {
            let mut request = connect_request(TARGET);
            request.headers_mut().append("via", "1.0 fred".parse().unwrap());
            request.headers_mut().append("via", field.parse().unwrap());
            let (parts, _) = agent.ask(request, false).await.unwrap();
            assert_eq!(parts.status, 502);
            let status = parts.headers["proxy-status"].to_str().unwrap();
            assert!(status.contains(&format!("error={error};")), "{status}");
        }
    });
}

/// Three of one name and one configuration but for the parent: an ordinary chain.
#[test]
fn a_chain_of_one_name_is_no_circle() {
    let upstream = Upstream::echo();
    let office = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[egress]\n{}",
        upstream.for_targets(&[TARGET])
    ));
    let region = Proxy::start(&config(&format!("http://{}", office.http()), ""));
    let branch = Proxy::start(&config(&format!("http://{}", region.http()), ""));
    branch.tunnel(TARGET).expect_echo(b"through all three");
    // A request that was here before and is now dialled from here goes in no circle.
    let (parent, asked) = parent_that_says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let dialled = format!("{}{}", config(&url(&parent), ""), upstream.for_targets(&["a.good.example:443"]));
    let proxy = Proxy::start(&dialled);
    proxy.connect().connect_target(TARGET);
    let ours = via(&asked);
    let mut client = proxy.connect();
    client.send(format!("CONNECT a.good.example:443 HTTP/1.1\r\nVia: {ours}\r\n\r\n"));
    assert_eq!(client.read_answer_to_connect().status, 200);
}
