#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
//! The source against its bands: which room may import which, that the pure rooms do no I/O, and that
//! no two files need each other. It reads `use` lines and paths within the code, tests left out. Each
//! check is shown to notice a breach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Rooms that compute and do nothing else. They import one another alone.
const PURE: &[&str] = &[
    "as_text",
    "digest",
    "lock",
    "wording",
    "target",
    "address",
    "policy",
    "catalogue",
    "explain",
    "pac",
    "outcome",
    "cause",
    "findings",
    "ranges",
    "export",
    "bundle",
    "desk",
];

/// Rooms with one means of I/O each. They import the pure rooms and `net`.
const MECHANISMS: &[&str] = &["egress", "tunnel", "tls", "net", "journal", "agent", "simulate"];

/// What the other rooms may import besides the pure ones: a room, or an item within it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // A parent proxy over https: its TLS, and the bytes that came with its answer.
    ("egress", &["net", "tls", "tunnel"]),
    ("tunnel", &["net"]),
    ("tls", &["net"]),
    ("net", &[]),
    ("journal", &["net"]),
    // It goes the proxy's way, and reads authorities from PEM.
    ("agent", &["net", "egress", "tls"]),
    ("simulate", &["net"]),
    // The words that configure a mechanism belong to it.
    (
        "config",
        &[
            "egress::url",
            "journal::log::Format",
            "journal::log::Level",
            "tls::Alpn",
            "tls::Window",
            "tunnel::hello::Check",
        ],
    ),
    ("plan", &["config", "egress", "tls::material"]),
    // Why a target isn't reached is said in the words of what reaches it.
    ("diagnose", &["agent", "egress", "plan"]),
    // Why a call fails is said in the words of `check`.
    ("rehearse", &["agent", "egress", "plan", "diagnose"]),
    ("proxy", &["egress", "tunnel", "tls", "net", "journal", "config", "plan"]),
    // The passwords of `edl.users` are a file that nobody else should read.
    ("admin", &["proxy", "journal", "net", "tls::secret"]),
    (
        "serve",
        &[
            "egress", "tunnel", "tls", "net", "journal", "agent", "config", "plan", "diagnose", "proxy",
            "admin",
        ],
    ),
    (
        "cli",
        &[
            "egress", "tunnel", "tls", "net", "journal", "agent", "simulate", "config", "plan", "diagnose",
            "rehearse", "proxy", "admin", "serve",
        ],
    ),
];

/// Files of pure rooms that are their room's only I/O.
const DOORS: &[&str] = &["ranges/keep.rs"];

/// What no pure room touches: runtime, sockets, files, logging, the process, the command line.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_rustls",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "rustix",
    "libc",
    "socket2",
    "tracing",
    "tracing_subscriber",
    "prometheus",
    "clap",
    "figment",
    "std::fs",
    "std::env",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
];

/// A source file below `src` by its path, without comments, literals and tests.
type Sources = BTreeMap<String, String>;

/// All source files below `folder`. Those that are tests are left out.
fn sources(folder: &Path) -> Sources {
    let mut found = Sources::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let is_test = name.split('/').any(|part| part.trim_end_matches(".rs").ends_with("tests"));
            if is_test {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.insert(name, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// A file's text without its comments, literals and tests, which stand last.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or(line);
        // What stands between quotes is no path. A text over several lines is taken apart the wrong way
        // round, and hides the rest of its first and last line at most.
        let outside = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        code.push_str(&outside);
        code.push('\n');
    }
    code
}

/// Every path in the code with at least two parts; `use` trees are taken apart.
fn paths(code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for statement in code.split(';') {
        let at = statement
            .rfind("use ")
            .filter(|at| statement[..*at].chars().next_back().is_none_or(char::is_whitespace));
        match at {
            Some(at) => {
                inline(&statement[..at], &mut found);
                tree(&mut Vec::new(), &statement[at + 4..], &mut found);
            }
            None => inline(statement, &mut found),
        }
    }
    found
}

/// A tree such as `a::{b, c::{d, e as f}}`.
fn tree(above: &mut Vec<String>, text: &str, found: &mut BTreeSet<Vec<String>>) {
    let mut depth = 0;
    let branches = text.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for branch in branches.map(str::trim).filter(|branch| !branch.is_empty()) {
        let (path, below) = match branch.split_once('{') {
            Some((path, below)) => (path.trim_end_matches("::"), below.strip_suffix('}')),
            None => (branch.split(" as ").next().unwrap_or(branch), None),
        };
        let parts: Vec<String> = path.split("::").map(|part| part.trim().to_owned()).collect();
        let before = above.len();
        above.extend(parts.into_iter().filter(|part| !part.is_empty() && part != "self" || before == 0));
        match below {
            Some(below) => tree(above, below, found),
            None => {
                found.insert(above.clone());
            }
        }
        above.truncate(before);
    }
}

/// Paths outside of `use` lines.
fn inline(code: &str, found: &mut BTreeSet<Vec<String>>) {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for path in code.split(|c: char| !is_path(c)).filter(|path| path.contains("::")) {
        let parts = path.split("::").filter(|part| !part.is_empty());
        found.insert(parts.map(str::to_owned).collect());
    }
}

/// `a/b.rs` and `a/b/mod.rs` as `a::b`.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// A path in a file of ours, from the top of the crate; none where it leads out of it.
fn from_the_top(file: &str, path: &[String]) -> Option<Vec<String>> {
    let mut at = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "super" | "self" => module(file),
        _ => return None,
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => {
                at.pop();
            }
            part => at.push(part.to_owned()),
        }
    }
    Some(at)
}

/// What stands against the bands: the file, and the path that it must not name.
fn breaches(sources: &Sources) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (file, code) in sources {
        let room = module(file)[0].clone();
        if ["lib", "main"].contains(&room.as_str()) || DOORS.contains(&file.as_str()) {
            continue;
        }
        let is_pure = PURE.contains(&room.as_str());
        let allowed = MAY_IMPORT.iter().find(|(known, _)| *known == room).map(|(_, allowed)| *allowed);
        if !is_pure && allowed.is_none() {
            found.insert((file.clone(), "a room that is in no band".to_owned()));
            continue;
        }
        for path in paths(code) {
            let of = |path: &[String], list: &[&str]| {
                list.iter().any(|known| format!("{}::", path.join("::")).starts_with(&format!("{known}::")))
            };
            match from_the_top(file, &path) {
                Some(ours) => {
                    // An item of the crate itself, such as its version, is nobody's room.
                    let rooms = sources.keys().any(|file| module(file)[0] == ours[0]);
                    let is_fine = !rooms || ours[0] == room || of(&ours, PURE);
                    if !is_fine && !of(&ours, allowed.unwrap_or_default()) {
                        found.insert((file.clone(), ours[0].clone()));
                    }
                }
                None if is_pure && of(&path, IMPURE) => {
                    found.insert((file.clone(), path.join("::")));
                }
                None => {}
            }
        }
    }
    found
}

/// The files that each file names. A module and those inside it are one: it is their door.
fn needs(sources: &Sources) -> BTreeMap<&str, BTreeSet<&str>> {
    let files: BTreeMap<Vec<String>, &str> =
        sources.keys().map(|file| (module(file), file.as_str())).collect();
    let mut all = BTreeMap::new();
    for (file, code) in sources {
        let own = module(file);
        let named = paths(code).into_iter().filter_map(|path| {
            let path = from_the_top(file, &path)?;
            (1..=path.len()).rev().find_map(|length| files.get_key_value(&path[..length]))
        });
        let others = named.filter(|(other, _)| !own.starts_with(other) && !other.starts_with(&own));
        all.insert(file.as_str(), others.map(|(_, file)| *file).collect());
    }
    all
}

/// Groups of files each of which needs all the others, directly or over others.
fn circles(sources: &Sources) -> BTreeSet<Vec<String>> {
    let needs = needs(sources);
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = needs[from].iter().copied().collect();
        while let Some(file) = next.pop() {
            if reached.insert(file) {
                next.extend(&needs[file]);
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = needs.keys().map(|file| (*file, reached(file))).collect();
    let circle = |file: &str| {
        let both = |other: &&&str| reached[*other].contains(file);
        reached[file].iter().filter(both).map(|file| (*file).to_owned()).collect::<Vec<_>>()
    };
    needs.keys().filter(|file| reached[**file].contains(**file)).map(|file| circle(file)).collect()
}

fn ours() -> Sources {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 80, "{}", sources.len());
    sources
}

/// A tree of files that never were.
fn made_up(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(name, text)| ((*name).to_owned(), code(text))).collect()
}

#[test]
fn every_room_imports_what_its_band_may() {
    let found = breaches(&ours());
    assert!(found.is_empty(), "against the bands: {found:#?}");
}

#[test]
fn no_files_need_each_other() {
    let found = circles(&ours());
    assert!(found.is_empty(), "circles: {found:#?}");
}

#[test]
fn the_bands_have_every_room_once() {
    let named: Vec<&str> = PURE.iter().copied().chain(MAY_IMPORT.iter().map(|(room, _)| *room)).collect();
    assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
    assert!(MECHANISMS.iter().all(|room| named.contains(room)));
}

#[test]
fn breaches_are_noticed() {
    let files = [
        ("config/mod.rs", "use crate::tls::{Alpn, session::Store};"),
        ("policy/mod.rs", "use std::{fmt, fs};\nuse crate::config::Config;"),
        ("policy/rule.rs", "fn f() { super::super::proxy::run(); tracing::info!(\"crate::x::y\"); }"),
        ("policy/index.rs", "// use crate::proxy::X;\nuse super::rule; use std::net::IpAddr;"),
        ("pac/mod.rs", "use crate::policy::X;\n#[cfg(test)]\nmod tests { use crate::config::Config; }"),
        ("proxy/mod.rs", "pub(crate) use crate::{journal::log, serve as life, net::watch::{self, X}};"),
        ("tls/mod.rs", "use crate::net;"),
        ("serve/mod.rs", "fn f() -> &'static str { crate::VERSION }"),
        ("journal/log.rs", ""),
        ("net/watch.rs", ""),
        ("attic/mod.rs", ""),
    ];
    let found = breaches(&made_up(&files));
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        found,
        [
            ("attic/mod.rs", "a room that is in no band"),
            ("config/mod.rs", "tls"),
            ("policy/mod.rs", "config"),
            ("policy/mod.rs", "std::fs"),
            ("policy/rule.rs", "proxy"),
            ("policy/rule.rs", "tracing::info"),
            ("proxy/mod.rs", "serve"),
        ]
    );
}

#[test]
fn circles_are_noticed() {
    let files = [
        ("a/mod.rs", "mod one; mod two; use one::X;"),
        ("a/one.rs", "use super::two::Y; use super::three::{deep::Z};"),
        ("a/two.rs", "use crate::a::three;"),
        ("a/three.rs", "mod deep; use deep::Z; fn f() { super::one::g(); }"),
        ("a/three/deep.rs", "use super::T; use super::super::four;"),
        ("a/four.rs", "use std::fmt;"),
    ];
    let found = circles(&made_up(&files));
    assert_eq!(found, BTreeSet::from([["a/one.rs", "a/three.rs", "a/two.rs"].map(str::to_owned).to_vec()]));
}
