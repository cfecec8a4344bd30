//! The way to an endpoint up to its TLS session, with all that is seen on it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::observed::{End, Seen};
use crate::agent::certificate::Shown;
use crate::agent::route::Route;
use crate::agent::tls::{Session, Trust, handshake};
use crate::target::Target;

/// For a handshake, and for an answer: longer than the panel's own limits allow.
pub(crate) const STEP: Duration = Duration::from_secs(5);

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
    seen.fixed = route.fixed_by(target);
    let opened = route.open_as(target, of_catalogue, &mut seen.trace).await;
    seen.found = route.found(target);
    let stream = opened.map_err(End::Unreached)?;
    let began = Instant::now();
    let made = handshake(stream, &target.host, trust, clock(), STEP).await;
    seen.tls = Some(began.elapsed());
    let session = made.map_err(End::NoTls)?;
    let leaf = session.chain.first().map_or(&[][..], |leaf| leaf);
    seen.shown = Some((Shown::of(leaf), session.verdicts.clone()));
    Ok(session)
}
