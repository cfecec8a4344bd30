//! Everything that is counted, in Prometheus's text format, piece by piece: ten thousand rules are 26 MB of
//! text, which is never held as a whole. Its length is known before it is written.

use prometheus::proto::MetricType;
use strum::VariantArray;

use super::rules::{CONNECT_EDGES, Counted};
use crate::outcome::Outcome;

/// So long a piece is at least, but for the last one.
const PIECE: usize = 64 * 1024;
/// What the lines of one rule in one family may take beyond that.
const SLACK: usize = 8 * 1024;

/// What text is written to.
trait Sink {
    fn text(&mut self, text: &str);
}

impl Sink for Vec<u8> {
    fn text(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

/// How long a text is.
#[derive(Default)]
struct Length(usize);

impl Sink for Length {
    fn text(&mut self, text: &str) {
        self.0 += text.len();
    }
}

/// The families that count by rule.
#[derive(Clone, Copy, VariantArray)]
pub(super) enum RuleFamily {
    Connect,
    Bytes,
    Active,
    Tunnels,
}

impl RuleFamily {
    /// Its name, its help and its type.
    pub(super) const fn about(self) -> (&'static str, &'static str, MetricType) {
        match self {
            Self::Connect => {
                ("ccpgate_connect_duration_seconds", "From the CONNECT to the 200.", MetricType::HISTOGRAM)
            }
            Self::Bytes => (
                "ccpgate_tunnel_bytes_total",
                "Bytes that tunnels carried, as the agent sees it.",
                MetricType::COUNTER,
            ),
            Self::Active => {
                ("ccpgate_tunnels_active", "Live tunnels, by the rule that allowed them.", MetricType::GAUGE)
            }
            Self::Tunnels => {
                ("ccpgate_tunnels_total", "Ended tunnels, by rule and outcome.", MetricType::COUNTER)
            }
        }
    }

    /// The lines before those of its series.
    fn described(self) -> String {
        let (name, help, kind) = self.about();
        let kind = format!("{kind:?}").to_lowercase();
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
    }

    /// Writes the lines of one rule. Labels stand in the order of their names, `le` last, and need no
    /// escapes: a pattern has no characters that would.
    fn write(self, rule: &Counted, to: &mut impl Sink) {
        let (category, domain) = (rule.labels.category, &*rule.labels.domain);
        match self {
            Self::Connect => {
                let edges = CONNECT_EDGES.iter().map(|(_, edge)| *edge).chain(["+Inf"]);
                for (edge, count) in edges.zip(rule.connects) {
                    let name = "ccpgate_connect_duration_seconds_bucket{category=\"";
                    line(to, [name, category, "\",domain=\"", domain, "\",le=\"", edge, "\"} "], count);
                }
                let name = "ccpgate_connect_duration_seconds_sum{category=\"";
                [name, category, "\",domain=\"", domain, "\"} "].into_iter().for_each(|part| to.text(part));
                to.text(&format!("{}\n", rule.connect_seconds));
                let name = "ccpgate_connect_duration_seconds_count{category=\"";
                let all = rule.connects[CONNECT_EDGES.len()];
                line(to, [name, category, "\",domain=\"", domain, "\"} "], all);
            }
            Self::Bytes => {
                for (direction, bytes) in ["sent", "received"].into_iter().zip(rule.bytes) {
                    let name = "ccpgate_tunnel_bytes_total{category=\"";
                    let labels =
                        [name, category, "\",direction=\"", direction, "\",domain=\"", domain, "\"} "];
                    line(to, labels, bytes);
                }
            }
            Self::Active => {
                let name = "ccpgate_tunnels_active{category=\"";
                line(to, [name, category, "\",domain=\"", domain, "\"} "], rule.active);
            }
            Self::Tunnels => {
                for (outcome, count) in Outcome::VARIANTS.iter().zip(rule.outcomes) {
                    let name = "ccpgate_tunnels_total{category=\"";
                    let word = outcome.into_str();
                    let labels = [name, category, "\",domain=\"", domain, "\",outcome=\"", word, "\"} "];
                    line(to, labels, count);
                }
            }
        }
    }
}

fn line<const N: usize>(to: &mut impl Sink, labels: [&str; N], value: u64) {
    labels.into_iter().for_each(|part| to.text(part));
    to.text(itoa::Buffer::new().format(value));
    to.text("\n");
}

/// The text, in pieces.
pub(crate) struct Exposition {
    /// Other families.
    others: Vec<u8>,
    /// Empty where these families are among the others.
    rules: Vec<Counted>,
    /// The next family, and the next rule in it.
    next: (usize, usize),
}

impl Exposition {
    pub(super) fn new(others: Vec<u8>, rules: Vec<Counted>) -> Self {
        Self { others, rules, next: (0, 0) }
    }

    /// How long it is, from its beginning.
    pub(crate) fn length(&self) -> usize {
        let mut length = Length(self.others.len());
        for family in RuleFamily::VARIANTS.iter().filter(|_| !self.rules.is_empty()) {
            length.text(&family.described());
            self.rules.iter().for_each(|rule| family.write(rule, &mut length));
        }
        length.0
    }
}

impl Iterator for Exposition {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut text = std::mem::take(&mut self.others);
        text.reserve(PIECE + SLACK);
        while text.len() < PIECE {
            let (family, rule) = self.next;
            let Some(family) = RuleFamily::VARIANTS.get(family).filter(|_| !self.rules.is_empty()) else {
                break;
            };
            if rule == 0 {
                text.text(&family.described());
            }
            match self.rules.get(rule) {
                Some(counted) => {
                    family.write(counted, &mut text);
                    self.next.1 += 1;
                }
                None => self.next = (self.next.0 + 1, 0),
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::super::Metrics;
    use super::*;
    use crate::policy::{Category, Pattern, Rule};

    fn rule(pattern: &str, category: Category) -> Rule {
        Rule::added(Pattern::parse(pattern).unwrap(), vec![443], category)
    }

    #[test]
    fn the_text_says_what_was_counted_and_how_long_it_is() {
        let metrics = Metrics::new();
        let series = metrics.rule(&rule("rtc*.a.example", Category::Telecom));
        for (took, received) in [(5, 7), (5, 0), (200, 1), (20_000, 0)] {
            series.began(1, Duration::from_millis(took));
            series.moved(u64::MAX / 8, received);
        }
        series.ended(Outcome::Dns, IpAddr::V4(Ipv4Addr::LOCALHOST));
        series.leaves();
        let exposition = metrics.exposition(std::iter::empty());
        let length = exposition.length();
        let text = String::from_utf8(exposition.flatten().collect()).unwrap();
        assert_eq!(text.len(), length);
        let labels = "category=\"telecom\",domain=\"rtc*.a.example\"";
        let bucket = |edge: &str| format!("connect_duration_seconds_bucket{{{labels},le=\"{edge}\"}}");
        let bytes = |direction: &str| {
            format!(
                "tunnel_bytes_total{{category=\"telecom\",direction=\"{direction}\",domain=\"rtc*.a.example\"}}"
            )
        };
        for (series, value) in [
            (bucket("0.001"), "0"),
            (bucket("0.005"), "2"),
            (bucket("0.1"), "2"),
            (bucket("0.25"), "3"),
            (bucket("10"), "3"),
            (bucket("+Inf"), "4"),
            (format!("connect_duration_seconds_sum{{{labels}}}"), "20.21"),
            (format!("connect_duration_seconds_count{{{labels}}}"), "4"),
            (bytes("sent"), "9223372036854775804"),
            (bytes("received"), "8"),
            (format!("tunnels_active{{{labels}}}"), "3"),
            (format!("tunnels_total{{{labels},outcome=\"dns\"}}"), "1"),
            (format!("tunnels_total{{{labels},outcome=\"ok\"}}"), "0"),
        ] {
            let line = format!("\nccpgate_{series} {value}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}\n{text}");
        }
    }

    #[test]
    fn every_family_stands_in_one_group_with_its_help_however_many_rules_there_are() {
        let metrics = Metrics::new();
        let all: Vec<_> =
            (0..2000).map(|i| metrics.rule(&rule(&format!("h{i}.example"), Category::Extra))).collect();
        let pieces: Vec<_> = metrics.exposition(std::iter::empty()).collect();
        assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.len() < PIECE + SLACK));
        let text = String::from_utf8(metrics.render()).unwrap();
        let mut families = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(described) => families.push(described.split(' ').next().unwrap()),
                None if line.starts_with('#') => {}
                None => {
                    let family = families.last().unwrap();
                    assert!(line.starts_with(family), "{line} under {family}");
                }
            }
        }
        for family in RuleFamily::VARIANTS {
            assert_eq!(text.matches(&family.described()).count(), 1);
        }
        // With those of what no rule allows.
        assert_eq!(text.matches("\nccpgate_tunnels_active{").count(), all.len() + 1);
        assert_eq!(text.matches("domain=\"h1999.example\"").count(), 27);
    }

    #[test]
    fn edges_are_written_as_they_are() {
        for (edge, text) in CONNECT_EDGES {
            assert_eq!(edge.to_string(), text);
        }
        assert!(CONNECT_EDGES.is_sorted_by(|a, b| a.0 < b.0));
    }
}
