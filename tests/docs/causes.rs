//! The pages on causes and symptoms against the tables of the program.

use std::collections::BTreeSet;

use ccpgate::catalogue::symptoms;
use ccpgate::cause::{Cause, Grade};
use strum::VariantArray;

use super::{cells, expect_nothing, read, section};

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn about_causes(page: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let table = section(page, "## All causes");
    let mut order = Vec::new();
    for cause in Cause::VARIANTS {
        let (name, about) = (cause.as_str(), cause.about());
        let severity = match about.grade {
            Grade::Always(severity) => <&str>::from(severity),
            Grade::Depends(_) => "depends",
        };
        let threshold = about.threshold.map(|t| format!("{t} ")).unwrap_or_default();
        let row = format!("| [`{name}`](#{name}) | {} | {severity} | {threshold}|", about.owner.as_str());
        match table.iter().position(|line| *line == row) {
            Some(at) => order.push(at),
            None => missing.push(format!("no row {row}")),
        }
        let text = words(&section(page, &format!("### `{name}`")).join("\n"));
        for part in [about.definition, about.agent_sees, about.remedy] {
            if !text.contains(&words(part)) {
                missing.push(format!("{name} lacks: {part}"));
            }
        }
        for label in ["the agent sees", "confirm", "do", "tell"] {
            let item = text.split(&format!("- **{label}**: ")).nth(1).unwrap_or_default();
            if item.split(" - **").next().is_none_or(|said| said.len() < 15) {
                missing.push(format!("{name} doesn't say {label}"));
            }
        }
    }
    if !order.is_sorted() {
        missing.push("the rows are not in the order of the program".to_owned());
    }
    let known: BTreeSet<String> = Cause::VARIANTS.iter().map(|c| format!("### `{}`", c.as_str())).collect();
    let headings = page.lines().filter(|line| line.starts_with("### ") && !known.contains(*line));
    missing.extend(headings.map(|heading| format!("{heading} is no cause")));
    missing
}

#[test]
fn every_cause_is_explained() {
    let page = read("docs/causes.md");
    expect_nothing(about_causes(&page));
    assert_eq!(
        about_causes(&page.replace("| firewall | failed | no answer in 8 s |", "| desk | failed | |")).len(),
        1
    );
    assert_eq!(about_causes(&page.replace("### `ws_cut`", "### `ws_cuts`")).len(), 8);
    assert_eq!(about_causes(&page.replace("above 350 s", "above 60 s")).len(), 1);
    assert_eq!(about_causes(&page.replacen("- **Tell**", "- **Say**", 1)).len(), 1);
}

/// Each row of the catalogue has a row with its first text, its side and its categories.
fn about_symptoms(page: &str) -> Vec<String> {
    let rows: Vec<Vec<&str>> = page.lines().filter_map(cells).collect();
    let mut missing = Vec::new();
    for row in symptoms() {
        let text = format!("`{}`", row.texts[0].parts().join("` … `"));
        let side = serde_json::to_value(row.verdict).unwrap();
        let categories: Vec<&str> = row.categories().iter().map(|c| c.as_str()).collect();
        let side = if row.network { side.as_str().unwrap() } else { "not the network" };
        let fits = |cells: &&Vec<&str>| cells[0] == text;
        match rows.iter().find(fits) {
            None => missing.push(format!("no row for {text}")),
            Some(cells) if cells.len() < 3 || cells[1] != side || cells[2] != categories.join(", ") => {
                missing.push(format!("{text} is {side}, {}", categories.join(", ")));
            }
            Some(_) => {}
        }
    }
    missing
}

#[test]
fn every_symptom_has_its_row() {
    let page = read("docs/symptoms.md");
    expect_nothing(about_symptoms(&page));
    assert_eq!(
        about_symptoms(&page.replace("| `No ICE candidate` | desk |", "| `No ICE candidate` | aws |")).len(),
        1
    );
    assert_eq!(about_symptoms(&page.replace("| `Network offline` |", "| `offline` |")).len(), 1);
}

/// What a client is told to do is what page, alert and finding tell, where they speak of the same.
#[test]
fn refusals_have_the_words_of_the_table() {
    use std::io::Error;

    use ccpgate::address::judge;
    use ccpgate::egress::Unreached;
    use ccpgate::egress::dialer::DialError;
    use ccpgate::egress::resolver::ResolveError;
    use ccpgate::proxy::refusal::Refusal;

    let address = "192.0.2.1:443".parse().unwrap();
    let answer = |rcode| ResolveError::Answer { rcode, why: String::new() };
    for (why, cause) in [
        (Unreached::Dns(ResolveError::Timeout(Vec::new())), Cause::DnsTimeout),
        (Unreached::Dns(ResolveError::Transport(String::new())), Cause::DnsTimeout),
        (Unreached::Dns(answer("NXDOMAIN")), Cause::DnsNxdomain),
        (Unreached::Dns(answer("SERVFAIL")), Cause::DnsServfail),
        (Unreached::Dns(answer("REFUSED")), Cause::DnsServfail),
        (Unreached::Barred(judge("10.0.0.1".parse().unwrap(), &[]).unwrap_err(), None), Cause::DnsPrivate),
        (
            Unreached::Dial(DialError::Timeout { limit: std::time::Duration::ZERO, addresses: Vec::new() }),
            Cause::TcpTimeout,
        ),
        (Unreached::Dial(DialError::Refused(address)), Cause::TcpRefused),
        (Unreached::Dial(DialError::Reset(address)), Cause::TcpReset),
        (Unreached::Dial(DialError::Unreachable(address, Error::other("x"))), Cause::TcpUnreachable),
        (Unreached::Dial(DialError::Exhausted(Error::from_raw_os_error(99))), Cause::SourceAddress),
    ] {
        assert_eq!(
            Refusal::Unreached(why).remedy(Some("host.example:443")),
            cause.about().remedy,
            "{cause:?}"
        );
    }
}
