//! The alerts by finding against the table of causes: one for each, in its words.

use std::fmt::Write as _;

use ccpgate::cause::Cause;
use strum::VariantArray;

use super::read;

const HEAD: &str = "\n  # One for each cause of a finding, in the words of the program's table: docs/causes.md says more. The\n  # label `owner` is for routing. tests/docs/alerts.rs holds them to the table.\n  - name: ccpgate-findings\n    rules:\n";

/// The group as it has to stand at the end of the file.
fn group() -> String {
    let mut text = HEAD.to_owned();
    for cause in Cause::VARIANTS {
        let (word, about) = (cause.as_str(), cause.about());
        let name: String = word.split('_').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
        let summary = sentence(about.definition);
        let description = format!(
            "{{{{ if ne $labels.category \"none\" }}}}In {{{{ $labels.category }}}}, on{{{{ else }}}}On{{{{ end }}}} {{{{ $labels.instance }}}}. Agents see: {}. What to do: {}. The page of {{{{ $labels.instance }}}} says who is hit, since when, what changed, and what to paste to whose turn it is.",
            about.agent_sees, about.remedy
        );
        let quoted = |text: String| serde_json::to_string(&text).unwrap();
        let _ = write!(
            text,
            "      - alert: CcpgateFinding{name}\n        expr: ccpgate_finding{{cause=\"{word}\"}} == 1\n        for: 1m\n        labels: {{ severity: warning }}\n        annotations:\n          summary: {}\n          description: {}\n          runbook_url: {}\n",
            quoted(summary),
            quoted(description),
            cause.page()
        );
    }
    text
}

/// With a capital and a full stop, as summaries of alerts are written.
fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
}

/// Name, severity, summary, description and runbook of every alert, as promtool prints no such thing.
fn alerts(text: &str) -> Vec<[String; 5]> {
    let part = |alert: &str, key: &str| {
        let at = alert.find(key).unwrap_or_else(|| panic!("no {key} in {alert}")) + key.len();
        let lines: Vec<&str> = alert[at..].lines().collect();
        // A folded text stands in the lines below, further in.
        let more =
            lines[1..].iter().take_while(|line| lines[0].trim() == ">-" && line.starts_with("            "));
        let value = lines[0].trim().trim_start_matches(">-").to_owned();
        more.fold(value, |text, line| format!("{text} {}", line.trim())).trim().trim_matches('"').to_owned()
    };
    let blocks = text.split("      - alert: ").skip(1);
    blocks
        .map(|block| {
            let name = block.lines().next().unwrap().to_owned();
            let [severity, summary, description, runbook] =
                ["severity:", "summary:", "description:", "runbook_url:"].map(|key| part(block, key));
            [name, severity.trim_end_matches(" }").to_owned(), summary, description, runbook]
        })
        .collect()
}

fn faults(text: &str, pages: impl Fn(&str) -> String) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for [name, severity, summary, description, runbook] in alerts(text) {
        let mut say = |what: &str| faults.push(format!("{name}: {what}"));
        if !name.starts_with("Ccpgate") || !seen.insert(name.clone()) {
            say("its name has no prefix, or another alert has it");
        }
        if !["critical", "warning", "info"].contains(&severity.as_str()) {
            say("no such severity");
        }
        if summary.contains("{{") || !summary.ends_with('.') || !summary.starts_with(char::is_uppercase) {
            say("the summary is no static sentence");
        }
        if !description.contains("{{ $labels.") || !description.to_lowercase().contains("agent") {
            say("the description has no values, or not what agents see");
        }
        let Some((page, anchor)) = runbook.split_once('#') else {
            say("no place in a page");
            continue;
        };
        let heading = |line: &&str| {
            line.starts_with('#') && line.replace('`', "").to_lowercase().ends_with(&format!(" {anchor}"))
        };
        if !pages(page).lines().any(|line| heading(&line)) {
            say("its page has no such heading");
        }
    }
    faults
}

#[test]
fn every_alert_is_in_the_style_of_mixins_and_has_its_page() {
    let text = read("deploy/prometheus-alerts.yml");
    assert_eq!(faults(&text, read), Vec::<String>::new());
    assert!(alerts(&text).len() > 50, "{}", alerts(&text).len());
    // Each of those that aren't of the table fires in a test.
    let tests = read("deploy/prometheus-alerts.test.yml") + &read("deploy/prometheus-alerts-week.test.yml");
    for [name, ..] in alerts(&text).iter().filter(|[name, ..]| !name.starts_with("CcpgateFinding")) {
        let named = format!("alertname: {name}\n");
        let mut cases = tests.split(&named).skip(1);
        assert!(cases.any(|case| case.trim_start().starts_with("exp_alerts:\n")), "{name} fires in no test");
    }
    let broken = text.replacen("summary: Most agents can't work.", "summary: most agents can't work", 1);
    assert_eq!(faults(&broken, read).len(), 1);
    assert!(!faults(&text, |_| String::new()).is_empty());
}

#[test]
fn every_cause_has_its_alert_in_the_words_of_the_table() {
    let alerts = read("deploy/prometheus-alerts.yml");
    let at = alerts.find(HEAD).unwrap_or_else(|| panic!("no group of findings; it is\n{}", group()));
    let (found, expected) = (&alerts[at..], group());
    if found != expected {
        let line = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        panic!("the group of findings differs, first at {line:#?}; it is\n{expected}");
    }
    assert_ne!(found.replace("dns.timeout", "a moment"), expected);
}
