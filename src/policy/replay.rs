//! What a new policy would take away from agents: the targets that they used, held against it.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::{Decision, Policy, Reason};
use crate::target::Target;
use crate::wording::count;

/// The word for a target that stays allowed, but not for this client.
const CLIENT: &str = "client";
/// So many targets are shown; the rest is counted.
const SHOWN: usize = 20;

/// A policy that may come into force, and who may use it.
pub(crate) struct Coming<'a> {
    pub policy: &'a Policy,
    /// Report mode lets through what the policy denies.
    pub report: bool,
    pub clients: &'a [IpNet],
    /// Whether a target that is an address counts as one of a service, by `policy.ip_targets`.
    pub is_of_service: Box<dyn Fn(&Target) -> bool + 'a>,
}

impl Coming<'_> {
    /// Why a use would be refused. A client of which its network alone is known is refused where the whole
    /// network is.
    fn refuses(&self, target: &Target, client: IpNet) -> Option<&'static str> {
        if !self.clients.iter().any(|net| net.contains(&client) || client.contains(net)) {
            return Some(CLIENT);
        }
        let Decision::Denied { reason, .. } = self.policy.decide(target) else { return None };
        let passes = self.report && reason.is_only_reported(&target.host)
            || reason == Reason::IpLiteral && (self.is_of_service)(target);
        (!passes).then_some(reason.as_str())
    }
}

/// A tunnel that an agent had, or has.
pub(crate) struct Use<'a> {
    pub target: &'a Target,
    /// In its own family; its whole network where no more is known of it.
    pub client: IpNet,
    pub at: Timestamp,
}

/// A target that agents used and that would be denied.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Loss {
    pub target: String,
    pub reason: &'static str,
    /// Distinct; networks of them where no more is known.
    pub agents: usize,
    /// When it was last used.
    pub last: Timestamp,
}

/// All that would be denied, what most agents would lack first.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Losses {
    pub losses: Vec<Loss>,
    /// Distinct, over all of them; networks of them where no more is known.
    pub agents: usize,
    /// Whether they are.
    pub clients_are_networks: bool,
    /// Networks of which a part may use the proxy: whether their agents are in that isn't known.
    pub unjudged: usize,
}

impl Losses {
    /// Holds what was used against a policy.
    pub(crate) fn of<'a>(coming: &Coming<'_>, uses: impl Iterator<Item = Use<'a>>) -> Self {
        let mut found: HashMap<(&Target, &'static str), (HashSet<IpNet>, Timestamp)> = HashMap::new();
        let (mut agents, mut unjudged) = (HashSet::new(), HashSet::new());
        let mut clients_are_networks = false;
        let whole = IpNet::aggregate(&coming.clients.to_vec());
        for Use { target, client, at } in uses {
            clients_are_networks |= client.prefix_len() < client.max_prefix_len();
            if whole.iter().any(|net| client.contains(net) && *net != client) {
                unjudged.insert(client);
            }
            let Some(reason) = coming.refuses(target, client) else { continue };
            agents.insert(client);
            let (clients, last) = found.entry((target, reason)).or_insert_with(|| (HashSet::new(), at));
            clients.insert(client);
            *last = at.max(*last);
        }
        let loss = |((target, reason), (clients, last)): ((&Target, _), (HashSet<IpNet>, _))| Loss {
            target: target.to_string(),
            reason,
            agents: clients.len(),
            last,
        };
        let mut losses: Vec<Loss> = found.into_iter().map(loss).collect();
        losses.sort_by(|a, b| (b.agents, &a.target, a.reason).cmp(&(a.agents, &b.target, b.reason)));
        Self { losses, agents: agents.len(), clients_are_networks, unjudged: unjudged.len() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    /// The sentence, and a line for each target. `since`: what was used before is not known.
    pub(crate) fn words(&self, since: Timestamp) -> String {
        let targets: HashSet<&str> = self.losses.iter().map(|loss| loss.target.as_str()).collect();
        let agents = |number: usize| match self.clients_are_networks {
            true => format!("agents of {}", count(number, "network")),
            false => count(number, "agent"),
        };
        let mut text = format!(
            "{} used by {} since {since:.0} would be denied:",
            count(targets.len(), "target"),
            agents(self.agents)
        );
        for Loss { target, reason, agents: number, last } in self.losses.iter().take(SHOWN) {
            text += &format!("\n  {target}  {reason}, {}, last {last:.0}", agents(*number));
        }
        if self.losses.len() > SHOWN {
            text += &format!("\n  and {} more", self.losses.len() - SHOWN);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::{Category, Pattern, Rule};
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse_authority(text.as_bytes()).unwrap()
    }

    fn losses(report: bool, uses: &[(&str, u8)]) -> Losses {
        let rule = Rule::added(Pattern::parse("*.kept.example").unwrap(), vec![443], Category::Login);
        let policy = Policy::new(vec![rule], vec![Pattern::parse("bad.kept.example").unwrap()]);
        let clients = ["10.0.0.0/28".parse().unwrap()];
        let is_of_service = Box::new(|target: &Target| target.to_string() == "52.1.2.3:443");
        let coming = Coming { policy: &policy, report, clients: &clients, is_of_service };
        let targets: Vec<_> = uses.iter().map(|(text, client)| (target(text), *client)).collect();
        let uses = targets.iter().zip(0..).map(|((target, client), second)| Use {
            target,
            client: IpNet::from(IpAddr::from([10, 0, 0, *client])),
            at: Timestamp::from_second(1_790_000_000 + second).unwrap(),
        });
        Losses::of(&coming, uses)
    }

    #[test]
    fn what_agents_used_and_would_lack_is_named_with_its_reason() {
        let used = [
            ("a.kept.example:443", 1),
            ("gone.example:443", 1),
            ("gone.example:443", 2),
            ("gone.example:443", 2),
            ("a.kept.example:8443", 1),
            ("bad.kept.example:443", 3),
            ("a.kept.example:443", 200),
        ];
        let all = losses(false, &used);
        let shown: Vec<_> = all.losses.iter().map(|l| (l.target.as_str(), l.reason, l.agents)).collect();
        assert_eq!(
            shown,
            [
                ("gone.example:443", "no_rule", 2),
                ("a.kept.example:443", "client", 1),
                ("a.kept.example:8443", "port", 1),
                ("bad.kept.example:443", "deny_rule", 1),
            ]
        );
        assert_eq!(all.agents, 4);
        let words = all.words(Timestamp::from_second(1_790_000_000).unwrap());
        assert!(words.starts_with("4 targets used by 4 agents since 2026-09-21T"), "{words}");
        assert!(words.contains("\n  gone.example:443  no_rule, 2 agents, last "), "{words}");
    }

    #[test]
    fn report_mode_takes_nothing_away_but_for_strangers() {
        let all = losses(true, &[("gone.example:443", 1), ("0x7f.1:443", 1), ("a.kept.example:443", 99)]);
        let shown: Vec<_> = all.losses.iter().map(|l| (l.target.as_str(), l.reason)).collect();
        assert_eq!(shown, [("0x7f.1:443", "ip_literal"), ("a.kept.example:443", "client")]);
        assert!(losses(false, &[("a.kept.example:443", 1)]).is_empty());
    }

    #[test]
    fn of_a_network_that_is_known_alone_only_the_whole_is_judged() {
        let rule = Rule::added(Pattern::parse("kept.example").unwrap(), vec![443], Category::Login);
        let policy = Policy::new(vec![rule], Vec::new());
        let target = target("kept.example:443");
        let held = |clients: &[&str], used: &[&str]| {
            let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
            let (clients, used) = (nets(clients), nets(used));
            let coming = Coming {
                policy: &policy,
                report: false,
                clients: &clients,
                is_of_service: Box::new(|_| false),
            };
            let at = Timestamp::UNIX_EPOCH;
            let losses =
                Losses::of(&coming, used.iter().map(|client| Use { target: &target, client: *client, at }));
            (losses.agents, losses.unjudged, losses.clients_are_networks)
        };
        for (clients, used, expected) in [
            // All of it, by one network or by two halves; a part; nothing.
            (&["10.20.0.0/16"][..], &["10.20.30.0/24"][..], (0, 0, true)),
            (&["10.20.30.0/25", "10.20.30.128/25"], &["10.20.30.0/24"], (0, 0, true)),
            (&["10.20.30.128/25"], &["10.20.30.0/24"], (0, 1, true)),
            (&["10.20.31.0/25"], &["10.20.30.0/24"], (1, 0, true)),
            (&["2001:db8:1:2::/64"], &["2001:db8:1::/48"], (0, 1, true)),
            (
                &["2001:db8:1:2::/64"],
                &["2001:db8:2::/48", "2001:db8:3::/48", "2001:db8:2::/48"],
                (2, 0, true),
            ),
            (&["2001:db8::/32", "10.0.0.7/32"], &["2001:db8:1::/48", "10.0.0.0/24"], (0, 1, true)),
            // What is one address is judged by it.
            (&["10.20.30.128/25"], &["10.20.30.7/32", "10.20.30.200/32"], (1, 0, false)),
        ] {
            assert_eq!(held(clients, used), expected, "{clients:?} {used:?}");
        }
    }

    #[test]
    fn an_address_of_a_service_stays_one() {
        let all = losses(false, &[("52.1.2.3:443", 1), ("52.1.2.3:80", 1), ("52.1.2.4:443", 1)]);
        let mut shown: Vec<_> = all.losses.iter().map(|l| (l.target.as_str(), l.reason)).collect();
        shown.sort_unstable();
        assert_eq!(shown, [("52.1.2.3:80", "ip_literal"), ("52.1.2.4:443", "ip_literal")]);
    }

    #[test]
    fn of_many_targets_the_first_are_shown_and_the_rest_is_counted() {
        let names: Vec<String> = (0..50).map(|at| format!("h{at}.example:443")).collect();
        let used: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let words = losses(false, &used).words(Timestamp::UNIX_EPOCH);
        assert!(words.starts_with("50 targets used by 1 agent since"), "{words}");
        assert!(words.ends_with("and 30 more") && words.lines().count() == 22, "{words}");
    }
}
