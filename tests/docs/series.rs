//! How many series a scrape has, as docs/metrics-and-logs.md tells it.

use super::*;

const PAGE: &str = "docs/metrics-and-logs.md";

/// The lines of a scrape by the embedded default, before anybody has come.
fn scrape() -> (usize, Vec<String>) {
    let plan = ccpgate::plan::Plan::new(&ccpgate::config::load(&Default::default()).unwrap());
    let metrics = Metrics::new();
    metrics.configuration("0123456789ab");
    let rules = plan.policy.rules().iter().filter(|rule| rule.protocol == Protocol::Tcp);
    let mut draft = metrics.draft();
    let series: Vec<_> = rules.map(|rule| draft.rule(rule)).collect();
    metrics.put_in_force(series.iter());
    let text = String::from_utf8(metrics.render()).unwrap();
    (series.len(), text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

#[test]
fn the_number_of_series_is_what_the_page_says() {
    let (rules, lines) = scrape();
    let of = |label: &str| lines.iter().filter(|line| line.contains(label)).count();
    let of_a_rule = of("domain=\"signin.aws.amazon.com\"");
    let without_rule = lines.iter().filter(|line| !line.contains("domain="));
    let of_a_category = without_rule.filter(|line| line.contains("category=\"login\"")).count();
    let categories = Category::VARIANTS.len();
    let rest = lines.len() - rules * of_a_rule - categories * of_a_category;
    let said = read(PAGE).replace('\n', " ");
    let number = |n: usize| capacity::number(n as f64, 0);
    for words in [
        format!(
            "Each rule for TCP has {of_a_rule} series, each category {of_a_category}, all else together {rest};"
        ),
        format!("The embedded default has {rules} rules for TCP and {} series.", number(lines.len())),
    ] {
        assert!(said.contains(&words), "{PAGE} doesn't say: {words}");
    }
}
