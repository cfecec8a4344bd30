//! What ip-ranges.json says of a target that is an address, and whether `policy.ip_targets` lets a CONNECT to
//! it through.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::address;
use crate::policy::{IpTargets, Protocol};
use crate::ranges::current::Current;
use crate::ranges::select::Set;

/// So many prefixes are shown to people: the narrowest.
const SHOWN: usize = 4;

/// An address, against the ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct InRanges {
    /// Of the version that was asked.
    create_date: String,
    /// Every entry that holds it, in every region: the narrowest first. None: it isn't AWS's.
    prefixes: Vec<Holds>,
    /// The set of this configuration that has it on this port.
    set: Option<&'static str>,
    /// Where `policy.ip_targets` lets it through: what the first bytes must be.
    pub(super) hello: Option<&'static str>,
    #[serde(skip)]
    pub(super) of: Option<Set>,
    #[serde(skip)]
    pub(super) on: IpTargets,
}

/// An entry of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Holds {
    prefix: String,
    service: String,
    region: String,
}

impl InRanges {
    /// Looks an address up. `hello` says what `policy.tls` wants of the first bytes to an address of a service;
    /// `allowed` is `egress.allow_private`.
    pub(crate) fn new(
        current: &Current,
        address: IpAddr,
        port: u16,
        allowed: &[IpNet],
        on: IpTargets,
        hello: &'static str,
    ) -> Self {
        let holds = |net: &IpNet| address::led_to(address, allowed).all(|host| net.contains(&host));
        let ranges = &current.version.ranges;
        let mut entries: Vec<_> = ranges.entries.iter().filter(|entry| holds(&entry.net)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.net.prefix_len()));
        let holds = entries.into_iter().map(|entry| Holds {
            prefix: entry.net.to_string(),
            service: ranges.service(entry).to_owned(),
            region: ranges.region(entry).to_owned(),
        });
        let mut prefixes = Vec::new();
        for holds in holds {
            if !prefixes.contains(&holds) {
                prefixes.push(holds);
            }
        }
        let udp = || {
            current.version.selection.sets.iter().map(|selected| selected.set).find(|set| {
                let row = set.row();
                row.protocol == Protocol::Udp
                    && row.ports.iter().any(|known| known.parse() == Ok(port))
                    && current.table(*set).is_some_and(|table| table.is_led_to_by(address, allowed))
            })
        };
        let of = current.service_of(address, port, allowed).or_else(udp);
        let set = Self {
            create_date: ranges.create_date.clone(),
            prefixes,
            set: of.map(Set::name),
            hello: None,
            of,
            on,
        };
        Self { hello: set.counts_as().map(|_| hello), ..set }
    }

    /// The set that a CONNECT to it counts as one to.
    pub(super) fn counts_as(&self) -> Option<Set> {
        self.of.filter(|set| self.on == IpTargets::Ranges && set.row().protocol == Protocol::Tcp)
    }

    /// Why a CONNECT to it is denied all the same, as far as the ranges say.
    pub(super) fn why_denied(&self) -> String {
        const RULE: &str = "nothing but an [[allow]] pattern of this address allows it";
        match (self.of, self.on) {
            (Some(set), _) if set.row().protocol == Protocol::Udp => {
                format!("it is of {}, which is reached over UDP, past every proxy; {RULE} here", set.name())
            }
            (Some(set), IpTargets::Off) => {
                format!("{RULE}, or policy.ip_targets = \"ranges\", as one of {}", set.name())
            }
            (_, IpTargets::Ranges) => format!(
                "policy.ip_targets lets addresses of this configuration's sets through, and on this port it is in \
                 none of them; {RULE}"
            ),
            (None, IpTargets::Off) => format!("the target is an address; {RULE}"),
        }
    }

    /// The entries that hold it, and what must be sent, each a line for people.
    pub(super) fn lines(&self) -> String {
        let shown: Vec<String> = self
            .prefixes
            .iter()
            .take(SHOWN)
            .map(|Holds { prefix, service, region }| format!("{prefix} {service} {region}"))
            .collect();
        let said =
            if shown.is_empty() { "none holds it: it isn't AWS's".to_owned() } else { shown.join(", ") };
        let mut text = format!("\n  ranges      {said} (ip-ranges.json of {})", self.create_date);
        if let Some(hello) = self.hello {
            let _ = write!(text, "\n  hello       {hello}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Choice;
    use crate::explain::{Explanation, Verdict};
    use crate::policy::{Category, Pattern, Policy, Rule};
    use crate::ranges::select::Wanted;
    use crate::ranges::testing;
    use crate::target::{Host, Target};

    fn current() -> Current {
        let entries = [
            "us-west-2 AMAZON 52.0.0.0/8",
            "us-west-2 EC2 52.1.0.0/16",
            "eu-west-2 EC2 52.2.0.0/16",
            "us-west-2 AMAZON_CONNECT 15.193.7.0/24",
        ];
        let ranges = testing::ranges("1", "2026-11-20-00-00-00", entries);
        let choice = Choice { regions: vec!["us-west-2".into()], ..Choice::default() };
        Current::new(ranges, Vec::new(), &Wanted::new(&choice, false))
    }

    fn explained(target: &str, on: IpTargets, deny: &[&str]) -> Explanation {
        let rule = Rule::added(Pattern::parse("52.1.0.9").unwrap(), vec![8443], Category::Extra);
        let deny = deny.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect();
        let policy = Policy::new(vec![rule], deny);
        let target = Target::parse_human(target).unwrap();
        let Host::Ip(address) = target.host else { panic!("{target}") };
        let ranges = InRanges::new(&current(), address, target.port, &[], on, "names nothing");
        Explanation::new(&policy, &target, None).in_ranges(ranges)
    }

    #[test]
    fn an_address_of_a_service_counts_as_the_service() {
        for target in ["52.1.2.3", "52.1.2.3:443", "[::ffff:52.1.2.3]:443", "[64:ff9b::52.1.2.3]:443"] {
            let said = explained(target, IpTargets::Ranges, &[]);
            assert_eq!((said.decision, said.reason), (Verdict::Allowed, None), "{said}");
            assert_eq!((said.rule.as_deref(), said.category), (Some("ec2_tcp_443"), Some(Category::Api)));
            let text = said.to_string();
            assert!(
                text.contains(
                    "52.1.0.0/16 EC2 us-west-2, 52.0.0.0/8 AMAZON us-west-2 (ip-ranges.json of 2026-"
                ) && text.contains("\n  hello       names nothing"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_service_on_that_port_stays_denied() {
        for (target, on, why) in [
            // Another port, another region, nobody's, and the voice.
            ("52.1.2.3:80", IpTargets::Ranges, "on this port it is in none of them"),
            ("52.2.2.3", IpTargets::Ranges, "in none of them"),
            ("203.0.113.1", IpTargets::Ranges, "none holds it: it isn't AWS's"),
            ("15.193.7.1:3478", IpTargets::Ranges, "over UDP, past every proxy"),
            ("52.1.2.3", IpTargets::Off, "policy.ip_targets = \"ranges\", as one of ec2_tcp_443"),
            ("203.0.113.1", IpTargets::Off, "the target is an address"),
        ] {
            let said = explained(target, on, &[]);
            assert_eq!((said.decision, said.reason), (Verdict::Denied, Some("ip_literal")), "{target}");
            let text = said.to_string();
            assert!(text.contains(why) && !text.contains("hello"), "{text}");
        }
        // What the policy says by itself goes before.
        let said = explained("52.1.2.3", IpTargets::Ranges, &["52.1.2.3"]);
        assert_eq!((said.decision, said.reason), (Verdict::Denied, Some("deny_rule")));
        let said = explained("52.1.0.9", IpTargets::Ranges, &[]);
        assert_eq!((said.decision, said.reason), (Verdict::Denied, Some("port")));
        assert!(!said.to_string().contains("hello"), "{said}");
        let said = explained("52.1.0.9:8443", IpTargets::Ranges, &[]);
        assert_eq!((said.decision, said.rule.as_deref()), (Verdict::Allowed, Some("52.1.0.9")));
    }
}
