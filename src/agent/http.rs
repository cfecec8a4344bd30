//! One HTTP/1.1 request and the beginning of its answer, bounded in size. The caller bounds the time.

use std::io;
use std::mem::MaybeUninit;

use httparse::{ParserConfig, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest head that is read, interim answers before it included: browsers take 256 KiB.
const HEAD: usize = 256 * 1024;
const FIELDS: usize = 256;
/// Most bytes of a body that are read: enough to recognise a block page.
const BODY: usize = 16 * 1024;
/// How much of a field's value is kept.
const VALUE: usize = 1024;
/// Most bytes of a body that is read whole: more than anything that the panel loads.
const WHOLE: usize = 64 << 20;

/// An answer: the parts that callers use.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub status: u16,
    /// Names in lower case, values cut short.
    fields: Vec<(String, String)>,
    /// What came with the head, and what [`Answer::read_body`] added.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The far side ended the connection before a whole head.
    Ended(String),
    /// The far side, or somebody in its name, reset the connection before a whole head.
    Reset(String),
    /// It sends something that isn't HTTP/1. These are the first bytes.
    Foreign(Vec<u8>),
    /// Its head is larger than a browser takes.
    Oversized,
}

impl Answer {
    /// The first field of a name, which is in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Names and values of all fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Reads on, to the end of the body or to the limit.
    pub(crate) async fn read_body(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let length = self.field("content-length").and_then(|value| value.parse::<usize>().ok());
        let whole = length.unwrap_or(BODY).min(BODY);
        let mut chunk = [0; 2048];
        while self.body.len() < whole {
            match from.read(&mut chunk).await {
                Ok(count @ 1..) => self.body.extend_from_slice(&chunk[..count]),
                Ok(0) | Err(_) => break,
            }
        }
    }

    /// Reads the body to its end without keeping it; returns its length in bytes.
    ///
    /// # Errors
    /// How it ended before that, or that it is larger than anything that a panel loads.
    pub(crate) async fn read_through(&self, from: &mut (impl AsyncRead + Unpin)) -> Result<usize, String> {
        let length = self.field("content-length").and_then(|value| value.parse::<usize>().ok());
        let mut read = self.body.len();
        let mut chunk = vec![0; 16 * 1024];
        while length.is_none_or(|length| read < length) {
            if read > WHOLE {
                return Err(format!("the answer is larger than {} MiB", WHOLE >> 20));
            }
            match (from.read(&mut chunk).await, length) {
                (Ok(count @ 1..), _) => read += count,
                // Without a length the end of the connection is the end of the body.
                (Ok(0) | Err(_), None) => break,
                (Ok(0), Some(length)) => return Err(format!("the answer ended at byte {read} of {length}")),
                (Err(error), Some(length)) => {
                    return Err(format!("the answer ended at byte {read} of {length}: {error}"));
                }
            }
        }
        Ok(read)
    }
}

/// Asks for a path as a browser would. `more` are further fields, each with its line end.
///
/// # Errors
/// See [`NoAnswer`].
pub(crate) async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: &str,
    path: &str,
    more: &str,
) -> Result<Answer, NoAnswer> {
    ask(stream, &head("GET", host, path, more)).await
}

/// Sends JSON to a path as the panel does. The connection is for this alone.
///
/// # Errors
/// See [`NoAnswer`].
pub(crate) async fn post<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: &str,
    path: &str,
    json: &str,
) -> Result<Answer, NoAnswer> {
    let length = json.len();
    let more = format!("Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    ask(stream, &(head("POST", host, path, &more) + json)).await
}

fn head(method: &str, host: &str, path: &str, more: &str) -> String {
    let version = crate::VERSION;
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0 (compatible; ccpgate/{version})\r\n\
         Accept: */*\r\n{more}\r\n"
    )
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> Result<Answer, NoAnswer> {
    // A server that has closed may have sent the reason before; the read below shows it.
    let sent = match stream.write_all(request.as_bytes()).await {
        Ok(()) => stream.flush().await,
        failed => failed,
    };
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = match stream.read(&mut chunk).await {
            Ok(count @ 1..) => count,
            // The kernel tells of a reset once: here, or to who wrote.
            ended => return Err(ended_by(&bytes, [sent, ended.map(drop)])),
        };
        let before = bytes.len();
        bytes.extend_from_slice(&chunk[..count]);
        // A head in single bytes is parsed at the ends of its lines only.
        if before > 4096 && !chunk[..count].contains(&b'\n') {
            if bytes.len() > HEAD {
                return Err(NoAnswer::Oversized);
            }
            continue;
        }
        while let Some((answer, length)) = parse(&bytes)? {
            bytes.drain(..length);
            // Interim answers (RFC 9110 section 15.2) announce another one.
            if !matches!(answer.status, 100 | 102..=199) {
                return Ok(Answer { body: bytes, ..answer });
            }
        }
        if bytes.len() > HEAD {
            return Err(NoAnswer::Oversized);
        }
    }
}

/// How it ended: what became of the request, and of the wait for the answer, of which `bytes` have come.
fn ended_by(bytes: &[u8], came: [io::Result<()>; 2]) -> NoAnswer {
    let reset = came.iter().find_map(|each| {
        let error = each.as_ref().err()?;
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe).then_some(error)
    });
    let how = match (reset, &came[1]) {
        (Some(_), _) => "the connection was reset".to_owned(),
        (None, Ok(())) => "the connection was closed".to_owned(),
        (None, Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was cut".to_owned()
        }
        (None, Err(error)) => error.to_string(),
    };
    let how = match bytes {
        [] => format!("{how} without an answer"),
        _ => format!("{how} within the answer's header"),
    };
    if reset.is_some() { NoAnswer::Reset(how) } else { NoAnswer::Ended(how) }
}

/// The head at the beginning of these bytes and its length; none while it may still become one.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, NoAnswer> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = Response::new(&mut []);
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    parser.ignore_invalid_headers_in_responses(true);
    match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
        Ok(Status::Complete(length)) => {
            let kept =
                |value: &[u8]| String::from_utf8_lossy(&value[..value.len().min(VALUE)]).trim().to_owned();
            let fields =
                response.headers.iter().map(|f| (f.name.to_ascii_lowercase(), kept(f.value))).collect();
            let status = response.code.unwrap_or_default();
            Ok(Some((Answer { status, fields, body: Vec::new() }, length)))
        }
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(NoAnswer::Oversized),
        Err(_) => Err(NoAnswer::Foreign(bytes[..bytes.len().min(512)].to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn answer(bytes: &[u8]) -> Result<Answer, NoAnswer> {
        let (mut near, mut far) = tokio::io::duplex(HEAD * 2);
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        let answer = get(&mut near, "x.example", "/", "").await;
        match answer {
            Ok(mut answer) => {
                answer.read_body(&mut near).await;
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }

    #[tokio::test]
    async fn answers_are_read_and_bounded() {
        let read =
            answer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 403 No\r\nDate: now\r\n\r\nbody")
                .await;
        let read = read.unwrap();
        assert_eq!((read.status, read.field("date"), &*read.body), (403, Some("now"), &b"body"[..]));
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; HEAD + 1]].concat();
        assert!(matches!(answer(&endless).await, Err(NoAnswer::Oversized)));
        let many =
            [b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".repeat(FIELDS + 1), b"\r\n".to_vec()].concat();
        assert!(matches!(answer(&many).await, Err(NoAnswer::Oversized)));
        assert!(matches!(answer(b"SSH-2.0-x\r\n").await, Err(NoAnswer::Foreign(_))));
        assert!(matches!(answer(b"").await, Err(NoAnswer::Ended(_))));
        assert!(matches!(answer(b"HTTP/1.1 200 OK\r\nA: b").await, Err(NoAnswer::Ended(_))));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
