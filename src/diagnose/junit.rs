//! A report as JUnit XML, for what collects the results of tests: one suite a category, one case an
//! endpoint. Pure.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::report::{Endpoint, Report, Status};
use crate::cause::Cause;
use crate::policy::Protocol;

/// The report as XML.
///
/// # Errors
/// In words, when it can't be written.
pub(crate) fn render(report: &Report) -> Result<String, String> {
    let mut junit = Junit::new("ccpgate check");
    for category in report.categories.keys() {
        let mut suite = TestSuite::new(category.as_str());
        suite.add_test_cases(report.endpoints.iter().filter(|e| e.category == *category).map(case));
        junit.add_test_suite(suite);
    }
    junit.to_string().map_err(|error| error.to_string())
}

fn case(endpoint: &Endpoint) -> TestCase {
    let word = endpoint.cause.or(endpoint.because).map_or("", Cause::as_str);
    let mut status = match endpoint.status {
        Status::Ok | Status::Degraded => TestCaseStatus::success(),
        Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Status::Skipped | Status::Untested => TestCaseStatus::skipped(),
    };
    match endpoint.status {
        Status::Failed => {
            status.set_type(word);
            status.set_message(endpoint.detail.clone());
            if let Some(remedy) = endpoint.remedy {
                status.set_description(remedy);
            }
        }
        Status::Skipped => {
            status.set_message(format!("because of {word}"));
        }
        Status::Untested => {
            status.set_message(endpoint.detail.clone());
        }
        Status::Ok | Status::Degraded => {}
    }
    let udp = if endpoint.protocol == Protocol::Udp { "/udp" } else { "" };
    let mut case = TestCase::new(format!("{}:{}{udp}", endpoint.host, endpoint.port), status);
    case.set_classname(endpoint.category.as_str());
    let steps = &endpoint.steps;
    let spent = [steps.dns_ms, steps.connect_ms, steps.tls_ms, steps.http_ms].into_iter().flatten().sum();
    case.set_time(Duration::from_millis(spent));
    if endpoint.status == Status::Degraded {
        case.set_system_out(format!("degraded by {word}: {}", endpoint.detail));
    }
    case
}
