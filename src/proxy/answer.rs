//! Writes the few answers of the proxy listeners over HTTP/1.1: the 200 of a tunnel, refusals,
//! the PAC file.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::head::Request;
use super::refusal::Refusal;
use crate::journal::id::RequestId;
use crate::net::scratch;
use crate::tunnel::wire::Wire;

pub(crate) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// How long [`part`] reads on.
const MOMENT: Duration = Duration::from_millis(500);
/// How many bytes of a refused client it drops.
const DROPPED: usize = 1 << 20;

pub(crate) const PAC_TYPE: &str = "application/x-ns-proxy-autoconfig";

/// An answer that is not a tunnel.
pub(crate) struct Plain<'a> {
    pub status: u16,
    pub reason: &'a str,
    pub fields: Vec<(&'a str, String)>,
    pub body: String,
}

impl<'a> Plain<'a> {
    pub(super) fn text(status: u16, reason: &'a str, body: String) -> Self {
        let fields = vec![
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        Self { status, reason, fields, body }
    }

    /// A refusal as the contract words it. `name` is `proxy.name`, `target` in normal form.
    pub(crate) fn refusal(refusal: &Refusal, name: &str, target: Option<&str>, id: RequestId) -> Self {
        let (status, reason, _) = refusal.status();
        let mut answer = Plain::text(status, reason, refusal.body(target, id));
        answer.fields.push(("Proxy-Status", refusal.proxy_status(name)));
        answer
    }

    pub(crate) fn pac(text: String) -> Self {
        let fields = vec![("Content-Type", PAC_TYPE.to_owned()), ("Cache-Control", "no-cache".to_owned())];
        Self { status: 200, reason: "OK", fields, body: text }
    }

    /// The answer of a probe.
    pub(crate) fn readiness(ready: bool, said: &str) -> Self {
        let (status, reason) = if ready { (200, "OK") } else { (503, "Service Unavailable") };
        Plain::text(status, reason, said.into())
    }

    pub(crate) fn not_found() -> Self {
        let body = "ccpgate: only /proxy.pac, /wpad.dat, /check and /readyz are here; the metrics are on the admin listener\n";
        Plain::text(404, "Not Found", body.into())
    }

    /// To another method than these.
    pub(crate) fn not_allowed(methods: &str) -> Self {
        let body = format!("ccpgate: allowed here: {methods}\n");
        let mut answer = Plain::text(405, "Method Not Allowed", body);
        answer.fields.push(("Allow", methods.into()));
        answer
    }

    /// To `OPTIONS *`, which asks what there is on this server at all (RFC 9110 section 9.3.7): that
    /// method is not.
    pub(crate) fn options() -> Self {
        let body = "ccpgate: OPTIONS is not served; there is CONNECT to allowed hosts, and GET and HEAD of /proxy.pac, \
                    /wpad.dat, /check and /readyz, which is for health checks\n";
        let mut answer = Plain::text(405, "Method Not Allowed", body.into());
        answer.fields.push(("Allow", "CONNECT, GET, HEAD".into()));
        answer
    }

    fn encode(&self, head_only: bool, close: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, self.reason);
        for (name, value) in &self.fields {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        text.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
        if !head_only {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }

    /// Sends the answer and leaves the connection open, or closes it where the request wants that.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) async fn send<C: Wire>(&self, client: &mut C, request: &Request) -> io::Result<()> {
        let close = request.close || request.body;
        client.write_all(&self.encode(&*request.method == "HEAD", close)).await?;
        client.flush().await?;
        if close {
            part(client, DROPPED).await;
        }
        Ok(())
    }

    /// Sends the answer and closes (RFC 9931: nothing that follows a refused CONNECT may be parsed).
    pub(crate) async fn send_last<C: Wire>(&self, client: &mut C, head_only: bool) {
        if client.write_all(&self.encode(head_only, true)).await.is_ok() && client.flush().await.is_ok() {
            part(client, DROPPED).await;
        }
    }
}

/// Closes in order: sends the end, and reads and drops for a moment what the client still sends, at most so
/// many bytes. A close on unread bytes would reset the connection and take with it what was sent last.
pub(super) async fn part<C: Wire>(client: &mut C, most: usize) {
    let parting = async {
        let _ = client.shutdown().await;
        scratch::discard(client, most).await;
    };
    let _ = tokio::time::timeout(MOMENT, parting).await;
}
