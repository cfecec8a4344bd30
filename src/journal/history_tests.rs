use proptest::prelude::*;

use super::*;

fn count(all: u64, of_them: u64) -> Count {
    Count { all, of_them }
}

fn labels(category: &'static str, domain: &str) -> Arc<Labels> {
    Arc::new(Labels { domain: domain.into(), category, traffic: None })
}

#[test]
fn minutes_hold_what_ended_in_them() {
    let history = History::default();
    let [in_api, in_telecom] = [labels("api", "a.example"), labels("telecom", "*.t.example")];
    let look = |now, api: (u64, u64), telecom: (u64, u64), handshakes: (u64, u64)| {
        let rules = [(&in_api, count(api.0, api.1)), (&in_telecom, count(telecom.0, telecom.1))];
        history.take(now, rules.into_iter(), count(handshakes.0, handshakes.1));
    };
    look(5, (1, 0), (0, 0), (3, 1));
    look(10, (3, 1), (0, 0), (3, 1));
    look(65, (3, 1), (0, 0), (4, 2));
    look(601, (3, 1), (10, 10), (4, 2));
    let past = history.past(601, 1440, 1, None);
    assert_eq!(past.by_category["api"], Steps::from([(0, count(3, 1))]));
    assert_eq!(past.by_category["telecom"], Steps::from([(600, count(10, 10))]));
    assert_eq!(past.handshakes, Steps::from([(0, count(3, 1)), (60, count(1, 1))]));
    let coarse = history.past(601, 1440, 10, Some("a.example"));
    assert_eq!(coarse.by_category.len(), 1);
    assert_eq!(coarse.handshakes, Steps::from([(0, count(4, 2))]));

    assert_eq!(history.lately(601, 10).get(&in_api), None, "eleven minutes ago");
    assert_eq!(history.lately(601, 11).get(&in_api), Some(&count(3, 1)));
    assert_eq!(history.lately(601, 1).get(&in_telecom), Some(&count(10, 10)));
    assert_eq!(history.handshakes(601, 10), count(1, 1));
    assert!(!history.is_due(605) && history.is_due(606));

    let told = history.minutes(601, 10, |second| 1000 + i64::from(second));
    let begun: Vec<_> = told.minutes.iter().map(|minute| (minute.at, minute.handshakes)).collect();
    assert_eq!(begun, [(1060, count(1, 1)), (1600, count(0, 0))]);
    let [(rule, ended)] = told.minutes[1].rows[..] else { panic!("{told:?}") };
    assert_eq!((told.rules[rule].0.as_str(), ended), ("*.t.example", count(10, 10)));
}

#[test]
fn rules_that_reloads_removed_unused_are_dropped_and_the_others_keep_their_ends() {
    let history = History::default();
    let used = labels("api", "used.example");
    for reload in 0..100_u32 {
        let list: Vec<_> =
            (0..500).map(|number| labels("extra", &format!("{reload}-{number}.example"))).collect();
        let mut rules: Vec<_> = list.iter().map(|rule| (rule, count(0, 0))).collect();
        if reload % 7 == 0 {
            // Behind rules that go, so that its place changes.
            rules.push((&used, count(u64::from(reload) + 1, 0)));
        }
        history.take(reload * EVERY, rules.into_iter(), Count::default());
    }
    let known = history.lock().rules.len();
    assert!(known <= 2 * CROWDED, "{known} rules, 501 at a time");
    let told = history.minutes(500, 1440, i64::from);
    let ends = told.minutes.iter().flat_map(|minute| &minute.rows);
    let ends: Vec<_> = ends.map(|(rule, ended)| (told.rules[*rule].0.as_str(), ended.all)).collect();
    assert!(ends.iter().all(|(domain, _)| *domain == "used.example"), "{ends:?}");
    assert_eq!(ends.iter().map(|(_, all)| all).sum::<u64>(), 99);
}

#[test]
fn a_rule_that_comes_back_unused_and_goes_again_keeps_its_ends() {
    let history = History::default();
    let look = |now: Second, rules: &[(&Arc<Labels>, Count)]| {
        history.take(now, rules.iter().copied(), Count::default());
    };
    let used = labels("api", "used.example");
    look(5, &[(&used, count(3, 1))]);
    look(10, &[]);
    // Its series was forgotten meanwhile.
    let again = labels("api", "used.example");
    look(15, &[(&again, count(0, 0))]);
    let others: Vec<_> = (0..2 * CROWDED).map(|at| labels("extra", &format!("{at}.example"))).collect();
    look(20, &others.iter().map(|rule| (rule, count(0, 0))).collect::<Vec<_>>());
    assert_eq!(history.lately(20, 10), HashMap::from([(used, count(3, 1))]));
    assert_eq!(history.past(20, 10, 1, None).by_category["api"], Steps::from([(0, count(3, 1))]));
}

/// What reloads do to a rule: it is gone, is back as it was, or is back after its series was forgotten.
#[derive(Clone, Copy, Debug)]
enum Comes {
    Not,
    Back,
    Anew,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes and goes, and whichever rules are dropped for want of room: each end is told once, and
    /// under its rule.
    #[test]
    fn every_end_is_told_under_its_rule(
        steps in prop::collection::vec(
            prop::collection::vec((prop_oneof![Just(Comes::Not), Just(Comes::Back), Just(Comes::Anew)], 0..3_u64), 4),
            1..20,
        )
    ) {
        let history = History::default();
        let domain = |at: usize| format!("{at}.example");
        let mut series: Vec<_> = (0..4).map(|at| (labels("api", &domain(at)), 0)).collect();
        let mut told = HashMap::new();
        for (step, rules) in steps.iter().enumerate() {
            let now = step as Second * MINUTE;
            // Each list is too long to be kept beside the one before.
            let others: Vec<_> =
                (0..CROWDED).map(|at| labels("extra", &format!("{step}-{at}.example"))).collect();
            let (before, behind) = others.split_at(CROWDED / 2);
            let mut looked: Vec<_> = before.iter().map(|rule| (rule, count(0, 0))).collect();
            for (at, (comes, ended)) in rules.iter().enumerate() {
                match comes {
                    Comes::Not => continue,
                    Comes::Back => {}
                    Comes::Anew => series[at] = (labels("api", &domain(at)), 0),
                }
                series[at].1 += ended;
                if *ended > 0 {
                    *told.entry((now, domain(at))).or_insert(0) += ended;
                }
            }
            let here = rules.iter().zip(&series).filter(|((comes, _), _)| !matches!(comes, Comes::Not));
            looked.extend(here.map(|(_, (labels, all))| (labels, count(*all, 0))));
            looked.extend(behind.iter().map(|rule| (rule, count(0, 0))));
            history.take(now, looked.into_iter(), Count::default());
        }
        let now = steps.len() as Second * MINUTE;
        let minutes = history.minutes(now, 1440, i64::from);
        let mut found = HashMap::new();
        for minute in &minutes.minutes {
            for (rule, ended) in &minute.rows {
                let of = (minute.at as Second, minutes.rules[*rule].0.clone());
                prop_assert_eq!(found.insert(of, ended.all), None);
            }
        }
        prop_assert_eq!(&found, &told);
        let all: u64 = told.values().sum();
        let lately = history.lately(now, 1440);
        prop_assert_eq!(lately.values().map(|ended| ended.all).sum::<u64>(), all);
        let steps = history.past(now, 1440, 1, None).by_category.remove("api").unwrap_or_default();
        prop_assert_eq!(steps.values().map(|ended| ended.all).sum::<u64>(), all);
    }
}

#[test]
fn a_day_is_kept_and_a_flood_of_rules_is_bounded() {
    let history = History::default();
    let one = labels("api", "a.example");
    for minute in 0..2000 {
        let rules = [(&one, count(u64::from(minute), 0))];
        history.take(minute * MINUTE, rules.into_iter(), Count::default());
    }
    let past = history.past(1999 * MINUTE, 9999, 1, None);
    assert_eq!(past.by_category["api"].len(), MINUTES);
    let names: Vec<_> = (0..2000).map(|number| labels("extra", &format!("{number}.example"))).collect();
    for minute in 2000..2200_u32 {
        let rules = names.iter().map(|name| (name, count(u64::from(minute), 0)));
        history.take(minute * MINUTE, rules, Count::default());
    }
    let rows: usize = history.lock().minutes.iter().map(|minute| minute.rows.len()).sum();
    assert!((ROWS / 2..=ROWS + 2 * names.len()).contains(&rows), "{rows}");
}
