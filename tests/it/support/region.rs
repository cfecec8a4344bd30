//! A Connect region on loopback: one server with a certificate for every name of it, and the
//! configuration that leads there; or any other server under the name of one site.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::NamedTempFile;

use super::command::Ran;
use super::{Authority, Upstream, accept, ccpgate_with};

/// The server's side of a TLS session.
pub(crate) type Served = StreamOwned<ServerConnection, TcpStream>;

/// Names that cover every concrete host of us-west-2 for the instance acme, and one site of a test's own.
const NAMES: &[&str] = &[
    "site.example",
    "*.my.connect.aws",
    "*.awsapps.com",
    "*.s3.dualstack.us-east-1.amazonaws.com",
    "signin.aws.amazon.com",
    "*.signin.aws.amazon.com",
    "*.console.aws.amazon.com",
    "*.cloudfront.net",
    "tools.connect.aws",
    "*.connect.us-west-2.amazonaws.com",
    "*.transport.connect.us-west-2.amazonaws.com",
];

/// A region, or a site, with what is in front of it.
pub(crate) struct Region {
    upstream: Upstream,
    authority: Authority,
    ca: NamedTempFile,
}

impl Region {
    /// Answers every request as AWS does without a login.
    pub(crate) fn healthy() -> Self {
        Self::answering(|| format!("HTTP/1.1 403 Forbidden\r\nDate: {}\r\nContent-Length: 0\r\n\r\n", now()))
    }

    /// Gives this answer to every request, inside TLS.
    pub(crate) fn answering(answer: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::serving(move |mut tls| {
            while read_request(&mut tls).is_some() {
                if tls.write_all(answer().as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// Runs this inside TLS.
    pub(crate) fn serving(serve: impl Fn(Served) + Send + Sync + 'static) -> Self {
        let authority = Authority::new();
        let (config, _) = authority.server(NAMES);
        Self::with(authority, config, serve)
    }

    /// The same with a certificate of the test's own.
    pub(crate) fn with(
        authority: Authority,
        config: Arc<ServerConfig>,
        serve: impl Fn(Served) + Send + Sync + 'static,
    ) -> Self {
        let upstream = Upstream::serve(move |stream| {
            if let Some(tls) = accept(&config, stream) {
                serve(tls);
            }
        });
        let mut ca = NamedTempFile::new().unwrap();
        ca.write_all(authority.pem().as_bytes()).unwrap();
        Self { upstream, authority, ca }
    }

    pub(crate) fn ca(&self) -> &str {
        self.ca.path().to_str().unwrap()
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// us-west-2 and acme, all of it here, and one site; no name is asked for anywhere.
    pub(crate) fn config(&self) -> String {
        let names =
            ["*.my.connect.aws", "*.awsapps.com", "*.amazonaws.com", "*.amazon.com", "*.cloudfront.net"];
        let names = names.iter().chain(&["tools.connect.aws", "site.example"]);
        let targets: Vec<String> = names.map(|name| format!("{name}:443")).collect();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        format!(
            "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n\
             [[allow]]\npattern = \"site.example\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n{}",
            self.upstream.for_targets(&targets)
        )
    }

    /// Runs `ccpgate check` with this configuration, trusting the authority as public.
    #[track_caller]
    pub(crate) fn check(&self, arguments: &[&str]) -> Ran {
        self.check_with(&[&["--ca", self.ca()], arguments].concat(), &[])
    }

    /// The same with these arguments alone, and variables.
    #[track_caller]
    pub(crate) fn check_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        ccpgate_with(Some(&self.config()), &[&["check"], arguments].concat(), environment)
    }
}

/// A request's head; none where the client has left.
pub(crate) fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1..) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

/// The time, as `Date` has it.
pub(crate) fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap()
}
