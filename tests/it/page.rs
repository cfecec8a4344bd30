//! The status page in a real Chromium: its values follow tunnels, hostile names stay text, seven tabs of
//! one browser all live, a hidden one holds no stream, it can be read and steered without a mouse.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::support::{Chromium, Proxy, Raw, Secured, Tab, Upstream, eventually, have};

const HOST: &str = "acme.my.connect.aws:443";
/// What stands in the row of a rule: the column of open tunnels.
const OPEN: &str = "[...document.querySelectorAll('#rules tr.rule')].find(row => \
    row.cells[0].textContent === 'acme.my.connect.aws')?.cells[1].textContent";

const WELL: &str = "document.getElementById('state').textContent === '✓ well'";

fn page(proxy: &Proxy) -> String {
    format!("http://{}/", proxy.admin())
}

/// A tab with the page, which says that all is well.
fn well<'a>(browser: &'a Chromium, proxy: &Proxy) -> Tab<'a> {
    let tab = browser.open(&page(proxy));
    tab.wait("the state", WELL);
    tab
}

/// A desk of its own asks for a target, and is refused or not.
fn ask_from(desk: u8, proxy: &Proxy, target: &str) -> Raw {
    let mut client = Raw::connect_from(Ipv4Addr::new(127, 0, 1, desk).into(), proxy.http());
    client.connect_target(target);
    client
}

#[test]
fn values_follow_tunnels_as_they_open_and_close() {
    if !have("chromium") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&[HOST]));
    let browser = Chromium::start();
    let tab = well(&browser, &proxy);
    assert!(tab.text("summary").starts_with("All is well"), "{}", tab.text("summary"));
    assert_eq!(tab.ask(OPEN), serde_json::Value::Null, "unused rules are left out");

    let mut tunnels: Vec<_> = (0..3).map(|_| proxy.tunnel(HOST)).collect();
    tab.wait("three open tunnels", &format!("{OPEN} === '3'"));
    tunnels[0].expect_echo(&[b'x'; 20_000]);
    tab.wait("bytes that moved", "/20(.0)? kB/.test(document.querySelector('#rules tr.rule').textContent)");
    tab.wait("a rate", "/B\\/?/.test(document.querySelector('#rules tr.rule').cells[3].textContent)");
    for tunnel in &mut tunnels {
        tunnel.finish();
        tunnel.expect_closed();
    }
    tab.wait("no open tunnel", &format!("{OPEN} === '0'"));
    tab.ask("document.getElementById('rules-all').click()");
    let rules = tab.ask("document.querySelectorAll('#rules tr.rule').length").as_u64().unwrap();
    assert!(rules > 10, "{rules} rules");

    // A reload with its difference, and a failing service, are told as they come.
    proxy.reload(&format!("[dns]\ntimeout = \"2s\"\n{}", upstream.for_targets(&[HOST])), "ok");
    tab.ask("askPast()");
    tab.wait("the reload", "/reload: .*dns.timeout/.test(document.getElementById('changes').textContent)");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn what_a_desk_told_is_on_the_page() {
    if !have("chromium") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&[HOST]));
    let browser = Chromium::start();
    let tab = well(&browser, &proxy);
    assert_eq!(tab.ask("document.getElementById('part-desks') === null"), true, "nobody has tested");
    let report = serde_json::json!({
        "took_ms": 9100, "browser": "test", "webrtc": true,
        "hosts": [{ "host": "acme.my.connect.aws", "result": "answered", "ms": 80 }],
        "media": [{ "host": "turnnlb-13c884fe3673ed9f.elb.us-west-2.amazonaws.com", "state": "gathering",
            "codes": [], "texts": [], "ms": 9000 }],
    })
    .to_string();
    let mut desk = Raw::connect_from(Ipv4Addr::new(127, 0, 1, 9).into(), proxy.http());
    desk.send(format!(
        "POST /check/report HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nContent-Type: application/json\r\n\
         Content-Length: {1}\r\n\r\n{report}",
        proxy.http(),
        report.len()
    ));
    assert_eq!(desk.read_answer().status, 200);
    tab.ask("askDesks()");
    let desks = "document.getElementById('part-desks')?.parentElement.textContent ?? ''";
    tab.wait("its verdict", &format!("/not_through_proxy.*does not use this proxy.*login: astray, turnnlb-13c.*udp_blocked/.test({desks})"));
    assert!(tab.ask(desks).as_str().unwrap().contains("127.0.1.9"));
}

#[test]
fn a_finding_is_told_with_whose_turn_it_is_and_what_to_paste() {
    if !have("chromium") {
        return;
    }
    let refusing = crate::support::Refusing::new();
    let proxy = Proxy::start(&format!("[egress.connect_to]\n\"{HOST}\" = \"{}\"\n", refusing.address()));
    let browser = Chromium::start();
    let tab = well(&browser, &proxy);
    for desk in 1..=6 {
        for _ in 0..6 {
            ask_from(desk, &proxy, HOST);
        }
    }
    tab.wait("a failure", "document.getElementById('top').dataset.state === 'failed'");
    tab.wait("all six", "/6 of 6 active clients/.test(document.getElementById('summary').textContent)");
    let summary = tab.text("summary");
    assert!(summary.contains("tcp_refused"), "{summary}");
    let finding = tab.text("findings");
    for part in ["tcp_refused in login", "127.0.1.0/24", "firewall", "Whose turn", "Copy"] {
        assert!(finding.contains(part), "{part} in {finding}");
    }
    assert!(tab.ask("document.title").as_str().unwrap().contains("failed"));
    tab.wait(
        "the rule over the line",
        "/36 of 36, 100 % ▲/.test(document.getElementById('rules').textContent)",
    );
    tab.wait("the curve", "document.querySelector('#curve .share') !== null");
    assert!(tab.text("curve-text").contains("100 %"), "{}", tab.text("curve-text"));
    tab.wait("the failures by client", "document.querySelectorAll('#failures tbody tr').length === 6");
}

#[test]
fn hostile_names_stay_text() {
    if !have("chromium") {
        return;
    }
    let proxy = Proxy::start("[proxy]\nclients = [\"127.0.0.0/8\"]\n");
    let browser = Chromium::start();
    let tab = well(&browser, &proxy);
    for request in [
        "CONNECT <img/src=x/onerror=alert(1)>:443 HTTP/1.1",
        "CONNECT javascript:alert(1):443 HTTP/1.1",
        "CONNECT xn--80ak6aa92e.example:443 HTTP/1.1",
        "GET http://\"><script>window.owned=1</script>/ HTTP/1.1",
        "GET http://*.{{constructor}}.example:443/ HTTP/1.1",
    ] {
        let mut client = proxy.connect();
        client.send(format!("{request}\r\nHost: x\r\n\r\n"));
        assert!(client.read_head().status >= 400, "{request}");
    }
    tab.wait("what can be shown of them", "document.querySelectorAll('#failures tbody tr').length >= 3");
    // The proxy lets no such text so far, so the page is given what no proxy would: every text that the
    // API has is HTML.
    let evil = "<img src=x onerror=\"window.owned=1\"><script>window.owned=1</script>";
    tab.ask(&format!(
        "const evil = {evil:?}; const spoil = value => typeof value === 'string' ? (isMoment(value) ? value : value + evil)
           : Array.isArray(value) ? value.map(spoil)
           : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k + evil, v]).concat(
               Object.entries(value).map(([k, v]) => [k, spoil(v)]))) : value;
         (async () => {{
           const [status, failures, history] = await Promise.all(['status', 'failures', 'history'].map(
             async path => (await fetch('/api/' + path)).json()));
           status.findings = [{{ cause: 'c', category: 'c', since: 'never', clients_failing: 1, clients_active: 1, networks: ['n'],
             targets: ['t'], owner: 'o', agent_sees: 'a', remedy: 'r', paste: 'p', changed: ['c'] }}];
           status.ranges = {{ token: 't', sets: {{ media: ['m'] }} }}; status.edl = [{{ list: 'l', client: 'c' }}];
           status.watch = {{ verdict: 'failed', endpoints: [{{ host: 'h' }}] }};
           status.tls = {{ certificate: {{ file: 'f', not_after: status.time }}, full: 1, resumed: 1, sessions: 1,
             lately: {{ handshakes: 1, resumed: 1 }}, failed: {{ unknown_ca: 1 }} }};
           stopStream(); allRules = true;
           take(spoil(status)); showFailures(spoil(failures)); showPast({{ ...spoil(history), categories: history.categories }});
           showPart('desks', 'Desks', spoil([{{ client: 'c', sentence: 's', media: [{{ host: 'h', status: 's' }}] }}]), desksOf, true);
           showPart('edl', 'Lists', spoil({{ consumers: [{{ consumer: 'c', sentence: 's' }}], lists: [{{ list: 'l' }}] }}), edlOf, true);
         }})()"
    ));
    assert_eq!(tab.ask("document.querySelectorAll('img, main script, main a').length"), 0);
    let whole = tab.ask("document.body.textContent").as_str().unwrap().to_owned();
    assert!(whole.matches("<img src=x onerror").count() > 50, "{whole}");
    assert_eq!(tab.ask("window.owned ?? 'nobody'"), "nobody");
    // The browser itself refuses what a careless change would bring.
    let refused =
        tab.ask("try { document.body.innerHTML = '<b>x</b>'; 'taken' } catch (error) { error.name }");
    assert_eq!(refused, "TypeError");
}

#[test]
fn denials_and_failures_are_filtered_by_client_host_and_reason() {
    if !have("chromium") {
        return;
    }
    let proxy = Proxy::start("");
    for (desk, target) in [
        (1, "crm.example:443"),
        (2, "crm.example:443"),
        (2, "participant.connect.eu-west-2.amazonaws.com:443"),
        (3, "acme.my.connect.aws:8443"),
    ] {
        ask_from(desk, &proxy, target);
    }
    let browser = Chromium::start();
    let tab = browser.open(&page(&proxy));
    let count =
        |number: usize| format!("document.querySelectorAll('#failures tbody tr').length === {number}");
    tab.wait("all four", &count(4));
    let text = tab.text("failures");
    for part in ["connect.regions", "nearest rule acme.my.connect.aws", "127.0.1.3", "no_rule", "port"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let set = |name: &str, value: &str| {
        tab.ask(&format!(
            "{{ const field = document.getElementById('failures-{name}'); field.value = '{value}'; \
             field.dispatchEvent(new Event('input')); }} true"
        ));
    };
    set("client", "127.0.1.2");
    tab.wait("those of a client", &count(2));
    set("host", "crm");
    tab.wait("and of a host", &count(1));
    tab.ask("document.getElementById('failures-clear').click()");
    tab.wait("all again", &count(4));
    set("reason", "port");
    tab.wait("those for a reason", &count(1));
    set("client", "nobody");
    tab.wait(
        "why it can't be asked",
        "/is no IP address/.test(document.getElementById('failures-text').textContent)",
    );
}

#[test]
fn seven_tabs_of_one_browser_all_live_and_hidden_ones_hold_nothing() {
    if !have("chromium") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&[HOST]));
    let browser = Chromium::start();
    let tabs: Vec<_> = (0..7).map(|_| browser.open(&page(&proxy))).collect();
    for tab in &tabs {
        tab.wait("the state", WELL);
    }
    let streams = || tabs.iter().filter(|tab| tab.ask("source !== null") == true).count();
    eventually("three streams", || (streams() == 3).then_some(()));
    let mut tunnel = proxy.tunnel(HOST);
    for tab in &tabs {
        tab.wait("the tunnel in each", &format!("{OPEN} === '1'"));
    }
    for tab in &tabs {
        tab.hide(true);
    }
    assert_eq!(streams(), 0);
    tunnel.finish();
    tunnel.expect_closed();
    // A hidden page asks for nothing: what it shows is what it was.
    assert_eq!(tabs[0].ask(OPEN), "1");
    for tab in &tabs {
        tab.hide(false);
    }
    for tab in &tabs {
        tab.wait("it goes on", &format!("{OPEN} === '0'"));
    }
}

#[test]
fn beyond_the_last_stream_and_while_the_proxy_is_away_the_page_says_so() {
    if !have("chromium") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&[HOST]));
    let _held: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = Raw::connect(proxy.admin());
            stream.send(format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin()));
            assert_eq!(stream.read_head().status, 200);
            stream
        })
        .collect();
    let browser = Chromium::start();
    let tab = browser.open(&page(&proxy));
    tab.wait(
        "it asks again and again",
        "/asked every 5 s/.test(document.getElementById('feed').textContent)",
    );
    let _live = proxy.tunnel(HOST);
    tab.wait("the tunnel", &format!("{OPEN} === '1'"));
    drop(proxy);
    tab.wait("that it is old", "/No answer since/.test(document.getElementById('feed').textContent)");
}

#[test]
fn it_is_read_and_steered_without_a_mouse() {
    if !have("chromium") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&upstream.for_targets(&[HOST]));
    let _live = proxy.tunnel(HOST);
    let browser = Chromium::start();
    let tab = browser.open(&page(&proxy));
    tab.wait("the tunnel", &format!("{OPEN} === '1'"));
    let tree = tab.accessible();
    let has = |role: &str, name: &str| tree.iter().any(|(r, n)| r == role && n.contains(name));
    for (role, name) in [
        ("heading", "All is well"),
        ("heading", "Categories and rules"),
        ("heading", "Recent denials and failures"),
        ("columnheader", "Open"),
        ("rowheader", "acme.my.connect.aws"),
        ("searchbox", "Client"),
        ("combobox", "Over"),
        ("button", "Show unused rules"),
        ("link", "Skip to categories"),
        ("navigation", "For programs"),
    ] {
        assert!(has(role, name), "{role} {name} in {tree:?}");
    }
    let unnamed: Vec<_> = tree
        .iter()
        .filter(|(role, name)| {
            ["button", "link", "searchbox", "combobox", "image"].contains(&role.as_str()) && name.is_empty()
        })
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
    // Every control is reached by Tab, and the button works by the keyboard.
    let mut reached = Vec::new();
    for _ in 0..40 {
        tab.press("Tab", 9);
        let id = tab.ask("document.activeElement.id").as_str().unwrap_or_default().to_owned();
        if id == "rules-all" {
            tab.ask("document.activeElement.click()");
        }
        reached.push(id);
    }
    for id in ["curve-of", "curve-over", "rules-all", "failures-client", "failures-host", "failures-reason"] {
        assert!(reached.iter().any(|known| known == id), "{id} in {reached:?}");
    }
    assert_eq!(tab.ask("document.getElementById('rules-all').getAttribute('aria-pressed')"), "true");
    // Nothing sticks out of a phone.
    for (width, height) in [(360, 740), (1280, 800), (2560, 1440)] {
        tab.screen(width, height, false);
        let wide = tab.ask("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} of {width}");
    }
}

/// Pictures for people to look at: `CCPGATE_PICTURES=folder cargo test --test it page::pictures -- --ignored`.
#[test]
#[ignore = "makes pictures for people, and checks nothing"]
fn pictures() {
    let folder = PathBuf::from(std::env::var("CCPGATE_PICTURES").unwrap());
    let (upstream, refusing, secured) = (Upstream::echo(), crate::support::Refusing::new(), Secured::new());
    let telecom = "rtc1.connect-telecom.us-west-2.amazonaws.com:443";
    let proxy = Proxy::start(&format!(
        "{}\n{}\"{telecom}\" = \"{}\"\n",
        secured.section(""),
        upstream.for_targets(&[
            HOST,
            "*.cloudfront.net:443",
            "participant.connect.us-west-2.amazonaws.com:443"
        ]),
        refusing.address()
    ));
    let mut live: Vec<_> = (1..40).map(|desk| ask_from(desk, &proxy, HOST)).collect();
    live.iter_mut().for_each(|tunnel| tunnel.expect_echo(&[b'x'; 3000]));
    live.extend((1..20).map(|desk| ask_from(desk, &proxy, "d2m5ev6u38s7fd.cloudfront.net:443")));
    let browser = Chromium::start();
    let tab = well(&browser, &proxy);
    let shoot = |name: &str, width, height, dark| {
        tab.screen(width, height, dark);
        tab.ask("new Promise(done => setTimeout(() => done(true), 600))");
        tab.picture(&folder.join(name));
    };
    shoot("well-light.png", 1280, 800, false);
    for desk in 1..30 {
        for _ in 0..5 {
            ask_from(desk, &proxy, telecom);
        }
        ask_from(desk, &proxy, "crm.example:443");
        ask_from(desk, &proxy, "participant.connect.eu-west-2.amazonaws.com:443");
    }
    proxy.reload(
        &format!(
            "[dns]\ntimeout = \"2s\"\n{}\n{}\"{telecom}\" = \"{}\"\n",
            secured.section(""),
            upstream.for_targets(&[HOST, "*.cloudfront.net:443"]),
            refusing.address()
        ),
        "ok",
    );
    tab.wait("a failure", "document.getElementById('top').dataset.state === 'failed'");
    tab.wait("the failures", "document.querySelectorAll('#failures tbody tr').length > 50");
    tab.ask("askPast()");
    shoot("failed-light.png", 1280, 800, false);
    shoot("failed-dark.png", 1280, 800, true);
    shoot("failed-phone.png", 390, 844, false);
    shoot("failed-wall.png", 2560, 1440, true);
}
