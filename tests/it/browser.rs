//! Real browsers, Chromium and Firefox: Chromium fetches the PAC file, loads the Contact Control Panel's address and
//! talks over a WebSocket, both through tunnels; a host off the list goes past the proxy. The far
//! end is one local TLS server with a certificate that only this browser accepts.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process_group};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite;

use crate::https::handshakes;
use crate::support::{Authority, PATIENCE, Proxy, Secured, Upstream, accept, have};

pub const PAGE: &str = "acme.my.connect.aws";
const SOCKET: &str = "rtc1.connect-telecom.us-west-2.amazonaws.com";
const OFF_LIST: &str = "off-list.example";

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
    let site = site(config, SCRIPT, say);
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
    let site = site(config, RECONNECTING, say);
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
        let site = site(config, SOCKETS, say);
        let rest = format!(
            "{}\n{}",
            secured.section(tls),
            site.for_targets(&[&format!("{PAGE}:443"), &format!("{SOCKET}:443")])
        );
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

/// The page, the WebSocket, the off-list host and the place to report to, told apart by the request.
fn site(config: Arc<ServerConfig>, script: &'static str, say: Sender<String>) -> Upstream {
    let say = Mutex::new(say);
    Upstream::serve(move |stream| {
        let Some(mut tls) = accept(&config, stream) else { return };
        // Ends at the browser's leave, clean or not.
        while let Some(head) = read_head(&mut tls) {
            if head.to_ascii_lowercase().contains("upgrade: websocket") {
                let Ok(mut socket) = tungstenite::accept(Replay { head: head.into_bytes(), rest: tls })
                else {
                    return;
                };
                while let Ok(message) = socket.read() {
                    if message.is_text() && socket.send(message).is_err() {
                        return;
                    }
                }
                return;
            }
            let path = head.split(' ').nth(1).unwrap_or_default();
            if path == "/cut" {
                // Answered by nobody: the test cuts the connection to the proxy.
                let _ = say.lock().unwrap().send("cut".to_owned());
                continue;
            }
            let body = if let Some(text) = path.strip_prefix("/result?") {
                // The test may have stopped listening.
                let _ = say.lock().unwrap().send(decode(text));
                "thank you"
            } else {
                match path {
                    "/ccp-v2" => script,
                    "/past" => "reached without the proxy",
                    _ => "",
                }
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if tls.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A request's head; its end is awaited byte by byte, so that nothing behind it is taken.
pub fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// A stream whose first bytes were read already.
pub struct Replay<S> {
    pub head: Vec<u8>,
    pub rest: S,
}

impl<S: Read> Read for Replay<S> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.head.is_empty() {
            return self.rest.read(into);
        }
        let count = into.len().min(self.head.len());
        into[..count].copy_from_slice(&self.head[..count]);
        self.head.drain(..count);
        Ok(count)
    }
}

impl<S: Write> Write for Replay<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.rest.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.rest.flush()
    }
}

/// Percent-decoding of what the script reports.
fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [a, b, after @ ..]) => {
                let digits = String::from_utf8_lossy(&[*a, *b]).into_owned();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Chromium or Firefox with a new profile, killed with all its processes at the end.
pub struct Browser {
    child: Child,
    profile: TempDir,
}

impl Browser {
    /// How many tunnels it has to one proxy port at once, of pages and again of WebSockets: the
    /// limit of Chrome as it comes, for years.
    pub const TUNNELS_PER_PROXY: usize = 32;

    pub fn start(proxy: &Proxy, site: &Upstream, pins: &[&[u8]]) -> Self {
        Self::start_with("/proxy.pac", proxy, site, pins)
    }

    /// The same with the PAC file under this path.
    fn start_with(pac: &str, proxy: &Proxy, site: &Upstream, pins: &[&[u8]]) -> Self {
        let pins: Vec<String> = pins.iter().map(|pin| base64(pin)).collect();
        let profile = tempfile::tempdir().unwrap();
        // The limit of tunnels to one proxy, as the policies MaxConnectionsPerProxy and
        // MaxConnectionsPerProxyForWebSocket set it: newer versions hold 128.
        let limits = format!(
            r#"{{"net":{{"max_connections_per_proxy":{0},"max_connections_per_proxy_for_websocket":{0}}}}}"#,
            Self::TUNNELS_PER_PROXY
        );
        std::fs::write(profile.path().join("Local State"), limits).unwrap();
        let log = std::fs::File::create(profile.path().join("stderr")).unwrap();
        let child = Command::new("chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--no-default-browser-check",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-domain-reliability",
                "--disable-sync",
                "--disable-extensions",
                "--no-pings",
                // The fetch past the proxy goes to loopback, which a page from elsewhere may not
                // reach without a prompt that nobody would answer here. The limit of tunnels per
                // proxy is one number, not one that is drawn.
                "--disable-features=LocalNetworkAccessChecks,OptimizationHints,MediaRouter,TcpSocketPoolLimitRandomization",
            ])
            .arg(format!("--proxy-pac-url=http://{}{pac}", proxy.http()))
            // Only the off-list host has an address; names behind the proxy aren't resolved here.
            .arg(format!(
                "--host-resolver-rules=MAP {OFF_LIST} {}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                site.address()
            ))
            .arg(format!("--ignore-certificate-errors-spki-list={}", pins.join(",")))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("https://{PAGE}/ccp-v2"))
            .env("HOME", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, profile }
    }

    /// Firefox, whose profile trusts this CA alone beside its own.
    fn firefox(proxy: &Proxy, ca: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let database = format!("sql:{}", profile.path().display());
        for arguments in
            [&["-N", "--empty-password"][..], &["-A", "-n", "test", "-t", "C,,", "-i", ca.to_str().unwrap()]]
        {
            let ran = Command::new("certutil").arg("-d").arg(&database).args(arguments).output().unwrap();
            assert!(ran.status.success(), "certutil: {}", String::from_utf8_lossy(&ran.stderr));
        }
        let mut preferences = format!(
            "user_pref(\"network.proxy.type\", 2);\n\
             user_pref(\"network.proxy.autoconfig_url\", \"http://{}/proxy.pac\");\n\
             user_pref(\"services.settings.server\", \"data:,\");\n",
            proxy.http()
        );
        // It would call home; nothing here may leave the machine.
        for quiet in [
            "app.update.enabled",
            "browser.safebrowsing.malware.enabled",
            "browser.safebrowsing.phishing.enabled",
            "browser.shell.checkDefaultBrowser",
            "datareporting.policy.dataSubmissionEnabled",
            "dom.push.enabled",
            "extensions.update.enabled",
            "network.captive-portal-service.enabled",
            "network.connectivity-service.enabled",
            "toolkit.telemetry.enabled",
        ] {
            preferences.push_str(&format!("user_pref(\"{quiet}\", false);\n"));
        }
        std::fs::write(profile.path().join("user.js"), preferences).unwrap();
        let log = std::fs::File::create(profile.path().join("stderr")).unwrap();
        let child = Command::new("firefox-esr")
            .args(["--headless", "--no-remote", "--profile"])
            .arg(profile.path())
            .arg(format!("https://{PAGE}/ccp-v2"))
            .env("HOME", profile.path())
            .env("MOZ_CRASHREPORTER_DISABLE", "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, profile }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let at = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[at]) } else { '=' });
        }
    }
    text
}
