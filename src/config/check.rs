//! Checks keys against one another, whose values are each valid.

use std::net::SocketAddr;
use std::time::Duration;

use super::problem::Problem;
use super::source::Provenance;
use super::{Config, notation};
use crate::policy::{IpTargets, OutsideRanges};
use crate::ranges::read::ADDRESS;
use crate::tls::Window;

/// No TLS session may be resumed for longer.
const LONGEST_WINDOW: Duration = Duration::from_secs(Window::MAX);
/// A session's age is told in whole seconds.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// All problems between the keys of a configuration. A check is skipped where one of its keys is wrong by
/// itself: that key has a default here which nobody wrote.
pub(super) fn together(config: &Config, provenance: &Provenance, wrong: &[Problem]) -> Vec<Problem> {
    let sound = |keys: &[&str]| !keys.iter().any(|key| wrong.iter().any(|problem| problem.concerns(key)));
    let mut problems = Vec::new();
    if sound(&["shift.length", "shift.breaks", "shift.lunch"]) {
        shift_window(config, provenance, &mut problems);
    }
    if sound(&["proxy.listen", "tls.listen", "admin.listen", "edl.listen"]) {
        listeners(config, provenance, &mut problems);
    }
    if sound(&["policy.ranges", "policy.ip_targets", "ranges.file", "ranges.url"]) {
        ranges(config, provenance, &mut problems);
    }
    if sound(&["edl.certificate", "edl.key"]) {
        edl_files(config, provenance, &mut problems);
    }
    problems
}

fn shift_window(config: &Config, provenance: &Provenance, problems: &mut Vec<Problem>) {
    let shift = &config.shift;
    let spans = [("length", shift.length), ("breaks", shift.breaks), ("lunch", shift.lunch)];
    let window: Duration = spans.iter().map(|(_, span)| *span).sum();
    let expected = if window > LONGEST_WINDOW {
        "at most 7 days, the longest that a TLS session may live (RFC 8446 section 4.6.1)"
    } else if window < SHORTEST_WINDOW {
        "at least a second"
    } else {
        return;
    };
    let longest = spans.into_iter().max_by_key(|(_, span)| *span).unwrap_or(("length", shift.length));
    let sum = notation::duration_text(window);
    let value = notation::duration_text(longest.1);
    let message = format!("length + breaks + lunch is {sum}, expected {expected}");
    problems.push(provenance.problem(&format!("shift.{}", longest.0), Some(&value), message));
}

/// What judges by the ranges needs to be told where they are.
fn ranges(config: &Config, provenance: &Provenance, problems: &mut Vec<Problem>) {
    if config.ranges.is_named() {
        return;
    }
    let policy = &config.policy;
    let wanting = [
        ("policy.ranges", policy.ranges.into_str(), policy.ranges != OutsideRanges::Off),
        ("policy.ip_targets", policy.ip_targets.into_str(), policy.ip_targets != IpTargets::Off),
    ];
    for (key, value, _) in wanting.into_iter().filter(|(.., wants)| *wants) {
        let message = format!(
            "there are no ranges to judge by, expected ranges.url = \"{ADDRESS}\" or ranges.file beside it"
        );
        problems.push(provenance.problem(key, Some(value), message));
    }
}

/// A certificate without its key, or the other way round, would be served as clear text.
fn edl_files(config: &Config, provenance: &Provenance, problems: &mut Vec<Problem>) {
    let edl = &config.edl;
    let (key, other) = match (&edl.certificate, &edl.key) {
        (Some(_), None) => ("edl.certificate", "edl.key"),
        (None, Some(_)) => ("edl.key", "edl.certificate"),
        _ => return,
    };
    let message = format!("stands alone, expected {other} beside it, for HTTPS, or neither, for HTTP");
    problems.push(provenance.problem(key, None, message));
}

fn listeners(config: &Config, provenance: &Provenance, problems: &mut Vec<Problem>) {
    if config.proxy.listen.is_empty() && config.tls.listen.is_empty() {
        let message = "there is nothing to listen on, expected an address here or in tls.listen";
        problems.push(provenance.problem("proxy.listen", None, message));
    }
    let lists = [
        ("proxy.listen", &config.proxy.listen),
        ("tls.listen", &config.tls.listen),
        ("edl.listen", &config.edl.listen),
    ];
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    let listed = lists.into_iter().flat_map(|(key, list)| {
        list.iter().enumerate().map(move |(index, address)| (format!("{key}[{index}]"), *address))
    });
    for (key, address) in listed.chain([("admin.listen".to_owned(), config.admin.listen)]) {
        if let Some((other, found)) = taken.iter().find(|(_, other)| collide(*other, address)) {
            let message =
                format!("{other} = \"{found}\" takes this address, expected another port or address");
            problems.push(provenance.problem(&key, Some(&address.to_string()), message));
        }
        taken.push((key, address));
    }
}

/// Whether two listeners cannot both be bound: port 0 never collides, an unspecified address
/// takes its port on every address of its family.
pub(crate) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let unspecified = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || (unspecified && a.is_ipv4() == b.is_ipv4()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_as_the_system_sees_it() {
        let collide = |a: &str, b: &str| collide(a.parse().unwrap(), b.parse().unwrap());
        assert!(collide("127.0.0.1:1", "127.0.0.1:1"));
        assert!(collide("0.0.0.0:1", "127.0.0.1:1"));
        assert!(collide("[::1]:1", "[::]:1"));
        assert!(!collide("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!collide("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!collide("0.0.0.0:1", "[::]:1"));
    }
}
