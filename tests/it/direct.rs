//! `pac.direct` in a real Chromium: whom the browser asks for which host, whatever form it gives the
//! host to the PAC file in. No name has an address here, and no address is dialled.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::support::{Authority, Browser, PAGE, Proxy, Upstream, eventually, have, read_head, site};

/// Hosts past every proxy, then hosts for the old one, as a browser's address bar takes them.
const PAST: [&str; 9] = [
    "wiki.corp.example",
    "Wiki.Corp.Example.",
    "intranet",
    "INTRANET",
    "10.1.2.3",
    "[2001:db8:1::1]",
    "[2001:DB8:0001:00:0:0:0:2]",
    "[::ffff:10.1.2.3]",
    "listed.direct.example",
];
const OTHERS: [&str; 6] =
    ["corp.example", "11.1.2.3", "[2001:db8:2::1]", "[::ffff:11.1.2.3]", "0xb010204", "other.example."];

#[test]
fn a_browser_asks_no_proxy_for_direct_hosts() {
    if !have("chromium") {
        return;
    }
    let (certificate, pin) = Authority::new().server(&[PAGE]);
    let urls: Vec<String> = PAST.iter().chain(&OTHERS).map(|host| format!("\"https://{host}/\"")).collect();
    // One after the other; the page's own tunnel says when all were asked for.
    let page: Arc<str> = format!(
        r#"<!doctype html><link rel="icon" href="data:,"><script>
        (async () => {{
          for (const url of [{}]) await fetch(url, {{ mode: "no-cors" }}).catch(() => 0);
          fetch("/done");
        }})();
        </script>"#,
        urls.join(", ")
    )
    .into();
    let done = Arc::new(Mutex::new(false));
    let is_done = done.clone();
    let site = site(certificate, move |head| {
        *done.lock().unwrap() |= head.starts_with("GET /done ");
        Some(page.clone())
    });
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = asked.clone();
    let old = Upstream::serve(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            asked.lock().unwrap().insert(target);
            // A refusal leaves the proxy in the browser's good books, an error doesn't.
            if stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.direct.example\"\n[pac]\notherwise = \"PROXY {}\"\n\
         direct = [\"plain\", \"*.corp.example\", \"*.direct.example\", \"10.0.0.0/8\", \"2001:db8:1::/48\"]\n{}",
        old.address(),
        site.for_targets(&[&format!("{PAGE}:443")])
    ));
    let browser = Browser::start(&proxy, &site, &[&pin]);
    eventually(&format!("the end of the page; the browser's log:\n{}", browser.log()), || {
        is_done.lock().unwrap().then_some(())
    });
    // The browser has errands of its own, at its maker's.
    let mut seen = seen.lock().unwrap().clone();
    seen.retain(|target| !target.contains(".google"));
    let expected = [
        "corp.example:443",
        "11.1.2.3:443",
        "[2001:db8:2::1]:443",
        "[::ffff:b01:203]:443",
        "11.1.2.4:443",
        "other.example.:443",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into(), "what the old proxy was asked for");
    assert_eq!(proxy.metrics().sum("ccpgate_denied_total"), 0.0);
    let lines = proxy.log_so_far();
    assert!(!lines.iter().any(|line| line.to_string().contains("listed.direct.example")), "{lines:?}");
}
