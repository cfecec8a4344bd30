//! A rehearsal for people: the verdict in one line, the times of each phase, failures by cause with what
//! to do. The words say everything; colour only repeats it. Pure.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::phase::Phase;
use super::report::{Report, Scope, Setting};
use super::statistics::Verdict;
use crate::cause::{Cause, Threshold};
use crate::wording::count;

/// What is said before anything else where agents' logins are missing.
pub(crate) const WITHOUT_LOGIN: &str = "without a login a call is what AWS answers to strangers: files, the instance's page, signalling up to \
     its refusal, STUN; --ws-url or --simulate plays whole calls";

/// The report, with the escape sequences of its colours.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    if report.setting.scope == Scope::WithoutLogin {
        let _ = writeln!(text, "{WITHOUT_LOGIN}");
    }
    let colour = match report.verdict {
        Verdict::Stay => AnsiColor::Green.on_default(),
        Verdict::Consider => AnsiColor::Red.on_default(),
        Verdict::Inconclusive => AnsiColor::Yellow.on_default(),
    };
    let bold = Style::new().bold();
    let _ = writeln!(text, "{colour}{bold}{}{bold:#}{colour:#}", report.summary);
    let interrupted = if report.interrupted { ", interrupted" } else { "" };
    let Setting { through, protocol, concurrency, .. } = &report.setting;
    let by = protocol.map(|protocol| format!(" by {protocol}")).unwrap_or_default();
    let seconds = report.seconds;
    let _ = writeln!(text, "through {through}{by}; {concurrency} at a time, {seconds:.1} s{interrupted}");
    if report.setting.until_sure && report.verdict != Verdict::Inconclusive {
        let _ = writeln!(text, "by a sequential test, which ended as soon as it was sure");
    }
    phases(&mut text, report);
    failures(&mut text, report);
    for (cause, calls) in &report.degraded {
        let about = cause.about();
        let calls = count(*calls, "call");
        let _ = writeln!(text, "{calls} went on in spite of {}: {}", cause.as_str(), about.definition);
    }
    slow(&mut text, report);
    if let Some(cost) = report.proxy {
        let each = match report.calls {
            0 => String::new(),
            calls => format!(" {:.1} ms a call,", cost.cpu_s * 1000.0 / f64::from(calls)),
        };
        let _ = writeln!(
            text,
            "the proxy took {:.1} s of CPU,{each} and has {} MiB of memory",
            cost.cpu_s,
            cost.memory_bytes >> 20
        );
    }
    text
}

fn phases(text: &mut String, report: &Report) {
    if report.phases.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{:<12}{:>8}{:>10}{:>10}{:>10}", "phase", "calls", "p50", "p95", "p99");
    for (phase, times) in &report.phases {
        let ms = |ms: f64| format!("{ms:.1} ms");
        let _ = writeln!(
            text,
            "{:<12}{:>8}{:>10}{:>10}{:>10}",
            phase.as_str(),
            times.count,
            ms(times.p50_ms),
            ms(times.p95_ms),
            ms(times.p99_ms)
        );
    }
}

fn failures(text: &mut String, report: &Report) {
    if report.failures.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nfailed calls by cause");
    for failure in &report.failures {
        let about = failure.cause.about();
        let _ = writeln!(
            text,
            "{:>6}  {}: {}. Agents see: {}. Whose turn: {}",
            failure.calls,
            failure.cause.as_str(),
            about.definition,
            about.agent_sees,
            failure.owner.as_str()
        );
        let _ = writeln!(text, "        first seen in {}: {}", failure.phase.as_str(), failure.detail);
        let _ = writeln!(text, "        to do: {}; see {}", failure.remedy, failure.cause.page());
    }
    let _ = writeln!(text);
}

/// A warning that no browser gives.
fn slow(text: &mut String, report: &Report) {
    let Some(times) = report.phases.get(&Phase::Signalling) else { return };
    if let Some(Threshold::Over(limit)) = Cause::WsSlow.about().threshold
        && times.p95_ms > limit.as_secs_f64() * 1000.0
    {
        let _ = writeln!(
            text,
            "one call in twenty waits {:.1} s or longer for its WebSocket; from {} s on browsers open a second one",
            times.p95_ms / 1000.0,
            limit.as_secs()
        );
    }
}
