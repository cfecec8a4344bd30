//! How the lines of a Squid configuration decide about a host. An acl that isn't about hosts, such as one of
//! clients, is taken to fit together with those that are; alone it says nothing.

use std::collections::{HashMap, HashSet};

use crate::export::shape::Shape;

/// How deep groups may name groups.
const DEEPEST: usize = 100;

pub(super) enum Acl {
    /// Any of these.
    Hosts(Vec<(String, Option<Shape>)>),
    /// Any of other acls, by their names; with a `!` before it, what an acl doesn't fit.
    AnyOf(Vec<String>),
    /// All of them.
    AllOf(Vec<String>),
}

impl Acl {
    /// The names of the acls that it is made of, each as it stands there.
    pub(super) fn parts(&self) -> &[String] {
        match self {
            Self::Hosts(_) => &[],
            Self::AnyOf(parts) | Self::AllOf(parts) => parts,
        }
    }
}

/// A line of `http_access`.
pub(super) struct Line {
    pub allow: bool,
    /// The acls that must fit together.
    pub acls: Vec<String>,
}

impl Line {
    /// Whether it is for every agent and every host, but for what it excepts.
    pub(super) fn is_for_all(&self) -> bool {
        self.acls.iter().all(|name| is_of_all(name) || name.starts_with('!'))
    }
}

/// The name of an acl without its `!`.
pub(super) fn bare(name: &str) -> &str {
    name.trim_start_matches('!')
}

/// Whether an acl is taken to fit every agent.
pub(super) fn is_of_all(name: &str) -> bool {
    matches!(name, "all" | "CONNECT" | "localnet")
}

/// The names of the acls that are about hosts, themselves or by what they are made of.
pub(super) fn of_hosts(acls: &[(String, Acl)]) -> HashSet<&str> {
    let mut owners: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, acl) in acls {
        for part in acl.parts() {
            owners.entry(bare(part)).or_default().push(name);
        }
    }
    let hosts = acls.iter().filter(|(_, acl)| matches!(acl, Acl::Hosts(_)));
    let mut next: Vec<&str> = hosts.map(|(name, _)| name.as_str()).collect();
    let mut found = HashSet::new();
    while let Some(name) = next.pop() {
        if found.insert(name) {
            next.extend(owners.get(name).into_iter().flatten());
        }
    }
    found
}

/// The lines in their order, each with whether it counts where all fits that is known to.
pub(super) struct Rules {
    acls: HashMap<String, Vec<Acl>>,
    lines: Vec<(Line, bool)>,
}

impl Rules {
    pub(super) fn new(acls: Vec<(String, Acl)>, lines: Vec<Line>) -> Self {
        let of_hosts = of_hosts(&acls);
        let counts =
            |line: &Line| line.is_for_all() || line.acls.iter().any(|name| of_hosts.contains(&**name));
        let lines = lines.into_iter().map(|line| {
            let counts = counts(&line);
            (line, counts)
        });
        let lines = lines.collect();
        let mut by_name: HashMap<String, Vec<Acl>> = HashMap::new();
        for (name, acl) in acls {
            by_name.entry(name).or_default().push(acl);
        }
        Self { acls: by_name, lines }
    }

    /// Whether a host, in lower case, is let through: the first line that fits decides. A line that allows fits
    /// as far as is known, one that denies for certain. What no line decides isn't let through.
    pub(super) fn lets(&self, host: &str) -> bool {
        let mut known = HashMap::new();
        for (Line { allow, acls }, counts) in &self.lines {
            let fits = join(false, acls.iter().map(|name| self.fits(name, host, &mut known, 0)));
            if fits.known == Some(true) && if *allow { *counts } else { fits.certain } {
                return *allow;
            }
        }
        false
    }

    fn fits<'a>(
        &'a self,
        name: &'a str,
        host: &str,
        known: &mut HashMap<&'a str, Fits>,
        depth: usize,
    ) -> Fits {
        let fits = match known.get(bare(name)) {
            Some(fits) => *fits,
            None => {
                // What it is while groups name one another.
                known.insert(bare(name), Fits::UNKNOWN);
                let mut of = |part: &'a String| self.fits(part, host, known, depth + 1);
                let fits = match self.acls.get(bare(name)) {
                    Some(acls) if depth < DEEPEST => {
                        let all = acls.iter().map(|acl| match acl {
                            Acl::Hosts(entries) => {
                                let mut shapes = entries.iter().filter_map(|(_, shape)| shape.as_ref());
                                Fits::certain(shapes.any(|shape| shape.matches(host)))
                            }
                            Acl::AnyOf(parts) => join(true, parts.iter().map(&mut of)),
                            Acl::AllOf(parts) => join(false, parts.iter().map(&mut of)),
                        });
                        join(true, all)
                    }
                    None if is_of_all(bare(name)) => Fits::certain(true),
                    _ => Fits::UNKNOWN,
                };
                known.insert(bare(name), fits);
                fits
            }
        };
        match name.starts_with('!') {
            true => Fits { known: fits.known.map(|fits| !fits), ..fits },
            false => fits,
        }
    }
}

/// Whether acls fit a host.
#[derive(Clone, Copy)]
struct Fits {
    /// By those that are known to fit or not; none where none is.
    known: Option<bool>,
    /// Whatever the others do.
    certain: bool,
}

impl Fits {
    const UNKNOWN: Self = Self { known: None, certain: false };

    fn certain(fits: bool) -> Self {
        Self { known: Some(fits), certain: true }
    }
}

/// Whether any fits, where one that does decides, or all, where one that doesn't decides.
fn join(decides: bool, all: impl Iterator<Item = Fits>) -> Fits {
    let mut whole = Fits { known: None, certain: true };
    for fits in all {
        if fits.certain && fits.known == Some(decides) {
            return fits;
        }
        whole.certain &= fits.certain;
        if whole.known != Some(decides) {
            whole.known = fits.known.or(whole.known);
        }
    }
    whole
}
