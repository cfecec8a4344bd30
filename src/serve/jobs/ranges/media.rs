//! Whether the media names lead where the lists for firewalls say: an address outside is either not AWS's, or
//! one that AWS uses before it was published, and no firewall lets it through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};

use super::{LOOK, Settings, sleep_or_reload};
use crate::proxy::shared::Shared;
use crate::proxy::snapshot::Snapshot;
use crate::ranges::current::Current;
use crate::ranges::select::Set;

/// How often the names are resolved.
const EVERY: Duration = Duration::from_secs(300);

/// A name, and an address of it that lies outside.
pub(super) type Stray = (String, IpAddr);

/// Looks now and then, and at each reload, for ever, once there is a version to judge by.
pub(super) async fn run(
    shared: &Arc<Shared>,
    settings: &Settings,
    mut reloads: watch::Receiver<Settings>,
    tell: mpsc::Sender<Vec<Stray>>,
) {
    loop {
        reloads.mark_unchanged();
        let pause = match shared.ranges.load() {
            Some(current) if settings.media => {
                if tell.send(strays(shared, &current).await).await.is_err() {
                    return;
                }
                EVERY.min(settings.refresh)
            }
            _ => LOOK,
        };
        sleep_or_reload(pause, &mut reloads).await;
    }
}

/// The media names that resolve outside the media set, each with the first such address. A name that
/// doesn't resolve says nothing here.
async fn strays(shared: &Shared, current: &Current) -> Vec<Stray> {
    if current.table(Set::Media).is_none_or(|table| table.is_empty()) {
        return Vec::new();
    }
    let snapshot = shared.snapshot();
    let names = snapshot.policy.media_servers();
    let all = join_all(names.map(|name| stray(&snapshot, current, name))).await;
    all.into_iter().flatten().collect()
}

async fn stray(snapshot: &Snapshot, current: &Current, name: &str) -> Option<Stray> {
    let resolver = &snapshot.egress.resolver;
    // What the administrator fixed may lead anywhere.
    if resolver.fixed_by(name).is_some() {
        return None;
    }
    let found = resolver.lookup(name).await.ok()?;
    let late = match found.rest {
        Some(mut rest) => rest.addresses_soon().await.to_vec(),
        None => Vec::new(),
    };
    let inside = |address: IpAddr| {
        [Set::Media, Set::Video]
            .into_iter()
            .filter_map(|set| current.table(set))
            .any(|set| set.is_led_to_by(address, &snapshot.egress.allow_private))
    };
    let mut all = found.known.iter().copied().chain(late);
    all.find(|address| !inside(*address)).map(|address| (name.to_owned(), address))
}
