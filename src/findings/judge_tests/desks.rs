//! One desk that fails alone: what is told of it is its own.

use super::*;

const API_HOST: (u32, &str) = (9, "api.example");

fn told(proxy: &mut Proxy) -> (Option<Cause>, Vec<String>) {
    let report = proxy.look();
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((finding.key.cause, &finding.clients[..]), (Cause::OneDesk, &[desk(17)][..]));
    (finding.by, finding.targets.clone())
}

#[test]
fn another_clients_target_is_not_its_own() {
    let mut proxy = Proxy::with_agents(300);
    for _ in 0..5 {
        proxy.fails_at(desk(17), Cause::TcpTimeout, API, API_HOST);
    }
    let its_own = (Some(Cause::TcpTimeout), vec!["api.example:443".to_owned()]);
    assert_eq!(told(&mut proxy), its_own);
    for number in 0..4 {
        proxy.now += 1;
        proxy.fails_at(desk(200 + number), Cause::TcpTimeout, API, (50 + number, "other.example"));
        assert_eq!(told(&mut proxy), its_own);
    }
    // Where so many failed elsewhere that the name is forgotten, none is told rather than another's.
    for number in 0..12 {
        let name = format!("h{number}.example");
        proxy.now += 1;
        proxy.fails_at(desk(200 + number % 4), Cause::TcpTimeout, API, (100 + number, &name));
    }
    assert_eq!(told(&mut proxy), (Some(Cause::TcpTimeout), Vec::new()));
}

#[test]
fn two_causes_in_turn_are_told_as_one() {
    let hosts: [(u32, &str); 2] = [(9, "b.example"), (10, "a.example")];
    for lead in [[0, 1], [1, 0]] {
        let causes = [Cause::DnsTimeout, Cause::TcpTimeout];
        let mut proxy = Proxy::with_agents(300);
        for _ in 0..5 {
            for at in lead {
                proxy.fails_at(desk(17), causes[at], API, hosts[at]);
            }
        }
        // As often: the first in the order of causes.
        let first = (Some(Cause::DnsTimeout), vec!["b.example:443".to_owned()]);
        for _ in 0..20 {
            assert_eq!(told(&mut proxy), first);
        }
        for _ in 0..20 {
            for at in lead {
                proxy.now += 1;
                proxy.fails_at(desk(17), causes[at], API, hosts[at]);
                assert_eq!(told(&mut proxy), first, "one ahead is no news");
            }
        }
        for _ in 0..5 {
            proxy.fails_at(desk(17), Cause::TcpTimeout, API, hosts[1]);
        }
        assert_eq!(told(&mut proxy), (Some(Cause::TcpTimeout), vec!["a.example:443".to_owned()]));
    }
    // The one that is most often counts, wherever it stands in that order.
    let mut proxy = Proxy::with_agents(300);
    for number in 0..6 {
        proxy.fails_at(desk(17), Cause::TcpReset, API, hosts[0]);
        if number > 0 {
            proxy.fails_at(desk(17), Cause::DnsTimeout, API, hosts[1]);
        }
    }
    for _ in 0..20 {
        assert_eq!(told(&mut proxy).0, Some(Cause::TcpReset));
    }
}

#[test]
fn two_targets_in_turn_are_told_together() {
    let mut proxy = Proxy::with_agents(300);
    for _ in 0..30 {
        for at in [(9, "b.example"), (10, "a.example")] {
            proxy.now += 1;
            proxy.fails_at(desk(17), Cause::TcpTimeout, API, at);
        }
    }
    assert_eq!(told(&mut proxy).1, ["a.example:443", "b.example:443"]);
    proxy.fails_at(desk(17), Cause::TcpTimeout, API, (9, "b.example"));
    assert_eq!(told(&mut proxy).1, ["a.example:443", "b.example:443"]);
}
