//! The PromQL of the pages: Prometheus takes every query, and answers those that could mislead as the
//! sentence above them says.

use std::collections::BTreeMap;

use super::*;

/// Each query of a page, by the comment above it.
fn queries(page: &str) -> BTreeMap<String, String> {
    let mut queries = BTreeMap::new();
    for (_, block) in blocks(page).0.into_iter().filter(|(kind, _)| kind == "promql") {
        for query in block.split("\n\n") {
            let (comments, lines): (Vec<&str>, Vec<&str>) =
                query.lines().partition(|line| line.starts_with('#'));
            let name = comments.join(" ").trim_start_matches("# ").to_owned();
            assert!(queries.insert(name.clone(), lines.join("\n")).is_none(), "two queries for {name:?}");
        }
    }
    queries
}

/// Runs promtool on files with these names and texts; what it says where it isn't content.
fn promtool(arguments: &[&str], files: &[(&str, &str)]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let ran = Command::new("promtool").args(arguments).current_dir(folder.path()).output().unwrap();
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if ran.status.success() { Ok(()) } else { Err(said) }
}

fn have_promtool() -> bool {
    let there = Command::new("promtool").arg("--version").output().is_ok();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "promtool is missing: run scripts/install-test-tools.sh"
    );
    if !there {
        eprintln!("skipped: promtool is missing, scripts/install-test-tools.sh installs it");
    }
    there
}

fn check(query: &str) -> Result<(), String> {
    let query = query.replace('\n', "\n          ");
    let rules = format!(
        "groups:\n  - name: pages\n    rules:\n      - record: a\n        expr: |\n          {query}\n"
    );
    promtool(&["check", "rules", "rules.yml"], &[("rules.yml", &rules)])
}

#[test]
fn prometheus_takes_every_query_of_the_pages() {
    if !have_promtool() {
        return;
    }
    let mut checked = 0;
    for (page, text) in pages() {
        for (name, query) in queries(&text) {
            checked += 1;
            if let Err(said) = check(&query) {
                panic!("{page}: {name}\n{query}\n{said}");
            }
        }
    }
    assert!(checked >= 8, "{checked}");
    assert!(check("sum(rate(ccpgate_tunnels_total[5m])").is_err());
}

#[test]
fn queries_list_nothing_idle_and_what_is_new_first() {
    if !have_promtool() {
        return;
    }
    let page = read("docs/metrics-and-logs.md");
    let queries = queries(&page);
    let query = |words: &str| {
        let mut found = queries.iter().filter(|(name, _)| name.contains(words));
        let (_, query) = found.next().unwrap_or_else(|| panic!("no query about {words:?}"));
        query.replace('\n', "\n          ")
    };
    // Two categories, one of them idle; denials of a usual kind all day, and of a new one.
    let idle = ["Which rule", "99 of 100", "Share of tunnels", "Share of TLS"].map(|words| {
        let query = query(words);
        format!("      - expr: |\n          {query}\n        eval_time: 25h\n        exp_samples: []\n")
    });
    let test = format!(
        r#"
evaluation_interval: 1h
tests:
  - interval: 5m
    input_series:
      - {{ series: 'ccpgate_denied_total{{reason="no_rule"}}', values: "0+50x300" }}
      - {{ series: 'ccpgate_denied_total{{reason="port"}}', values: "0x298 0+5x2" }}
      - {{ series: 'ccpgate_denied_total{{reason="client"}}', values: "7x300" }}
      - {{ series: 'ccpgate_denied_total{{reason="overload"}}', values: "0x300" }}
    promql_expr_test:
      - expr: |
          {new_first}
        eval_time: 25h
        exp_samples: [{{ labels: '{{reason="port"}}', value: 1 }}, {{ labels: '{{reason="no_rule"}}', value: 0.010416666666666666 }}]
  - interval: 5m
    input_series:
      - {{ series: 'ccpgate_tunnels_total{{domain="a",category="api",outcome="ok"}}', values: "9x300" }}
      - {{ series: 'ccpgate_tunnels_total{{domain="a",category="api",outcome="dns"}}', values: "0x300" }}
      - {{ series: 'ccpgate_first_byte_seconds_bucket{{category="api",le="1"}}', values: "4x300" }}
      - {{ series: 'ccpgate_first_byte_seconds_bucket{{category="api",le="+Inf"}}', values: "4x300" }}
      - {{ series: 'ccpgate_tls_handshakes_total{{resumed="true"}}', values: "4x300" }}
      - {{ series: 'ccpgate_tls_handshakes_total{{resumed="false"}}', values: "4x300" }}
    promql_expr_test:
{idle}"#,
        new_first = query("the new ones first"),
        idle = idle.concat(),
    );
    if let Err(said) = promtool(&["test", "rules", "test.yml"], &[("test.yml", &test)]) {
        panic!("{said}\n{test}");
    }
}
