//! A table of odd requests with the right outcome of each, on the plain listener and over TLS alike: a
//! tunnel, a refusal with these statuses and reasons that is counted once, or a closed connection;
//! whatever else, nothing but a tunnel may reach the upstream.

use std::collections::BTreeMap;

use super::{Agent, Proxy, Raw, Secured, Upstream};

const POLICY: &str = r#"
[[allow]]
pattern = "good.example"
[[allow]]
pattern = "*.wild.example"
[[allow]]
pattern = "rtc*.part.example"
[policy]
tls = "off"
[dns]
servers = ["127.0.0.1:1"]
[limits]
header_timeout = "1s"
"#;

pub(crate) enum Right {
    /// 200, and bytes go through.
    Tunnel,
    /// One of these statuses and reasons.
    Refused(&'static [u16], &'static [&'static str]),
    /// Either is fine, as long as it is nothing else.
    TunnelOrRefused(&'static [u16], &'static [&'static str]),
    /// Any refusal, or a close without one.
    NoTunnel,
}
use Right::{NoTunnel, Refused, Tunnel, TunnelOrRefused};

pub(crate) const MALFORMED: Right = Refused(&[400], &["malformed"]);
pub(crate) const LITERAL: Right = Refused(&[403], &["ip_literal"]);

/// Judges rows and collects those that went wrong.
pub(crate) struct Table {
    upstream: Upstream,
    _secured: Secured,
    agent: Agent,
    pub proxy: Proxy,
    /// How many refusals there were, by their reasons.
    refused: BTreeMap<String, f64>,
    failures: Vec<String>,
}

impl Table {
    pub(crate) fn new() -> Self {
        let (upstream, secured) = (Upstream::echo(), Secured::new());
        let targets = upstream.for_targets(&["good.example:443"]);
        let proxy = Proxy::start(&format!("{POLICY}{}{targets}", secured.section("")));
        let agent = secured.agent();
        Self { upstream, _secured: secured, agent, proxy, refused: BTreeMap::new(), failures: Vec::new() }
    }

    /// A target in an otherwise ordinary CONNECT.
    pub(crate) fn target(&mut self, case: u32, target: impl AsRef<[u8]>, right: &Right) {
        let mut request = b"CONNECT ".to_vec();
        request.extend(target.as_ref());
        request.extend(b" HTTP/1.1\r\nHost: good.example:443\r\n\r\n");
        self.request(case, request, right);
    }

    pub(crate) fn request(&mut self, case: u32, request: impl AsRef<[u8]>, right: &Right) {
        let request = request.as_ref();
        for listener in ["plain", "TLS"] {
            let client = match listener {
                "plain" => self.proxy.connect(),
                _ => self.agent.connect(&self.proxy),
            };
            let before = self.upstream.accepted();
            if let Err(problem) = self.judge(client, request, right) {
                let shown: String = String::from_utf8_lossy(request).escape_debug().take(160).collect();
                self.failures.push(format!("case {case}, {listener}: {shown}\n    {problem}"));
            }
            if !matches!(right, Tunnel | TunnelOrRefused(..)) && self.upstream.accepted() != before {
                self.failures.push(format!("case {case}, {listener}: the upstream was dialled"));
            }
        }
    }

    fn judge(&mut self, mut client: Raw, request: &[u8], right: &Right) -> Result<(), String> {
        client.send(request);
        if matches!(right, NoTunnel) {
            // Ends what waits for more.
            client.finish();
            let got = client.read_to_end().unwrap_or_default();
            let tunnel = got.starts_with(b"HTTP/1.1 2") || got.starts_with(b"HTTP/1.0 2");
            return if tunnel { Err("got a tunnel".into()) } else { Ok(()) };
        }
        let answer = client.read_answer_to_connect();
        let (statuses, reasons) = match right {
            Tunnel | TunnelOrRefused(..) if answer.status == 200 => {
                client.expect_echo(b"through");
                return Ok(());
            }
            Tunnel | NoTunnel => return Err(format!("got {}", answer.head)),
            Refused(statuses, reasons) | TunnelOrRefused(statuses, reasons) => (statuses, reasons),
        };
        if !statuses.contains(&answer.status) {
            return Err(format!("expected {statuses:?}, got {}", answer.head));
        }
        // A 404 or 405 needs no Proxy-Status.
        if !matches!(answer.status, 404 | 405) {
            let reason = answer.proxy_status("details").unwrap_or("none");
            if !reasons.contains(&reason) {
                return Err(format!("expected {reasons:?}, got {}", answer.head));
            }
            // A look-up that fails is the outcome of a tunnel, not a denial.
            if reason != "dns" {
                *self.refused.entry(reason.to_owned()).or_default() += 1.0;
            }
            if answer.field("connection") != Some("close") {
                return Err(format!("not closed: {}", answer.head));
            }
            client.expect_closed();
        }
        Ok(())
    }

    #[track_caller]
    pub(crate) fn finish(self) {
        let Self { failures, .. } = &self;
        assert!(failures.is_empty(), "{} rows:\n{}", failures.len(), failures.join("\n"));
        for (reason, count) in &self.refused {
            self.proxy.metric_eventually(&format!("ccpgate_denied_total{{reason=\"{reason}\"}}"), *count);
        }
        // The proxy is as well as before.
        self.proxy.tunnel("good.example:443").expect_echo(b"still there");
    }
}
