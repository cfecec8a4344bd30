//! The status page. What it shows it asks the API for.
//!
//! It is one constant text, and no value ever stands in it: so there is nothing to escape here, and no
//! template library. Its scripts put values in as text alone, never as HTML, and the policy that comes with
//! it has the browser refuse any other way (Trusted Types), any other script and style (by their hashes),
//! and any other address than this listener's.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::http::{Answer, typed};
use crate::digest::csp_source;

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they build on one another.
const SCRIPTS: [&str; 7] = [
    include_str!("page/dom.js"),
    include_str!("page/top.js"),
    include_str!("page/curve.js"),
    include_str!("page/rules.js"),
    include_str!("page/failures.js"),
    include_str!("page/parts.js"),
    include_str!("page/feed.js"),
];

struct Page {
    text: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = SCRIPTS.concat();
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        csp_source(&script),
        csp_source(STYLE)
    );
    let text = FRAME.replacen("/*style*/", STYLE, 1).replacen("/*script*/", &script, 1);
    Page { text: text.into(), policy: HeaderValue::from_str(&policy).expect("words, hashes and spaces") }
});

/// The page, the same for everybody.
pub(super) fn answer() -> Answer {
    let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", PAGE.text.clone());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_takes_nothing_from_elsewhere() {
        let text = std::str::from_utf8(&PAGE.text).unwrap();
        assert!(!text.contains("/*style*/") && !text.contains("/*script*/"));
        for (what, count) in [("<script>", 1), ("</script>", 1), ("<style>", 1), ("</style>", 1)] {
            assert_eq!(text.matches(what).count(), count, "{what}");
        }
        // No other way into the document than as text, and no address but our own.
        for never in
            ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "src=", "@import"]
        {
            assert!(!text.contains(never), "{never}");
        }
        let addresses = text.matches("//").count()
            - text.matches("// ").count()
            - text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(addresses, 0, "an address of elsewhere");
    }
}
