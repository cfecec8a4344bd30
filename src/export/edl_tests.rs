use super::super::foreign;
use super::*;
use crate::catalogue::{Choice, resolve};
use crate::export::audit::Audit;
use crate::ranges::read::read;
use crate::ranges::select::Wanted;

fn choice(regions: &[&str]) -> Choice {
    Choice { regions: regions.iter().map(|region| (*region).to_owned()).collect(), ..Choice::default() }
}

fn policy() -> Policy {
    Policy::new(resolve(&choice(&["us-west-2"])).rules, Vec::new())
}

fn selection(regions: &[&str]) -> Selection {
    let ranges = read(include_bytes!("../../tests/data/ip-ranges-2026.json")).unwrap();
    Selection::new(&ranges, &Wanted::new(&choice(regions), false))
}

#[test]
fn every_list_is_as_consumers_take_it() {
    let (policy, selection) = (policy(), selection(&["us-west-2"]));
    let prefixes = Prefixes { selection: &selection, create_date: "2026-08-22-15-17-05", sync_token: 7 };
    let source = Source { policy: &policy, prefixes: Some(prefixes) };
    let mut made = 0;
    for list in &ALL {
        assert_eq!(by_path(&format!("/edl/{}.txt", list.name)), Some(list));
        let Ok(all) = list.make(&source) else {
            // The feature is off.
            assert!(list.name.starts_with("video-"), "{}", list.name);
            continue;
        };
        made += 1;
        let text = all.text(false);
        assert!(!text.is_empty() && text.ends_with('\n') && !text.contains(['\r', '#', ' ']), "{text}");
        assert_eq!(text.lines().collect::<Vec<_>>(), all.entries, "{}", list.name);
        let with = all.text(true);
        assert!(with.starts_with("# Amazon Connect ") && with.ends_with(&text), "{with}");
        assert_ne!(tag(&text), tag(&with));
        if list.needs_ranges() {
            let nets: Vec<ipnet::IpNet> = all.entries.iter().map(|entry| entry.parse().unwrap()).collect();
            assert!(nets.is_sorted(), "{}", list.name);
            let (four, six) = (list.name.ends_with("-v4"), list.name.ends_with("-v6"));
            assert!(nets.iter().all(|net| !(four && net.addr().is_ipv6() || six && net.addr().is_ipv4())));
        } else {
            assert!(all.entries.is_sorted(), "{}", list.name);
            // There a name stands for all below it as well, which an audit can't know.
            if list.name == "umbrella" {
                continue;
            }
            // Nothing that agents need is missing on a list of ours.
            let read = foreign::read(&text, &|_| Err(String::new())).unwrap();
            let missing = Audit::new(&policy, &[(list.name.to_owned(), read)]).missing;
            let media = missing.iter().filter(|missing| missing.category == crate::policy::Category::Media);
            let (media, all) = (media.count(), missing.len());
            assert_eq!(media, all, "{}: {missing:?}", list.name);
            assert_eq!(media > 0, list.name == "paloalto-urls", "{}: {missing:?}", list.name);
        }
    }
    assert_eq!(made, 16);
}

#[test]
fn a_list_that_would_be_empty_is_none() {
    let (policy, nowhere) = (policy(), selection(&["us-gov-west-1"]));
    let prefixes = Prefixes { selection: &nowhere, create_date: "", sync_token: 0 };
    let make = |name: &str, prefixes| {
        let list = ALL.iter().find(|list| list.name == name).unwrap();
        list.make(&Source { policy: &policy, prefixes }).map(drop)
    };
    let mut empty = nowhere.clone();
    empty.sets.iter_mut().for_each(|selected| selected.table = crate::ranges::Table::default());
    let emptied = Prefixes { selection: &empty, ..prefixes };
    assert_eq!(make("media-udp-3478", Some(emptied)), Err(Absent::Nothing));
    assert_eq!(make("media-udp-3478", None), Err(Absent::NoRanges));
    assert_eq!(make("domains", None), Ok(()));
    for path in [
        "/edl/",
        "/edl/domains",
        "/edl/domains.txt/",
        "/edl/DOMAINS.txt",
        "/edl/../domains.txt",
        "/domains.txt",
    ] {
        assert_eq!(by_path(path), None, "{path}");
    }
}
