//! Every form against an evaluator of its product's documented rule, which reads the text that was
//! written, and against the proxy's own matcher.

use fastrand::Rng;
use regex::Regex;
use strum::VariantArray;

use super::*;
use crate::catalogue::{Choice, Feature, Wildcards, resolve};
use crate::policy::{Category, Pattern, Rule};

/// Whether a product with this list lets a host through.
type Evaluator = Box<dyn Fn(&str) -> bool>;

fn below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    rest.split_once(to).map(|(inside, _)| inside)
}

fn any(all: Vec<Evaluator>) -> Evaluator {
    Box::new(move |host| all.iter().any(|one| one(host)))
}

fn but(listed: Evaluator, denied: Evaluator) -> Evaluator {
    Box::new(move |host| listed(host) && !denied(host))
}

fn matching(regex: &str) -> Evaluator {
    let regex = Regex::new(regex).unwrap();
    Box::new(move |host| regex.is_match(host))
}

fn equal(name: &str) -> Evaluator {
    let name = name.to_owned();
    Box::new(move |host| host == name)
}

fn evaluator(product: Product, text: &str) -> Evaluator {
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    match product {
        // dstdomain compares whole names, dstdom_regex searches.
        Product::Squid => {
            let acl = |name: &str, kind: &str| -> Vec<String> {
                let begin = format!("acl {name} {kind} ");
                lines().filter_map(|line| line.strip_prefix(&begin)).map(str::to_owned).collect()
            };
            let names = acl("ccpgate_names", "dstdomain -n");
            assert!(names.iter().all(|name| !name.starts_with('.')));
            let patterns = acl("ccpgate_patterns", "dstdom_regex -n -i");
            let listed =
                names.iter().map(|n| equal(n)).chain(patterns.iter().map(|p| matching(&format!("(?i){p}"))));
            let denied = acl("ccpgate_denied", "dstdom_regex -n -i");
            let last = text.lines().last().unwrap();
            assert_eq!(last.ends_with("!ccpgate_denied"), !denied.is_empty(), "{last}");
            but(any(listed.collect()), any(denied.iter().map(|p| matching(&format!("(?i){p}"))).collect()))
        }
        // A star is the whole first label, and stands for one or more. What a rule lists passes before
        // the lists for all services are asked.
        Product::Smokescreen => {
            let (_, listed) = text.split_once("allowed_domains:").unwrap();
            let globs = listed.lines().filter_map(|line| between(line, "- \"", "\""));
            any(globs
                .map(|glob| match glob.strip_prefix('*') {
                    Some(suffix) => {
                        assert!(suffix.starts_with('.') && !suffix.contains('*'), "{glob}");
                        let suffix = suffix.to_owned();
                        Box::new(move |host: &str| host.ends_with(&suffix)) as Evaluator
                    }
                    None => {
                        assert!(!glob.contains('*'), "{glob}");
                        equal(glob)
                    }
                })
                .collect())
        }
        // A StringMatcher's regular expression matches the whole name.
        Product::Envoy => {
            let matcher = |line: &str| -> Evaluator {
                if let Some(exact) = between(line, "exact: \"", "\"") {
                    return equal(exact);
                }
                if let Some(suffix) = between(line, "suffix: \"", "\"") {
                    let suffix = suffix.to_owned();
                    return Box::new(move |host| host.ends_with(&suffix));
                }
                matching(&format!("^(?:{})$", between(line, "regex: '", "'").unwrap()))
            };
            let of = |begin: &str| lines().filter(|line| line.starts_with(begin)).map(matcher).collect();
            but(any(of("- requested_server_name:")), any(of("- not_rule:")))
        }
        // Tokens are split at dots: `*` is one or more of them, `^` one; the slash ends the host.
        Product::Paloalto => any(lines()
            .map(|line| {
                let entry = line.strip_suffix('/').expect("a slash at the end").to_owned();
                Box::new(move |host: &str| {
                    let (mut entry, mut host) = (entry.rsplit('.').peekable(), host.rsplit('.'));
                    while let Some(token) = entry.next() {
                        let Some(label) = host.next() else { return false };
                        match token {
                            "*" => assert!(entry.peek().is_none(), "a star in front alone"),
                            "^" => continue,
                            token if token == label => continue,
                            _ => return false,
                        }
                        return true;
                    }
                    host.next().is_none()
                }) as Evaluator
            })
            .collect()),
        // A dot in front: the name, and up to five labels below it.
        Product::Zscaler => any(lines()
            .map(|line| match line.strip_prefix('.') {
                Some(suffix) => {
                    let suffix = suffix.to_owned();
                    Box::new(move |host: &str| {
                        let labels = |name: &str| name.split('.').count();
                        host == suffix || below(host, &suffix) && labels(host) <= labels(&suffix) + 5
                    }) as Evaluator
                }
                None => equal(line),
            })
            .collect()),
        Product::AwsNetworkFirewall => {
            let list: serde_json::Value = serde_json::from_str(text).unwrap();
            let targets = &list["RulesSource"]["RulesSourceList"]["Targets"];
            any(targets
                .as_array()
                .unwrap()
                .iter()
                .map(|target| match target.as_str().unwrap().strip_prefix('.') {
                    Some(suffix) => {
                        let suffix = suffix.to_owned();
                        Box::new(move |host: &str| host == suffix || below(host, &suffix)) as Evaluator
                    }
                    None => equal(target.as_str().unwrap()),
                })
                .collect())
        }
        // Every keyword of a rule must hold of the buffer.
        Product::Suricata => any(lines()
            .map(|line| {
                let keywords = between(line, "tls.sni; ", " sid:").unwrap();
                let mut all: Vec<Evaluator> = Vec::new();
                let content = between(keywords, "content:\"", "\"").map(str::to_owned);
                let starts = keywords.contains("startswith");
                all.push(Box::new(move |host| match &content {
                    Some(content) if starts => host == content,
                    Some(content) => host.ends_with(content),
                    None => true,
                }));
                for part in keywords.split("pcre:").skip(1) {
                    let is_negated = part.starts_with('!');
                    let regex = Regex::new(&format!("(?i){}", between(part, "/", "/i\"").unwrap())).unwrap();
                    all.push(Box::new(move |host| regex.is_match(host) != is_negated));
                }
                Box::new(move |host: &str| all.iter().all(|keyword| keyword(host))) as Evaluator
            })
            .collect()),
        // The first entry that matches the URL decides.
        Product::Fortigate => {
            let values = |key: &str| -> Vec<String> {
                let values = lines().filter_map(|line| line.strip_prefix(&format!("set {key} ")));
                values.map(|value| value.trim_matches('"').replace("\\\\", "\\")).collect()
            };
            let regexes: Vec<Regex> = values("url").iter().map(|url| Regex::new(url).unwrap()).collect();
            let actions = values("action");
            assert_eq!(regexes.len(), actions.len());
            Box::new(move |host| {
                let url = format!("{host}/path.of/it");
                let at = regexes.iter().position(|regex| regex.is_match(&url));
                at.is_some_and(|at| actions[at] == "allow")
            })
        }
        Product::Checkpoint => any(lines()
            .map(|line| match line.strip_prefix("*.") {
                Some(suffix) => {
                    let suffix = suffix.to_owned();
                    Box::new(move |host: &str| below(host, &suffix)) as Evaluator
                }
                None => {
                    assert!(!line.contains('*'), "{line}");
                    equal(line)
                }
            })
            .collect()),
        Product::Umbrella => any(lines()
            .map(|line| {
                assert!(!line.contains('*'), "{line}");
                let name = line.to_owned();
                Box::new(move |host: &str| host == name || below(host, &name)) as Evaluator
            })
            .collect()),
    }
}

/// Configurations that differ in the kinds of patterns that they have.
fn policies() -> Vec<Policy> {
    let choice = Choice {
        regions: vec!["us-west-2".to_owned(), "eu-west-2".to_owned()],
        instances: vec!["acme".to_owned()],
        attachment_buckets: vec!["acme-files".to_owned()],
        features: Feature::VARIANTS.to_vec(),
        ..Choice::default()
    };
    let narrow = Choice { wildcards: Wildcards::Narrow, legacy: false, ..choice.clone() };
    let pattern = |text: &str| Pattern::parse(text).unwrap();
    let added = |text: &str| Rule::added(pattern(text), vec![443], Category::Extra);
    let own = [
        "a*b.*.x.example",
        "*.q*.x.example",
        "*.com",
        "shop.*",
        "*.only.example",
        "only.example",
        "login.idp.example",
        "192.0.2.7",
    ];
    let deny = ["*.bad.cloudfront.net", "d*.b.only.example", "x.only.example", "login.idp.example"];
    vec![
        Policy::new(resolve(&choice).rules, Vec::new()),
        Policy::new(resolve(&narrow).rules, vec![pattern("*.bad.cloudfront.net")]),
        Policy::new(
            resolve(&choice).rules.into_iter().chain(own.iter().map(|text| added(text))).collect(),
            deny.iter().map(|text| pattern(text)).collect(),
        ),
    ]
}

/// A host near one of the patterns.
fn host(patterns: &[&Pattern], random: &mut Rng) -> String {
    let pattern = patterns[random.usize(..patterns.len())].as_str();
    let word = |random: &mut Rng| {
        ["", "a", "rtc", "1-x", "d111", "bad", "q7", "other"][random.usize(..8)].to_owned()
    };
    let mut labels: Vec<String> = pattern
        .split('.')
        .map(|label| {
            let parts: Vec<&str> = label.split('*').collect();
            parts.iter().skip(1).fold(parts[0].to_owned(), |text, part| text + &word(random) + part)
        })
        .collect();
    for _ in 0..random.usize(..3) {
        let at = random.usize(..=labels.len());
        match random.usize(..5) {
            0 if labels.len() > 2 => drop(labels.remove(at.min(labels.len() - 1))),
            1 => labels.insert(0, word(random)),
            2 => labels.insert(at, word(random)),
            3 => {
                let at = at.min(labels.len() - 1);
                labels[at].push('z');
            }
            _ => labels.push("evil".to_owned()),
        }
    }
    labels.retain(|label| !label.is_empty());
    labels.join(".")
}

#[test]
fn every_form_keeps_what_its_marks_promise() {
    every_form_keeps_its_promise(6_000);
}

#[test]
#[ignore = "a few minutes: 100,000 hosts for each form"]
fn every_form_keeps_what_its_marks_promise_for_long() {
    every_form_keeps_its_promise(100_000);
}

fn every_form_keeps_its_promise(each: usize) {
    let mut random = Rng::with_seed(1);
    for policy in policies() {
        for product in Product::VARIANTS.iter().copied() {
            let all = export(&policy, product);
            let theirs = evaluator(product, &all.text);
            let entries: Vec<(&Entry, Evaluator)> = all
                .entries
                .iter()
                .filter(|entry| matches!(entry.mark, Mark::Widened(_)))
                .map(|entry| {
                    let text = forms::write(product, std::slice::from_ref(entry), policy.deny());
                    (entry, evaluator(product, &text))
                })
                .collect();
            let patterns: Vec<&Pattern> =
                all.entries.iter().map(|entry| &entry.pattern).chain(policy.deny()).collect();
            let is_listed = |host: &Host| {
                all.entries.iter().any(|entry| entry.pattern.matches(host))
                    && !policy.deny().iter().any(|deny| deny.matches(host))
            };
            let parse = |text: &str| Host::parse(text.as_bytes()).ok().filter(|host| !host.is_literal());
            for (entry, _) in &entries {
                let Mark::Widened(example) = &entry.mark else { unreachable!("filtered") };
                let host = parse(example).unwrap();
                assert!(theirs(example) && !is_listed(&host), "{product:?}: {}", entry.note());
            }
            let (mut hits, mut tried) = (0, 0);
            while tried < each / 3 {
                let text = host(&patterns, &mut random);
                let Some(host) = parse(&text) else { continue };
                tried += 1;
                let (listed, passes) = (is_listed(&host), theirs(&text));
                hits += usize::from(listed);
                if listed && !passes {
                    let mut by = all.entries.iter().filter(|entry| entry.pattern.matches(&host));
                    assert!(
                        by.all(|entry| matches!(entry.mark, Mark::Impossible(_)) || entry.short.is_some()),
                        "{product:?} keeps {text} out:\n{}",
                        all.text
                    );
                }
                if !listed && passes {
                    assert!(
                        entries.iter().any(|(_, lets_in)| lets_in(&text)),
                        "{product:?} lets {text} in by an exact entry:\n{}",
                        all.text
                    );
                }
            }
            assert!(hits > each / 30, "{product:?}: {hits} of {tried} are listed");
        }
    }
}

fn marks(product: Product, patterns: &[&str], deny: &[&str]) -> Vec<String> {
    let pattern = |text: &&str| Pattern::parse(text).unwrap();
    let rules = patterns.iter().map(|text| Rule::added(pattern(text), vec![443], Category::Extra)).collect();
    let policy = Policy::new(rules, deny.iter().map(pattern).collect());
    export(&policy, product).entries.iter().map(Entry::note).collect()
}

#[test]
fn marks_are_those_of_the_products() {
    let star = "rtc*.x.example";
    for (product, of_star, of_below) in [
        (Product::Squid, "exact", "exact"),
        (Product::Smokescreen, "widened", "exact"),
        (Product::Envoy, "exact", "exact"),
        (Product::Paloalto, "widened", "exact"),
        (Product::Zscaler, "widened", "widened"),
        (Product::AwsNetworkFirewall, "widened", "widened"),
        (Product::Suricata, "exact", "exact"),
        (Product::Fortigate, "exact", "exact"),
        (Product::Checkpoint, "widened", "exact"),
        (Product::Umbrella, "widened", "widened"),
    ] {
        let [of] = &marks(product, &[star], &[])[..] else { panic!() };
        assert!(of.starts_with(of_star), "{product:?}: {of}");
        let [of] = &marks(product, &["*.y.example"], &[])[..] else { panic!() };
        assert!(of.starts_with(of_below), "{product:?}: {of}");
        let [of] = &marks(product, &["192.0.2.7"], &[])[..] else { panic!() };
        assert!(of.starts_with("impossible"), "{product:?}: {of}");
    }
    assert_eq!(
        marks(Product::Umbrella, &["*.y.example"], &[]),
        ["widened: *.y.example, also lets y.example through"]
    );
    let carets = |count: usize| {
        let pattern = format!("{}x.example", "a*.".repeat(count));
        marks(Product::Paloalto, &[&pattern], &[]).remove(0)
    };
    assert!(carets(9).starts_with("widened"), "{}", carets(9));
    assert!(carets(10).starts_with("impossible") && carets(10).contains("nine"), "{}", carets(10));
    // What another entry lists isn't let in by mistake.
    assert_eq!(
        marks(Product::Zscaler, &["*.y.example", "y.example"], &[]),
        ["exact: *.y.example; a name with more than five labels in front stays out", "exact: y.example"]
    );
}

#[test]
fn what_is_denied_widens_an_entry_where_the_product_cannot_deny() {
    let cut = |product| marks(product, &["*.cloudfront.net"], &["*.bad.cloudfront.net"]);
    for product in [Product::Squid, Product::Envoy, Product::Suricata, Product::Fortigate] {
        assert_eq!(cut(product), ["exact: *.cloudfront.net"], "{product:?}");
    }
    for product in [Product::Paloalto, Product::Checkpoint, Product::Smokescreen] {
        assert_eq!(
            cut(product),
            ["widened: *.cloudfront.net, also lets a.bad.cloudfront.net through"],
            "{product:?}"
        );
    }
    // Also where it is that name alone.
    assert_eq!(
        marks(Product::Smokescreen, &["x.example"], &["x.example"]),
        ["widened: x.example, also lets x.example through"]
    );
}

#[test]
fn media_names_are_for_boxes_that_judge_them() {
    let policy = &policies()[0];
    for product in Product::VARIANTS.iter().copied() {
        let has = export(policy, product).text.contains("turnnlb-");
        assert_eq!(has, matches!(product, Product::Checkpoint | Product::Umbrella), "{product:?}");
    }
}
