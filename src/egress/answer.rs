//! Reads what a parent proxy answers to a CONNECT, bounded in size and to the byte: what follows a 200
//! belongs to the tunnel and stays in the stream. Of a refusal it keeps the words.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use http::StatusCode;
use httparse::{ParserConfig, Response, Status};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::failure::{Failure, Told};
use crate::tunnel::wire::tls::TlsWire;

/// Longest head, with the interim answers before it.
const HEAD: usize = 16 * 1024;
const FIELDS: usize = 100;
/// How much of a refusal's body is read, and for how long: enough for a sentence.
pub(crate) const REFUSAL: usize = 8 * 1024;
pub(crate) const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Longest text of a parent proxy that is passed on, in characters.
const WORDS: usize = 300;
/// Most bytes that one look shows.
const LOOK: usize = 2048;

/// A stream that can be looked at before it is read.
pub(super) trait Look: Send {
    /// Waits for bytes, shows them, and reads as many as `take` says. The number of bytes shown; 0
    /// is the end of the stream.
    fn look(
        &mut self,
        take: impl FnOnce(&[u8]) -> usize + Send,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

impl Look for TcpStream {
    async fn look(&mut self, take: impl FnOnce(&[u8]) -> usize + Send) -> io::Result<usize> {
        let mut buffer = [0; LOOK];
        let shown = self.peek(&mut buffer).await?;
        let taken = take(&buffer[..shown]);
        // The bytes are there, so that this doesn't wait.
        self.read_exact(&mut buffer[..taken]).await?;
        Ok(shown)
    }
}

impl Look for TlsWire {
    async fn look(&mut self, take: impl FnOnce(&[u8]) -> usize + Send) -> io::Result<usize> {
        let bytes = self.peek().await?;
        let (shown, taken) = (bytes.len(), take(bytes));
        self.consume(taken);
        Ok(shown)
    }
}

/// Reads an answer up to the end of its head where it is a 200, else up to some of its body.
/// `secrets` are left out of what is passed on.
///
/// # Errors
/// The refusal, or what was wrong with the answer.
pub(super) async fn read(from: &mut impl Look, secrets: &[&str]) -> Result<(), Failure> {
    let mut seen = 0;
    loop {
        let head = read_head(from, &mut seen).await?;
        match head.status {
            200..=299 => return Ok(()),
            // Interim answers (RFC 9110 section 15.2); there is nothing to switch to here.
            100 | 102..=199 => {}
            _ => {
                let body = read_body(from, &head).await;
                return Err(refused(head, &body, secrets));
            }
        }
    }
}

/// A refusal that came with these fields and this body, by HTTP/2.
pub(super) fn refusal<'a>(
    status: StatusCode,
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
    secrets: &[&str],
) -> Failure {
    let reason = status.canonical_reason().unwrap_or_default();
    refused(facts(status.as_u16(), reason, fields), body, secrets)
}

fn refused(head: Head, body: &[u8], secrets: &[&str]) -> Failure {
    let words = words(&head, body, secrets);
    let mut told = head.told;
    told.iter_mut().for_each(|told| told.read_page(&words));
    Failure::Refused { status: head.status, words, offers: head.offers, told }
}

#[derive(Debug, Default)]
struct Head {
    status: u16,
    reason: String,
    length: Option<usize>,
    chunked: bool,
    html: bool,
    /// The schemes of `Proxy-Authenticate`.
    offers: Vec<String>,
    /// What `Proxy-Status` says.
    told: Option<Told>,
}

async fn read_head(from: &mut impl Look, seen: &mut usize) -> Result<Head, Failure> {
    let mut bytes = Vec::new();
    loop {
        let mut parsed = Ok(None);
        let shown = from.look(|chunk| {
            let before = bytes.len();
            bytes.extend_from_slice(chunk);
            // A head in single bytes is parsed at the ends of its lines only.
            if before < LOOK || chunk.contains(&b'\n') {
                parsed = parse(&bytes);
            }
            match &parsed {
                Ok(Some((_, length))) => length - before,
                _ => chunk.len(),
            }
        });
        let shown = shown.await.map_err(|error| Failure::Lost(error.to_string()))?;
        match parsed {
            Ok(Some((_, length))) if *seen + length > HEAD => return Err(Failure::Oversized),
            Ok(Some((head, length))) => {
                *seen += length;
                return Ok(head);
            }
            Err(failure) => return Err(failure),
            Ok(None) if *seen + bytes.len() > HEAD => return Err(Failure::Oversized),
            Ok(None) if shown > 0 => {}
            Ok(None) if bytes.is_empty() => {
                return Err(Failure::Lost("it closed the connection without an answer".into()));
            }
            Ok(None) => return Err(Failure::Lost("it closed the connection within its answer".into())),
        }
    }
}

/// The head at the beginning of these bytes and its length; none while it may still become one.
///
/// Nothing of it goes on to a client, so that lenient parsing does no harm.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = Response::new(&mut []);
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    parser.ignore_invalid_headers_in_responses(true);
    match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
        Ok(Status::Complete(length)) => {
            let fields = response.headers.iter().map(|field| (field.name, field.value));
            let head = facts(response.code.unwrap_or_default(), response.reason.unwrap_or_default(), fields);
            Ok(Some((head, length)))
        }
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Failure::Oversized),
        Err(_) => Err(Failure::Foreign(match bytes {
            [0x15 | 0x16, 3, ..] => "TLS, so that its address begins with https://".into(),
            _ => format!("\"{}\"", printable(&String::from_utf8_lossy(bytes), 40)),
        })),
    }
}

fn facts<'a>(status: u16, reason: &str, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Head {
    let mut head = Head { status, reason: reason.to_owned(), ..Head::default() };
    for (name, value) in fields {
        let value = String::from_utf8_lossy(value);
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().ok(),
            "transfer-encoding" => head.chunked = value.to_ascii_lowercase().ends_with("chunked"),
            // Squid's page says why only far down; this field says it in a word.
            "x-squid-error" => {
                // What Squid 5 says of a name that it can't resolve, among others.
                let or_dns =
                    if value.starts_with("ERR_CANNOT_FORWARD") { "; does it resolve the name?" } else { "" };
                head.reason = format!("{} ({value}{or_dns})", head.reason);
                head.told = head.told.take().or_else(|| Told::of_squid(value));
            }
            "proxy-status" => head.told = head.told.take().or_else(|| Told::parse(value)),
            "content-type" => head.html = value.to_ascii_lowercase().contains("html"),
            "proxy-authenticate" => {
                let scheme: String = value.chars().take_while(char::is_ascii_alphanumeric).take(20).collect();
                head.offers.push(scheme);
            }
            _ => {}
        }
    }
    head
}

/// The beginning of the body, as far as it comes soon.
async fn read_body(from: &mut impl Look, head: &Head) -> Vec<u8> {
    let mut bytes = Vec::new();
    let whole = |bytes: &[u8]| match (head.chunked, head.length) {
        (true, _) => dechunked(bytes).1,
        (false, Some(length)) => bytes.len() >= length,
        (false, None) => false,
    };
    let reading = async {
        while bytes.len() < REFUSAL && !whole(&bytes) {
            let look = from.look(|chunk| {
                bytes.extend_from_slice(chunk);
                chunk.len()
            });
            if !matches!(look.await, Ok(1..)) {
                break;
            }
        }
    };
    // Without its words it is still a refusal.
    let _ = tokio::time::timeout(REFUSAL_TIME, reading).await;
    if head.chunked { dechunked(&bytes).0 } else { bytes }
}

/// What chunks hold (RFC 9112 section 7.1), as far as they are there, and whether that is all.
pub(crate) fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut held = Vec::new();
    loop {
        match httparse::parse_chunk_size(bytes) {
            Ok(Status::Complete((_, 0))) => return (held, true),
            Ok(Status::Complete((start, size))) => {
                let rest = bytes.get(start..).unwrap_or_default();
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                held.extend_from_slice(&rest[..size.min(rest.len())]);
                // The line end behind the chunk.
                let Some(next) = size.checked_add(2).and_then(|size| rest.get(size..)) else {
                    return (held, false);
                };
                bytes = next;
            }
            Ok(Status::Partial) => return (held, false),
            Err(_) => return (held, true),
        }
    }
}

/// Reason and text of a refusal in one harmless line.
fn words(head: &Head, body: &[u8], secrets: &[&str]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = match head.html || text.trim_start().starts_with('<') {
        true => without_tags(&text),
        false => text.into_owned(),
    };
    let mut all = head.reason.clone();
    if !text.trim().is_empty() {
        all = format!("{all}: {text}");
    }
    // Some proxies print the request that they refuse, with its credentials.
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        all = all.replace(secret, "...");
    }
    printable(&all, WORDS)
}

/// One line of printable characters, cut short: what came from outside, fit for a terminal.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let spaced = text.replace(|c: char| c.is_control(), " ");
    let mut line = String::new();
    for word in spaced.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let cut = line.chars().count() > longest;
    let mut shown = String::new();
    for c in line.chars().take(longest) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if cut {
        shown.push_str("...");
    }
    shown
}

/// The text of a page of HTML: no tags, no styles, no scripts, no title, which says it once more.
pub(crate) fn without_tags(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let lower = tag.to_ascii_lowercase();
        let is = |name: &&&str| {
            lower
                .strip_prefix(**name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        };
        let end = match ["head", "style", "script"].iter().find(is) {
            Some(name) => lower.find(&format!("</{name}")).map(|at| at + 1),
            None if lower.starts_with("!--") => lower.find("-->").map(|at| at + 2),
            None => Some(0),
        };
        rest = end.and_then(|end| tag[end..].split_once('>')).map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_of_a_page_are_its_text() {
        let page = "<!DOCTYPE html><html><head><title>ERROR</title><style><!-- a { b: c } --></style>\
                    <script>if (a > b) {}</script></head><!-- <p>no</p> -->\n<body><h1>Access\u{1b}[31m   Denied</h1>\
                    by \u{202e}rule 7</body></html>";
        let head = Head { reason: "Forbidden".into(), ..Head::default() };
        assert_eq!(words(&head, page.as_bytes(), &[]), "Forbidden: Access [31m Denied by \\u{202e}rule 7");
        assert_eq!(words(&head, b"", &[]), "Forbidden");
        assert_eq!(words(&head, b"you sent me:pw", &["bWU6cHc=", "me:pw", "pw"]), "Forbidden: you sent ...");
        assert_eq!(words(&head, &[b'x'; 500], &[]).len(), WORDS + 3);
    }

    #[test]
    fn chunks_are_put_together() {
        let all = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        assert_eq!(dechunked(all), (b"hello world".to_vec(), true));
        for cut in 0..all.len() - 5 {
            let (held, whole) = dechunked(&all[..cut]);
            assert!(b"hello world".starts_with(&held) && !whole, "{cut}: {held:?}");
        }
        assert!(dechunked(b"ffffffffffffffff\r\nx").0.starts_with(b"x"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_words_are_one_short_line(body: Vec<u8>, html: bool, chunked: bool) {
            let head = Head { html, chunked, ..Head::default() };
            let body = if chunked { dechunked(&body).0 } else { body };
            let words = words(&head, &body, &["secret"]);
            prop_assert!(!words.chars().any(char::is_control));
            prop_assert!(words.chars().count() <= 10 * WORDS + 3);
            let _ = (parse(&body), without_tags(&String::from_utf8_lossy(&body)));
        }
    }
}
