//! A panel with its CRM in a real Chromium: sixty WebSockets and sixty requests that hang, each to a
//! host of its own. To one proxy port it has 32 tunnels of either kind, the rest waits in the browser;
//! with `pac.lanes` all of them live at once.

use std::time::{Duration, Instant};

use crate::support::{Authority, Browser, PAGE, PATIENCE, Proxy, Secured, Upstream, have, site};

const HOSTS: usize = 60;

const SCRIPT: &str = r#"<!doctype html><title>panel</title><link rel="icon" href="data:,"><script>
for (let n = 0; n < 60; n++) {
  new WebSocket("wss://s" + n + ".socket.example/");
  fetch("https://r" + n + ".request.example/hang");
}
</script>"#;

#[test]
fn sixty_hosts_have_their_tunnels_at_once_over_three_lanes() {
    if have("chromium") {
        let panel = Panel::open(false, 3, true);
        panel.expect(HOSTS, HOSTS);
    }
}

#[test]
fn sixty_hosts_have_their_tunnels_at_once_over_two_lanes_of_an_https_proxy() {
    if have("chromium") {
        let panel = Panel::open(true, 2, true);
        panel.expect(HOSTS, HOSTS);
    }
}

#[test]
fn without_lanes_half_of_sixty_hosts_wait_in_the_browser() {
    if have("chromium") {
        for over_tls in [false, true] {
            let panel = Panel::open(over_tls, 3, false);
            panel.expect_at_most(Browser::TUNNELS_PER_PROXY);
        }
    }
}

/// The page with its sockets and requests, the way there, and the far end.
struct Panel {
    browser: Browser,
    proxy: Proxy,
    _ways: Vec<Upstream>,
    _site: Upstream,
    _secured: Secured,
}

impl Panel {
    /// Opens the page through a proxy with this many advertised ports.
    fn open(over_tls: bool, ports: usize, lanes: bool) -> Self {
        let names = [PAGE, "*.socket.example", "*.request.example"];
        let (certificate, pin) = Authority::new().server(&names);
        // What hangs is never answered.
        let site = site(certificate, |head| (!head.starts_with("GET /hang ")).then_some(SCRIPT));
        let secured = Secured::new();
        let rest = format!(
            "[[allow]]\npattern = \"*.socket.example\"\n[[allow]]\npattern = \"*.request.example\"\n{}\n{}",
            secured.section(""),
            site.for_targets(&names.map(|name| format!("{name}:443")).each_ref().map(String::as_str))
        );
        let proxy = Proxy::start(&rest);
        let listener = if over_tls { proxy.https() } else { proxy.http() };
        let ways: Vec<Upstream> = (0..ports).map(|_| Upstream::relay(listener)).collect();
        let scheme = if over_tls { "https://" } else { "" };
        let advertise: Vec<String> = ways.iter().map(|way| format!("{scheme}{}", way.address())).collect();
        proxy.reload(&format!("[proxy]\nadvertise = {advertise:?}\n[pac]\nlanes = {lanes}\n{rest}"), "ok");
        let browser = Browser::start(&proxy, &site, &[&pin, &secured.pin()]);
        Self { browser, proxy, _ways: ways, _site: site, _secured: secured }
    }

    /// The live tunnels of the WebSockets, and those of the requests with the page's own.
    fn live(&self) -> (usize, usize) {
        let metrics = self.proxy.metrics();
        let of = |domain: &str| {
            let label = format!("domain=\"{domain}\"");
            let series = metrics.family("ccpgate_tunnels_active");
            series.filter(|(series, _)| series.contains(&label)).map(|(_, live)| live as usize).sum::<usize>()
        };
        (of("*.socket.example"), of("*.request.example") + of(PAGE))
    }

    #[track_caller]
    fn wait_for(&self, reached: impl Fn(usize, usize) -> bool) {
        let until = Instant::now() + 4 * PATIENCE;
        loop {
            let (sockets, requests) = self.live();
            if reached(sockets, requests) {
                return;
            }
            let log = || self.browser.log();
            assert!(
                Instant::now() < until,
                "{sockets} sockets and {requests} requests live; the browser:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many are live.
    #[track_caller]
    fn expect(&self, sockets: usize, requests: usize) {
        self.wait_for(|s, r| s >= sockets && r >= requests);
    }

    /// Waits until so many of each are live, and for a while in which a browser without the limit
    /// would open more.
    #[track_caller]
    fn expect_at_most(&self, limit: usize) {
        self.expect(limit, limit);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(
            self.live(),
            (limit, limit),
            "this Chromium has another limit: lanes may need other numbers"
        );
    }
}
