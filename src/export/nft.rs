//! The rules for nft: one table `inet ccpgate` with named sets and a chain to jump to, loaded as one
//! transaction, the same however often it is loaded.
//!
//! The table is not deleted first: somebody's own chain in it may jump to ours, counters go on, and the
//! addresses that TURN names resolved into stay. Sets of prefixes are aggregated already, so none has
//! `auto-merge`; the set by name has no `interval`, since merging and time-outs together have fused
//! elements to networks that nobody asked for.

use std::fmt::Write as _;

use super::firewall::{BY_NAME_HOURS, Firewall, Hook, prefixes, purpose, return_ports};
use crate::ranges::select::{Selected, Set};

const TABLE: &str = "inet ccpgate";

/// Both families: the suffix of a set, its type, the word in a rule, and whether it is IPv4.
const FAMILIES: [(&str, &str, &str, bool); 2] =
    [("v4", "ipv4_addr", "ip", true), ("v6", "ipv6_addr", "ip6", false)];

/// Everything that `nft -f` takes.
#[must_use]
pub fn nft(firewall: &Firewall<'_>) -> String {
    let mut text = "#!/usr/sbin/nft -f\n".to_owned();
    for line in firewall.head() {
        let _ = writeln!(text, "# {line}");
    }
    text.push_str(match firewall.hook {
        None => {
            "# Load with nft -f. A chain of your own in this table jumps to `allow`; what another table drops\n\
             # stays dropped.\n"
        }
        Some(_) => "# Load with nft -f. What another table drops stays dropped.\n",
    });
    declare(firewall, &mut text);
    empty(firewall, &mut text);
    fill(firewall, &mut text);
    rules(firewall, &mut text);
    text
}

/// Tables, sets, counters and chains: what is there already stays as it is.
fn declare(firewall: &Firewall<'_>, text: &mut String) {
    let _ = writeln!(text, "\ntable {TABLE} {{");
    for Selected { set, .. } in firewall.sets() {
        let name = set.name();
        for (suffix, kind, ..) in FAMILIES {
            let _ = writeln!(text, "    set {name}_{suffix} {{ type {kind}; flags interval; }}");
        }
        let _ = writeln!(text, "    counter {name} {{ }}");
    }
    if firewall.media {
        for (suffix, kind, ..) in FAMILIES {
            let _ = writeln!(
                text,
                "    set turn_by_name_{suffix} {{ type {kind}; flags timeout; timeout {BY_NAME_HOURS}h; }}"
            );
        }
        text.push_str("    counter turn_by_name { }\n");
    }
    if firewall.stateless {
        text.push_str("    counter returned { }\n    chain allow_in { }\n");
    }
    if firewall.hook.is_some() {
        for (protocol, port) in firewall.closed() {
            let _ = writeln!(text, "    counter dropped_{}_{port} {{ }}", <&str>::from(protocol));
        }
    }
    text.push_str("    chain allow { }\n");
    for (chain, hook) in base_chains(firewall) {
        let _ =
            writeln!(text, "    chain {chain} {{ type filter hook {hook} priority filter; policy accept; }}");
    }
    text.push_str("}\n");
}

/// The base chains that this hook has, each with the kernel's name for it.
fn base_chains(firewall: &Firewall<'_>) -> Vec<(&'static str, &'static str)> {
    match firewall.hook {
        None => Vec::new(),
        Some(Hook::Forward) => vec![("on_forward", "forward")],
        Some(Hook::Output) if firewall.stateless => vec![("on_output", "output"), ("on_input", "input")],
        Some(Hook::Output) => vec![("on_output", "output")],
    }
}

/// Takes out what an earlier load put in.
fn empty(firewall: &Firewall<'_>, text: &mut String) {
    text.push('\n');
    let ours = base_chains(firewall);
    for chain in ["on_forward", "on_output", "on_input"] {
        if ours.iter().any(|(name, _)| *name == chain) {
            let _ = writeln!(text, "flush chain {TABLE} {chain}");
        } else {
            // Adding it first makes the rest hold where it isn't there.
            let _ = writeln!(text, "add chain {TABLE} {chain}");
            let _ = writeln!(text, "flush chain {TABLE} {chain}");
            let _ = writeln!(text, "delete chain {TABLE} {chain}");
        }
    }
    let _ = writeln!(text, "flush chain {TABLE} allow");
    if !firewall.stateless {
        // What an earlier load with `--stateless` let in; somebody's chain may jump to it.
        let _ = writeln!(text, "add chain {TABLE} allow_in");
    }
    let _ = writeln!(text, "flush chain {TABLE} allow_in");
    for Selected { set, .. } in firewall.sets() {
        for (suffix, ..) in FAMILIES {
            let _ = writeln!(text, "flush set {TABLE} {}_{suffix}", set.name());
        }
    }
}

fn fill(firewall: &Firewall<'_>, text: &mut String) {
    for Selected { set, table, .. } in firewall.sets() {
        for (suffix, _, _, ipv4) in FAMILIES {
            let prefixes = prefixes(table, ipv4);
            if prefixes.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\nadd element {TABLE} {}_{suffix} {{", set.name());
            for prefix in prefixes {
                let _ = writeln!(text, "    {prefix},");
            }
            text.push_str("}\n");
        }
    }
    if firewall.by_name.is_empty() {
        return;
    }
    text.push('\n');
    for (suffix, _, _, ipv4) in FAMILIES {
        for address in firewall.by_name(ipv4) {
            // One that is there keeps its old time-out unless it is taken out first.
            let set = format!("{TABLE} turn_by_name_{suffix}");
            let _ = writeln!(text, "add element {set} {{ {address} }}");
            let _ = writeln!(text, "delete element {set} {{ {address} }}");
            let _ = writeln!(text, "add element {set} {{ {address} timeout {BY_NAME_HOURS}h }}");
        }
    }
}

fn rules(firewall: &Firewall<'_>, text: &mut String) {
    let _ = writeln!(text, "\ntable {TABLE} {{\n    chain allow {{");
    for Selected { set, .. } in firewall.sets() {
        let row = set.row();
        let (name, protocol) = (set.name(), <&str>::from(row.protocol));
        for (suffix, _, word, _) in FAMILIES {
            for port in &row.ports {
                let _ = writeln!(
                    text,
                    "        {word} daddr @{name}_{suffix} {protocol} dport {port} counter name {name} accept \
                     comment \"{}: {}\"",
                    purpose(*set),
                    source(*set, firewall.create_date)
                );
            }
        }
    }
    if firewall.media {
        for (suffix, _, word, _) in FAMILIES {
            let _ = writeln!(
                text,
                "        {word} daddr @turn_by_name_{suffix} udp dport 3478 counter name turn_by_name accept \
                 comment \"voice: addresses of the TURN names\""
            );
        }
    }
    text.push_str("    }\n");
    if firewall.stateless {
        text.push_str("    chain allow_in {\n");
        let mut sets: Vec<&str> = firewall.returns().map(|selected| selected.set.name()).collect();
        if firewall.media {
            sets.push("turn_by_name");
        }
        for name in sets {
            for (suffix, _, word, _) in FAMILIES {
                for ports in return_ports() {
                    let _ = writeln!(
                        text,
                        "        {word} saddr @{name}_{suffix} udp sport 3478 udp dport {ports} counter name \
                         returned accept comment \"what comes back of the voice\""
                    );
                }
            }
        }
        text.push_str("    }\n");
    }
    for (chain, hook) in base_chains(firewall) {
        let _ = writeln!(text, "    chain {chain} {{");
        if hook != "input" {
            outbound(firewall, text);
        }
        if firewall.stateless && hook != "output" {
            text.push_str("        jump allow_in\n");
        }
        text.push_str("    }\n");
    }
    text.push_str("}\n");
}

/// What is listed passes, and the rest of those ports doesn't. A call that has begun goes on where its
/// prefix leaves the list.
fn outbound(firewall: &Firewall<'_>, text: &mut String) {
    if !firewall.stateless {
        for (protocol, port) in firewall.closed() {
            let protocol: &str = protocol.into();
            let _ = writeln!(
                text,
                "        {protocol} dport {port} ct state established accept comment \"what has begun goes on\""
            );
        }
    }
    text.push_str("        jump allow\n");
    for (protocol, port) in firewall.closed() {
        let protocol: &str = protocol.into();
        let _ = writeln!(
            text,
            "        {protocol} dport {port} counter name dropped_{protocol}_{port} drop comment \"not on the list\""
        );
    }
}

/// Where a set comes from, in few words: a comment may have 128 bytes.
fn source(set: Set, create_date: &str) -> String {
    match &set.row().service {
        Some(service) => format!("{service}, ip-ranges.json of {create_date}"),
        None => "by AWS's documentation".to_owned(),
    }
}
