//! A file fetched over verified HTTPS, the proxy's own way: `connect_to`, a parent proxy, the resolver and
//! the dialer. Bounded in size and time. The server is one that the administrator names, so it may have
//! any address.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HOST, IF_NONE_MATCH, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::own::Own;
use super::parent::{PROGRAM, add_authorities, http1, server_name};
use super::url::Url;
use super::within::Within;
use super::{Egress, Trace, Unreached, Upstream, certificate, leads_to, printable};
use crate::tls::stream::Stream;

/// Everything together: enough for the largest file over a slow line.
const WHOLE: Duration = Duration::from_secs(120);
/// Until the head of an answer is there.
const OPEN: Duration = Duration::from_secs(30);
/// How many redirects are followed.
const REDIRECTS: usize = 3;
/// Longest head of an answer, in bytes.
const HEAD: usize = 64 << 10;
/// Longest text of somebody else's in a message, in characters.
const WORDS: usize = 200;

/// What authorities a server's certificate may come from.
#[derive(Clone)]
pub(crate) struct Authorities {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
    /// What names a file of them.
    key: &'static str,
}

impl Authorities {
    /// Mozilla's, this machine's, and those of a file; `key` is what names the file.
    ///
    /// # Errors
    /// With the key and the file.
    pub(crate) fn load(key: &'static str, file: Option<&std::path::Path>) -> Result<Self, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = file {
            add_authorities(&mut roots, key, path)?;
        }
        let roots = Arc::new(roots);
        Ok(Self { config: http1(roots.clone())?, roots, key })
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots && self.key == other.key
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) enum Fetched {
    File {
        bytes: Vec<u8>,
        /// Its `ETag`, to be asked with the next time.
        tag: Option<String>,
    },
    /// It is still the one with the tag that was asked with.
    Unchanged,
}

/// Fetches a file of `largest` bytes at most; `tag` is that of the last answer.
///
/// # Errors
/// Why not, in one printable line that begins with the address.
pub(crate) async fn fetch(
    egress: &Egress,
    own: &Own,
    authorities: &Authorities,
    url: &Url,
    largest: usize,
    tag: Option<&str>,
) -> Result<Fetched, String> {
    let fetching = async {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let shown = printable(&url.shown(), WORDS);
            let at = |why: String| format!("{shown}: {why}");
            let opening = timeout(OPEN, Box::pin(open(egress, own, authorities, &url, tag))).await;
            let answer = opening.unwrap_or_else(|_| Err(format!("no answer within {OPEN:?}"))).map_err(at)?;
            let location = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            match (answer.status().as_u16(), location) {
                (200, _) => return body(answer, largest).await.map_err(at),
                (304, _) if tag.is_some() => return Ok(Fetched::Unchanged),
                (301 | 302 | 303 | 307 | 308, Some(to)) => {
                    let next = url.join(to).map_err(|why| format!("{shown} redirects: {why}"))?;
                    if !next.https {
                        let next = printable(&next.shown(), WORDS);
                        return Err(format!("{shown} redirects to plain HTTP, {next}: not followed"));
                    }
                    url = next;
                }
                (status, _) => return Err(format!("{shown} answers {status} in place of 200")),
            }
        }
        Err(format!("{}: more than {REDIRECTS} redirects", url.shown()))
    };
    let late = || format!("{}: no whole answer within {WHOLE:?}", url.shown());
    timeout(WHOLE, fetching).await.unwrap_or_else(|_| Err(late()))
}

/// Sends the request; the head of the answer.
async fn open(
    egress: &Egress,
    own: &Own,
    authorities: &Authorities,
    url: &Url,
    tag: Option<&str>,
) -> Result<Response<Incoming>, String> {
    let mut trace = Trace::default();
    let reached = egress.reach(&url.target, &Within::Anywhere, None, own, &mut trace).await;
    match reached.map_err(|why| unreached(&why))? {
        Upstream::Tcp(stream) => ask(stream, authorities, url, tag).await,
        Upstream::Tls(stream) => ask(stream, authorities, url, tag).await,
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    authorities: &Authorities,
    url: &Url,
    tag: Option<&str>,
) -> Result<Response<Incoming>, String> {
    let name = server_name(&url.target.host)?;
    let connector = TlsConnector::from(authorities.config.clone());
    let stream = Stream::connect(&connector, name, stream).await;
    let stream = stream.map_err(|error| no_tls(&error, authorities.key))?;
    let lost = |error: hyper::Error| broken(&error);
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await.map_err(lost)?;
    // It ends with the answer, or when nobody reads it any more.
    tokio::spawn(connection);
    let mut request = Request::get(&*url.path)
        .header(HOST, url.host())
        .header(USER_AGENT, PROGRAM)
        .header(ACCEPT_ENCODING, "identity");
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(lost)
}

async fn body(answer: Response<Incoming>, largest: usize) -> Result<Fetched, String> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(coding) = text(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let coding = printable(&coding, WORDS);
        return Err(format!("it is compressed ({coding}), though that wasn't asked for"));
    }
    let tag = text(ETAG);
    let too_large = || format!("it is larger than {} MiB", largest >> 20);
    if answer.body().size_hint().lower() > largest as u64 {
        return Err(too_large());
    }
    match Limited::new(answer.into_body(), largest).collect().await {
        Ok(whole) => Ok(Fetched::File { bytes: whole.to_bytes().into(), tag }),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => broken(&error),
            Err(_) => too_large(),
        }),
    }
}

fn broken(error: &hyper::Error) -> String {
    match () {
        () if error.is_incomplete_message() => "the answer was cut short".to_owned(),
        () if error.is_parse() => "something else than HTTP answers".to_owned(),
        () => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            printable(&format!("the answer broke off: {error}{}", cause.unwrap_or_default()), WORDS)
        }
    }
}

fn unreached(why: &Unreached) -> String {
    match why {
        Unreached::Dns(error) => format!("DNS look-up failed: {error}"),
        Unreached::Barred(barred, by) => leads_to(barred, *by),
        Unreached::Outside(outside) => format!("it resolves to {}", outside.address),
        Unreached::Own(_) => "it leads to this proxy itself".to_owned(),
        Unreached::Circle(circle) => format!("{} leads in a circle of proxies", circle.parent),
        Unreached::Dial(error) => error.to_string(),
        Unreached::Parent(error) => error.to_string(),
    }
}

/// Describes a failed handshake so that the cause can be found.
fn no_tls(error: &std::io::Error, key: &str) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!(
                "its certificate is from an authority that is unknown here: name that of your mirror in {key}, or \
                 take this address out of what inspects TLS"
            )
        }
        Some(Error::InvalidCertificate(why)) => certificate::in_words(why),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it speaks no TLS on this port".to_owned()
        }
        Some(other) => printable(&format!("no TLS: {other}"), WORDS),
        None => printable(&format!("no TLS: {error}, within the handshake"), WORDS),
    }
}
