//! The judge under a virtual clock: mornings, faults and noise as they come, played second by second.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

mod desks;
mod instances;
mod lacking;

use super::clients::{Clients, Tally};
use super::judge::Judge;
use super::report::Report;
use super::unlisted::Unlisted;
use super::{Finding, Key, Second, State, Subject};
use crate::catalogue::{Choice, is_own_name, resolve};
use crate::cause::Cause;
use crate::outcome::Bound;
use crate::policy::{Category, Decision, Pattern, Policy, Reason, Rule};
use crate::target::{Host, Target};

/// A proxy whose clock is moved by hand.
struct Proxy {
    now: Second,
    clients: Clients,
    unlisted: Unlisted,
    judge: Judge,
    choice: Choice,
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

const SIGNALLING: Option<Category> = Some(Category::Signalling);
const API: Option<Category> = Some(Category::Api);

fn desk(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a04_0000 + (number / 200) * 256 + number % 200 + 1).into()
}

fn key(cause: Cause, category: Option<Category>) -> Key {
    Key { cause, category, subject: Subject::None }
}

impl Proxy {
    fn new() -> Self {
        let choice = Choice {
            regions: vec!["us-west-2".to_owned()],
            instances: vec!["acme".to_owned()],
            ..Choice::default()
        };
        Self {
            now: 1000,
            clients: Clients::new(50_000),
            unlisted: Unlisted::default(),
            judge: Judge::default(),
            choice,
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }

    /// Agents who are logged in: each has a tunnel.
    fn with_agents(count: u32) -> Self {
        let mut proxy = Self::new();
        for number in 0..count {
            proxy.succeeds(desk(number), 1);
        }
        proxy
    }

    fn succeeds(&mut self, client: IpAddr, target: u32) {
        self.clients.began(self.now, client, || target);
    }

    fn ends_well(&mut self, client: IpAddr, target: u32) {
        self.clients.ended(self.now, client, true, || target);
    }

    fn fails(&mut self, client: IpAddr, cause: Cause, category: Option<Category>, target: u32) {
        self.fails_at(client, cause, category, (target, "host.example"));
    }

    /// The same with the name of the host, which goes with the number.
    fn fails_at(&mut self, client: IpAddr, cause: Cause, category: Option<Category>, at: (u32, &str)) {
        self.clients.failed(self.now, client, key(cause, category), at.0, &format!("{}:443", at.1));
    }

    fn denied(&mut self, client: IpAddr, host: &str) {
        let number = self.unlisted.denied(self.now, client, host);
        let key = Key { cause: Cause::NotConfigured, category: None, subject: Subject::Host(number) };
        self.clients.failed(self.now, client, key, number, host);
    }

    fn look(&mut self) -> Report {
        let mut tally = Tally::default();
        self.clients.tally(self.now, &mut tally);
        self.clients.watch(&tally.suspects());
        let policy = self.policy();
        let lacks = |host: &str| {
            let target = Target { host: Host::Name(host.into()), port: 443 };
            matches!(policy.decide(&target), Decision::Denied { reason: Reason::NoRule, .. })
        };
        let answers = self.unlisted.ask().answer(&self.choice, lacks);
        self.unlisted.learn(answers);
        self.judge.judge(self.now, &tally, &self.unlisted, |host| is_own_name(&self.choice, host))
    }

    fn policy(&self) -> Policy {
        let mut rules = resolve(&self.choice).rules;
        rules.extend(self.allow.iter().map(|host| Rule::added(host.clone(), vec![443], Category::Extra)));
        Policy::new(rules, self.deny.clone())
    }

    /// What the configuration says now takes effect.
    fn reload(&mut self) {
        self.unlisted.reloaded();
    }

    fn causes(&mut self) -> Vec<(Cause, Option<Category>, usize)> {
        self.look()
            .findings
            .iter()
            .map(|f: &Finding| (f.key.cause, f.key.category, f.clients.len()))
            .collect()
    }
}

#[test]
fn a_dead_resolver_at_nine() {
    let mut proxy = Proxy::with_agents(300);
    assert_eq!(proxy.look().state(), State::Ok);
    proxy.now += 60;
    for number in 0..200 {
        proxy.fails(desk(number), Cause::DnsTimeout, SIGNALLING, 7);
    }
    let report = proxy.look();
    assert_eq!(report.state(), State::Failed);
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((finding.clients.len(), finding.active, finding.since), (200, 300, 1060));
    // 200 of them are one /24; the other hundred, next door, is well.
    assert_eq!(finding.networks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.4.0.0/24"]);
    assert_eq!((report.active, report.failing, report.cut_off), (300, 200, 200));
    // The resolver is back: the panels retry, and all is well as soon as they have.
    proxy.now += 30;
    for number in 0..200 {
        proxy.succeeds(desk(number), 7);
    }
    let report = proxy.look();
    assert_eq!((report.state(), report.failing), (State::Ok, 0));
}

#[test]
fn one_desk_in_a_retry_loop_is_one_client() {
    let mut proxy = Proxy::with_agents(300);
    for _ in 0..150 {
        proxy.now += 2;
        proxy.fails(desk(17), Cause::TcpTimeout, API, 9);
        let report = proxy.look();
        assert_ne!(report.state(), State::Failed);
        assert!(report.findings.iter().all(|f| f.key.cause == Cause::OneDesk && f.clients == [desk(17)]));
    }
    assert_eq!(proxy.causes(), [(Cause::OneDesk, API, 1)]);
    assert_eq!(proxy.look().findings[0].networks[0].to_string(), "10.4.0.18/32");
    // It ends when the desk succeeds, and when it is switched off.
    proxy.succeeds(desk(17), 9);
    assert_eq!(proxy.causes(), []);
    for _ in 0..5 {
        proxy.fails(desk(17), Cause::TcpTimeout, API, 9);
    }
    assert_eq!(proxy.causes().len(), 1);
    proxy.now += 299;
    assert_eq!(proxy.causes().len(), 1);
    proxy.now += 1;
    assert_eq!(proxy.causes(), []);
}

#[test]
fn a_desk_that_fails_alone_is_no_desk_when_nobody_else_is_there() {
    let mut proxy = Proxy::new();
    for _ in 0..4 {
        proxy.fails(desk(1), Cause::DnsNxdomain, API, 9);
    }
    assert_eq!(proxy.causes(), [], "four times may be chance");
    proxy.fails(desk(1), Cause::DnsNxdomain, API, 9);
    assert_eq!(proxy.causes(), [(Cause::DnsNxdomain, API, 1)]);
    assert_eq!(proxy.look().state(), State::Degraded, "less than three clients fail nothing");
}

#[test]
fn three_clients_of_the_same_target_are_enough_and_as_many_by_chance_are_not() {
    let mut proxy = Proxy::with_agents(300);
    for number in 0..5 {
        proxy.fails(desk(number), Cause::TcpRefused, API, 100 + number);
    }
    assert_eq!(proxy.causes(), [], "five of 300, each something else");
    proxy.fails(desk(5), Cause::TcpRefused, API, 200);
    assert_eq!(proxy.causes(), [(Cause::TcpRefused, API, 6)], "two percent");
    let mut proxy = Proxy::with_agents(300);
    for number in 0..3 {
        assert_eq!(proxy.causes(), []);
        proxy.fails(desk(number), Cause::TcpRefused, API, 100);
    }
    assert_eq!(proxy.causes(), [(Cause::TcpRefused, API, 3)]);
    // Another target that goes well says nothing of this one.
    proxy.succeeds(desk(0), 1);
    assert_eq!(proxy.causes(), [(Cause::TcpRefused, API, 3)]);
}

#[test]
fn failed_is_over_half_and_at_least_three_in_what_calls_need() {
    for (agents, failing, category, state) in [
        (4, 2, Category::Login, State::Ok),
        (4, 3, Category::Login, State::Failed),
        (5, 3, Category::Telecom, State::Failed),
        (6, 3, Category::Signalling, State::Degraded),
        (5, 3, Category::Chat, State::Degraded),
        (2, 2, Category::Login, State::Ok),
    ] {
        let mut proxy = Proxy::with_agents(agents);
        for number in 0..failing {
            proxy.fails(desk(number), Cause::TcpTimeout, Some(category), 5);
        }
        assert_eq!(proxy.look().state(), state, "{failing} of {agents} in {category:?}");
    }
    // Not the same clients in both: together they are most.
    let mut proxy = Proxy::with_agents(10);
    for number in 0..6 {
        let category = if number < 3 { Category::Login } else { Category::Telecom };
        proxy.fails(desk(number), Cause::TcpTimeout, Some(category), 5);
    }
    assert_eq!(proxy.look().state(), State::Failed);
}

#[test]
fn it_looks_back_ten_minutes_and_ends_after_five_quiet_ones() {
    let mut proxy = Proxy::with_agents(20);
    for number in 0..3 {
        proxy.now += 200;
        assert_eq!(proxy.causes(), []);
        proxy.fails(desk(number), Cause::TcpRefused, API, 5);
    }
    assert_eq!(proxy.causes().len(), 1, "over seven minutes");
    assert_eq!(proxy.look().findings[0].since, 1200);
    proxy.now += 299;
    assert_eq!(proxy.causes().len(), 1);
    proxy.now += 1;
    assert_eq!(proxy.causes(), [], "five minutes without a failure");
    // One that fails later doesn't bring back those from before.
    proxy.fails(desk(3), Cause::TcpRefused, API, 5);
    assert_eq!(proxy.causes(), []);
}

#[test]
fn a_finding_does_not_flap_while_its_clients_recover_one_by_one() {
    let mut proxy = Proxy::with_agents(20);
    for number in 0..10 {
        proxy.fails(desk(number), Cause::TcpRefused, API, 5);
    }
    assert_eq!(proxy.causes().len(), 1);
    for number in 0..9 {
        proxy.now += 1;
        proxy.succeeds(desk(number), 5);
        assert_eq!(proxy.causes().len(), 1, "{number}");
    }
    proxy.now += 59;
    assert_eq!(proxy.causes().len(), 1);
    proxy.now += 1;
    assert_eq!(proxy.causes(), [], "one that is left is no finding");
}

#[test]
fn resets_are_news_when_many_clients_have_them() {
    let mut proxy = Proxy::with_agents(100);
    for number in 0..9 {
        proxy.fails(desk(number), Cause::TunnelReset, SIGNALLING, 1);
    }
    assert_eq!(proxy.causes(), []);
    proxy.now += 60;
    proxy.fails(desk(9), Cause::TunnelReset, SIGNALLING, 1);
    assert_eq!(proxy.causes(), [], "ten of 100, and not at once");
    for number in 0..9 {
        proxy.fails(desk(number), Cause::TunnelReset, SIGNALLING, 1);
    }
    assert_eq!(proxy.causes(), [(Cause::TunnelReset, SIGNALLING, 10)]);
    // That the panel has reconnected doesn't make it undone.
    for number in 0..10 {
        proxy.succeeds(desk(number), 1);
    }
    assert_eq!(proxy.causes().len(), 1);
    for number in 0..10 {
        proxy.ends_well(desk(number), 1);
    }
    assert_eq!(proxy.causes(), []);
}

#[test]
fn a_limit_is_never_noise() {
    let mut proxy = Proxy::with_agents(100);
    let key = |bound| Key { cause: Cause::Limit, category: None, subject: Subject::Bound(bound) };
    proxy.clients.failed(proxy.now, desk(1), key(Bound::RequestHeader), 0, "");
    assert_eq!(proxy.causes(), [], "one odd request");
    proxy.clients.failed(proxy.now, desk(1), key(Bound::ConnectionsPerClient), 0, "");
    let report = proxy.look();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].targets, [""; 0], "nothing was known of the target");
    let remedy = super::words::remedy(&report.findings[0]);
    assert!(remedy.ends_with("here it is limits.connections_per_client"), "{remedy}");
    // At a limit tunnels come and go: it stays for a while.
    proxy.succeeds(desk(1), 3);
    assert_eq!(proxy.causes().len(), 1);
    proxy.now += 10;
    proxy.succeeds(desk(1), 3);
    assert_eq!(proxy.causes(), []);
}

#[test]
fn foreign_protocols_are_news_in_bursts() {
    let mut proxy = Proxy::with_agents(300);
    for _ in 0..4 {
        proxy.fails(desk(3), Cause::ForeignProtocol, API, 5);
    }
    assert_eq!(proxy.causes(), []);
    proxy.fails(desk(3), Cause::ForeignProtocol, API, 5);
    let report = proxy.look();
    assert_eq!((report.findings.len(), report.state(), report.failing), (1, State::Degraded, 0));
}

#[test]
fn memory_is_bounded_whoever_comes() {
    let mut proxy = Proxy::new();
    proxy.clients = Clients::new(1000);
    // A thousand clients with a tunnel, and a crowd that is denied whatever it makes up.
    for number in 0..1000 {
        proxy.succeeds(desk(number), 1);
    }
    for number in 0..5000_u32 {
        proxy.denied(desk(number % 2000), &format!("h{number}.example"));
    }
    assert_eq!(proxy.clients.len(), 1000);
    let report = proxy.look();
    assert_eq!((report.active, report.state()), (1000, State::Ok));
    // Agents that log in find room again when the others are gone.
    for number in 0..1000 {
        proxy.ends_well(desk(number), 1);
    }
    proxy.now += 601;
    assert_eq!(proxy.look().active, 0);
    // What many ask for isn't pushed out by what one makes up.
    for number in 0..50 {
        proxy.denied(desk(number), "crm.example");
    }
    for number in 0..100_000_u32 {
        proxy.denied(desk(60), &format!("h{number}.example"));
    }
    assert_eq!(proxy.causes(), [(Cause::NotConfigured, None, 50)]);
}

/// Forty minutes of a healthy proxy: one tunnel in 300 fails to connect and is tried again, one in
/// 200 is reset, desks go and come, browsers ask for what isn't listed.
#[test]
fn ordinary_noise_is_no_finding() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let agents = random.u32(20..400);
        let mut proxy = Proxy::with_agents(agents);
        for _ in 0..2400 / 5 {
            proxy.now += 5;
            for number in 0..agents {
                let (client, target) = (desk(number), random.u32(2..40));
                if random.u32(..20) > 0 {
                    continue;
                }
                match random.u32(..600) {
                    0 | 1 => {
                        proxy.fails(client, Cause::TcpTimeout, API, target);
                        // A browser tries again at once; now and then nobody does.
                        if random.u32(..4) > 0 {
                            proxy.succeeds(client, target);
                            proxy.ends_well(client, target);
                        }
                    }
                    2..5 => {
                        proxy.succeeds(client, target);
                        proxy.fails(client, Cause::TunnelReset, API, target);
                        proxy.clients.ended(proxy.now, client, false, || target);
                    }
                    5..40 => proxy.denied(
                        client,
                        ["update.googleapis.com", "mail.example", "news.example"][random.usize(..3)],
                    ),
                    40 => proxy.fails(client, Cause::ForeignProtocol, API, target),
                    _ => {
                        proxy.succeeds(client, target);
                        proxy.ends_well(client, target);
                    }
                }
            }
            let report = proxy.look();
            let path = report.findings.iter().find(|f| f.key.cause != Cause::NotConfigured);
            assert!(path.is_none(), "{path:?} of {agents}, seed {seed}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, the numbers make sense.
    #[test]
    fn the_report_is_consistent(events in proptest::collection::vec((0_u32..30, 0_u8..6, 0_u32..4, 0_u32..40), 1..300)) {
        let mut proxy = Proxy::new();
        for (client, what, target, later) in events {
            let client = desk(client);
            proxy.now += later;
            match what {
                0 => proxy.succeeds(client, target),
                1 => proxy.ends_well(client, target),
                2 => proxy.fails(client, Cause::DnsTimeout, SIGNALLING, target),
                3 => proxy.fails(client, Cause::TunnelReset, API, target),
                4 => proxy.denied(client, "participant.connect.eu-west-2.amazonaws.com"),
                _ => proxy.fails(client, Cause::ForeignProtocol, API, target),
            }
            let report = proxy.look();
            prop_assert!(report.failing <= report.active && report.cut_off <= report.active);
            for finding in &report.findings {
                prop_assert!(finding.since <= finding.last && finding.last <= proxy.now);
                prop_assert!(!finding.clients.is_empty() && finding.clients.is_sorted());
                prop_assert!(finding.clients.len() <= finding.active);
                prop_assert!(proxy.now - finding.last < 300);
                prop_assert!(finding.clients.iter().all(|c| finding.networks.iter().any(|n| n.contains(c))));
            }
        }
    }
}
