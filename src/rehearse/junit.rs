//! A rehearsal as JUnit XML: the verdict as one case, which fails where AWS would consider Option 2, and
//! one for each phase with its 95th percentile. Pure.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::report::Report;
use super::statistics::Verdict;

/// The report as XML.
///
/// # Errors
/// In words, when it can't be written.
pub(crate) fn render(report: &Report) -> Result<String, String> {
    let mut junit = Junit::new("ccpgate rehearse");
    let mut suite = TestSuite::new("rehearse");
    suite.add_test_case(verdict(report));
    suite.add_test_cases(report.phases.iter().map(|(phase, times)| {
        let mut case = TestCase::new(format!("{} (p95)", phase.as_str()), TestCaseStatus::success());
        case.set_classname("phase");
        case.set_time(Duration::from_secs_f64(times.p95_ms / 1000.0));
        case
    }));
    junit.add_test_suite(suite);
    junit.to_string().map_err(|error| error.to_string())
}

fn verdict(report: &Report) -> TestCase {
    let status = match report.verdict {
        Verdict::Stay => TestCaseStatus::success(),
        Verdict::Inconclusive => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(report.summary.clone());
            status
        }
        Verdict::Consider => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(report.failures.first().map_or("", |failure| failure.cause.as_str()));
            status.set_message(report.summary.clone());
            let details = report.failures.iter().map(|failure| {
                format!("{} calls: {}: {}", failure.calls, failure.cause.as_str(), failure.detail)
            });
            status.set_description(details.collect::<Vec<_>>().join("\n"));
            status
        }
    };
    let mut case = TestCase::new("the ratio of failed calls against 2 %", status);
    case.set_classname("verdict");
    case.set_time(Duration::from_secs_f64(report.seconds));
    case.set_system_out(report.summary.clone());
    case
}
