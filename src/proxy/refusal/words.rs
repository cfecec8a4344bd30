//! A refusal in words: why, and what an administrator does next. No I/O.

use super::{Limit, Refusal, unreached};
use crate::policy::Reason;
use crate::proxy::head::MAX_FIELDS;
use crate::target::Form;

impl Refusal {
    /// Why, in words.
    pub fn why(&self) -> String {
        match self {
            Self::Policy { reason: Reason::NoRule, .. } => {
                "no rule of the allow list matches this host".into()
            }
            Self::Policy { reason: Reason::Port, rule } => match rule {
                Some(rule) => format!("rule {rule} allows this host, but not this port"),
                None => "a rule allows this host, but not this port".into(),
            },
            Self::Policy { reason: Reason::DenyRule, rule } => match rule {
                Some(rule) => format!("policy.deny has {rule}"),
                None => "a pattern of policy.deny matches".into(),
            },
            Self::Policy { reason: Reason::IpLiteral, .. } => {
                "the target is an IP address that neither [[allow]] nor policy.ip_targets lets through".into()
            }
            Self::Client(client) => format!("proxy.clients does not include {}", client.ip()),
            Self::Check(balancer) => format!(
                "the load balancer {balancer} speaks for itself (PROXY protocol, LOCAL or UNKNOWN), and may ask for GET /readyz alone"
            ),
            Self::ProxyHeader(fault) => fault.to_string(),
            Self::Method { method, form: Form::Authority } if method.eq_ignore_ascii_case("connect") => {
                format!("{method} is not CONNECT: methods have their case")
            }
            Self::Method { method, form: Form::Authority } => {
                format!("{method} of host:port, which only CONNECT may ask for")
            }
            Self::Method { method, form: Form::Asterisk } => {
                format!("{method} of *, which only OPTIONS may ask for")
            }
            Self::Method { method, .. } => {
                format!("{method} of an absolute URL; this proxy only tunnels with CONNECT")
            }
            Self::Malformed(what) => what.clone(),
            Self::HeaderSize { limit } => format!("the request header is larger than {limit} bytes"),
            Self::TooManyFields => {
                format!("the request has more than {MAX_FIELDS} header fields; no browser sends so many")
            }
            Self::HeaderTimeout => "the request header did not arrive in time".into(),
            Self::Overload(Limit::Connections(n)) => format!("all {n} connections are in use"),
            Self::Overload(Limit::PerClient(n)) => format!("this address already has {n} connections open"),
            Self::Draining => "this proxy is shutting down".into(),
            Self::PrivateTarget(barred) => format!("the target is {barred}"),
            Self::Unreached(why) => unreached::why(why),
        }
    }

    /// What an administrator does next. `target` is in normal form.
    pub fn remedy(&self, target: Option<&str>) -> String {
        let explain = |rest: &str| match target {
            Some(target) => format!("run: ccpgate explain {target}{rest}"),
            None => "see docs/denials.md".into(),
        };
        match self {
            Self::Policy { reason: Reason::NoRule | Reason::Port, .. } => {
                explain("  (if agents need it, add it under [[allow]])")
            }
            Self::Policy { reason: Reason::DenyRule, .. } => {
                explain("  (policy.deny wins over every allow rule)")
            }
            Self::Policy { reason: Reason::IpLiteral, .. } => {
                "use the name; if an address is really needed, add exactly it under [[allow]]".into()
            }
            Self::Client(client) => {
                format!("if this client may use the proxy, add {} to proxy.clients", client.ip())
            }
            Self::Check(_) => {
                "for its clients the balancer has to send their addresses (HAProxy: send-proxy-v2)".into()
            }
            Self::ProxyHeader(_) => {
                "let the load balancer send the header (HAProxy: send-proxy-v2); where none is at this address, take it out of proxy.proxy_protocol"
                    .into()
            }
            Self::Method { form: Form::Authority, .. } => {
                "if this client means a tunnel, it has to ask by CONNECT host:port: fix or update it".into()
            }
            Self::Method { form: Form::Asterisk, .. } => {
                "no browser sends this: fix the client, and let health checks ask GET /readyz".into()
            }
            Self::Method { form: Form::Absolute { tls: true }, .. } => {
                "this client asks for https:// without CONNECT: update it, or set it to tunnel https through the proxy".into()
            }
            Self::Method { .. } => {
                "plain http:// is not for this proxy: let the PAC file choose what goes through it".into()
            }
            Self::Malformed(_) | Self::TooManyFields => {
                "a client other than a browser sends this: fix or remove it".into()
            }
            Self::HeaderSize { .. } => "raise limits.request_header if the client is right".into(),
            Self::HeaderTimeout => {
                "look for a broken client or packet loss; the limit is limits.header_timeout".into()
            }
            Self::Overload(Limit::Connections(_)) => {
                "raise limits.connections, or add a replica; look at ccpgate_client_connections".into()
            }
            Self::Overload(Limit::PerClient(_)) => {
                "raise limits.connections_per_client if many agents share this address (NAT, VDI)".into()
            }
            Self::Draining => "use the next proxy of the PAC file".into(),
            Self::PrivateTarget(barred) => unreached::opened_by(barred),
            Self::Unreached(why) => unreached::remedy(why),
        }
    }
}
