//! Real browsers, Chromium and Firefox: Chromium fetches the PAC file, loads the Contact Control Panel's address and
//! talks over a WebSocket, both through tunnels; a host off the list goes past the proxy. The far
//! end is one local TLS server with a certificate that only this browser accepts.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;

use crate::support::{
    Authority, Browser, OFF_LIST, PAGE, PATIENCE, Proxy, Secured, Upstream, decode, handshakes, have, site,
};

const SOCKET: &str = "rtc1.connect-telecom.us-west-2.amazonaws.com";

/// What the browser runs: three messages there and back, a fetch past the proxy, a report.
const SCRIPT: &str = r#"<!doctype html><title>loading</title><link rel="icon" href="data:,"><script>
const got = [];
const report = text => fetch("/result?" + encodeURIComponent(text));
const socket = new WebSocket("wss://rtc1.connect-telecom.us-west-2.amazonaws.com/");
socket.onerror = () => report("the WebSocket failed");
socket.onopen = () => socket.send("message 0");
socket.onmessage = async event => {
  got.push(event.data);
  if (got.length < 3) return socket.send("message " + got.length);
  const past = await fetch("https://off-list.example/past").then(r => r.text(), e => String(e));
  report(got.join(", ") + " | " + past);
};
</script>"#;

#[test]
fn a_browser_reaches_the_ccp_through_the_pac_and_nothing_else_does() {
    reaches_the_ccp("/proxy.pac");
}

#[test]
fn a_query_that_gets_round_a_cache_is_the_same_pac_to_a_browser() {
    reaches_the_ccp("/proxy.pac?v=2");
}

fn reaches_the_ccp(pac: &str) {
    if !have("chromium") {
        return;
    }
    let (config, pin) = Authority::new().server(&[PAGE, SOCKET, OFF_LIST]);
    let (say, results) = channel();
    let site = page(config, SCRIPT, say);
    let proxy = Proxy::start(&format!(
        "[policy]\ntls = \"sni\"\n{}",
        site.for_targets(&[&format!("{PAGE}:443"), &format!("{SOCKET}:443")])
    ));
    let browser = Browser::start_with(pac, &proxy, &site, &[&pin]);
    let result = match results.recv_timeout(4 * PATIENCE) {
        Ok(result) => result,
        Err(_) => panic!("the browser reported nothing; its log:\n{}", browser.log()),
    };
    assert_eq!(result, "message 0, message 1, message 2 | reached without the proxy");

    // Each tunnel under its rule, and the off-list host under none.
    for (target, domain) in [(PAGE, PAGE), (SOCKET, "rtc*.connect-telecom.us-west-2.amazonaws.com")] {
        let metrics = proxy.metrics();
        let of = format!("domain=\"{domain}\"");
        let live: f64 = metrics
            .family("ccpgate_tunnels_active")
            .chain(metrics.family("ccpgate_tunnels_total"))
            .filter(|(series, _)| series.contains(&of))
            .map(|(_, value)| value)
            .sum();
        assert!(live >= 1.0, "no tunnel for {target} under {domain} in:\n{}", metrics.text);
    }
    drop(browser);
    for (target, domain) in [(PAGE, PAGE), (SOCKET, "rtc*.connect-telecom.us-west-2.amazonaws.com")] {
        let line = proxy.access_line("tunnel", &format!("{target}:443"));
        assert_eq!(line["domain"], domain, "{line}");
        assert!(line["received"].as_u64().unwrap() > 0, "{line}");
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("ccpgate_denied_total"), 0.0, "nothing off the list was asked of the proxy");
    let seen = proxy.log_so_far().iter().any(|line| line.to_string().contains(OFF_LIST));
    assert!(!seen, "{OFF_LIST} in the proxy's log");
}

/// How often the connection to the proxy is cut.
const CUTS: usize = 5;

/// Talks over a WebSocket, has the connection to the proxy cut, and talks again over a new one.
const RECONNECTING: &str = r#"<!doctype html><title>loading</title><link rel="icon" href="data:,"><script>
const report = text => fetch("/result?" + encodeURIComponent(text));
const talk = text => new Promise((heard, failed) => {
  const socket = new WebSocket("wss://rtc1.connect-telecom.us-west-2.amazonaws.com/");
  socket.onerror = failed;
  socket.onopen = () => socket.send(text);
  socket.onmessage = event => { socket.close(); heard(event.data); };
});
const pause = () => new Promise(over => setTimeout(over, 50));
(async () => {
  const got = [];
  for (let round = 0; round <= 5; round++) {
    while (got.length == round) await talk("talk " + round).then(text => got.push(text), pause);
    if (round < 5) await fetch("/cut").catch(pause);
  }
  report(got.join(", "));
})();
</script>"#;

#[test]
fn a_browser_speaks_http2_to_the_https_proxy_and_resumes_its_session() {
    if !have("chromium") {
        return;
    }
    let (config, pin) = Authority::new().server(&[PAGE, SOCKET]);
    let (say, results) = channel();
    let site = page(config, RECONNECTING, say);
    let secured = Secured::new();
    // Its PAC file names the way by which connections can be cut.
    let inner = Proxy::start(&format!(
        "[policy]\ntls = \"sni\"\n{}\n{}",
        secured.section(""),
        site.for_targets(&[&format!("{PAGE}:443"), &format!("{SOCKET}:443")])
    ));
    let way = Upstream::relay(inner.https());
    inner.reload(
        &format!(
            "[policy]\ntls = \"sni\"\n[proxy]\nadvertise = [\"https://127.0.0.1:{}\"]\n{}\n{}",
            way.address().port(),
            secured.section(""),
            site.for_targets(&[&format!("{PAGE}:443"), &format!("{SOCKET}:443")])
        ),
        "ok",
    );
    let browser = Browser::start(&inner, &site, &[&pin, &secured.pin()]);
    let mut cuts = Vec::new();
    let result = loop {
        match results.recv_timeout(4 * PATIENCE) {
            Ok(cut) if cut == "cut" => {
                cuts.push(handshakes(&inner.metrics()));
                way.cut();
            }
            Ok(result) => break result,
            Err(_) => panic!("the browser reported nothing; its log:\n{}", browser.log()),
        }
    };
    let talks: Vec<String> = (0..=CUTS).map(|round| format!("talk {round}")).collect();
    assert_eq!(result, talks.join(", "));
    // Chromium may ask again for what it was cut from, and is cut again.
    assert!(cuts.len() >= CUTS);
    // Chromium may open two connections at first, before it knows that the proxy speaks HTTP/2 and
    // has a session; from then on there is not one full handshake.
    let (first, _) = cuts[0];
    assert!((1.0..=2.0).contains(&first), "{cuts:?}");
    for (cut, (full, resumed)) in cuts.iter().chain([&handshakes(&inner.metrics())]).enumerate() {
        assert_eq!(*full, first, "a reconnection that did not resume: {cuts:?}");
        assert!(*resumed >= cut as f64, "{cuts:?}");
    }
    drop(browser);
    let lines = inner.log_so_far();
    let tunnels: Vec<_> = lines.iter().filter(|line| line["event"] == "tunnel").collect();
    assert!(tunnels.len() > CUTS, "{tunnels:?}");
    let clients: std::collections::BTreeSet<_> = tunnels.iter().map(|l| l["client"].to_string()).collect();
    // The page's tunnels and the WebSocket's share one connection, until it is cut.
    assert!(clients.len() <= cuts.len() + 1, "{clients:?}");
    assert!(tunnels.len() > clients.len(), "{tunnels:?}");
}

/// WebSockets to the page's own host, beside the idle tunnel that the page came through, and to another.
const SOCKETS: &str = r#"<!doctype html><title>loading</title><link rel="icon" href="data:,"><script>
const report = text => fetch("/result?" + encodeURIComponent(text));
const talk = (host, text) => new Promise(said => {
  const socket = new WebSocket("wss://" + host + "/");
  socket.onerror = () => said("failed");
  socket.onopen = () => socket.send(text);
  socket.onmessage = event => { socket.close(); said(event.data); };
});
(async () => {
  const got = [];
  for (let round = 0; round < 5; round++) {
    got.push(await talk("acme.my.connect.aws", "own " + round));
    got.push(await talk("rtc1.connect-telecom.us-west-2.amazonaws.com", "other " + round));
    await fetch("/again").then(answer => answer.text());
  }
  report(got.join(", "));
})();
</script>"#;

/// As it comes, and with HTTP/2 left out for everybody.
#[test]
fn firefox_opens_its_websockets_through_the_https_proxy() {
    if !have("firefox-esr") || !have("certutil") {
        return;
    }
    for tls in ["", "alpn = [\"http/1.1\"]\n"] {
        let secured = Secured::new();
        let (config, _) = secured.authority.server(&[PAGE, SOCKET]);
        let (say, results) = channel();
        let site = page(config, SOCKETS, say);
        let rest = format!(
            "{}\n{}",
            secured.section(tls),
            site.for_targets(&[&format!("{PAGE}:443"), &format!("{SOCKET}:443")])
        );
        // Firefox calls home at every start; what isn't the page's leads to a port where nobody is.
        let rest = format!("[pac]\notherwise = \"PROXY 127.0.0.1:1\"\n{rest}");
        let proxy = Proxy::start(&format!("[policy]\ntls = \"sni\"\n{rest}"));
        // Nothing but the HTTPS listener: Firefox would fall back to the plain one.
        let alone = format!("advertise = [\"https://127.0.0.1:{}\"]", proxy.https().port());
        proxy.reload(&format!("[policy]\ntls = \"sni\"\n[proxy]\n{alone}\n{rest}"), "ok");
        let firefox = Browser::firefox(&proxy, &secured.path("ca.pem"));
        let result = match results.recv_timeout(8 * PATIENCE) {
            Ok(result) => result,
            Err(_) => panic!("Firefox reported nothing; its log:\n{}", firefox.log()),
        };
        let talks: Vec<_> = (0..5).flat_map(|n| [format!("own {n}"), format!("other {n}")]).collect();
        assert_eq!(result, talks.join(", "));
        drop(firefox);
        let metrics = proxy.metrics();
        assert_eq!(metrics.sum("ccpgate_tls_handshake_failures_total"), 0.0, "{}", metrics.text);
    }
}

/// The page with this script, the off-list host and the place to report to; the test hears of cuts
/// and reports.
fn page(config: Arc<ServerConfig>, script: &'static str, say: Sender<String>) -> Upstream {
    let say = Mutex::new(say);
    // The test may have stopped listening.
    let tell = move |text: String| _ = say.lock().unwrap().send(text);
    site(config, move |head| match head.split(' ').nth(1).unwrap_or_default() {
        "/cut" => {
            // Answered by nobody: the test cuts the connection to the proxy.
            tell("cut".to_owned());
            None
        }
        "/ccp-v2" => Some(script),
        "/past" => Some("reached without the proxy"),
        path => match path.strip_prefix("/result?") {
            Some(text) => {
                tell(decode(text));
                Some("thank you")
            }
            None => Some(""),
        },
    })
}
