use super::*;
use crate::catalogue::{Choice, Feature};
use crate::export::{iptables::iptables, nft::nft};
use crate::ranges::read;
use crate::ranges::select::Wanted;

const NEW: &[u8] = include_bytes!("../../tests/data/ip-ranges-2026.json");

fn selection(features: &[Feature]) -> Selection {
    let choice =
        Choice { regions: vec!["us-west-2".to_owned()], features: features.to_vec(), ..Choice::default() };
    Selection::new(&read::read(NEW).unwrap(), &Wanted::new(&choice, false))
}

fn firewall(selection: &Selection) -> Firewall<'_> {
    Firewall {
        selection,
        create_date: "2026-08-22-15-17-05",
        sync_token: 1,
        scope: Scope::Media,
        hook: None,
        stateless: false,
        breadth: Breadth::of(selection, 20),
        media: true,
        by_name: Vec::new(),
    }
}

#[test]
fn media_is_udp_3478_alone() {
    let selection = selection(&[]);
    let rules = firewall(&selection).rules();
    let remotes: Vec<String> = rules.iter().map(|rule| rule.remote.to_string()).collect();
    assert_eq!(remotes, ["15.193.0.0/19", "18.236.61.0/25", "54.190.198.32/28", "2600:f0f2:7100::/40"]);
    assert!(rules.iter().all(|r| r.direction == Direction::Out && r.protocol == Protocol::Udp));
    assert!(rules.iter().all(|r| r.remote_ports == "3478"));
    for text in [nft(&firewall(&selection)), iptables(&firewall(&selection))] {
        assert!(!text.contains("443"), "{text}");
        assert!(!text.contains(" drop ") && !text.contains("DROP"), "{text}");
    }
}

#[test]
fn stateless_lets_back_in_what_browsers_listen_on() {
    let selection = selection(&[]);
    let rules = Firewall { stateless: true, ..firewall(&selection) }.rules();
    let back: Vec<&Rule> = rules.iter().filter(|rule| rule.direction == Direction::In).collect();
    assert_eq!(back.len(), 8);
    assert!(back.iter().all(|rule| rule.protocol == Protocol::Udp && rule.remote_ports == "3478"));
    for ports in ["49152-65535", "32768-61000"] {
        assert_eq!(back.iter().filter(|rule| rule.local_ports == ports).count(), 4);
    }
}

#[test]
fn option_2_has_tcp_443_and_says_how_much_that_is() {
    let selection = selection(&[Feature::Video]);
    let option2 = Firewall { scope: Scope::Option2, ..firewall(&selection) };
    let rules = option2.rules();
    assert!(rules.iter().any(|r| r.protocol == Protocol::Tcp && r.remote_ports == "443"));
    assert!(rules.iter().any(|r| r.remote.to_string() == "99.77.128.0/18" && r.remote_ports == "3478"));
    for text in [nft(&option2), iptables(&option2)] {
        assert!(text.contains("that any AWS customer can have; Option 1 opens 20 names"), "{text}");
    }
    let without = Firewall { media: false, ..option2 };
    assert!(without.rules().iter().all(|rule| rule.protocol == Protocol::Tcp));
    assert!(!nft(&without).contains("turn_by_name"));
}

#[test]
fn names_and_comments_fit_what_the_kernel_takes() {
    let selection = selection(&[Feature::Video]);
    let all = Firewall {
        scope: Scope::Option2,
        hook: Some(Hook::Output),
        stateless: true,
        by_name: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ..firewall(&selection)
    };
    for line in nft(&all).lines() {
        let comment = line.split("comment \"").nth(1).map(|rest| rest.trim_end_matches('"'));
        assert!(comment.is_none_or(|comment| comment.len() <= 128 && !comment.contains('"')), "{line}");
    }
    let script = iptables(&all);
    for line in script.lines().filter(|line| line.starts_with("create ")) {
        assert!(line.split(' ').nth(1).is_some_and(|name| name.len() <= 31), "{line}");
    }
    assert!(script.contains("add ccpgate-turn-v4 192.0.2.1 timeout 7200 -exist"), "{script}");
    assert!(script.contains("add ccpgate-turn-v6 2001:db8::1 timeout 7200 -exist"), "{script}");
}

#[test]
fn the_set_by_name_has_a_time_out_and_nothing_that_merges() {
    let selection = selection(&[]);
    let text = nft(&firewall(&selection));
    let line = text.lines().find(|line| line.contains("set turn_by_name_v4")).unwrap();
    assert!(line.contains("flags timeout;") && !line.contains("interval"), "{line}");
    assert!(!text.contains("auto-merge") && !text.contains("flush set inet ccpgate turn_by_name"), "{text}");
}
