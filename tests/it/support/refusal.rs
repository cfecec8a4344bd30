//! What a refusal consists of, wherever it comes from.

use serde_json::Value;

use super::{Answer, Proxy, Raw};

/// Checks everything that a refusal consists of, and returns its log line.
#[track_caller]
pub(crate) fn expect_refusal(
    proxy: &Proxy,
    client: &mut Raw,
    answer: &Answer,
    (status, error, reason): (u16, &str, &str),
) -> Value {
    let head = &answer.head;
    assert_eq!(answer.status, status, "{head}\n{}", answer.text());
    let field = answer.field("proxy-status").unwrap_or_else(|| panic!("no Proxy-Status: {head}"));
    assert!(field.starts_with("ccpgate;"), "the name comes first: {field}");
    assert_eq!(answer.proxy_status("error"), Some(error), "{field}");
    assert!(field.contains(&format!("details=\"{reason}\"")), "details is a quoted string: {field}");
    assert_eq!(answer.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"), "{head}");
    let kind = answer.field("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{head}");
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{head}");

    let body = answer.text();
    assert!(body.lines().count() >= 3, "what, why, and what to do: {body}");
    assert!(body.len() < 1000, "short: {body}");
    assert!(body.contains(reason), "the reason {reason} in: {body}");
    client.expect_closed();

    // The id in the body leads to the line in the log.
    let line = proxy.log_line("the refusal's id", |line| {
        (line["event"] == "denied" || line["event"] == "tunnel")
            && line["id"].as_str().is_some_and(|id| body.contains(id))
    });
    assert!(line["time"].as_str().unwrap().contains('T'), "RFC 3339: {line}");
    assert_eq!(line["client"], client.local().to_string(), "{line}");
    line
}
