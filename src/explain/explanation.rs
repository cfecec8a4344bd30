//! What `ccpgate explain` says about one target: the decision, its reason, and the most similar rule.

use std::fmt;

use serde::Serialize;

use super::in_ranges::InRanges;
use crate::catalogue::Elsewhere;
use crate::outcome::Denial;
use crate::policy::{By, Category, Decision, Nearest, Policy, Protocol, Reason, Rule};
use crate::target::Target;

/// What an agent notices when the browser is refused a host that no rule describes.
const NO_TUNNEL: &str = "what needs this host does not load; Chrome and Edge say \
                         ERR_TUNNEL_CONNECTION_FAILED where they show an error at all";

/// Why a media endpoint is denied: an entry under `[[allow]]` would let nothing through that a call needs.
const PAST_THE_PROXY: &str = "voice goes over UDP past every proxy, so that no rule of a proxy is about it: not \
                              this proxy, but the firewall lets it through or not";

/// The answer for one target. Serialises to the object of `explain --json`, null where there is
/// nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    /// In normal form, `host:port`.
    pub target: String,
    /// `allowed` or `denied`.
    pub decision: Verdict,
    /// For a denial: `no_rule`, `port`, `deny_rule`, `ip_literal` or `private_address`.
    pub reason: Option<&'static str>,
    /// Whether `policy.mode = "report"` lets a denied target through all the same.
    pub let_through: bool,
    /// The pattern that allows, the deny pattern, or the rule whose ports differ.
    pub rule: Option<String>,
    /// Of that rule; null for a deny pattern.
    pub category: Option<Category>,
    /// How the endpoint is reached: `tcp` through the proxy, `udp` past any proxy. Of the rule, or of
    /// what the catalogue knows about the host; null where neither is known.
    pub protocol: Option<Protocol>,
    /// The ports of that endpoint.
    pub ports: Option<Vec<u16>>,
    /// What the agent notices when this target fails.
    pub agent_sees: Option<String>,
    /// For a denial: the rule that may have been meant.
    pub nearest: Option<Nearest>,
    /// What the catalogue knows about the host beyond the rules in force.
    pub elsewhere: Option<String>,
    /// For an allowed target: the parent proxy that carries it.
    pub through: Option<String>,
    /// For an address: what ip-ranges.json says of it, where there is one.
    pub ranges: Option<InRanges>,
    #[serde(skip)]
    detail: Option<String>,
}

/// The decision in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Allowed,
    Denied,
}

impl Explanation {
    /// Explains what the policy says about the target. `elsewhere` is what the catalogue knows of a
    /// host that the configuration leaves out.
    #[must_use]
    pub(crate) fn new(policy: &Policy, target: &Target, elsewhere: Option<&Elsewhere>) -> Self {
        let base = Self {
            target: target.to_string(),
            decision: Verdict::Denied,
            reason: None,
            let_through: false,
            rule: None,
            category: None,
            agent_sees: None,
            nearest: None,
            protocol: None,
            ports: None,
            elsewhere: elsewhere.map(ToString::to_string),
            through: None,
            ranges: None,
            detail: None,
        };
        match policy.decide(target) {
            Decision::Allowed(_, rule) => Self {
                decision: Verdict::Allowed,
                rule: Some(rule.pattern.to_string()),
                category: Some(rule.category),
                protocol: Some(rule.protocol),
                ports: Some(rule.ports.clone()),
                agent_sees: words(&rule.agent_sees),
                detail: Some(describe(rule)),
                ..base
            },
            Decision::Denied { reason, by } => {
                let nearest = policy.nearest(target);
                let named = match by {
                    Some(By::Rule(_, rule)) => Some(rule),
                    Some(By::Deny(_)) | None => None,
                };
                // A host near one of these rules carries what the rule says. The catalogue's own row is
                // about this very host, and so says more than a similar rule.
                let near = nearest.as_ref().and_then(|near| policy.rule(near.same?));
                let (protocol, ports, agent_sees) = match (named, elsewhere, near) {
                    (None, Some(row), _) => {
                        (Some(row.protocol), Some(row.ports.to_vec()), words(row.agent_sees))
                    }
                    (Some(rule), ..) | (None, None, Some(rule)) => {
                        (Some(rule.protocol), Some(rule.ports.clone()), words(&rule.agent_sees))
                    }
                    (None, None, None) => (None, None, None),
                };
                Self {
                    reason: Some(reason.as_str()),
                    rule: by.map(|by| by.pattern().to_string()),
                    category: named.map(|rule| rule.category),
                    protocol,
                    ports,
                    agent_sees: agent_sees.or_else(|| Some(NO_TUNNEL.to_owned())),
                    nearest,
                    detail: Some(match (reason, named, protocol) {
                        (Reason::NoRule, None, Some(Protocol::Udp)) => PAST_THE_PROXY.to_owned(),
                        _ => meaning(reason).to_owned(),
                    }),
                    ..base
                }
            }
        }
    }

    /// The same, where this parent proxy carries what is allowed.
    #[must_use]
    pub(crate) fn through(mut self, parent: String) -> Self {
        self.through = self.is_allowed().then_some(parent);
        self
    }

    /// The same with what the ranges say of a target that is an address: `policy.ip_targets` may let it
    /// through, where the rules say nothing of it.
    #[must_use]
    pub(crate) fn in_ranges(mut self, mut ranges: InRanges) -> Self {
        let by_rules = self.is_allowed() || self.reason != Some(Reason::IpLiteral.as_str());
        match ranges.counts_as() {
            _ if by_rules => ranges.hello = None,
            Some(set) => {
                let row = set.row();
                self = Self {
                    decision: Verdict::Allowed,
                    reason: None,
                    rule: Some(set.name().to_owned()),
                    category: Some(set.category()),
                    protocol: Some(row.protocol),
                    ports: Some(row.ports.iter().filter_map(|port| port.parse().ok()).collect()),
                    agent_sees: None,
                    nearest: None,
                    detail: Some("policy.ip_targets: an address counts as its service".to_owned()),
                    ..self
                };
            }
            None => self.detail = Some(ranges.why_denied()),
        }
        self.ranges = Some(ranges);
        self
    }

    /// The same for what is refused all the same, though a rule allows it: `why` says that it is an address that isn't
    /// dialled, or leads to such ones.
    #[must_use]
    pub(crate) fn barred(self, why: &str) -> Self {
        if !self.is_allowed() {
            return self;
        }
        Self {
            decision: Verdict::Denied,
            reason: Some(Denial::PrivateAddress.into_str()),
            detail: Some(format!("{why}; egress.allow_private opens it")),
            ..self
        }
    }

    /// The same where report mode lets through what is denied.
    #[must_use]
    pub(crate) fn let_through(mut self) -> Self {
        self.let_through = !self.is_allowed();
        self
    }

    /// Whether the policy lets the target through.
    #[must_use]
    pub(crate) fn is_allowed(&self) -> bool {
        self.decision == Verdict::Allowed
    }
}

/// Two to seven lines for people, without a line break at the end.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail.as_deref().unwrap_or_default();
        match (self.decision, self.reason) {
            (Verdict::Allowed, _) => write!(f, "{}: allowed", self.target)?,
            (Verdict::Denied, reason) => {
                write!(f, "{}: denied, {}", self.target, reason.unwrap_or_default())?;
                write!(f, "\n  why         {detail}")?;
                if self.let_through {
                    f.write_str("\n  let through policy.mode = \"report\" counts it, and denies nothing")?;
                }
            }
        }
        if let Some(rule) = &self.rule {
            write!(f, "\n  rule        {rule}")?;
            if self.is_allowed() {
                write!(f, " ({detail})")?;
            }
        }
        if let Some(ranges) = &self.ranges {
            f.write_str(&ranges.lines())?;
        }
        if let Some(parent) = &self.through {
            write!(f, "\n  through     {parent} (egress.proxy), which resolves the name")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "\n  nearest     {}: {}", nearest.rule, nearest.why)?;
        }
        if let Some(elsewhere) = &self.elsewhere {
            write!(f, "\n  elsewhere   {elsewhere}")?;
        }
        if let Some(agent_sees) = &self.agent_sees {
            write!(f, "\n  agent sees  {agent_sees}")?;
            if self.is_allowed() {
                f.write_str(" (when it fails)")?;
            } else if self.let_through {
                f.write_str(" (once policy.mode is \"enforce\")")?;
            }
        }
        Ok(())
    }
}

fn words(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn describe(rule: &Rule) -> String {
    let mut parts = vec![rule.category.as_str()];
    parts.extend([rule.carries.as_str(), rule.source.as_str()].iter().filter(|part| !part.is_empty()));
    parts.join("; ")
}

fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRule => "no rule matches the host; [[allow]] adds one",
        Reason::Port => "a rule matches the host, but none that does has the port",
        Reason::DenyRule => "a pattern in policy.deny matches the host",
        Reason::IpLiteral => {
            "the target is an address, which nothing but an [[allow]] pattern of that address allows"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Choice, find_elsewhere_given};
    use crate::policy::Pattern;

    fn rule(pattern: &str, port: u16, protocol: Protocol, agent_sees: &str) -> Rule {
        Rule {
            protocol,
            carries: "softphone signalling".to_owned(),
            agent_sees: agent_sees.to_owned(),
            source: "allow".to_owned(),
            ..Rule::added(Pattern::parse(pattern).unwrap(), vec![port], Category::Signalling)
        }
    }

    fn explained(target: &str) -> Explanation {
        let rules = vec![
            rule("*.my.connect.aws", 443, Protocol::Tcp, "the panel stays white"),
            rule("turn*.example.com", 3478, Protocol::Udp, "no sound"),
        ];
        let deny = vec![Pattern::parse("bad.my.connect.aws").unwrap()];
        let policy = Policy::new(rules, deny);
        Explanation::new(&policy, &Target::parse_human(target).unwrap(), None)
    }

    #[test]
    fn json_has_every_key() {
        let json = serde_json::to_value(explained("https://Acme.my.connect.aws/ccp-v2")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "target": "acme.my.connect.aws:443",
                "decision": "allowed",
                "reason": null,
                "let_through": false,
                "rule": "*.my.connect.aws",
                "category": "signalling",
                "protocol": "tcp",
                "ports": [443],
                "agent_sees": "the panel stays white",
                "nearest": null,
                "elsewhere": null,
                "through": null,
                "ranges": null,
            })
        );
        let json = serde_json::to_value(explained("acme.my.connect.aws:80")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "target": "acme.my.connect.aws:80",
                "decision": "denied",
                "reason": "port",
                "let_through": false,
                "rule": "*.my.connect.aws",
                "category": "signalling",
                "protocol": "tcp",
                "ports": [443],
                "agent_sees": "the panel stays white",
                "nearest": {
                    "rule": "*.my.connect.aws",
                    "why": "it matches the host, and is for port 443, not 80",
                },
                "elsewhere": null,
                "through": null,
                "ranges": null,
            })
        );
    }

    #[test]
    fn denials() {
        let deny = explained("bad.my.connect.aws");
        assert_eq!((deny.reason, deny.category), (Some("deny_rule"), None));
        assert_eq!(deny.rule.as_deref(), Some("bad.my.connect.aws"));
        assert_eq!(deny.agent_sees.as_deref(), Some("the panel stays white"));
        let udp = explained("turn1.example.com:3478");
        assert_eq!(udp.reason, Some("no_rule"));
        assert_eq!(udp.agent_sees.as_deref(), Some("no sound"));
        // An entry under [[allow]] would let no call through.
        assert!(!udp.to_string().contains("[[allow]]") && udp.to_string().contains("firewall"), "{udp}");
        let literal = explained("10.0.0.1");
        assert_eq!((literal.reason, literal.rule), (Some("ip_literal"), None));
        assert_eq!(literal.agent_sees.as_deref(), Some(NO_TUNNEL));
    }

    #[test]
    fn a_rule_of_the_same_text_over_another_protocol_says_nothing() {
        let rules = vec![
            rule("turn*.example.com", 3478, Protocol::Udp, "no sound"),
            rule("turn*.example.com", 443, Protocol::Tcp, "the test page fails"),
        ];
        let policy = Policy::new(rules, Vec::new());
        let said = Explanation::new(&policy, &Target::parse_human("turn1.example.com:8443").unwrap(), None);
        assert_eq!(said.agent_sees.as_deref(), Some("the test page fails"));
        assert_eq!((said.protocol, said.ports), (Some(Protocol::Tcp), Some(vec![443])));
    }

    #[test]
    fn what_the_catalogue_knows_beats_what_merely_resembles() {
        let choice = Choice { regions: vec!["eu-central-1".to_owned()], ..Choice::default() };
        let policy = Policy::new(crate::catalogue::resolve(&choice).rules, Vec::new());
        let said = |text: &str| {
            let target = Target::parse_human(text).unwrap();
            let row = find_elsewhere_given(&target.host.to_string(), &choice);
            Explanation::new(&policy, &target, row.as_ref())
        };
        let turn = said("turn:TurnNlb-d76454ac48d20c1e.elb.us-east-1.amazonaws.com:3478?transport=udp");
        assert_eq!((turn.protocol, turn.ports), (Some(Protocol::Udp), Some(vec![3478])));
        assert!(turn.agent_sees.unwrap().contains("softphone"));
        assert!(turn.elsewhere.unwrap().contains("UDP 3478 past any proxy"));
        for host in ["portal.sso.eu-central-1.amazonaws.com", "assets.sso-portal.eu-central-1.amazonaws.com"]
        {
            let said = said(host);
            assert!(said.agent_sees.as_deref().unwrap().contains("access portal"), "{said}");
            assert!(
                said.elsewhere.as_deref().unwrap().contains("\"identity-center\" in connect.signin"),
                "{said}"
            );
            assert_eq!(said.nearest, None, "{said}");
        }
        // Nothing is known of these, so nothing is said that another service's rule says.
        assert_eq!(said("acme.lambda.eu-central-1.amazonaws.com").agent_sees.as_deref(), Some(NO_TUNNEL));
        for own in ["eu-central-1.console.aws.amazon.com", "signin.aws.amazon.com", "eu-central-1.signin.aws"]
        {
            assert!(said(own).is_allowed(), "{own}");
        }
    }

    #[test]
    fn text_for_people() {
        assert_eq!(
            explained("acme.my.connect.aws").to_string(),
            "acme.my.connect.aws:443: allowed\
             \n  rule        *.my.connect.aws (signalling; softphone signalling; allow)\
             \n  agent sees  the panel stays white (when it fails)"
        );
        assert_eq!(
            explained("my.connect.aws").to_string(),
            "my.connect.aws:443: denied, no_rule\
             \n  why         no rule matches the host; [[allow]] adds one\
             \n  nearest     *.my.connect.aws: `*.` stands for one or more labels, so the bare \
             my.connect.aws is not covered\
             \n  agent sees  the panel stays white"
        );
        for target in ["x.test", "bad.my.connect.aws", "::1", "acme.my.connect.aws:1"] {
            assert!((2..=6).contains(&explained(target).to_string().lines().count()));
        }
    }
}
