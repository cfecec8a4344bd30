//! The way to an endpoint up to its TLS session, with all that is seen on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use super::observed::{End, Otherwise, Seen};
use crate::agent::certificate::Shown;
use crate::agent::route::Route;
use crate::agent::tls::{Hello, NoTls, Session, Trust, handshake};
use crate::target::{Host, Target};

/// For a handshake, and for an answer: longer than the panel's own limits allow.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// What every IPv4 path must carry beside its headers (RFC 9293 section 3.7.1).
const SMALL: u16 = 536;
/// How often another form of handshake must succeed, so that chance is none: of several boxes or servers
/// one may be dead.
const SURE: usize = 3;

/// Opens a TLS session, whoever vouches for the certificate; `of_catalogue`: the target is one of AWS's own
/// names, whose addresses `policy.ranges` judges. `clock` is read when the connection is there.
///
/// # Errors
/// The end of the way.
pub(crate) async fn secured(
    route: &Route<'_>,
    trust: &Arc<Trust>,
    clock: &(dyn Fn() -> SystemTime + Sync),
    target: &Target,
    of_catalogue: bool,
    seen: &mut Seen,
) -> Result<Session, End> {
    seen.by_proxy = route.by_proxy(target);
    seen.is_address = matches!(target.host, Host::Ip(_));
    seen.fixed = route.fixed_by(target);
    let opened = route.open_as(target, of_catalogue, &mut seen.trace).await;
    seen.found = route.found(target);
    let stream = opened.map_err(End::Unreached)?;
    let began = Instant::now();
    let made = handshake(stream, &target.host, Hello::Long, trust, clock(), STEP).await;
    seen.tls = Some(began.elapsed());
    let session = made.map_err(End::NoTls)?;
    let leaf = session.chain.first().map_or(&[][..], |leaf| leaf);
    seen.shown = Some((Shown::of(leaf), session.verdicts.clone()));
    Ok(session)
}

/// Finds out what comes through where a TLS handshake with an `address` ended so: it is tried in small segments,
/// if there was silence, and with a short hello. None: nothing that tells more.
pub(super) async fn otherwise(
    route: &Route<'_>,
    trust: &Arc<Trust>,
    clock: &(dyn Fn() -> SystemTime + Sync),
    target: &Target,
    (address, why): (SocketAddr, &NoTls),
) -> Option<Otherwise> {
    let again = async |segments: Option<u16>, hello| {
        for before in 0..SURE {
            let stream = route.open_again(target, address, segments).await.ok()?;
            match handshake(stream, &target.host, hello, trust, clock(), STEP).await {
                Ok(_) => {}
                Err(why) if before == 0 => return Some(Err(why)),
                Err(_) => return None,
            }
        }
        Some(Ok(()))
    };
    // Three that are slow take no longer than two that hang.
    let again = async |segments, hello| timeout(2 * STEP, again(segments, hello)).await.ok().flatten();
    let small = async {
        match why {
            NoTls::Silent(_) => again(Some(SMALL), Hello::Long).await,
            _ => None,
        }
    };
    match tokio::join!(small, again(None, Hello::Short)) {
        (Some(Ok(())), _) => Some(Otherwise::InSegments(SMALL)),
        (_, Some(Ok(()))) => Some(Otherwise::ShortHello),
        (Some(Err(NoTls::Silent(_))), _) => Some(Otherwise::Silent(SMALL)),
        _ => None,
    }
}
