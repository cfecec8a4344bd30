//! A file from a web server of the administrator's own, such as the PAC file: as a browser fetches it,
//! straight, bounded in size and time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::http::{self, Answer, NoAnswer};
use super::io::Io;
use super::tls::{Hello, NoTls, Trust, handshake};
use crate::egress::url::Url;
use crate::egress::{Egress, dechunked, printable};

/// Everything together, redirects included.
const WHOLE: Duration = Duration::from_secs(15);
/// How many redirects are followed.
const REDIRECTS: usize = 3;

/// Fetches a file of `largest` bytes at most. The server is the administrator's and may be anywhere; its
/// certificate must be good by either set of authorities.
///
/// # Errors
/// Why not, in one printable line.
pub(crate) async fn fetch(
    egress: &Egress,
    trust: &Arc<Trust>,
    now: SystemTime,
    url: &Url,
    largest: usize,
) -> Result<Vec<u8>, String> {
    let fetching = async {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let mut stream = open(egress, trust, now, &url).await?;
            let got = http::get(&mut stream, &url.host(), &url.path, "Connection: close\r\n").await;
            let answer = got.map_err(|why| format!("{url}: {}", said(&why)))?;
            match (answer.status, answer.field("location")) {
                (200, _) => {
                    return body(answer, &mut stream, largest).await.map_err(|why| format!("{url}: {why}"));
                }
                (301 | 302 | 303 | 307 | 308, Some(to)) => {
                    url = url.join(to).map_err(|why| format!("{url} redirects: {why}"))?;
                }
                (status, _) => return Err(format!("{url} answers {status}")),
            }
        }
        Err(format!("{url}: more than {REDIRECTS} redirects"))
    };
    timeout(WHOLE, fetching).await.unwrap_or_else(|_| Err(format!("{url}: no whole answer within {WHOLE:?}")))
}

async fn open(
    egress: &Egress,
    trust: &Arc<Trust>,
    now: SystemTime,
    url: &Url,
) -> Result<Box<dyn Io>, String> {
    let stream = egress.dial_unjudged(&url.target).await.map_err(|why| format!("{url}: {why}"))?;
    if !url.https {
        return Ok(Box::new(stream));
    }
    let session = handshake(Box::new(stream), &url.target.host, Hello::Long, trust, now, WHOLE).await;
    let session = session.map_err(|why| format!("{url}: no TLS: {}", unsecured(&why)))?;
    match (session.verdicts.platform, session.verdicts.public) {
        (Err(error), Err(_)) => Err(format!("{url}: {}", printable(&error.to_string(), 200))),
        _ => Ok(Box::new(session.stream)),
    }
}

async fn body(
    mut answer: Answer,
    from: &mut (impl AsyncRead + Unpin),
    largest: usize,
) -> Result<Vec<u8>, String> {
    let too_large = || format!("it is larger than {} KiB", largest >> 10);
    let length = answer.field("content-length").and_then(|value| value.parse::<usize>().ok());
    let chunked = answer
        .field("transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"));
    if answer.field("content-encoding").is_some_and(|value| !value.eq_ignore_ascii_case("identity")) {
        return Err("it is compressed, though that wasn't asked for".to_owned());
    }
    let mut bytes = std::mem::take(&mut answer.body);
    let mut chunk = vec![0; 16 << 10];
    let is_whole = |bytes: &[u8]| match (chunked, length) {
        (true, _) => dechunked(bytes).1,
        (false, Some(length)) => bytes.len() >= length,
        (false, None) => false,
    };
    // The marks of chunks are a part of what is read, and less than as much again.
    while !is_whole(&bytes) {
        if bytes.len() > 2 * largest {
            return Err(too_large());
        }
        match from.read(&mut chunk).await {
            Ok(0) if !chunked && length.is_none() => break,
            Ok(0) => return Err("the answer is cut".to_owned()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) => return Err(format!("the answer is cut: {error}")),
        }
    }
    let mut bytes = if chunked { dechunked(&bytes).0 } else { bytes };
    bytes.truncate(length.filter(|_| !chunked).unwrap_or(usize::MAX));
    if bytes.len() > largest { Err(too_large()) } else { Ok(bytes) }
}

fn said(why: &NoAnswer) -> String {
    match why {
        NoAnswer::Ended(how) | NoAnswer::Reset(how) => how.clone(),
        NoAnswer::Foreign(_) => "something else than HTTP answers".to_owned(),
        NoAnswer::Oversized => "the header of the answer is too large".to_owned(),
    }
}

fn unsecured(why: &NoTls) -> String {
    match why {
        NoTls::Reset(_) | NoTls::Closed => "the connection was closed".to_owned(),
        NoTls::Foreign(_) => "something else than TLS answers".to_owned(),
        NoTls::Silent(limit) => format!("no answer within {limit:?}"),
        NoTls::Failed(why) => printable(why, 200),
        NoTls::Name => "no certificate can be for such a name".to_owned(),
    }
}
