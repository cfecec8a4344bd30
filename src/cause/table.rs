//! The table itself: one entry a cause, in the order of the enum. [`Cause::about`] reads it.

use std::time::Duration;

use super::Grade::{self, Always, Depends};
use super::Owner::{Configuration, Desk, Firewall, Network, Proxy, Security};
use super::Severity::{Degraded, Failed};
use super::{About, Cause, Threshold};

/// What decides how bad a finding of the running proxy is.
const BY_CLIENTS: Grade = Depends(
    "failed when over half of the active clients, and at least 3, fail in login, signalling or telecom",
);

pub(super) const fn about(cause: Cause) -> About {
    match cause {
        Cause::ClockSkew => About {
            definition: "the clock differs from the Date of a verified answer, half the round trip deducted",
            threshold: Some(Threshold::From {
                degraded: Duration::from_secs(10),
                failed: Duration::from_secs(300),
            }),
            agent_sees: "wrong times in the panel, a sign-in that ends at once; beyond 5 minutes AWS refuses requests",
            remedy: "synchronise the clock (NTP), then sign in again",
            owner: Desk,
            grade: Depends("by how far the clock is off"),
        },
        Cause::ProxyUnreachable => About {
            definition: "the proxy on the way takes no connection, or doesn't answer as a proxy does",
            threshold: None,
            agent_sees: "nothing loads; Chrome and Edge say ERR_PROXY_CONNECTION_FAILED, or \
                         ERR_TUNNEL_CONNECTION_FAILED where it is their proxy's parent",
            remedy: "start the proxy, or mend its address in what names it: the PAC file, a policy, or egress.proxy",
            owner: Proxy,
            grade: Always(Failed),
        },
        Cause::ProxyAuth => About {
            definition: "the proxy on the way asks for a password (407)",
            threshold: None,
            agent_sees: "a password box that comes again, or pages that load while WebSockets fail; nothing loads where \
                         their proxy's parent asks",
            remedy: "let Amazon Connect's hosts through that proxy without authentication; a parent is shown the user and \
                     password of egress.proxy_credentials",
            owner: Proxy,
            grade: Always(Failed),
        },
        Cause::ProxyDenied => About {
            definition: "the proxy on the way refuses the host (403)",
            threshold: None,
            agent_sees: "what needs the host does not load; Chrome and Edge say ERR_TUNNEL_CONNECTION_FAILED",
            remedy: "allow the host on that proxy; where it is ccpgate, `ccpgate explain HOST` says which key",
            owner: Proxy,
            grade: Always(Failed),
        },
        Cause::ProxyLimit => About {
            definition: "the proxy on the way has no place left (503)",
            threshold: None,
            agent_sees: "it works for some agents and not for others, worst when a shift begins",
            remedy: "raise that proxy's limits; here they are limits.connections or limits.connections_per_client; some \
                     proxies say 503 where they don't reach the site: their words are in the detail",
            owner: Proxy,
            grade: Always(Failed),
        },
        Cause::PacMissing => About {
            definition: "the PAC file doesn't send a listed host to the proxy",
            threshold: None,
            agent_sees: "what needs the host fails wherever there is no direct way out",
            remedy: "hand out ccpgate's own PAC file, or add the host to the one in use",
            owner: Proxy,
            grade: Always(Failed),
        },
        Cause::DnsNxdomain => About {
            definition: "the resolver says that the name does not exist",
            threshold: None,
            agent_sees: "what needs the host fails at once",
            remedy: "forward amazonaws.com, connect.aws, awsapps.com and cloudfront.net to a resolver that \
                     reaches the Internet, and look for a local zone of that name",
            owner: Network,
            grade: Always(Failed),
        },
        Cause::DnsServfail => About {
            definition: "the resolver answers that it failed (SERVFAIL or REFUSED)",
            threshold: None,
            agent_sees: "what needs the host fails, often for a while only",
            remedy: "look at the resolver's forwarders and at its DNSSEC validation",
            owner: Network,
            grade: Always(Failed),
        },
        Cause::DnsTimeout => About {
            definition: "no resolver answers within dns.timeout",
            threshold: None,
            agent_sees: "everything hangs for seconds before it fails",
            remedy: "open port 53, UDP and TCP, to the resolver, or name one that answers in dns.servers",
            owner: Network,
            grade: Always(Failed),
        },
        Cause::DnsPrivate => About {
            definition: "the name resolves to private, local or otherwise special addresses alone, as sinkholes \
                         and block pages do",
            threshold: None,
            agent_sees: "what needs the host fails, or a block page appears in its place",
            remedy: "take the name off the DNS filter, or out of the proxy's hosts file; where the address is a private \
                     endpoint of yours, put its network into egress.allow_private",
            owner: Network,
            grade: Always(Failed),
        },
        Cause::OutsideRanges => About {
            definition: "a name of AWS's resolves to an address outside AWS's published ranges",
            threshold: None,
            agent_sees: "what needs the host fails where policy.ranges = \"enforce\", else perhaps nothing",
            remedy: "ask another resolver for the name: if it answers otherwise, the first one is poisoned or \
                     filters; if not, AWS moved early: get the newest ip-ranges.json and open the address",
            owner: Network,
            grade: Always(Failed),
        },
        Cause::DnsSlow => About {
            definition: "the answer of the resolver takes long",
            threshold: Some(Threshold::Over(Duration::from_secs(1))),
            agent_sees: "the panel loads slowly, and WebSockets are opened twice",
            remedy: "use a resolver nearby, and look for a first one that doesn't answer",
            owner: Network,
            grade: Always(Degraded),
        },
        Cause::InstanceUnknown => About {
            definition: "the instance's own name does not exist, while other names resolve",
            threshold: None,
            agent_sees: "the panel's address can't be found",
            remedy: "mend connect.instances: the alias is the first label of the panel's address",
            owner: Configuration,
            grade: Always(Failed),
        },
        Cause::TcpRefused => About {
            definition: "the connection is refused, or answered by an ICMP rejection",
            threshold: None,
            agent_sees: "what needs the host fails at once",
            remedy: "allow TCP from the proxy to the host and its port (AWS's: 443)",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::TcpTimeout => About {
            definition: "nothing answers within egress.connect_timeout",
            threshold: None,
            agent_sees: "what needs the host hangs, then fails",
            remedy: "find the rule that drops TCP 443 from the proxy to the host without a word, and allow it",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::TcpReset => About {
            definition: "the connection is reset before the service has answered",
            threshold: None,
            agent_sees: "what needs the host fails at once, or now and then",
            remedy: "look for an inspecting firewall or intrusion prevention that resets the connection",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::TcpUnreachable => About {
            definition: "there is no route to the address",
            threshold: None,
            agent_sees: "what needs the host fails at once",
            remedy: "mend the route to the Internet, or the firewall rule that answers with an ICMP rejection; where \
                     IPv6 alone fails, its route or its address",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::SourceAddress => About {
            definition: "this machine has no local address or port left to dial from",
            threshold: None,
            agent_sees: "new connections fail for everybody, those that are open go on",
            remedy: "add addresses to egress.source_address, or widen net.ipv4.ip_local_port_range; where open files are \
                     lacking, raise LimitNOFILE or ulimit -n",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::PathMtu => About {
            definition: "packets of full size are lost on the way, and no router says so (an MTU black hole)",
            threshold: None,
            agent_sees: "what needs the host hangs, then fails: ERR_TIMED_OUT, ERR_CONNECTION_TIMED_OUT, or a panel that \
                         stays white",
            remedy: "let ICMP type 3 code 4 and ICMPv6 type 2 come back, and clamp the TCP MSS to the path's MTU, on the \
                     VPN, tunnel or firewall on the way",
            owner: Network,
            grade: Always(Failed),
        },
        Cause::TlsIntercepted => About {
            definition: "the certificate comes from no public authority: somebody decrypts on the way",
            threshold: None,
            agent_sees: "certificate warnings; or pages that work while WebSockets break, calls are missed and \
                         chat stands still",
            remedy: "exempt Amazon Connect's hosts from TLS inspection",
            owner: Security,
            grade: Depends("degraded where the session works all the same, else failed"),
        },
        Cause::TlsExpired => About {
            definition: "the certificate is not valid any more, or not yet, by a clock that is right",
            threshold: None,
            agent_sees: "a certificate warning, or a panel that stays white",
            remedy: "renew the certificate of the box that presents it; its issuer says which box that is",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::TlsWrongName => About {
            definition: "the certificate is for another name",
            threshold: None,
            agent_sees: "a certificate warning, or a panel that stays white",
            remedy: "find out who answers in the host's place: DNS, a portal, or a balancer on the way",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::TlsFailed => About {
            definition: "no TLS session comes about, for another reason than the certificate",
            threshold: None,
            agent_sees: "ERR_SSL_PROTOCOL_ERROR, or a panel that stays white",
            remedy: "look for a box that drops or answers TLS itself, or allows old versions of it alone",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::HttpUnexpected => About {
            definition: "something else than the service answers: HTTP in clear, a block page, a portal",
            threshold: None,
            agent_sees: "a block page or a sign-in page that isn't Amazon's, or a panel without buttons",
            remedy: "exempt Amazon Connect's hosts from web filtering and from the portal",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::WsRefused => About {
            definition: "the WebSocket upgrade is refused by something on the way",
            threshold: None,
            agent_sees: "'Initialization Failed', or no calls are offered, while pages load",
            remedy: "allow WebSockets (the Upgrade header) to *.transport.connect.*.amazonaws.com",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::WsStripped => About {
            definition: "the upgrade is answered as if nobody had asked for a WebSocket",
            threshold: None,
            agent_sees: "'Initialization Failed', or no calls are offered, while pages load",
            remedy: "make the inspecting box forward Upgrade and Connection, or exempt these hosts from it",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::WsHung => About {
            definition: "the WebSocket upgrade gets no answer at all",
            threshold: None,
            agent_sees: "'Initialization Failed' after some seconds, while pages load",
            remedy: "look for a box that waits for the end of the WebSocket before it forwards anything",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::WsCut => About {
            definition: "the WebSocket opens, and is cut soon after",
            threshold: None,
            agent_sees: "calls become missed, chat stands still for 20 s and more, again and again",
            remedy: "raise the session time of the inspecting box for these hosts, or exempt them",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::WsBuffered => About {
            definition: "messages come through in heaps, not one by one",
            threshold: None,
            agent_sees: "offers and chat come late; heartbeats are missed, and the WebSocket is opened again",
            remedy: "turn off buffering of responses on the inspecting box for these hosts",
            owner: Security,
            grade: Always(Failed),
        },
        Cause::WsSlow => About {
            definition: "from CONNECT to an open WebSocket it takes long, so that browsers open a second one",
            threshold: Some(Threshold::Over(Duration::from_secs(1))),
            agent_sees: "the panel is slow to start, and calls are slow to connect",
            remedy: "find the slow step (DNS, connecting, TLS), or a box on the way that inspects",
            owner: Security,
            grade: Always(Degraded),
        },
        Cause::IdleCut => About {
            definition: "a silent TLS connection doesn't live as long as it has to",
            threshold: None,
            agent_sees: "the first click after a quiet while fails; 'Heartbeat response not received' in the log",
            remedy: "raise the idle time-out for TCP 443 to these hosts above 350 s, the load balancers' own",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::UdpBlocked => About {
            definition: "no media endpoint answers STUN over UDP 3478",
            threshold: Some(Threshold::Silence(Duration::from_secs(8))),
            agent_sees: "calls ring and fail about 8 s after accepting: 'Failed to establish softphone connection' \
                         with a turn: address, or ice_collection_timeout",
            remedy: "allow UDP 3478 from the agents' networks to the media endpoints; there is no way over TCP, \
                     and no proxy carries it",
            owner: Firewall,
            grade: Always(Failed),
        },
        Cause::TurnPartial => About {
            definition: "some media endpoints or addresses answer, others are silent",
            threshold: Some(Threshold::Silence(Duration::from_secs(8))),
            agent_sees: "some calls fail about 8 s after accepting, others work",
            remedy: "allow UDP 3478 to all media endpoints and all their addresses, not to some",
            owner: Firewall,
            grade: Always(Degraded),
        },
        Cause::TurnLoss => About {
            definition: "many probes to a media endpoint stay unanswered",
            threshold: Some(Threshold::Loss { least: 5, percent: 10 }),
            agent_sees: "choppy sound; calls that break off",
            remedy: "look for a full line, a policer on UDP, or a failing link between here and AWS",
            owner: Firewall,
            grade: Always(Degraded),
        },
        Cause::NotConfigured => About {
            definition: "agents use a region, an instance, a feature or a host that the configuration lacks",
            threshold: None,
            agent_sees: "one part is missing for all who need it, or a whole site can't log in",
            remedy: "add what `ccpgate explain HOST` names to [connect], or the host under [[allow]]",
            owner: Configuration,
            grade: BY_CLIENTS,
        },
        Cause::TunnelReset => About {
            definition: "tunnels that worked are reset by the far side",
            threshold: None,
            agent_sees: "'Heartbeat response not received'; calls become missed until the panel has reconnected",
            remedy: "find what resets between the proxy and AWS: a firewall that failed over, the line, NAT",
            owner: Network,
            grade: BY_CLIENTS,
        },
        Cause::TunnelIdle => About {
            definition: "tunnels end because nothing came through for limits.idle_timeout",
            threshold: None,
            agent_sees: "the first click after a quiet while fails; the panel reconnects",
            remedy: "set limits.idle_timeout to \"0s\": the panel's WebSockets may be silent",
            owner: Network,
            grade: BY_CLIENTS,
        },
        Cause::OneDesk => About {
            definition: "one client alone fails, again and again, while others succeed",
            threshold: None,
            agent_sees: "one agent can't work, the neighbours can",
            remedy: "look at that PC: clock, browser, VPN, security software; sign in again",
            owner: Desk,
            grade: Always(Degraded),
        },
        Cause::ForeignProtocol => About {
            definition: "first bytes that aren't TLS, or that name another host than the CONNECT did",
            threshold: None,
            agent_sees: "nothing in the panel: it is another program on the PC",
            remedy: "find the program on that PC; `detail` in the log says what it sent",
            owner: Desk,
            grade: Always(Degraded),
        },
        Cause::Limit => About {
            definition: "a limit of this proxy is reached, so that it refuses what it would let through",
            threshold: None,
            agent_sees: "it works for some agents and not for others, worst when a shift begins",
            remedy: "raise the limit that the refusals name, and the machine's descriptors with it",
            owner: Proxy,
            grade: BY_CLIENTS,
        },
        Cause::RangesStale => About {
            definition: "the running proxy has no ip-ranges.json that is younger than ranges.max_age",
            threshold: None,
            agent_sees: "nothing yet; calls without sound once AWS moves onto a range that no list has",
            remedy: "mend the way from the proxy to ranges.url (`ranges` of /api/status has the error), or put a newer file in the place of ranges.file",
            owner: Proxy,
            grade: Always(Degraded),
        },
        Cause::RangesAside => About {
            definition: "a version of ip-ranges.json takes more than half of a set in use away, and waits for a person",
            threshold: None,
            agent_sees: "nothing: the version before it stays in force",
            remedy: "compare it with AWS's own file; if AWS really took that away, run ccpgate ranges accept TOKEN",
            owner: Proxy,
            grade: Always(Degraded),
        },
        Cause::RangesDue => About {
            definition: "AWS moves voice onto prefixes that it announced within days, or may do so already",
            threshold: None,
            agent_sees: "calls that connect without sound, wherever the firewall lacks the prefix",
            remedy: "let UDP 3478 to the prefixes through; ccpgate ranges diff --ticket writes the request",
            owner: Firewall,
            grade: Always(Degraded),
        },
    }
}
