//! How far the Regions are from here, by the time that a TCP connection takes.

use std::cmp::Reverse;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::report::Region;
use crate::agent::route::Route;
use crate::catalogue::catalogue;
use crate::egress::Trace;
use crate::policy::Protocol;
use crate::target::{Host, Target};

/// How many connections are made to each Region, one after the other.
const CONNECTS: usize = 5;
/// Longer than a way round the world and back.
const PATIENCE: Duration = Duration::from_secs(3);

/// All Regions that can be chosen, nearest first; those without an answer last.
pub(super) async fn rank(route: &Route<'_>) -> Vec<Region> {
    let measured = catalogue().offered().map(|(region, _)| async move {
        let trips = match target(region) {
            Some(target) => measure(route, &target).await,
            None => Vec::new(),
        };
        Region { region: region.to_owned(), rtt_ms: median(trips) }
    });
    let mut all = join_all(measured).await;
    all.sort_by_key(|region| (Reverse(region.rtt_ms.is_some()), region.rtt_ms));
    all
}

/// A host of Amazon Connect that every instance of a Region shares.
fn target(region: &str) -> Option<Target> {
    let rows = catalogue().endpoints.iter().filter(|row| {
        row.protocol == Protocol::Tcp && !row.retired && row.feature.is_none() && row.ports.contains(&443)
    });
    let mut names = rows.filter(|row| row.holds_in(region)).flat_map(|row| &row.patterns);
    // Served by the Region itself, as sign-in pages and files needn't be.
    let is_own = |name: &&String| name.ends_with(".connect.{region}.amazonaws.com");
    let name = names.find(|name| is_own(name) && !name.contains('*') && !name.contains("{instance}"))?;
    let host = Host::parse(name.replace("{region}", region).as_bytes()).ok()?;
    Some(Target { host, port: 443 })
}

/// What each connection took; none where the first isn't made in time.
async fn measure(route: &Route<'_>, target: &Target) -> Vec<Duration> {
    let mut trips = Vec::new();
    for _ in 0..CONNECTS {
        let mut trace = Trace::default();
        // Look-ups have a limit of their own, and count for nothing.
        let opened = timeout(PATIENCE + Duration::from_secs(6), route.open(target, &mut trace)).await;
        match (opened, trace.connect) {
            (Ok(Ok(_)), Some(took)) => trips.push(took),
            _ => break,
        }
    }
    trips
}

/// In milliseconds; none of fewer than three.
fn median(mut trips: Vec<Duration>) -> Option<u64> {
    trips.sort_unstable();
    let middle = trips.get(trips.len() / 2).filter(|_| trips.len() > CONNECTS / 2)?;
    u64::try_from(middle.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_region_has_a_host_of_its_own() {
        let offered: Vec<&str> = catalogue().offered().map(|(region, _)| region).collect();
        let targets: Vec<Target> = offered.iter().map(|region| target(region).expect(region)).collect();
        let names: BTreeSet<String> = targets.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), offered.len(), "{names:?}");
        for (region, target) in offered.iter().zip(&targets) {
            assert!(target.to_string().contains(region), "{target}");
        }
    }

    #[test]
    fn the_middle_of_most_counts() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(median(ms(&[9, 1, 5, 900, 3])), Some(5));
        assert_eq!(median(ms(&[9, 1, 5])), Some(5));
        assert_eq!(median(ms(&[9, 1])), None);
        assert_eq!(median(Vec::new()), None);
    }
}
