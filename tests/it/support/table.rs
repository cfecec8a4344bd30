//! A table of odd requests with the right outcome of each: a tunnel, a refusal with these statuses
//! and reasons, or a closed connection; whatever else, nothing but a tunnel may reach the upstream.

use super::{Proxy, Upstream};

const POLICY: &str = r#"
[[allow]]
pattern = "good.example"
[[allow]]
pattern = "*.wild.example"
[[allow]]
pattern = "rtc*.part.example"
[policy]
tls = "off"
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
    pub proxy: Proxy,
    failures: Vec<String>,
}

impl Table {
    pub(crate) fn new() -> Self {
        let upstream = Upstream::echo();
        let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&["good.example:443"])));
        Self { upstream, proxy, failures: Vec::new() }
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
        let before = self.upstream.accepted();
        if let Err(problem) = self.judge(request, right) {
            let shown: String = String::from_utf8_lossy(request).escape_debug().take(160).collect();
            self.failures.push(format!("case {case}: {shown}\n    {problem}"));
        }
        if !matches!(right, Tunnel | TunnelOrRefused(..)) && self.upstream.accepted() != before {
            self.failures.push(format!("case {case}: the upstream was dialled"));
        }
    }

    fn judge(&self, request: &[u8], right: &Right) -> Result<(), String> {
        let mut client = self.proxy.connect();
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
        // The proxy is as well as before.
        self.proxy.tunnel("good.example:443").expect_echo(b"still there");
    }
}
