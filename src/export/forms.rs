//! How each product writes its entries. Fragments to include, not whole configurations.

use std::fmt::Write as _;

use serde_json::json;

use super::entry::{Cover, Entry, Product};
use crate::policy::Pattern;

/// The first id of the rules for Suricata, in its range for local ones.
const FIRST_SID: u32 = 1_347_800;

/// What the acl for Squid is called.
const ACL: &str = "ccpgate";

/// The fragment.
pub(super) fn write(product: Product, entries: &[Entry], deny: &[Pattern]) -> String {
    let deny: Vec<&Pattern> = deny.iter().filter(|pattern| product.can_deny(pattern)).collect();
    match product {
        Product::Squid => squid(entries, &deny),
        Product::Smokescreen => smokescreen(entries),
        Product::Envoy => envoy(entries, &deny),
        Product::Suricata => suricata(entries, &deny),
        Product::Fortigate => fortigate(entries, &deny),
        Product::AwsNetworkFirewall => network_firewall(entries),
        Product::Paloalto => lines(entries, |cover| match cover {
            // Without the slash, `x` also stands for `x.evil.example`.
            Cover::Below(suffix) => format!("*.{suffix}/"),
            Cover::Host(text) | Cover::From(text) | Cover::Tokens(text) => format!("{text}/"),
            Cover::Pattern(pattern) => format!("{pattern}/"),
        }),
        Product::Zscaler => lines(entries, dotted),
        Product::Checkpoint => lines(entries, |cover| match cover {
            Cover::Below(suffix) => format!("*.{suffix}"),
            other => plain(other),
        }),
        Product::Umbrella => lines(entries, plain),
    }
}

fn lines(entries: &[Entry], line: impl Fn(&Cover) -> String) -> String {
    let mut all: Vec<String> = entries.iter().filter_map(|entry| entry.cover.as_ref().map(&line)).collect();
    all.sort_unstable();
    all.dedup();
    all.iter().fold(String::new(), |text, line| text + line + "\n")
}

fn plain(cover: &Cover) -> String {
    match cover {
        Cover::Host(text) | Cover::From(text) | Cover::Below(text) | Cover::Tokens(text) => text.clone(),
        Cover::Pattern(pattern) => pattern.to_string(),
    }
}

/// With a dot in front for a name and all below.
fn dotted(cover: &Cover) -> String {
    match cover {
        Cover::From(suffix) => format!(".{suffix}"),
        other => plain(other),
    }
}

/// What a pattern covers, from end to end. Hosts have no empty label.
fn regex(pattern: &Pattern) -> String {
    let text = pattern.as_str();
    let (front, rest) = match text.strip_prefix("*.") {
        Some(rest) => (r"^.+\.", rest),
        None => ("^", text),
    };
    let mut regex = front.to_owned();
    for c in rest.chars() {
        match c {
            '*' => regex.push_str("[^.]*"),
            '.' => regex.push_str(r"\."),
            other => regex.push(other),
        }
    }
    regex.push('$');
    regex
}

fn squid(entries: &[Entry], deny: &[&Pattern]) -> String {
    let mut text = "# Amazon Connect, by ccpgate. Then: http_access allow CONNECT ccpgate\n".to_owned();
    let (mut names, mut patterns) = (false, false);
    for entry in entries {
        let _ = writeln!(text, "# {}", entry.note());
        match &entry.cover {
            Some(Cover::Host(host)) => {
                names = true;
                // Without -n an address as target is looked up in reverse.
                let _ = writeln!(text, "acl ccpgate_names dstdomain -n {host}");
            }
            Some(_) => {
                patterns = true;
                let _ = writeln!(text, "acl ccpgate_patterns dstdom_regex -n -i {}", regex(&entry.pattern));
            }
            None => {}
        }
    }
    let listed: Vec<&str> = [(names, "ccpgate_names"), (patterns, "ccpgate_patterns")]
        .iter()
        .filter(|x| x.0)
        .map(|x| x.1)
        .collect();
    if listed.is_empty() {
        let _ = writeln!(text, "acl {ACL} none");
        return text;
    }
    let _ = writeln!(text, "acl ccpgate_listed any-of {}", listed.join(" "));
    for pattern in deny {
        let _ = writeln!(text, "# policy.deny: {pattern}");
        let _ = writeln!(text, "acl ccpgate_denied dstdom_regex -n -i {}", regex(pattern));
    }
    let _ = match deny.is_empty() {
        true => writeln!(text, "acl {ACL} all-of ccpgate_listed"),
        false => writeln!(text, "acl {ACL} all-of ccpgate_listed !ccpgate_denied"),
    };
    text
}

fn smokescreen(entries: &[Entry]) -> String {
    let mut text =
        "# Amazon Connect, by ccpgate: of a service, or of the default.\nallowed_domains:\n".to_owned();
    let glob = |cover: &Cover| match cover {
        Cover::Below(suffix) => format!("*.{suffix}"),
        other => plain(other),
    };
    for entry in entries {
        match &entry.cover {
            Some(cover) => {
                let _ = writeln!(text, "  - \"{}\" # {}", glob(cover), entry.note());
            }
            None => {
                let _ = writeln!(text, "  # {}", entry.note());
            }
        }
    }
    text
}

fn envoy(entries: &[Entry], deny: &[&Pattern]) -> String {
    let matcher = |pattern: &Pattern| match pattern.as_str().strip_prefix("*.") {
        _ if pattern.is_exact() => format!("{{ exact: \"{pattern}\", ignore_case: true }}"),
        Some(suffix) if !suffix.contains('*') => format!("{{ suffix: \".{suffix}\", ignore_case: true }}"),
        _ => format!("{{ safe_regex: {{ regex: '(?i){}' }} }}", regex(pattern)),
    };
    let mut text =
        "# Amazon Connect, by ccpgate: of an RBAC policy with action ALLOW, behind the TLS inspector.\n\
                    permissions:\n- and_rules:\n    rules:\n    - or_rules:\n        rules:\n"
            .to_owned();
    for entry in entries {
        match &entry.cover {
            Some(_) => {
                let _ = writeln!(
                    text,
                    "        - requested_server_name: {} # {}",
                    matcher(&entry.pattern),
                    entry.note()
                );
            }
            None => {
                let _ = writeln!(text, "        # {}", entry.note());
            }
        }
    }
    for pattern in deny {
        let _ = writeln!(text, "    - not_rule: {{ requested_server_name: {} }}", matcher(pattern));
    }
    text
}

fn suricata(entries: &[Entry], deny: &[&Pattern]) -> String {
    let pcre = |pattern: &Pattern| format!("\"/{}/i\"", regex(pattern));
    let mut text =
        "# Amazon Connect, by ccpgate: pass rules; a drop of all other TLS goes below them.\n".to_owned();
    let mut sid = FIRST_SID;
    for entry in entries {
        let _ = writeln!(text, "# {}", entry.note());
        let (name, found) = match &entry.cover {
            Some(Cover::Host(host)) => (host, format!("content:\"{host}\"; startswith; endswith; nocase;")),
            Some(Cover::Below(suffix)) => (suffix, format!("content:\".{suffix}\"; endswith; nocase;")),
            Some(other) => {
                // What stands behind the last star is found faster than the expression.
                let content = match entry.pattern.literal_suffix() {
                    "" => String::new(),
                    suffix => format!("content:\".{suffix}\"; endswith; nocase; "),
                };
                let found = format!("{content}pcre:{};", pcre(&entry.pattern));
                (&plain(other), found)
            }
            None => continue,
        };
        // A pass can't be taken back by a later rule, so what is denied isn't passed.
        let not = deny.iter().filter(|deny| super::overlap::witness(&entry.pattern, deny).is_some());
        let not: String = not.map(|deny| format!(" pcre:!{};", pcre(deny))).collect();
        let ports: Vec<String> = entry.ports.iter().map(u16::to_string).collect();
        let _ = writeln!(
            text,
            "pass tls any any -> any [{}] (msg:\"ccpgate {name}\"; tls.sni; {found}{not} sid:{sid}; rev:1;)",
            ports.join(",")
        );
        sid += 1;
    }
    text
}

fn fortigate(entries: &[Entry], deny: &[&Pattern]) -> String {
    let mut text =
        "config webfilter urlfilter\n    edit 0\n        set name \"ccpgate\"\n        config entries\n"
            .to_owned();
    // The URL begins with the host, and goes on with its path.
    let url = |pattern: &Pattern| {
        let regex = regex(pattern).replace("[^.]*", "[^./]*").replace("^.+", "^[^/]+");
        format!("{}(/|$)", regex.trim_end_matches('$'))
    };
    let denied = deny.iter().map(|pattern| (*pattern, "block"));
    let allowed = entries.iter().filter(|entry| entry.cover.is_some()).map(|e| (&e.pattern, "allow"));
    for (at, (pattern, action)) in denied.chain(allowed).enumerate() {
        let url = url(pattern).replace('\\', "\\\\");
        let _ = writeln!(
            text,
            "            edit {}\n                set url \"{url}\"\n                set type regex\n                set action {action}\n            next",
            at + 1
        );
    }
    text.push_str("        end\n    next\nend\n");
    text
}

fn network_firewall(entries: &[Entry]) -> String {
    let mut targets: Vec<String> =
        entries.iter().filter_map(|entry| entry.cover.as_ref().map(dotted)).collect();
    targets.sort_unstable();
    targets.dedup();
    let list = json!({
        "RulesSource": { "RulesSourceList": {
            "Targets": targets,
            "TargetTypes": ["TLS_SNI"],
            "GeneratedRulesType": "ALLOWLIST",
        } },
    });
    format!("{list:#}\n")
}
