//! What `ccpgate explain` says about one target: the decision, its reason, and what comes nearest.
//!
//! Pure: it reads the policy and writes words. Names are not resolved and nothing is dialled.

use std::fmt;

use serde::Serialize;

use crate::policy::{Category, Decision, Nearest, Policy, Reason, Rule};
use crate::target::Target;

/// What an agent notices when the browser is refused a host that no rule describes.
const NO_TUNNEL: &str = "what needs this host does not load; Chrome and Edge say \
                         ERR_TUNNEL_CONNECTION_FAILED where they show an error at all";

/// The answer for one target. Serialises to the object of `explain --json`, null where there is
/// nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// In normal form, `host:port`.
    pub target: String,
    /// `allowed` or `denied`.
    pub decision: Verdict,
    /// For a denial: `no_rule`, `port`, `deny_rule` or `ip_literal`.
    pub reason: Option<&'static str>,
    /// The pattern that allows, the deny pattern, or the rule whose ports differ.
    pub rule: Option<String>,
    /// Of that rule; null for a deny pattern.
    pub category: Option<Category>,
    /// What the agent notices when this target fails.
    pub agent_sees: Option<String>,
    /// For a denial: the rule that may have been meant.
    pub nearest: Option<Nearest>,
    /// What the catalogue knows about the host beyond the rules in force.
    pub elsewhere: Option<String>,
    #[serde(skip)]
    detail: Option<String>,
}

/// The decision in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allowed,
    Denied,
}

impl Explanation {
    /// Explains what the policy says about the target. `elsewhere` is a sentence from the
    /// catalogue, such as which region or feature would cover the host.
    #[must_use]
    pub fn new(policy: &Policy, target: &Target, elsewhere: Option<&str>) -> Self {
        let base = Self {
            target: target.to_string(),
            decision: Verdict::Denied,
            reason: None,
            rule: None,
            category: None,
            agent_sees: None,
            nearest: None,
            elsewhere: elsewhere.map(str::to_owned),
            detail: None,
        };
        match policy.decide(target) {
            Decision::Allowed(_, rule) => Self {
                decision: Verdict::Allowed,
                rule: Some(rule.pattern.to_string()),
                category: Some(rule.category),
                agent_sees: words(&rule.agent_sees),
                detail: Some(describe(rule)),
                ..base
            },
            Decision::Denied { reason, rule } => {
                let nearest = policy.nearest(target);
                let by_pattern =
                    |pattern: &str| policy.rules().iter().find(|known| known.pattern.as_str() == pattern);
                let named = match reason {
                    Reason::DenyRule => None,
                    _ => rule.and_then(by_pattern),
                };
                // A host that resembles a rule is likely to carry what that rule carries.
                let resembled = match reason {
                    Reason::DenyRule => {
                        policy.rules().iter().find(|known| known.pattern.matches(&target.host))
                    }
                    _ => nearest.as_ref().and_then(|near| by_pattern(&near.rule)),
                };
                Self {
                    reason: Some(reason.as_str()),
                    rule: rule.map(str::to_owned),
                    category: named.map(|rule| rule.category),
                    agent_sees: named
                        .or(resembled)
                        .and_then(|rule| words(&rule.agent_sees))
                        .or_else(|| Some(NO_TUNNEL.to_owned())),
                    nearest,
                    detail: Some(meaning(reason).to_owned()),
                    ..base
                }
            }
        }
    }

    /// Whether the policy lets the target through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.decision == Verdict::Allowed
    }
}

/// Two to six lines for people, without a line break at the end.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail.as_deref().unwrap_or_default();
        match (self.decision, self.reason) {
            (Verdict::Allowed, _) => write!(f, "{}: allowed", self.target)?,
            (Verdict::Denied, reason) => {
                write!(f, "{}: denied, {}", self.target, reason.unwrap_or_default())?;
                write!(f, "\n  why         {detail}")?;
            }
        }
        if let Some(rule) = &self.rule {
            write!(f, "\n  rule        {rule}")?;
            if self.is_allowed() {
                write!(f, " ({detail})")?;
            }
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
    use crate::policy::{Breadth, Generation, Pattern, Protocol};

    fn rule(pattern: &str, port: u16, protocol: Protocol, agent_sees: &str) -> Rule {
        Rule {
            pattern: Pattern::parse(pattern).unwrap(),
            ports: vec![port],
            protocol,
            category: Category::Signalling,
            generation: Generation::Current,
            breadth: Breadth::Tenant,
            carries: "softphone signalling".to_owned(),
            agent_sees: agent_sees.to_owned(),
            source: "allow".to_owned(),
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
                "rule": "*.my.connect.aws",
                "category": "signalling",
                "agent_sees": "the panel stays white",
                "nearest": null,
                "elsewhere": null,
            })
        );
        let json = serde_json::to_value(explained("acme.my.connect.aws:80")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "target": "acme.my.connect.aws:80",
                "decision": "denied",
                "reason": "port",
                "rule": "*.my.connect.aws",
                "category": "signalling",
                "agent_sees": "the panel stays white",
                "nearest": {
                    "rule": "*.my.connect.aws",
                    "why": "it matches the host, and is for port 443, not 80",
                },
                "elsewhere": null,
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
        let literal = explained("10.0.0.1");
        assert_eq!((literal.reason, literal.rule), (Some("ip_literal"), None));
        assert_eq!(literal.agent_sees.as_deref(), Some(NO_TUNNEL));
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
