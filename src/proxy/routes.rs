//! What the proxy listeners serve by path, over HTTP/1.1 and HTTP/2: the PAC file, the desk check, and whether
//! this proxy takes new work. Nothing here opens a tunnel, and the client is admitted before.

use super::admission::Peer;
use super::answer::Plain;
use super::desk;
use super::head::Request;
use super::refusal::{Refusal, escaped};
use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::pac::rendezvous::Key;
use crate::target::{self, Form};

const NO_FORM: &str = "the request target is neither a path, nor a URL, nor host:port, nor *";

/// What becomes of a request that is not a CONNECT.
pub(super) enum Served {
    Answer(Plain<'static>),
    /// The report of a desk check: its body is to be read and handed to [`desk::receive`].
    Report,
}

/// Answers what is not a CONNECT. A load balancer that speaks for itself isn't admitted, and learns
/// whether this proxy is ready.
///
/// # Errors
/// The refusal of a client, or of a request that isn't for this server itself.
pub(super) fn serve(
    request: &Request,
    admitted: Result<(), Refusal>,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Result<Served, Refusal> {
    let probe = Form::of(&request.target) == Form::Origin && target::path(&request.target) == "/readyz";
    match admitted {
        Err(Refusal::Check(_)) if probe => {}
        admitted => admitted?,
    }
    if let Some(part) = desk::part(request, peer, shared, snapshot) {
        return Ok(desk::serve(part, request, peer, shared, snapshot).map_or(Served::Report, Served::Answer));
    }
    answer(request, peer, shared, snapshot).map(Served::Answer)
}

fn answer(
    request: &Request,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Result<Plain<'static>, Refusal> {
    match Form::of(&request.target) {
        Form::Origin => {}
        Form::Asterisk if &*request.method == "OPTIONS" => return Ok(Plain::options()),
        Form::None => return Err(Refusal::Malformed(NO_FORM.into())),
        form => return Err(Refusal::Method { method: escaped(&request.method), form }),
    }
    let get = matches!(&*request.method, "GET" | "HEAD");
    Ok(match target::path(&request.target) {
        "/proxy.pac" | "/wpad.dat" | "/readyz" if !get => Plain::not_allowed("GET, HEAD"),
        "/proxy.pac" | "/wpad.dat" => {
            let query = request.target.split_once('?').map(|(_, query)| query);
            let key = query.and_then(Key::of_query).unwrap_or_else(|| Key::of_client(peer.address.ip()));
            let file = snapshot.pac_for(request.host.as_deref(), peer.local, key);
            Plain::pac(file, request.conditions.as_deref())
        }
        "/readyz" => {
            let (ready, said) = readiness(shared);
            Plain::readiness(ready, said)
        }
        path => {
            if get && looks_like_pac(path) && shared.wrong_pac.is_due() {
                tracing::info!(
                    event = "wrong_pac_address",
                    client = %shared.journal.shown(peer.address),
                    path = %escaped(path),
                    "a browser asks for a PAC file that isn't here, and goes on without: they are /proxy.pac and /wpad.dat"
                );
            }
            Plain::not_found()
        }
    })
}

/// Whether this proxy takes new work, and the word for it.
pub(crate) fn readiness(shared: &Shared) -> (bool, &'static str) {
    if shared.drain.is_leaving() { (false, "draining\n") } else { (true, "ready\n") }
}

/// Whether a path was most likely meant to be that of a PAC file.
fn looks_like_pac(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".pac", ".dat", "wpad"].iter().any(|part| path.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_of_a_pac_file_is_told_from_a_stray_request() {
        for path in
            ["/PROXY.PAC", "/proxy.pac/", "//proxy.pac", "/wpad", "/wpad.da", "/pac/office.pac", "/Wpad.Dat"]
        {
            assert!(looks_like_pac(path), "{path}");
        }
        for path in ["/", "/favicon.ico", "/metrics", "/healthz"] {
            assert!(!looks_like_pac(path), "{path}");
        }
    }
}
