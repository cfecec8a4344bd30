//! Hosts spread over the ports of one proxy name.

use super::*;

fn rows(rows: &[&[&str]]) -> Answers {
    Answers {
        listed: rows.iter().map(|row| row.iter().map(|word| (*word).to_owned()).collect()).collect(),
        otherwise: OFF.to_owned(),
        direct: Vec::new(),
    }
}

/// The answers for all hosts, each split at its semicolons.
fn orders(answers: &Answers, hosts: &[String]) -> Vec<Vec<String>> {
    let pac = render(&policy(&["*.example"]), answers);
    ask(&pac, hosts.iter().map(|host| ("", host.as_str())))
        .into_iter()
        .map(|answer| answer.split("; ").map(str::to_owned).collect())
        .collect()
}

/// How many hosts begin with each word of the first row.
fn shares(ports: usize, hosts: &[String]) -> Vec<usize> {
    let words: Vec<String> = (0..ports).map(|port| format!("PROXY p.corp:{}", 3128 + port)).collect();
    let row: Vec<&str> = words.iter().map(String::as_str).collect();
    let orders = orders(&rows(&[&row]), hosts);
    words.iter().map(|word| orders.iter().filter(|order| order[0] == *word).count()).collect()
}

#[test]
fn each_host_begins_at_its_own_port_and_the_others_follow() {
    let answers =
        rows(&[&["HTTPS p1:1", "HTTPS p1:2", "HTTPS p1:3"], &["PROXY p1:4", "PROXY p1:5"], &["PROXY p2:6"]]);
    let hosts: Vec<String> = (0..30).map(|n| format!("h{n}.example")).collect();
    let orders = orders(&answers, &hosts);
    for order in &orders {
        let mut sorted = order.clone();
        sorted[..3].sort();
        sorted[3..5].sort();
        // All of them, those of a name and scheme together, in the order of the rows.
        assert_eq!(sorted, answers.listed.concat());
    }
    for (place, choices) in [(0, 3), (1, 3), (2, 3), (3, 2), (5, 1)] {
        let seen: BTreeSet<&String> = orders.iter().map(|order| &order[place]).collect();
        assert_eq!(seen.len(), choices, "place {place}");
    }
}

#[test]
fn a_host_has_one_order_however_it_is_written() {
    let answers = rows(&[&["PROXY p:1", "PROXY p:2", "PROXY p:3", "PROXY p:4"]]);
    let pac = render(&policy(&["*.example", "2001:db8::1"]), &answers);
    for spellings in [
        ["a7.crm.example", "A7.CRM.example.", "a7.Crm.Example"],
        ["2001:db8::1", "[2001:DB8::1]", "[2001:db8::1]"],
    ] {
        let first = ask_one(&pac, spellings[0]);
        assert!(spellings.iter().all(|host| ask_one(&pac, host) == first), "{spellings:?}");
        // Another engine, or the same after a restart.
        assert_eq!(ask_one(&render(&policy(&["*.example", "2001:db8::1"]), &answers), spellings[1]), first);
    }
    assert_eq!(ask_one(&pac, "elsewhere.test"), OFF);
    assert_eq!(ask_one(&pac, "app.localhost"), "DIRECT");
}

#[test]
fn numbered_hosts_take_turns() {
    // As shards are named. Sixty of them fit into twice 32, with nothing left to chance.
    for name in
        ["h{}.example", "na{}.crm.example", "shard-{}", "cdn{}.static.eu-west-1.example", "{}.example"]
    {
        let name = if name.contains(".example") { name.to_owned() } else { format!("{name}.example") };
        for ports in 2..=6 {
            let hosts: Vec<String> = (0..60).map(|n| name.replace("{}", &n.to_string())).collect();
            let shares = shares(ports, &hosts);
            let (least, most) = (60 / ports, 60_usize.div_ceil(ports));
            assert!(shares.iter().all(|share| (least..=most).contains(share)), "{name}: {shares:?}");
            let padded: Vec<String> = (0..60).map(|n| name.replace("{}", &format!("{n:02}"))).collect();
            assert!(self::shares(ports, &padded).iter().all(|share| (least..=most).contains(share)));
        }
    }
}

#[test]
fn all_kinds_of_names_are_spread_evenly() {
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let letter = |n: u64| char::from(b'a' + u8::try_from(n).unwrap());
    let kinds: [Vec<String>; 5] = [
        // Distributions of a CDN, words, two letters, pairs that go together, long ones.
        (0..600)
            .map(|_| (0..13).map(|_| letter(draw(26))).collect::<String>() + ".cloudfront.example")
            .collect(),
        (0..600)
            .map(|_| {
                format!(
                    "{}{}.example",
                    letter(draw(26)),
                    (0..3 + draw(9)).map(|_| letter(draw(26))).collect::<String>()
                )
            })
            .collect(),
        (0..26 * 23).map(|n| format!("{}{}.example", letter(n % 26), letter(n / 26))).collect(),
        (0..26 * 23).map(|n| format!("{0}{1}.{0}{1}.example", letter(n % 26), letter(n / 26))).collect(),
        (0..600).map(|n| format!("host{n}.shard{n}.example")).collect(),
    ];
    for (kind, hosts) in kinds.iter().enumerate() {
        for ports in 2..=8 {
            let shares = shares(ports, hosts);
            let even = hosts.len() / ports;
            // Five standard deviations of what pure chance would give.
            let spread = 5 * (hosts.len() as f64 / ports as f64).sqrt() as usize;
            assert!(shares.iter().all(|share| share.abs_diff(even) <= spread), "{kind}: {shares:?}");
        }
    }
}
