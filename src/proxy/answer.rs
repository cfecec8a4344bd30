//! Writes the few answers of the proxy listeners over HTTP/1.1: the 200 of a tunnel, refusals,
//! the PAC file.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::conditions::Conditions;
use super::head::Request;
use super::refusal::Refusal;
use crate::journal::id::RequestId;
use crate::net::scratch;
use crate::pac::file::File;
use crate::tunnel::wire::Wire;

pub(crate) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// How long a client may take to take an answer.
pub(super) const TAKEN: Duration = Duration::from_secs(60);
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
    /// In parts, of which large ones are shared by all who are sent them.
    pub body: Vec<Bytes>,
}

impl<'a> Plain<'a> {
    pub(super) fn text(status: u16, reason: &'a str, body: String) -> Self {
        let fields = vec![
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        Self { status, reason, fields, body: vec![body.into()] }
    }

    /// A refusal as the contract words it. `name` is `proxy.name`, `target` in normal form.
    pub(crate) fn refusal(refusal: &Refusal, name: &str, target: Option<&str>, id: RequestId) -> Self {
        let (status, reason, _) = refusal.status();
        let mut answer = Plain::text(status, reason, refusal.body(target, id));
        answer.fields.push(("Proxy-Status", refusal.proxy_status(name)));
        answer
    }

    /// The PAC file, or that the client's copy is still good.
    pub(crate) fn pac(file: File<'_>, conditions: Option<&Conditions>) -> Self {
        let gzip = conditions.is_some_and(|conditions| conditions.gzip);
        let tag = file.tag(gzip);
        let known = conditions.is_some_and(|conditions| conditions.knows(&tag));
        let mut fields = vec![
            ("Cache-Control", "no-cache".to_owned()),
            ("ETag", tag),
            ("Vary", "Accept-Encoding".to_owned()),
        ];
        if known {
            return Self { status: 304, reason: "Not Modified", fields, body: Vec::new() };
        }
        fields.push(("Content-Type", PAC_TYPE.to_owned()));
        if gzip {
            fields.push(("Content-Encoding", "gzip".to_owned()));
        }
        Self { status: 200, reason: "OK", fields, body: file.parts(gzip) }
    }

    /// What `Content-Length` says; nothing of an answer without a body of its own (RFC 9110 section 8.6).
    pub(crate) fn length(&self) -> Option<usize> {
        (self.status != 304).then(|| self.body.iter().map(Bytes::len).sum())
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

    /// The head, and what of the body is small.
    fn encode(&self, head_only: bool, close: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, self.reason);
        for (name, value) in &self.fields {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        if let Some(length) = self.length() {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        text.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
        let mut bytes = text.into_bytes();
        if let [small] = &*self.body
            && !head_only
        {
            bytes.extend_from_slice(small);
        }
        bytes
    }

    /// Writes the answer, as long as the client takes it `within` this time.
    async fn write<C: Wire>(
        &self,
        client: &mut C,
        head_only: bool,
        close: bool,
        within: Duration,
    ) -> io::Result<()> {
        let writing = async {
            client.write_all(&self.encode(head_only, close)).await?;
            if self.body.len() > 1 && !head_only {
                for part in &self.body {
                    client.write_all(part).await?;
                }
            }
            client.flush().await
        };
        timeout(within, writing).await?
    }

    /// Sends the answer and leaves the connection open, or closes it where the request wants that.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) async fn send<C: Wire>(&self, client: &mut C, request: &Request) -> io::Result<()> {
        let close = request.close || request.body;
        self.write(client, &*request.method == "HEAD", close, TAKEN).await?;
        if close {
            part(client, DROPPED).await;
        }
        Ok(())
    }

    /// Sends the answer and closes (RFC 9931: nothing that follows a refused CONNECT may be parsed).
    pub(crate) async fn send_last<C: Wire>(&self, client: &mut C, head_only: bool) {
        if self.write(client, head_only, true, TAKEN).await.is_ok() {
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
    let _ = timeout(MOMENT, parting).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_no_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        // More than the kernel keeps.
        let answer = Plain::text(200, "OK", "x".repeat(64 << 20));
        let written = answer.write(&mut server, false, false, MOMENT).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
