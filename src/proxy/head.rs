//! A request's head: read up to its empty line within a size and a time, parsed strictly by
//! httparse. What follows the head is handed on untouched.
//!
//! Why not hyper here: it answers a bad or late head by itself, without `Proxy-Status` or not at
//! all, eats tunnel bytes when a CONNECT announces a body, and keeps its buffers as long as the
//! tunnel lives. httparse is hyper's own parser; around it, only sizes, times and strictness are ours.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;

use super::conditions::Conditions;
use super::recognise::{Spoken, recognise};
use crate::desk;
use crate::net::entrance::Entrance;
use crate::net::scratch;

/// As many fields as hyper allows by default; a browser sends about ten with a CONNECT.
pub(super) const MAX_FIELDS: usize = 100;

/// What a request asks for. The fields of its header that matter are here, the rest is forgotten.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Box<str>,
    /// The request target as it came.
    pub target: Box<str>,
    /// The value of `Host`, to name the proxy in what it answers itself; none of a CONNECT.
    pub host: Option<Box<str>>,
    /// The values of `Via`: the proxies that a CONNECT came through.
    pub via: Option<Box<str>>,
    /// Conditions on the answer, in a box: only the request for a file has any.
    pub conditions: Option<Box<Conditions>>,
    /// The request announces a body; this proxy takes none.
    pub body: bool,
    /// The client wants the connection closed after the answer.
    pub close: bool,
    /// What a browser says with a request for the desk check; none with any other.
    pub browser: Option<Box<Browser>>,
}

/// The fields by which the desk check tells its own page from others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Browser {
    pub content_type: Option<Box<str>>,
    /// The site that makes the request.
    pub origin: Option<Box<str>>,
    /// How near it is, in the browser's word; only over TLS and to loopback.
    pub fetch_site: Option<Box<str>>,
    /// The announced length of the body, in bytes. None where nothing says where it ends.
    pub length: Option<usize>,
}

impl Browser {
    /// Reads them where the target may be of the desk check. `field` gives the first value of a field.
    pub(super) fn of<'a>(target: &str, field: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Box<Self>> {
        if !target.contains(desk::PAGE) {
            return None;
        }
        let text = |name| field(name).map(|value| String::from_utf8_lossy(value).into());
        let length = field("content-length").and_then(|value| std::str::from_utf8(value).ok());
        Some(Box::new(Self {
            content_type: text("content-type"),
            origin: text("origin"),
            fetch_site: text("sec-fetch-site"),
            // A number that no machine counts to is too large, not none.
            length: length.map(|digits| digits.parse().unwrap_or(usize::MAX)),
        }))
    }
}

/// What can be wrong with a head.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadError {
    Malformed(String),
    /// A PROXY protocol header stands before the request, in these words. Whose request it is the address
    /// that it comes from doesn't say.
    Introduced(&'static str),
    /// In bytes.
    TooLarge,
    /// More than `MAX_FIELDS`, however small they are.
    TooManyFields,
}

/// What a connection sent: a head, or nothing.
#[derive(Debug)]
pub enum Head {
    /// The request and the bytes that came behind it.
    Request(Request, Vec<u8>),
    Bad(HeadError),
    /// The end of the stream, before (false) or after (true) a first byte.
    Ended {
        began: bool,
    },
}

/// Collects a head. A connection keeps its reader over a deadline that passes, so that `began` can tell
/// whether a request had begun.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Vec<u8>,
}

impl Reader {
    /// Starts with bytes that came behind the previous request.
    pub fn with(rest: Vec<u8>) -> Self {
        Self { partial: rest }
    }

    /// Whether any byte of a request has come.
    pub fn began(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Reads until the head is whole or can't become one. Cancel-safe: what was read stays.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn read<R: AsyncRead + Unpin>(&mut self, from: &mut R, limit: usize) -> io::Result<Head> {
        if self.began()
            && let Some(head) = parse(&self.partial, limit)
        {
            self.partial = Vec::new();
            return Ok(head);
        }
        loop {
            if let Some(head) = poll_fn(|cx| self.poll_once(from, cx, limit)).await? {
                self.partial = Vec::new();
                return Ok(head);
            }
        }
    }

    /// Waits for the first byte of a request: true, or the end of the stream: false.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn begin<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<bool> {
        if self.began() {
            return Ok(true);
        }
        poll_fn(|cx| scratch::poll_read(from, cx, |bytes| self.partial.extend_from_slice(bytes))).await?;
        Ok(self.began())
    }

    fn poll_once<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<Option<Head>>> {
        let partial = &mut self.partial;
        scratch::poll_read(from, cx, |bytes| {
            if bytes.is_empty() {
                return Some(Head::Ended { began: !partial.is_empty() });
            }
            // Most heads come in one piece and are parsed where they were read.
            if partial.is_empty() {
                let head = parse(bytes, limit);
                if head.is_none() {
                    partial.extend_from_slice(bytes);
                }
                return head;
            }
            partial.extend_from_slice(bytes);
            // A head in single bytes is parsed at the ends of its lines only.
            if bytes.contains(&b'\n') || partial.len() > limit { parse(partial, limit) } else { None }
        })
    }
}

/// The head that `bytes` hold, or what is wrong with it; `None` while it may still become one.
pub fn parse(bytes: &[u8], limit: usize) -> Option<Head> {
    // Uninitialised: filling these three kilobytes for each request would be waste.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length > limit => Some(Head::Bad(HeadError::TooLarge)),
        Ok(httparse::Status::Complete(length)) => Some(match in_parts(&request, &bytes[..length]) {
            Ok(request) => Head::Request(request, bytes[length..].to_vec()),
            Err(what) => Head::Bad(HeadError::Malformed(what)),
        }),
        Ok(httparse::Status::Partial) if bytes.len() > limit => Some(Head::Bad(HeadError::TooLarge)),
        Ok(httparse::Status::Partial) => None,
        Err(httparse::Error::TooManyHeaders) => Some(Head::Bad(HeadError::TooManyFields)),
        Err(error) => Some(Head::Bad(unparsed(bytes, error))),
    }
}

fn in_parts(request: &httparse::Request<'_, '_>, head: &[u8]) -> Result<Request, String> {
    if memchr::memchr_iter(b'\n', head).any(|i| i == 0 || head[i - 1] != b'\r') {
        return Err("a line of the request ends in LF without CR".into());
    }
    let target = request.path.unwrap_or_default();
    let mut understood = Request {
        method: request.method.unwrap_or_default().into(),
        target: target.into(),
        host: None,
        via: None,
        conditions: None,
        body: false,
        close: request.version == Some(0),
        browser: None,
    };
    let mut lengths = 0;
    for field in request.headers.iter() {
        let name = field.name;
        if name.eq_ignore_ascii_case("content-length") {
            lengths += 1;
            // RFC 9110 §8.6 and RFC 9112 §6.3: one value, digits only.
            if lengths > 1 || field.value.is_empty() || !field.value.iter().all(u8::is_ascii_digit) {
                return Err("Content-Length is not a single number".into());
            }
            understood.body |= field.value.iter().any(|b| *b != b'0');
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            understood.body = true;
        } else if name.eq_ignore_ascii_case("via") {
            let value = String::from_utf8_lossy(field.value);
            let before = understood.via.take();
            understood.via = Some(before.map_or(value.as_ref().into(), |b| format!("{b}, {value}").into()));
        } else if name.eq_ignore_ascii_case("connection") {
            let close = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"close");
            understood.close |= field.value.split(|b| *b == b',').any(close);
        }
    }
    if lengths > 0 && request.headers.iter().any(|f| f.name.eq_ignore_ascii_case("transfer-encoding")) {
        return Err("Content-Length and Transfer-Encoding in one request".into());
    }
    if &*understood.method != "CONNECT" {
        let mut conditions = Conditions::default();
        let noted = request.headers.iter().filter(|field| conditions.note(field.name, field.value)).count();
        understood.conditions = (noted > 0).then(|| conditions.into());
        let mut hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
        let host = hosts.next_back().and_then(|field| std::str::from_utf8(field.value).ok());
        understood.host = host.map(Into::into);
        let field = |name: &str| request.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name));
        understood.browser = Browser::of(target, |name| field(name).map(|field| field.value));
    }
    Ok(understood)
}

fn unparsed(bytes: &[u8], error: httparse::Error) -> HeadError {
    match recognise(bytes) {
        Ok(Spoken::Http) | Err(_) => HeadError::Malformed(format!("the request can't be parsed: {error}")),
        Ok(spoken @ (Spoken::ProxyV1 | Spoken::ProxyV2)) => HeadError::Introduced(spoken.on(Entrance::Http)),
        Ok(spoken) => HeadError::Malformed(spoken.on(Entrance::Http).to_owned()),
    }
}

#[cfg(test)]
mod tests;
