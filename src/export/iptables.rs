//! The rules for iptables: a shell script of `ipset restore` and of `iptables-restore` and
//! `ip6tables-restore`, which is the same however often it runs.
//!
//! Each set is filled beside the old one and swapped with it, and each chain is replaced in one commit, so
//! there is no moment without rules.

use std::fmt::Write as _;

use super::firewall::{BY_NAME_HOURS, Firewall, Hook, prefixes, purpose, return_ports};
use crate::ranges::select::{Selected, Set};

/// Both families: the suffix of a set, the word of ipset, the program, and whether it is IPv4.
const FAMILIES: [(&str, &str, &str, bool); 2] =
    [("v4", "inet", "iptables", true), ("v6", "inet6", "ip6tables", false)];

/// So many prefixes fit in a set.
const MOST: usize = 65_536;

/// A script for `sh`.
#[must_use]
pub fn iptables(firewall: &Firewall<'_>) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    for line in firewall.head() {
        let _ = writeln!(text, "# {line}");
    }
    text.push_str(match firewall.hook {
        None => "# Run with sh, as root. A rule of your own jumps to the chain CCPGATE.\n",
        Some(_) => "# Run with sh, as root.\n",
    });
    text.push_str("set -eu\n\n# ipset restore\nipset restore <<'END'\n");
    sets(firewall, &mut text);
    text.push_str("END\n");
    for (suffix, _, program, _) in FAMILIES {
        let _ = writeln!(text, "\n# {program}-restore\n{program}-restore --noflush <<'END'");
        chains(firewall, suffix, &mut text);
        text.push_str("END\n");
    }
    if firewall.hook.is_some() {
        text.push_str("\n# once, in front of what is there\n");
        for (.., program, _) in FAMILIES {
            for (chain, ours) in jumps(firewall) {
                let _ = writeln!(
                    text,
                    "{program} -C {chain} -j {ours} 2>/dev/null || {program} -I {chain} -j {ours}"
                );
            }
        }
    }
    text
}

/// A set's name; the kernel takes 31 bytes.
fn name(set: Set) -> &'static str {
    match set {
        Set::Media => "ccpgate-media",
        Set::Video => "ccpgate-video",
        Set::Ec2 => "ccpgate-ec2",
        Set::Cloudfront => "ccpgate-cloudfront",
        Set::S3 => "ccpgate-s3",
    }
}

const BY_NAME: &str = "ccpgate-turn";

fn sets(firewall: &Firewall<'_>, text: &mut String) {
    for Selected { set, table, .. } in firewall.sets() {
        for (suffix, family, _, ipv4) in FAMILIES {
            let name = format!("{}-{suffix}", name(*set));
            for name in [name.clone(), format!("{name}-new")] {
                let _ = writeln!(text, "create {name} hash:net family {family} maxelem {MOST} -exist");
            }
            let _ = writeln!(text, "flush {name}-new");
            for prefix in prefixes(table, ipv4) {
                let _ = writeln!(text, "add {name}-new {prefix}");
            }
            let _ = writeln!(text, "swap {name}-new {name}\ndestroy {name}-new");
        }
    }
    if !firewall.media {
        return;
    }
    let seconds = BY_NAME_HOURS * 3600;
    for (suffix, family, _, ipv4) in FAMILIES {
        let name = format!("{BY_NAME}-{suffix}");
        let _ = writeln!(text, "create {name} hash:ip family {family} timeout {seconds} -exist");
        for address in firewall.by_name(ipv4) {
            let _ = writeln!(text, "add {name} {address} timeout {seconds} -exist");
        }
    }
}

fn chains(firewall: &Firewall<'_>, suffix: &str, text: &mut String) {
    // The second is emptied of what an earlier run with `--stateless` let in.
    text.push_str("*filter\n:CCPGATE - [0:0]\n:CCPGATE-IN - [0:0]\n");
    let closed: Vec<(&str, u16)> =
        firewall.closed().into_iter().map(|(protocol, port)| (protocol.into(), port)).collect();
    if firewall.hook.is_some() && !firewall.stateless {
        for (protocol, port) in &closed {
            // A call that has begun goes on where its prefix leaves the list.
            let _ = writeln!(
                text,
                "-A CCPGATE -p {protocol} -m {protocol} --dport {port} -m conntrack --ctstate ESTABLISHED -j ACCEPT"
            );
        }
    }
    for Selected { set, .. } in firewall.sets() {
        let row = set.row();
        let protocol: &str = row.protocol.into();
        for port in &row.ports {
            let _ = writeln!(
                text,
                "-A CCPGATE -p {protocol} -m {protocol} --dport {port} -m set --match-set {}-{suffix} dst -m comment --comment \"{}\" -j ACCEPT",
                name(*set),
                purpose(*set)
            );
        }
    }
    if firewall.media {
        let _ = writeln!(
            text,
            "-A CCPGATE -p udp -m udp --dport 3478 -m set --match-set {BY_NAME}-{suffix} dst -m comment --comment \"voice, by name\" -j ACCEPT"
        );
    }
    if firewall.hook.is_some() {
        for (protocol, port) in &closed {
            let _ = writeln!(
                text,
                "-A CCPGATE -p {protocol} -m {protocol} --dport {port} -m comment --comment \"not on the list\" -j DROP"
            );
        }
    }
    if firewall.stateless {
        let mut sets: Vec<&str> = firewall.returns().map(|selected| name(selected.set)).collect();
        if firewall.media {
            sets.push(BY_NAME);
        }
        for set in sets {
            for ports in return_ports() {
                let ports = ports.replace('-', ":");
                let _ = writeln!(
                    text,
                    "-A CCPGATE-IN -p udp -m udp --sport 3478 --dport {ports} -m set --match-set {set}-{suffix} src -j ACCEPT"
                );
            }
        }
    }
    text.push_str("COMMIT\n");
}

/// The kernel's chains that jump to ours.
fn jumps(firewall: &Firewall<'_>) -> Vec<(&'static str, &'static str)> {
    let (mut jumps, back) = match firewall.hook {
        None => return Vec::new(),
        Some(Hook::Forward) => (vec![("FORWARD", "CCPGATE")], ("FORWARD", "CCPGATE-IN")),
        Some(Hook::Output) => (vec![("OUTPUT", "CCPGATE")], ("INPUT", "CCPGATE-IN")),
    };
    if firewall.stateless {
        jumps.push(back);
    }
    jumps
}
