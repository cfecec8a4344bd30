//! An instance whose own name doesn't exist, told apart from a resolver that knows no name.

use super::*;

const LOGIN: Option<Category> = Some(Category::Login);
const IDP: u32 = 1;
const OLD: (u32, &str) = (2, "old.my.connect.aws");

fn with_the_old_alias() -> Proxy {
    let mut proxy = Proxy::new();
    proxy.choice.instances = vec!["old".to_owned()];
    proxy
}

fn causes(proxy: &mut Proxy) -> Vec<(Cause, usize)> {
    proxy.causes().into_iter().map(|(cause, _, clients)| (cause, clients)).collect()
}

#[test]
fn it_is_found_where_every_agent_is_hit() {
    let mut proxy = with_the_old_alias();
    for number in 0..50 {
        proxy.succeeds(desk(number), IDP);
        proxy.ends_well(desk(number), IDP);
        proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
    }
    let report = proxy.look();
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((finding.key.cause, finding.clients.len()), (Cause::InstanceUnknown, 50));
    assert_eq!(
        (&finding.targets[..], report.state()),
        (&["old.my.connect.aws:443".to_owned()][..], State::Failed)
    );
    // It lasts as long as agents try, and is over five minutes after the last.
    for _ in 0..20 {
        proxy.now += 60;
        for number in 0..50 {
            proxy.succeeds(desk(number), IDP);
            proxy.ends_well(desk(number), IDP);
            proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
        }
        assert_eq!(causes(&mut proxy), [(Cause::InstanceUnknown, 50)]);
    }
    proxy.now += 300;
    assert_eq!(causes(&mut proxy), []);
}

#[test]
fn another_name_that_does_not_exist_changes_nothing_of_it() {
    let mut proxy = with_the_old_alias();
    let other = (3, "idp.typo.example");
    for number in 0..10 {
        proxy.succeeds(desk(number), IDP);
        proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
    }
    for turn in 0..20 {
        proxy.now += 1;
        let at = if turn % 2 == 0 { other } else { OLD };
        proxy.fails_at(desk(turn % 2), Cause::DnsNxdomain, LOGIN, at);
        assert_eq!(causes(&mut proxy), [(Cause::InstanceUnknown, 10)], "{turn}");
        assert_eq!(proxy.look().findings[0].targets, ["old.my.connect.aws:443"]);
    }
    // Where the other one is a finding, it is one of its own.
    for number in 0..5 {
        proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, other);
    }
    for _ in 0..5 {
        assert_eq!(causes(&mut proxy), [(Cause::InstanceUnknown, 10), (Cause::DnsNxdomain, 5)]);
        let targets: Vec<_> = proxy.look().findings.iter().flat_map(|f| f.targets.clone()).collect();
        assert_eq!(targets, ["old.my.connect.aws:443", "idp.typo.example:443"]);
    }
}

#[test]
fn a_resolver_that_knows_no_name_is_the_networks() {
    let mut proxy = with_the_old_alias();
    let others = [(3, "idp.example"), (4, "a.transport.connect.us-west-2.amazonaws.com")];
    for number in 0..50 {
        proxy.succeeds(desk(number), IDP);
    }
    proxy.now += 30;
    for number in 0..50 {
        for at in [OLD, others[0], others[1]] {
            proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, at);
        }
    }
    assert_eq!(causes(&mut proxy), [(Cause::DnsNxdomain, 50)]);
    // Nobody has reached anything: nothing says that other names resolve.
    let mut proxy = with_the_old_alias();
    for number in 0..50 {
        proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
    }
    assert_eq!(causes(&mut proxy), [(Cause::DnsNxdomain, 50)]);
}

/// Names that were known stay so for their time to live, one longer than the other.
#[test]
fn a_resolver_that_forgets_one_name_after_the_other_is_the_networks() {
    let mut proxy = with_the_old_alias();
    let others = [(3, "idp.example"), (4, "a.transport.connect.us-west-2.amazonaws.com")];
    let fail = |proxy: &mut Proxy, names: &[(u32, &'static str)]| {
        for number in 0..50 {
            for name in names {
                proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, *name);
            }
        }
    };
    fail(&mut proxy, &[OLD]);
    proxy.now += 10;
    proxy.succeeds(desk(7), IDP);
    proxy.now += 20;
    for other in others {
        proxy.now += 20;
        fail(&mut proxy, &[OLD, other]);
    }
    assert_eq!(causes(&mut proxy), [(Cause::DnsNxdomain, 50)]);
    // What resolves since then says that it is these names alone.
    proxy.now += 5;
    proxy.succeeds(desk(7), IDP);
    fail(&mut proxy, &[OLD]);
    assert!(causes(&mut proxy).contains(&(Cause::InstanceUnknown, 50)));
}

#[test]
fn a_name_that_exists_now_and_then_is_the_networks() {
    let mut proxy = with_the_old_alias();
    for number in 0..50 {
        proxy.succeeds(desk(number), IDP);
    }
    proxy.fails_at(desk(0), Cause::DnsNxdomain, LOGIN, OLD);
    proxy.look();
    for turn in 0..60 {
        proxy.now += 2;
        proxy.succeeds(desk(turn % 7), OLD.0);
        for number in 20..30 {
            proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
        }
        assert_eq!(causes(&mut proxy), [(Cause::DnsNxdomain, 10)]);
    }
    // Then the last resolver has heard that it is gone.
    for turn in 1..=40 {
        proxy.now += 3;
        proxy.succeeds(desk(turn % 7), IDP);
        for number in 20..30 {
            proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
        }
        let cause = if turn < 20 { Cause::DnsNxdomain } else { Cause::InstanceUnknown };
        assert_eq!(causes(&mut proxy), [(cause, 10)], "{turn}");
    }
}

/// The alias is corrected: what failed before is not the resolver's fault from then on.
#[test]
fn a_reload_that_corrects_the_alias_makes_no_other_finding() {
    let mut proxy = with_the_old_alias();
    for number in 0..10 {
        proxy.succeeds(desk(number), IDP);
        proxy.fails_at(desk(number), Cause::DnsNxdomain, LOGIN, OLD);
    }
    assert_eq!(causes(&mut proxy), [(Cause::InstanceUnknown, 10)]);
    proxy.choice.instances = vec!["new".to_owned()];
    proxy.reload();
    for _ in 0..310 {
        proxy.now += 1;
        let found = causes(&mut proxy);
        assert!(found.iter().all(|(cause, _)| *cause == Cause::InstanceUnknown), "{found:?}");
    }
    assert_eq!(causes(&mut proxy), []);
}

#[test]
fn one_desk_with_an_old_bookmark_is_told_so() {
    let mut proxy = with_the_old_alias();
    for number in 0..100 {
        proxy.succeeds(desk(number), IDP);
    }
    for _ in 0..5 {
        proxy.fails_at(desk(3), Cause::DnsNxdomain, LOGIN, OLD);
    }
    let report = proxy.look();
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((finding.key.cause, finding.by), (Cause::OneDesk, Some(Cause::InstanceUnknown)));
    assert_eq!(finding.targets, ["old.my.connect.aws:443"]);
}
