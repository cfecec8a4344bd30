//! An entry of a foreign list: which product it is for, what it covers there, and how near that comes to
//! the pattern that it stands for. What a product covers is by its documentation.

use strum::{EnumMessage, EnumString, IntoStaticStr, VariantArray};

use crate::policy::Pattern;
use crate::target::Host;

/// A product that has a list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString, EnumMessage)]
#[strum(serialize_all = "kebab-case")]
pub enum Product {
    /// Lines for squid.conf: the acl `ccpgate`.
    Squid,
    /// `allowed_domains` of an egress ACL.
    Smokescreen,
    /// Permissions of an RBAC policy, by the name in the ClientHello.
    Envoy,
    /// Palo Alto: an EDL of type URL, or a custom URL category.
    Paloalto,
    /// A custom URL category.
    Zscaler,
    /// A domain list of a rule group.
    AwsNetworkFirewall,
    /// Pass rules by the name in the ClientHello.
    Suricata,
    /// URL filter entries of a web filter.
    Fortigate,
    /// A network feed of names.
    Checkpoint,
    /// A destination list.
    Umbrella,
}

/// What an entry of a product covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// That host.
    Host(String),
    /// All names below, not that name itself.
    Below(String),
    /// That name and all below.
    From(String),
    /// Palo Alto's tokens: `*` in front for one or more labels, `^` for one.
    Tokens(String),
    /// What the pattern covers, as a regular expression.
    Pattern(Pattern),
}

/// How near an entry comes to its pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    Exact,
    /// With a host that gets in by mistake.
    Widened(String),
    /// With the reason; the entry is left out.
    Impossible(&'static str),
}

/// A pattern in a product's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub pattern: Pattern,
    /// The ports of its rules.
    pub ports: Vec<u16>,
    pub mark: Mark,
    /// What the form leaves out of it all the same.
    pub(super) short: Option<&'static str>,
    pub(super) cover: Option<Cover>,
}

impl Product {
    /// Whether names of media servers belong on it: it judges UDP, or DNS itself.
    pub(super) fn has_media(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Umbrella)
    }

    /// Whether its form has comments, so that marks stand at their entries.
    pub(super) fn has_comments(self) -> bool {
        matches!(self, Self::Squid | Self::Smokescreen | Self::Envoy | Self::Suricata)
    }

    /// Whether it can deny what this pattern covers, in front of what it allows. Smokescreen can't: it lets
    /// through what a rule lists before it asks `global_deny_list`.
    pub(super) fn can_deny(self, pattern: &Pattern) -> bool {
        match self {
            Self::Squid | Self::Envoy | Self::Suricata | Self::Fortigate => !is_address(pattern),
            Self::Smokescreen
            | Self::Paloalto
            | Self::Zscaler
            | Self::AwsNetworkFirewall
            | Self::Checkpoint
            | Self::Umbrella => false,
        }
    }

    /// What an entry can't cover of its pattern, which is worth an entry all the same.
    pub(super) fn falls_short(self, pattern: &Pattern) -> Option<&'static str> {
        (self == Self::Zscaler && pattern.is_subdomains())
            .then_some("a name with more than five labels in front stays out")
    }

    /// The narrowest entry that covers the pattern.
    pub(super) fn cover(self, pattern: &Pattern) -> Result<Cover, &'static str> {
        if is_address(pattern) {
            return Err("an address, which belongs on a list of addresses");
        }
        let text = pattern.as_str().to_owned();
        let suffix = pattern.literal_suffix();
        if pattern.is_exact() {
            return Ok(if self == Self::Umbrella { Cover::From(text) } else { Cover::Host(text) });
        }
        let with_regex = matches!(self, Self::Squid | Self::Envoy | Self::Suricata | Self::Fortigate);
        if pattern.is_subdomains() && !matches!(self, Self::Squid | Self::Fortigate) {
            return match self {
                Self::Zscaler | Self::AwsNetworkFirewall | Self::Umbrella => wide(suffix).map(Cover::From),
                _ => Ok(Cover::Below(suffix.to_owned())),
            };
        }
        match self {
            _ if with_regex => Ok(Cover::Pattern(pattern.clone())),
            Self::Paloalto => {
                let labels = text.split('.').enumerate().map(|(at, label)| match label {
                    "*" if at == 0 => "*",
                    label if label.contains('*') => "^",
                    label => label,
                });
                wide(suffix)?;
                let tokens: Vec<&str> = labels.collect();
                if tokens.windows(MOST_CARETS + 1).any(|row| row.iter().all(|token| *token == "^")) {
                    return Err("this form takes nine `^` in a row at most");
                }
                Ok(Cover::Tokens(tokens.join(".")))
            }
            Self::Smokescreen | Self::Checkpoint => wide(suffix).map(Cover::Below),
            _ => wide(suffix).map(Cover::From),
        }
    }
}

/// Palo Alto takes so many tokens `^` in a row.
const MOST_CARETS: usize = 9;

/// A name that can stand for everything below it.
fn wide(suffix: &str) -> Result<String, &'static str> {
    if suffix.contains('.') {
        Ok(suffix.to_owned())
    } else {
        Err("this form has no star within a name, and would open a whole top-level domain")
    }
}

fn is_address(pattern: &Pattern) -> bool {
    matches!(pattern.as_host(), Some(Host::Ip(_)))
}

impl Cover {
    /// Whether it says what the pattern does.
    pub(super) fn is_exact(&self, pattern: &Pattern) -> bool {
        match self {
            Self::Host(_) | Self::Pattern(_) => true,
            Self::Below(suffix) => pattern.as_str().strip_prefix("*.") == Some(suffix),
            Self::Tokens(tokens) => tokens == pattern.as_str(),
            Self::From(_) => false,
        }
    }

    /// Hosts that it covers, some of which the pattern hardly does.
    pub(super) fn samples(&self) -> Vec<String> {
        const LABELS: [&str; 3] = ["other", "a.other", "zz-9"];
        match self {
            Self::Host(host) => vec![host.clone()],
            Self::Below(suffix) => LABELS.iter().map(|label| format!("{label}.{suffix}")).collect(),
            Self::From(suffix) => {
                let below = LABELS.iter().map(|label| format!("{label}.{suffix}"));
                std::iter::once(suffix.clone()).chain(below).collect()
            }
            Self::Tokens(tokens) => {
                ["other", "zz-9"].iter().map(|label| tokens.replace(['*', '^'], label)).collect()
            }
            Self::Pattern(_) => Vec::new(),
        }
    }
}

impl Entry {
    /// The mark in words, naming the entry.
    #[must_use]
    pub fn note(&self) -> String {
        let pattern = &self.pattern;
        let mark = match &self.mark {
            Mark::Exact => format!("exact: {pattern}"),
            Mark::Widened(host) => format!("widened: {pattern}, also lets {host} through"),
            Mark::Impossible(why) => format!("impossible: {pattern}, left out: {why}"),
        };
        self.short.map_or(mark.clone(), |short| format!("{mark}; {short}"))
    }
}
