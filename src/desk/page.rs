//! The page: one file that holds everything, so that nothing is fetched for it. Its script and its style are
//! allowed by their hashes and its requests by the hosts of the plan; what differs between proxies stands in
//! a block of data, never in code.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::plan::Plan;
use super::texts::{self, text};
use crate::digest::csp_source;
use crate::policy::Category;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page is told.
#[derive(Serialize)]
struct Data<'a> {
    hosts: Vec<Row<'a>>,
    media: &'a [std::sync::Arc<str>],
    untested: &'a [Category],
    left_out: usize,
    /// Whether it begins by itself.
    start: bool,
    texts: &'a Value,
}

#[derive(Serialize)]
struct Row<'a> {
    host: &'a str,
    category: Category,
}

static TEXTS: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(texts::TABLE).unwrap_or_default());

/// The hashes of style and script.
static HASHES: LazyLock<[String; 2]> = LazyLock::new(|| [STYLE, SCRIPT].map(csp_source));

/// The page for one plan, made when it is first asked for, and shared by all who are sent it.
#[derive(Default)]
pub(crate) struct Pages([OnceLock<Bytes>; 2]);

impl Pages {
    /// See [`page`]; always with the same plan.
    pub(crate) fn page(&self, plan: &Plan, start: bool) -> Bytes {
        self.0[usize::from(start)].get_or_init(|| page(plan, start).into()).clone()
    }
}

/// The page for a plan. `start`: it begins by itself, not at the press of a button.
#[must_use]
pub fn page(plan: &Plan, start: bool) -> String {
    let hosts = plan.hosts.iter().map(|listed| Row { host: &listed.host, category: listed.category });
    let data = Data {
        hosts: hosts.collect(),
        media: &plan.media,
        untested: &plan.untested,
        left_out: plan.left_out,
        start,
        texts: &TEXTS,
    };
    // Plain data into memory does not fail. Within a script element only `<` could end it.
    let data = serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c");
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + data.len());
    let mut rest = PAGE;
    while let Some((before, marked)) = rest.split_once("{{") {
        let (name, after) = marked.split_once("}}").unwrap_or((marked, ""));
        page.push_str(before);
        page.push_str(match name {
            "style" => STYLE,
            "script" => SCRIPT,
            "data" => &data,
            name => text(name),
        });
        rest = after;
    }
    page.push_str(rest);
    page
}

/// What the page may do: run its own script and style, ask this proxy and the hosts of the plan, nothing else.
#[must_use]
pub fn policy(plan: &Plan) -> String {
    let [style, script] = &*HASHES;
    let hosts: String = plan.hosts.iter().map(|listed| format!(" https://{}", listed.host)).collect();
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'self'{hosts}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::plan::Listed;

    fn plan() -> Plan {
        let host = "acme.my.connect.aws".into();
        Plan { hosts: vec![Listed { host, category: Category::Login }], ..Plan::default() }
    }

    #[test]
    fn the_page_is_whole_and_asks_nobody() {
        let page = page(&plan(), true);
        assert!(page.contains("\"host\":\"acme.my.connect.aws\"") && page.contains("\"start\":true"));
        assert!(SCRIPT.contains(&format!("fetch(\"{}\"", crate::desk::REPORT)));
        assert!(page.contains(SCRIPT) && page.contains(STYLE) && !page.contains("{{"));
        for foreign in
            ["src=\"http", "href=\"http", "url(http", "@import", " onload=", " style=\"", "innerHTML"]
        {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn no_text_ends_the_block_of_data() {
        let mut plan = plan();
        plan.hosts[0].host = "</script><script>alert(1)</script>".into();
        let page = page(&plan, false);
        assert_eq!(page.matches("</script>").count(), PAGE.matches("</script>").count());
    }

    #[test]
    fn the_policy_allows_these_hosts_and_nothing_inline_but_by_hash() {
        let policy = policy(&plan());
        assert!(policy.contains("connect-src 'self' https://acme.my.connect.aws;"), "{policy}");
        assert!(
            policy.contains("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
}
