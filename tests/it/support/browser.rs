//! Real browsers, Chromium and Firefox, and the far end of the pages that they load: one local TLS
//! server with a certificate that only this browser accepts.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use data_encoding::BASE64;
use rustls::ServerConfig;
use tokio_tungstenite::tungstenite;

use super::browser_process::{BrowserProcess, QUIET};
use super::{Proxy, Upstream, accept};

/// The page that a browser opens: `/ccp-v2` there.
pub(crate) const PAGE: &str = "acme.my.connect.aws";
/// The one host beside those behind the proxy that has an address, and is reached past it.
pub(crate) const OFF_LIST: &str = "off-list.example";

fn page() -> String {
    format!("https://{PAGE}/ccp-v2")
}

/// Percent-decoding of what a script reports.
pub(crate) fn decode(text: &str) -> String {
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
pub(crate) struct Browser(BrowserProcess);

impl Browser {
    /// How many tunnels it has to one proxy port at once, of pages and again of WebSockets: the
    /// limit of Chrome as it comes, for years.
    pub(crate) const TUNNELS_PER_PROXY: usize = 32;

    pub(crate) fn start(proxy: &Proxy, site: &Upstream, pins: &[&[u8]]) -> Self {
        Self::start_with("/proxy.pac", proxy, site, pins)
    }

    /// The same with the PAC file under this path.
    pub(crate) fn start_with(pac: &str, proxy: &Proxy, site: &Upstream, pins: &[&[u8]]) -> Self {
        let pins: Vec<String> = pins.iter().map(|pin| BASE64.encode(pin)).collect();
        let arguments = [
            format!("--proxy-pac-url=http://{}{pac}", proxy.http()),
            // Only the off-list host has an address; names behind the proxy aren't resolved here.
            format!(
                "--host-resolver-rules=MAP {OFF_LIST} {}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                site.address()
            ),
            format!("--ignore-certificate-errors-spki-list={}", pins.join(",")),
        ];
        Self::chromium(&page(), &arguments, "{}")
    }

    /// Chromium with these arguments and preferences besides what keeps it quiet.
    pub(crate) fn chromium(url: &str, arguments: &[String], preferences: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The limit of tunnels to one proxy, as the policies MaxConnectionsPerProxy and
        // MaxConnectionsPerProxyForWebSocket set it: newer versions hold 128.
        let limits = format!(
            r#"{{"net":{{"max_connections_per_proxy":{0},"max_connections_per_proxy_for_websocket":{0}}}}}"#,
            Self::TUNNELS_PER_PROXY
        );
        std::fs::write(profile.path().join("Local State"), limits).unwrap();
        std::fs::create_dir(profile.path().join("Default")).unwrap();
        std::fs::write(profile.path().join("Default/Preferences"), preferences).unwrap();
        let mut chromium = Command::new("chromium");
        chromium
            .args(QUIET)
            .args([
                "--disable-quic",
                // The fetch past the proxy goes to loopback, which a page from elsewhere may not
                // reach without a prompt that nobody would answer here. The limit of tunnels per
                // proxy is one number, not one that is drawn.
                "--disable-features=LocalNetworkAccessChecks,OptimizationHints,MediaRouter,TcpSocketPoolLimitRandomization",
            ])
            .args(arguments)
            .arg(format!("--user-data-dir={}", profile.path().display()));
        Self(BrowserProcess::start(chromium, profile, url))
    }

    /// Firefox, whose profile trusts this CA alone beside its own.
    pub(crate) fn firefox(proxy: &Proxy, ca: &Path) -> Self {
        let proxies = format!(
            "user_pref(\"network.proxy.type\", 2);\n\
             user_pref(\"network.proxy.autoconfig_url\", \"http://{}/proxy.pac\");\n",
            proxy.http()
        );
        Self::firefox_at(&page(), &proxies, ca)
    }

    /// The same with these preferences, at this page.
    pub(crate) fn firefox_at(url: &str, preferences: &str, ca: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let database = format!("sql:{}", profile.path().display());
        for arguments in
            [&["-N", "--empty-password"][..], &["-A", "-n", "test", "-t", "C,,", "-i", ca.to_str().unwrap()]]
        {
            let ran = Command::new("certutil").arg("-d").arg(&database).args(arguments).output().unwrap();
            assert!(ran.status.success(), "certutil: {}", String::from_utf8_lossy(&ran.stderr));
        }
        let mut preferences = format!("{preferences}user_pref(\"services.settings.server\", \"data:,\");\n");
        // It would call home; nothing here may leave the machine, past the proxy or without one.
        for quiet in [
            "network.proxy.allow_bypass",
            "network.proxy.failover_direct",
            "app.update.enabled",
            "browser.safebrowsing.malware.enabled",
            "browser.safebrowsing.phishing.enabled",
            "browser.shell.checkDefaultBrowser",
            "datareporting.policy.dataSubmissionEnabled",
            "dom.push.enabled",
            "extensions.update.enabled",
            "network.captive-portal-service.enabled",
            "network.connectivity-service.enabled",
            "network.dns.native_https_query",
            "toolkit.telemetry.enabled",
        ] {
            preferences.push_str(&format!("user_pref(\"{quiet}\", false);\n"));
        }
        std::fs::write(profile.path().join("user.js"), preferences).unwrap();
        let mut firefox = Command::new("firefox-esr");
        firefox
            .args(["--headless", "--no-remote", "--profile"])
            .arg(profile.path())
            .env("MOZ_CRASHREPORTER_DISABLE", "1");
        Self(BrowserProcess::start(firefox, profile, url))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.0.profile.path().join("stderr")).unwrap_or_default()
    }
}

/// The far end of pages, over TLS: WebSockets get their messages back, and a request gets what
/// `answer` makes of its head. One that it has nothing for hangs.
pub(crate) fn site<B: AsRef<str>>(
    config: Arc<ServerConfig>,
    answer: impl Fn(&str) -> Option<B> + Send + Sync + 'static,
) -> Upstream {
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
            let Some(body) = answer(&head) else { continue };
            let (body, fields) = (body.as_ref(), "Content-Type: text/html\r\nAccess-Control-Allow-Origin: *");
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}");
            if tls.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A request's head; its end is awaited byte by byte, so that nothing behind it is taken.
pub(crate) fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// A stream whose first bytes were read already.
struct Replay<S> {
    head: Vec<u8>,
    rest: S,
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
