//! The rules of a firewall for what a proxy can't carry, or for all of Option 2: which prefixes on which
//! ports. In here as JSON and as lines; `nft` and `iptables` write them for those programs.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use strum::{EnumMessage, EnumString, IntoStaticStr, VariantArray};

use crate::as_text;
use crate::catalogue::catalogue;
use crate::policy::Protocol;
use crate::ranges::Table;
use crate::ranges::select::{Selected, Selection, Set};
use crate::ranges::show::Breadth;

/// What the rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString, EnumMessage)]
#[strum(serialize_all = "lowercase")]
pub enum Scope {
    /// What no proxy carries: UDP 3478.
    Media,
    /// All of Option 2: UDP 3478, and TCP 443 by address.
    Option2,
}

/// Where packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString, EnumMessage)]
#[strum(serialize_all = "lowercase")]
pub enum Hook {
    /// What this machine passes on: a router.
    Forward,
    /// What this machine sends itself: a desk.
    Output,
}

/// For how many hours an address that a TURN name resolved into stays let through after that. AWS's answers
/// hold for a minute, and a call goes on over an address that they no longer have.
pub const BY_NAME_HOURS: u32 = 2;

/// The rules for one configuration and one version.
#[derive(Clone, Debug)]
pub struct Firewall<'a> {
    pub selection: &'a Selection,
    /// `createDate` of the version.
    pub create_date: &'a str,
    pub sync_token: u64,
    pub scope: Scope,
    pub hook: Option<Hook>,
    /// Without connection tracking: what comes back is let in by rules of its own.
    pub stateless: bool,
    pub breadth: Breadth,
    /// Whether agents take calls in the browser.
    pub media: bool,
    /// What the TURN names resolve into today; none where nobody asked.
    pub by_name: Vec<IpAddr>,
}

/// A direction, seen from the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Direction {
    Out,
    In,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub direction: Direction,
    pub protocol: Protocol,
    #[serde(serialize_with = "as_text::one")]
    pub remote: IpNet,
    /// A port, or a range such as `49152-65535`.
    pub remote_ports: String,
    pub local_ports: String,
    pub purpose: String,
}

/// Any port that a program takes for itself.
const ANY_PORT: &str = "1-65535";

impl Firewall<'_> {
    /// The sets that are let through, in order.
    pub(super) fn sets(&self) -> impl Iterator<Item = &Selected> {
        let wanted = |set: Set| match set.row().protocol {
            Protocol::Udp => self.media,
            Protocol::Tcp => self.scope == Scope::Option2,
        };
        self.selection.sets.iter().filter(move |selected| wanted(selected.set))
    }

    /// The ports that are closed but for these sets, where a hook is asked for.
    pub(super) fn closed(&self) -> Vec<(Protocol, u16)> {
        match self.scope {
            Scope::Media => vec![(Protocol::Udp, 3478)],
            Scope::Option2 => vec![(Protocol::Udp, 3478), (Protocol::Tcp, 443)],
        }
    }

    /// The first lines of a file, without the marks of a comment.
    pub(super) fn head(&self) -> Vec<String> {
        let scope: &str = self.scope.into();
        let mut lines = vec![
            format!("Amazon Connect in {}: {scope}, by ccpgate", self.selection.regions.join(", ")),
            format!("ip-ranges.json of {}, syncToken {}", self.create_date, self.sync_token),
        ];
        if self.scope == Scope::Option2 {
            lines.push(self.breadth.to_string());
        }
        lines
    }

    /// The addresses of the TURN names, of one family.
    pub(super) fn by_name(&self, ipv4: bool) -> impl Iterator<Item = IpAddr> {
        self.by_name.iter().copied().filter(move |address| address.is_ipv4() == ipv4)
    }

    /// All rules, one by one.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let by_name: Table = self.by_name.iter().map(|address| IpNet::from(*address)).collect();
        let mut add = |table: &Table, direction, protocol, remote: &str, local: &str, purpose: &str| {
            let four = table.ipv4().into_iter().map(IpNet::from);
            rules.extend(four.chain(table.ipv6().into_iter().map(IpNet::from)).map(|remote_net| Rule {
                direction,
                protocol,
                remote: remote_net,
                remote_ports: remote.to_owned(),
                local_ports: local.to_owned(),
                purpose: purpose.to_owned(),
            }));
        };
        for selected in self.sets() {
            let row = selected.set.row();
            for port in &row.ports {
                add(&selected.table, Direction::Out, row.protocol, port, ANY_PORT, purpose(selected.set));
            }
        }
        add(&by_name, Direction::Out, Protocol::Udp, "3478", ANY_PORT, "voice, by the name of its server");
        if self.stateless {
            let voice = self.returns().fold(by_name, |all, selected| all.with(&selected.table));
            for local in return_ports() {
                add(&voice, Direction::In, Protocol::Udp, "3478", local, "what comes back of the voice");
            }
        }
        rules
    }

    /// The sets that packets come back from.
    pub(super) fn returns(&self) -> impl Iterator<Item = &Selected> {
        self.sets().filter(|selected| selected.set.row().protocol == Protocol::Udp)
    }

    /// As an array of objects.
    ///
    /// # Errors
    ///
    /// None that is known: strings and closed words always serialise.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.rules())
    }

    /// A rule a line: direction, protocol, remote prefix, remote ports, local ports.
    #[must_use]
    pub fn txt(&self) -> String {
        let mut text = String::new();
        for rule in self.rules() {
            let (direction, protocol): (&str, &str) = (rule.direction.into(), rule.protocol.into());
            let Rule { remote, remote_ports, local_ports, .. } = rule;
            let _ = writeln!(text, "{direction} {protocol} {remote} {remote_ports} {local_ports}");
        }
        text
    }
}

/// Why a set is let through.
pub(super) fn purpose(set: Set) -> &'static str {
    match set {
        Set::Media => "voice",
        Set::Video => "video and shared screens",
        Set::Ec2 => "the services behind the panel",
        Set::Cloudfront => "files of the panel",
        Set::S3 => "sign-in and attachments",
    }
}

/// The local ports that browsers take on Windows and on Linux.
pub(super) fn return_ports() -> impl Iterator<Item = &'static str> {
    let row = catalogue().address("connect-return");
    row.into_iter().flat_map(|row| row.ports.iter().map(String::as_str))
}

/// A set's prefixes of one family, as text.
pub(super) fn prefixes(table: &Table, ipv4: bool) -> Vec<String> {
    match ipv4 {
        true => table.ipv4().iter().map(Ipv4Net::to_string).collect(),
        false => table.ipv6().iter().map(Ipv6Net::to_string).collect(),
    }
}

#[cfg(test)]
#[path = "firewall_tests.rs"]
mod tests;
