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
        let summary =
            format!("{} ({{{{ $labels.category }}}}, {{{{ $labels.instance }}}})", about.definition);
        let description = format!(
            "Agents see: {}. What to do: {}. /api/status of {{{{ $labels.instance }}}} says who is hit, since when, what changed, and what to paste to whose turn it is.",
            about.agent_sees, about.remedy
        );
        let quoted = |text: String| serde_json::to_string(&text).unwrap();
        let _ = write!(
            text,
            "      - alert: CcpgateFinding{name}\n        expr: ccpgate_finding{{cause=\"{word}\"}} == 1\n        for: 1m\n        labels: {{ severity: warning }}\n        annotations:\n          summary: {}\n          description: {}\n          runbook: {}\n",
            quoted(summary),
            quoted(description),
            cause.page()
        );
    }
    text
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
