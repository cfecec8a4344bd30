//! A report for people: the answer in one line, what to do, the endpoints, one verdict a category. The
//! words say everything; colour only repeats it. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::report::{Endpoint, Region, Report, Status, Steps};
use crate::cause::Cause;
use crate::policy::Protocol;
use crate::wording::span;

/// The report, with the escape sequences of its colours; a writer for something else than a terminal
/// removes them.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let bold = Style::new().bold();
    let colour = style(report.verdict);
    let _ = writeln!(text, "{colour}{bold}{}{bold:#}{colour:#}", report.summary);
    if let Some(cause) = report.cause {
        remedy(&mut text, report, cause);
    }
    if let Some(via) = &report.via {
        let _ = writeln!(text, "through {via}");
    }
    if let Some(pac) = &report.pac {
        let status: &str = pac.status.into();
        let _ = writeln!(text, "PAC file {}: {status}: {}", pac.source, pac.detail);
    }
    if let Some(ms) = report.clock_skew_ms.filter(|ms| ms.unsigned_abs() >= 10_000) {
        let way = if ms > 0 { "ahead" } else { "behind" };
        let by = span(Duration::from_millis(ms.unsigned_abs()));
        let _ = writeln!(text, "this machine's clock is {by} {way}");
    }
    let _ = writeln!(text);
    table(&mut text, report);
    untested(&mut text, report);
    let _ = writeln!(text);
    categories(&mut text, report);
    if let Some(regions) = &report.regions {
        let _ = writeln!(
            text,
            "\nRegions by their distance from here (for calls AWS means the desks' distance):"
        );
        for Region { region, rtt_ms } in regions {
            let time = rtt_ms.map_or_else(|| "no connection".to_owned(), |ms| format!("{ms} ms"));
            let _ = writeln!(text, "{region:16}{time}");
        }
    }
    text
}

/// What to do, and the names to hand to the owner.
fn remedy(text: &mut String, report: &Report, cause: Cause) {
    let about = cause.about();
    let _ = writeln!(text, "To do ({}): {}; see {}", about.owner.as_str(), about.remedy, cause.page());
    let hosts: Vec<String> = report.endpoints.iter().filter(|e| e.cause == Some(cause)).map(place).collect();
    let _ = writeln!(text, "For: {}", hosts.join(", "));
    let others = report.endpoints.iter().filter_map(|e| e.cause).filter(|other| *other != cause);
    let mut others: Vec<&str> = others.map(Cause::as_str).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        let _ = writeln!(text, "Besides: {}, below", others.join(", "));
    }
}

fn place(endpoint: &Endpoint) -> String {
    let udp = if endpoint.protocol == Protocol::Udp { "/udp" } else { "" };
    format!("{}:{}{udp}", endpoint.host, endpoint.port)
}

fn table(text: &mut String, report: &Report) {
    let rows: Vec<&Endpoint> = report.endpoints.iter().filter(|e| e.status != Status::Untested).collect();
    if rows.is_empty() {
        return;
    }
    let heading = ["", "category", "endpoint", "address", "dns", "connect", "tls", "http"].map(str::to_owned);
    let mut cells = vec![heading];
    cells.extend(rows.iter().map(|endpoint| {
        let Steps { dns_ms, connect_ms, tls_ms, http_ms } = endpoint.steps;
        let ms = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let status: &str = endpoint.status.into();
        let address = endpoint.address.clone().unwrap_or_else(|| "-".to_owned());
        let category = endpoint.category.as_str().to_owned();
        [
            status.to_owned(),
            category,
            place(endpoint),
            address,
            ms(dns_ms),
            // Over UDP there is no connection, and the way there and back takes as long as one.
            ms(connect_ms.or(endpoint.rtt_ms)),
            ms(tls_ms),
            ms(http_ms),
        ]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut said: Vec<(&str, &str)> = Vec::new();
    for (row, endpoint) in cells.iter().zip(std::iter::once(None).chain(rows.iter().map(Some))) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let style = endpoint.filter(|_| column == 0).map_or_else(Style::new, |e| style(e.status));
            let pad = width - cell.chars().count();
            let _ = match column {
                // Times stand at the right of their column.
                4.. => write!(line, "{:pad$}{cell}  ", ""),
                _ => write!(line, "{style}{cell}{style:#}{:pad$}  ", ""),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
        if let Some(endpoint) = endpoint.filter(|e| e.status != Status::Ok) {
            let word = endpoint.cause.or(endpoint.because).map_or("", Cause::as_str);
            let word =
                if endpoint.because.is_some() { format!("because of {word}") } else { word.to_owned() };
            let known = endpoint.cause.or(endpoint.because).map_or("", Cause::as_str);
            let _ = writeln!(text, "    {word}: {}", unsaid(&mut said, known, &endpoint.detail));
        }
    }
}

/// A detail, where no other endpoint had the same words for the same cause. A box that decrypts makes a
/// certificate for each host, so that its fingerprint makes no difference.
fn unsaid<'a>(said: &mut Vec<(&'a str, &'a str)>, cause: &'a str, detail: &'a str) -> &'a str {
    let (words, own) =
        detail.split_once("; SHA-256 ").map_or((detail, None), |(words, own)| (words, Some(own)));
    if said.contains(&(cause, words)) {
        return if own.is_some() { "as above, by its own certificate" } else { "as above" };
    }
    said.push((cause, words));
    detail
}

/// The endpoints that were not tested, by reason.
fn untested(text: &mut String, report: &Report) {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    // The file has a line of its own.
    let is_pac = |e: &Endpoint| report.pac.as_ref().is_some_and(|pac| pac.source == e.host);
    for endpoint in report.endpoints.iter().filter(|e| e.status == Status::Untested && !is_pac(e)) {
        match reasons.iter_mut().find(|(reason, _)| *reason == endpoint.detail) {
            Some((_, places)) => places.push(place(endpoint)),
            None => reasons.push((&endpoint.detail, vec![place(endpoint)])),
        }
    }
    for (reason, places) in reasons {
        let _ = writeln!(text, "untested: {}: {reason}", places.join(", "));
    }
}

fn categories(text: &mut String, report: &Report) {
    let width = report.categories.keys().map(|category| category.as_str().len()).max().unwrap_or(0);
    for (category, verdict) in &report.categories {
        let (style, status): (_, &str) = (style(verdict.status), verdict.status.into());
        let _ = write!(text, "{:width$}  {style}{status}{style:#}", category.as_str());
        if !verdict.agent_sees.is_empty() {
            let _ = write!(text, "; agents see: {}", verdict.agent_sees);
        }
        let _ = writeln!(text);
    }
}

fn style(status: Status) -> Style {
    match status {
        Status::Ok => AnsiColor::Green.on_default(),
        Status::Degraded => AnsiColor::Yellow.on_default(),
        Status::Failed => AnsiColor::Red.on_default(),
        Status::Skipped | Status::Untested => Style::new().dimmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_that_makes_a_certificate_for_each_host_is_told_once() {
        let mut said = Vec::new();
        let first = unsaid(&mut said, "tls_intercepted", "issuer O=Box; SHA-256 01:02");
        assert_eq!(first, "issuer O=Box; SHA-256 01:02");
        for (cause, detail, told) in [
            ("tls_intercepted", "issuer O=Box; SHA-256 03:04", "as above, by its own certificate"),
            ("tls_intercepted", "issuer O=Other; SHA-256 03:04", "issuer O=Other; SHA-256 03:04"),
            ("http_unexpected", "issuer O=Box; SHA-256 01:02", "issuer O=Box; SHA-256 01:02"),
            ("dns_timeout", "no answer", "no answer"),
            ("dns_timeout", "no answer", "as above"),
        ] {
            assert_eq!(unsaid(&mut said, cause, detail), told);
        }
    }
}
