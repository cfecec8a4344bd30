//! Which endpoints are tested: the concrete hosts of the allow list, and those that the administrator
//! names. A wildcard without one is listed as untested, never passed. Pure.

use crate::catalogue::{Choice, catalogue};
use crate::policy::{By, Category, Decision, Policy, Protocol, Reason, Rule};
use crate::target::{Authority, DEFAULT_PORT, Host, Target, TargetError};

/// A host of `--host`.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    host: Host,
    /// None: the ports of the rules that allow it.
    port: Option<u16>,
}

impl Named {
    /// Whether an endpoint is this host's.
    pub(crate) fn names(&self, endpoint: &Endpoint) -> bool {
        text(&self.host) == endpoint.host && self.port.is_none_or(|port| port == endpoint.port)
    }

    /// Reads `host`, `host:port` or a URL.
    ///
    /// # Errors
    /// As of [`Target::parse_human`].
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        let Target { host, port } = Target::parse_human(text)?;
        let has_port = text.contains("://") || text.trim().ends_with(&format!(":{port}"));
        Ok(Self { host, port: (port != DEFAULT_PORT || has_port).then_some(port) })
    }
}

/// The URL of `--ws-url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebSocketUrl {
    pub target: Target,
    /// Path and query, which may hold a signature and are never shown.
    pub path: String,
}

impl WebSocketUrl {
    /// Reads `wss://host/path`.
    ///
    /// # Errors
    /// What is wrong, without a word of path and query.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const VALID: &str = "valid is wss://HOST/PATH, as the panel's getWebSocketUrl gives it";
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => rest,
            _ => return Err(format!("the scheme is not wss; {VALID}")),
        };
        let target = Target::parse_human(text).map_err(|error| format!("{error}; {VALID}"))?;
        let rest = rest.split('#').next().unwrap_or_default();
        let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        if path.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(format!("the path has a character that no URL has; {VALID}"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { target, path })
    }
}

/// What the administrator asks for.
pub(crate) struct Wanted<'a> {
    pub hosts: &'a [Named],
    pub web_socket: Option<&'a WebSocketUrl>,
    /// None: all.
    pub categories: &'a [Category],
}

/// What is done with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Tcp(Target),
    /// A WebSocket with this path, to be held.
    WebSocket(Target, String),
    Udp(Target),
    /// Why not.
    Untested(String),
}

/// A host and a port that agents' browsers need, or a pattern that no concrete host is known for.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub category: Category,
    /// What the agent sees when it fails.
    pub agent_sees: String,
    /// The panel's own name.
    pub instance: Option<Instance>,
    /// Whether the administrator added it under `[[allow]]`: then it isn't AWS's.
    pub added: bool,
    pub plan: Plan,
}

/// Which of an instance's names a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub alias: String,
    /// Under a domain that AWS replaced: instances of today lack it.
    pub replaced: bool,
}

/// All endpoints, by category, then host.
pub(crate) fn endpoints(policy: &Policy, choice: &Choice, wanted: &Wanted<'_>) -> Vec<Endpoint> {
    let is_wanted = |category| wanted.categories.is_empty() || wanted.categories.contains(&category);
    let rules = policy.rules().iter().filter(|rule| is_wanted(rule.category));
    let (exact, wild): (Vec<&Rule>, Vec<&Rule>) = rules.partition(|rule| rule.pattern.is_exact());
    let mut all: Vec<Endpoint> = exact.into_iter().flat_map(|rule| of_exact(policy, choice, rule)).collect();
    all.extend(wanted.hosts.iter().flat_map(|host| of_named(policy, choice, host)));
    all.extend(wanted.web_socket.map(|url| of_web_socket(policy, choice, url)));
    let untested: Vec<Endpoint> = wild.into_iter().flat_map(|rule| of_wildcard(choice, rule, &all)).collect();
    all.extend(untested);
    let key = |e: &Endpoint| (e.category, e.host.clone(), e.protocol, e.port);
    // What says more of an endpoint comes first, and stays.
    all.sort_by_key(|endpoint| (key(endpoint), !matches!(endpoint.plan, Plan::WebSocket(..))));
    // A host that is on the list and named once more is one endpoint.
    all.dedup_by_key(|endpoint| key(endpoint));
    all
}

fn of_exact(policy: &Policy, choice: &Choice, rule: &Rule) -> impl Iterator<Item = Endpoint> {
    rule.ports.iter().filter_map(|port| {
        let target = Target::parse_human(&Authority(rule.pattern.as_str(), *port).to_string()).ok()?;
        Some(of_target(policy, choice, rule, target))
    })
}

/// A wildcard at those of its ports where no host under it is tested.
fn of_wildcard(choice: &Choice, rule: &Rule, concrete: &[Endpoint]) -> Vec<Endpoint> {
    let is_tested = |port: u16| {
        concrete.iter().any(|endpoint| {
            let (Plan::Tcp(target) | Plan::WebSocket(target, _) | Plan::Udp(target)) = &endpoint.plan else {
                return false;
            };
            (endpoint.protocol, target.port) == (rule.protocol, port) && rule.pattern.matches(&target.host)
        })
    };
    let why = "a wildcard without a known host; name one that your agents use with --host";
    let untested =
        |port| endpoint(rule, choice, rule.pattern.as_str().to_owned(), port, Plan::Untested(why.to_owned()));
    rule.ports.iter().copied().filter(|port| !is_tested(*port)).map(untested).collect()
}

/// An endpoint of a rule that names it, or that it falls under.
fn of_target(policy: &Policy, choice: &Choice, rule: &Rule, target: Target) -> Endpoint {
    let (host, port) = (text(&target.host), target.port);
    let plan = match rule.protocol {
        Protocol::Udp => Plan::Udp(target),
        Protocol::Tcp => match policy.decide(&target) {
            Decision::Allowed(..) => Plan::Tcp(target),
            Decision::Denied { by: Some(By::Deny(pattern)), .. } => {
                Plan::Untested(format!("policy.deny has {pattern}, so the proxy refuses it"))
            }
            Decision::Denied { .. } => Plan::Untested("the proxy refuses it".to_owned()),
        },
    };
    endpoint(rule, choice, host, port, plan)
}

/// The endpoint of `--ws-url`.
fn of_web_socket(policy: &Policy, choice: &Choice, url: &WebSocketUrl) -> Endpoint {
    let named = Named { host: url.target.host.clone(), port: Some(url.target.port) };
    let mut endpoint = of_named(policy, choice, &named).swap_remove(0);
    if let Plan::Tcp(target) = endpoint.plan {
        endpoint.plan = Plan::WebSocket(target, url.path.clone());
    }
    endpoint
}

/// The endpoints of a host that is named on the command line.
fn of_named(policy: &Policy, choice: &Choice, named: &Named) -> Vec<Endpoint> {
    let target = |port| Target { host: named.host.clone(), port };
    let over_tcp = || {
        policy
            .rules()
            .iter()
            .filter(|rule| rule.protocol == Protocol::Tcp && rule.pattern.matches(&named.host))
    };
    let ports: Vec<u16> = named
        .port
        .map_or_else(|| over_tcp().flat_map(|rule| rule.ports.clone()).collect(), |port| vec![port]);
    let allowed = ports.into_iter().filter_map(|port| match policy.decide(&target(port)) {
        Decision::Allowed(_, rule) => Some(of_target(policy, choice, rule, target(port))),
        Decision::Denied { .. } => None,
    });
    let allowed: Vec<Endpoint> = allowed.collect();
    if !allowed.is_empty() {
        return allowed;
    }
    let tcp = target(named.port.unwrap_or(DEFAULT_PORT));
    let decision = policy.decide(&tcp);
    // The best rule for it, as the policy chooses among those for TCP.
    let over_udp = policy.rules().iter().filter(|rule| {
        let has_port = named.port.is_none_or(|port| rule.ports.contains(&port));
        rule.protocol == Protocol::Udp && rule.pattern.matches(&named.host) && has_port
    });
    let best = over_udp.max_by_key(|rule| (rule.pattern.is_exact(), rule.pattern.as_str().len()));
    if let Some(rule) = best {
        let ports = named.port.map_or_else(|| rule.ports.clone(), |port| vec![port]);
        return ports.into_iter().map(|port| of_target(policy, choice, rule, target(port))).collect();
    }
    let why = match decision {
        Decision::Denied { by: Some(By::Deny(pattern)), .. } => {
            format!("policy.deny has {pattern}, so the proxy refuses it")
        }
        Decision::Denied { reason: Reason::Port, by: Some(By::Rule(_, rule)) } => {
            format!("rule {} allows this host, but not this port", rule.pattern)
        }
        _ => "no rule allows this host: see ccpgate explain".to_owned(),
    };
    let category = match decision {
        Decision::Denied { by: Some(By::Rule(_, rule)), .. } => rule.category,
        _ => Category::Extra,
    };
    vec![Endpoint {
        host: text(&named.host),
        port: tcp.port,
        protocol: Protocol::Tcp,
        category,
        agent_sees: String::new(),
        instance: None,
        added: false,
        plan: Plan::Untested(why),
    }]
}

fn endpoint(rule: &Rule, choice: &Choice, host: String, port: u16, plan: Plan) -> Endpoint {
    Endpoint {
        instance: instance(choice, &host),
        port,
        protocol: rule.protocol,
        category: rule.category,
        agent_sees: rule.agent_sees.clone(),
        added: rule.is_added(),
        plan,
        host,
    }
}

fn text(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Ip(address) => address.to_string(),
    }
}

/// Whether a host is the own name of one of the configured instances.
fn instance(choice: &Choice, host: &str) -> Option<Instance> {
    let rows = || catalogue().endpoints.iter().filter(|row| !row.retired);
    choice.instances.iter().filter(|alias| *alias != "*").find_map(|alias| {
        let is = |pattern: &String| {
            pattern.contains("{instance}") && pattern.replace("{instance}", alias).eq_ignore_ascii_case(host)
        };
        let row = rows().find(|row| row.patterns.iter().any(is))?;
        Some(Instance {
            alias: alias.clone(),
            replaced: row.legacy_only || row.generation == crate::policy::Generation::Legacy,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::resolve;

    fn acme() -> Choice {
        Choice { regions: vec!["us-west-2".into()], instances: vec!["acme".into()], ..Choice::default() }
    }

    fn all(hosts: &[&str], categories: &[Category], deny: &[&str]) -> Vec<Endpoint> {
        let choice = acme();
        let deny = deny.iter().map(|pattern| pattern.parse_pattern()).collect();
        let policy = Policy::new(resolve(&choice).rules, deny);
        let hosts: Vec<Named> = hosts.iter().map(|host| Named::parse(host).unwrap()).collect();
        endpoints(&policy, &choice, &Wanted { hosts: &hosts, web_socket: None, categories })
    }

    trait ParsePattern {
        fn parse_pattern(&self) -> crate::policy::Pattern;
    }

    impl ParsePattern for &str {
        fn parse_pattern(&self) -> crate::policy::Pattern {
            crate::policy::Pattern::parse(self).unwrap()
        }
    }

    fn of<'a>(all: &'a [Endpoint], host: &str) -> &'a Endpoint {
        all.iter().find(|endpoint| endpoint.host == host).unwrap_or_else(|| panic!("{host} in {all:#?}"))
    }

    #[test]
    fn concrete_hosts_are_tested_and_wildcards_without_one_are_not() {
        let all = all(&[], &[], &[]);
        assert!(matches!(of(&all, "acme.my.connect.aws").plan, Plan::Tcp(_)));
        assert!(matches!(of(&all, "d38fzyjx9jg8fj.cloudfront.net").plan, Plan::Tcp(_)));
        // Its published hosts stand for it.
        assert!(!all.iter().any(|e| e.host == "*.cloudfront.net" || e.host.starts_with("turnnlb-*")));
        let wild = of(&all, "*.transport.connect.us-west-2.amazonaws.com");
        assert!(matches!(&wild.plan, Plan::Untested(why) if why.contains("--host")), "{wild:?}");
        assert_eq!(all.iter().filter(|e| e.protocol == Protocol::Udp).count(), 5);
        assert!(all.iter().all(|e| !matches!(&e.plan, Plan::Tcp(t) if t.port != e.port)));
    }

    #[test]
    fn named_hosts_fall_under_a_rule_or_are_untested() {
        let named = "a.transport.connect.us-west-2.amazonaws.com";
        let found = all(&[named, "www.example.com", "acme.my.connect.aws:8443"], &[], &[]);
        assert_eq!(of(&found, named).category, Category::Signalling);
        assert!(!found.iter().any(|e| e.host.starts_with("*.transport")));
        assert!(
            matches!(&of(&found, "www.example.com").plan, Plan::Untested(why) if why.contains("no rule"))
        );
        let other_port = found.iter().find(|e| e.port == 8443).unwrap();
        assert!(matches!(&other_port.plan, Plan::Untested(why) if why.contains("not this port")));
        // Over UDP, by the rule for it.
        let found = all(&["turnnlb-0.elb.us-west-2.amazonaws.com"], &[Category::Login], &[]);
        let media = of(&found, "turnnlb-0.elb.us-west-2.amazonaws.com");
        assert_eq!((media.protocol, media.port), (Protocol::Udp, 3478));
        // What is listed already is not tested twice.
        let twice = all(&["acme.my.connect.aws", "https://acme.my.connect.aws/"], &[], &[]);
        assert_eq!(twice.iter().filter(|e| e.host == "acme.my.connect.aws").count(), 1);
    }

    #[test]
    fn categories_and_denials_hold() {
        let some = all(&[], &[Category::Chat, Category::Media], &[]);
        assert!(some.iter().all(|e| [Category::Chat, Category::Media].contains(&e.category)));
        assert!(some.len() > 5);
        let denied = all(&[], &[], &["acme.my.connect.aws"]);
        let denied = of(&denied, "acme.my.connect.aws");
        assert!(matches!(&denied.plan, Plan::Untested(why) if why.contains("policy.deny")), "{denied:?}");
    }

    /// The ports at which `*.crm.example` is untested, where these are all rules.
    fn untested(rules: &[(&str, &[u16], Category)], categories: &[Category], hosts: &[&str]) -> Vec<u16> {
        let row = resolve(&acme()).rules.swap_remove(0);
        let rule = |(pattern, ports, category): &(&str, &[u16], Category)| Rule {
            pattern: pattern.parse_pattern(),
            ports: ports.to_vec(),
            category: *category,
            ..row.clone()
        };
        let policy = Policy::new(rules.iter().map(rule).collect(), vec!["shut.crm.example".parse_pattern()]);
        let hosts: Vec<Named> = hosts.iter().map(|host| Named::parse(host).unwrap()).collect();
        let all = endpoints(&policy, &acme(), &Wanted { hosts: &hosts, web_socket: None, categories });
        let wild = all.iter().filter(|endpoint| endpoint.host == "*.crm.example");
        assert!(wild.clone().all(|endpoint| matches!(endpoint.plan, Plan::Untested(_))), "{all:#?}");
        wild.map(|endpoint| endpoint.port).collect()
    }

    #[test]
    fn a_wildcard_is_tested_only_where_one_of_its_hosts_is() {
        use Category::{Extra, Login};
        let (one, two): (&[u16], &[u16]) = (&[443], &[443, 8443]);
        let beside = |wild, host, port| [("*.crm.example", wild, Login), (host, port, Extra)];
        let api = "api.crm.example";
        assert!(untested(&beside(one, api, one), &[], &[]).is_empty());
        assert_eq!(untested(&beside(one, api, one), &[Login], &[]), [443]);
        assert_eq!(untested(&beside(two, api, one), &[], &[]), [8443]);
        assert_eq!(untested(&beside(one, api, &[8443]), &[], &[]), [443]);
        assert_eq!(untested(&beside(one, "crm.example", one), &[], &[]), [443]);
        // The proxy refuses the only host that is known.
        assert_eq!(untested(&beside(one, "shut.crm.example", one), &[], &[]), [443]);
        for (named, left) in [("api.crm.example", &[][..]), ("api.crm.example:8443", &[443])] {
            assert_eq!(untested(&[("*.crm.example", two, Login)], &[Login], &[named]), left, "{named}");
        }
    }

    #[test]
    fn a_web_socket_keeps_its_path() {
        for (text, host, path) in [
            ("wss://a.example/x?y=%2B&z", "a.example:443", "/x?y=%2B&z"),
            ("WSS://A.example:8443", "a.example:8443", "/"),
            ("wss://a.example?b#c", "a.example:443", "/?b"),
        ] {
            let read = WebSocketUrl::parse(text).unwrap();
            assert_eq!((read.target.to_string().as_str(), read.path.as_str()), (host, path), "{text}");
        }
        for text in
            ["ws://a.example/s3", "https://a/s3", "a.example/s3", "wss:///s3", "wss://a/\ns3", "wss://u:p@a/"]
        {
            let error = WebSocketUrl::parse(text).unwrap_err();
            assert!(error.contains("wss://HOST") && !error.contains("s3"), "{text}: {error}");
        }
    }

    #[test]
    fn an_instance_is_known_by_its_names() {
        let all = all(&[], &[], &[]);
        assert!(of(&all, "acme.my.connect.aws").instance.as_ref().is_some_and(|i| !i.replaced));
        assert!(of(&all, "acme.awsapps.com").instance.as_ref().is_some_and(|i| i.replaced));
        assert!(of(&all, "participant.connect.us-west-2.amazonaws.com").instance.is_none());
    }
}
