//! The desk check in real browsers, Chromium and Firefox, each verdict with what brings it about: media
//! endpoints on loopback that answer, are silent or have no name, a policy of the browser, a PAC file that
//! isn't the proxy's, a host that can't be reached.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use data_encoding::BASE64;
use serde_json::Value;

use crate::support::turn::{Answers, Turn, open, own_loopback, silent};
use crate::support::{
    Blackhole, Browser, Chromium, PATIENCE, Proxy, Refusing, Region, Tab, have, in_a_network_of_its_own,
    read_request,
};

/// A region with its voice servers, and a proxy before it.
struct Office {
    region: Region,
    turn: Turn,
    proxy: Proxy,
}

impl Office {
    /// `more` goes at the end of the configuration, below `[egress.connect_to]`.
    fn new(address: IpAddr, answers: Answers, region: Region, more: &str) -> Self {
        let turn = Turn::start_at((address, 3478).into(), answers);
        let config = region.config().replace("media = false", "media = true");
        let proxy = Proxy::start(&format!("{config}\n{more}"));
        Self { region, turn, proxy }
    }

    fn url(&self) -> String {
        format!("http://{}/check", self.proxy.http())
    }

    /// The names of the voice servers lead here, all others nowhere.
    fn rules(&self) -> String {
        format!(
            "--host-resolver-rules=MAP turnnlb-* {}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            self.turn.address().ip()
        )
    }

    fn pac(&self) -> String {
        format!("--proxy-pac-url=http://{}/proxy.pac", self.proxy.http())
    }

    fn chromium(&self, arguments: &[String]) -> Browser {
        self.chromium_with(arguments, "{}")
    }

    fn chromium_with(&self, arguments: &[String], preferences: &str) -> Browser {
        // What is tested is the way, not the certificate.
        let arguments = [arguments, &["--ignore-certificate-errors".to_owned()]].concat();
        Browser::chromium(&self.url(), &arguments, preferences)
    }

    /// Firefox, to which the names of all hosts in `names` are loopback.
    fn firefox(&self, names: &[String], more: &str) -> Browser {
        let preferences = format!(
            "user_pref(\"network.proxy.type\", 2);\n\
             user_pref(\"network.proxy.autoconfig_url\", \"http://{}/proxy.pac\");\n\
             user_pref(\"network.dns.localDomains\", \"{}\");\n\
             user_pref(\"media.peerconnection.ice.loopback\", true);\n{more}",
            self.proxy.http(),
            names.join(",")
        );
        Browser::firefox_at(&self.url(), &preferences, Path::new(self.region.ca()))
    }

    /// What the browser's check told.
    #[track_caller]
    fn checked(&self, browser: &Browser) -> Value {
        let until = Instant::now() + 6 * PATIENCE;
        loop {
            let desks: Value = self.proxy.get("/api/desks").json();
            if let Some(desk) = desks.get(0) {
                return desk.clone();
            }
            assert!(Instant::now() < until, "no report; the browser's log:\n{}", browser.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// The page, once its first check is over.
    fn verdict_in<'a>(&self, browser: &'a Chromium) -> Tab<'a> {
        let tab = browser.open(&self.url());
        tab.wait("a verdict", "!document.getElementById('code').hidden");
        tab
    }

    #[track_caller]
    fn expect_reports(&self, count: usize) {
        let desks: Value = self.proxy.get("/api/desks").json();
        assert_eq!(desks.as_array().map(Vec::len), Some(count), "{desks:#}");
    }

    /// The names of the voice servers, by the page.
    fn voice(&self) -> Vec<String> {
        let page =
            self.proxy.ask("GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").text();
        let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        data["media"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }
}

#[track_caller]
fn expect(desk: &Value, verdict: &str, says: &str) {
    assert_eq!(desk["verdict"], verdict, "{desk:#}");
    let sentence = desk["sentence"].as_str().unwrap();
    assert!(sentence.contains(says), "{sentence}");
}

fn every(desk: &Value, status: &str) -> bool {
    desk["media"]
        .as_array()
        .is_some_and(|all| all.len() == 5 && all.iter().all(|one| one["status"] == status))
}

#[test]
fn a_desk_from_which_all_is_reached_is_ok_in_chromium() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let browser = office.chromium(&[office.pac(), office.rules()]);
    let desk = office.checked(&browser);
    expect(&desk, "ok", "can reach everything");
    assert!(every(&desk, "open"), "{desk:#}");
    assert_eq!(desk["categories"]["login"]["status"], "ok");
    assert_eq!(desk["categories"]["signalling"]["status"], "untested");
    assert!(desk["seen"].as_array().unwrap().iter().any(|seen| seen["target"] == "acme.my.connect.aws:443"));
    assert!(desk["browser"].as_str().unwrap().contains("Chrome/"), "{desk:#}");
}

#[test]
fn silence_of_the_voice_servers_is_udp_that_is_blocked_in_chromium() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), silent(), Region::healthy(), "");
    let browser = office.chromium(&[office.pac(), office.rules()]);
    let desk = office.checked(&browser);
    expect(&desk, "udp_blocked", "UDP 3478 is blocked on this network");
    assert!(every(&desk, "udp_blocked"), "{desk:#}");
    assert!(!office.turn.heard().is_empty(), "the browser did ask");
}

#[test]
fn names_that_a_desk_cannot_look_up_are_told_in_chromium() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".to_owned();
    let browser = office.chromium(&[office.pac(), rules]);
    let desk = office.checked(&browser);
    expect(&desk, "turn_dns", "can't look up the names");
    assert!(every(&desk, "turn_dns"), "{desk:#}");
}

#[test]
fn a_policy_against_udp_is_told_in_chromium() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let preferences = r#"{"webrtc":{"ip_handling_policy":"disable_non_proxied_udp"}}"#;
    let browser = office.chromium_with(&[office.pac(), office.rules()], preferences);
    let desk = office.checked(&browser);
    expect(&desk, "browser_policy", "setting");
    assert!(every(&desk, "browser_policy"), "{desk:#}");
    assert!(office.turn.heard().is_empty());
}

/// As behind one address at nine: its tunnels are over long before the report is taken.
#[test]
fn a_report_that_had_to_wait_is_joined_with_what_its_browser_did() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let own = office.proxy.http();
    let another = format!(
        "POST /check/report HTTP/1.1\r\nHost: {own}\r\nOrigin: http://{own}\r\nContent-Type: application/json\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{{"
    );
    let statuses: Vec<u16> = (0..11).map(|_| office.proxy.ask(&another).status).collect();
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let browser = office.chromium(&[office.pac(), office.rules()]);
    let desk = office.checked(&browser);
    expect(&desk, "ok", "can reach everything");
    assert!(desk["seen"].as_array().unwrap().iter().any(|seen| seen["target"] == "acme.my.connect.aws:443"));
}

#[test]
fn a_browser_without_the_pac_file_is_not_through_the_proxy() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let browser = office.chromium(&["--no-proxy-server".to_owned(), office.rules()]);
    let desk = office.checked(&browser);
    expect(&desk, "not_through_proxy", "does not use this proxy");
    assert_eq!(desk["seen"], serde_json::json!([]));
}

#[test]
fn a_listed_host_that_the_pac_file_sends_elsewhere_is_named() {
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    // Where it goes instead it is even reached: that the page can't tell.
    let direct = format!("MAP tools.connect.aws {}", office.region.upstream().address());
    let pac = format!(
        "function FindProxyForURL(url, host) {{ return host == 'tools.connect.aws' || host == '127.0.0.1' ? 'DIRECT' : 'PROXY {}'; }}",
        office.proxy.http()
    );
    let pac = format!(
        "--proxy-pac-url=data:application/x-ns-proxy-autoconfig;base64,{}",
        BASE64.encode(pac.as_bytes())
    );
    let rules = office.rules().replace("MAP * ~", &format!("{direct}, MAP * ~"));
    let browser = office.chromium(&[pac, rules]);
    let desk = office.checked(&browser);
    expect(&desk, "not_through_proxy", "past the proxy to tools.connect.aws.");
    assert_eq!(desk["categories"]["login"]["status"], "ok", "{desk:#}");
}

#[test]
fn a_host_behind_the_proxy_that_is_not_reached_is_named_with_its_category() {
    if !have("chromium") {
        return;
    }
    let refusing = Refusing::new();
    let more = format!("\"participant.connect.us-west-2.amazonaws.com:443\" = \"{}\"\n", refusing.address());
    let office = Office::new(own_loopback(), open(), Region::healthy(), &more);
    let browser = office.chromium(&[office.pac(), office.rules()]);
    let desk = office.checked(&browser);
    expect(&desk, "category_unreachable", "for chat: participant.connect.us-west-2.amazonaws.com.");
    assert_eq!(desk["categories"]["chat"]["hosts"][0]["because"], "connect", "{desk:#}");
    assert_eq!(desk["categories"]["login"]["status"], "ok");
}

/// The button that was pressed stays where it is while it can't be pressed.
#[test]
fn whoever_checks_again_by_keyboard_keeps_the_place() {
    const NOTE: &str = "document.getElementById('start').focus(); window.seen = null;
        new MutationObserver((_, all) => {
            all.disconnect();
            const { id, ariaDisabled, hidden } = document.activeElement;
            window.seen = [id, ariaDisabled, hidden].join();
        }).observe(document.getElementById('progress'), { attributes: true })";
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let browser = Chromium::start();
    let tab = office.verdict_in(&browser);
    tab.ask(NOTE);
    tab.press(" ", 32);
    tab.wait("another verdict", "window.seen !== null && !document.getElementById('code').hidden");
    assert_eq!(tab.ask("window.seen"), "start,true,false");
    let focus = "[document.activeElement.id, document.activeElement.ariaDisabled].join()";
    assert_eq!((tab.ask(focus), tab.text("start")), ("start,".into(), "Check again".to_owned()));
    office.expect_reports(2);
}

/// A browser whose network changes ends the report, too.
#[test]
fn a_report_whose_connection_is_cut_is_sent_again() {
    const CUT: &str = "const real = window.fetch; let left = 1;
        window.fetch = (where, ...more) => where === '/check/report' && left-- > 0
            ? Promise.reject(new TypeError('cut'))
            : real(where, ...more);
        document.getElementById('start').click()";
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let browser = Chromium::start();
    let tab = office.verdict_in(&browser);
    let first = tab.text("code");
    tab.ask(CUT);
    let code = format!(
        "!document.getElementById('code').hidden && {first:?} !== document.getElementById('code').textContent"
    );
    tab.wait("another verdict", &code);
    office.expect_reports(2);
}

/// The page judges as the proxy does, where it has to do that alone.
#[test]
fn the_page_judges_the_voice_path_by_the_table_of_the_proxy() {
    const TABLE: &str = include_str!("../../src/desk/testdata/ways.json");
    if !have("chromium") {
        return;
    }
    let proxy = Proxy::start("");
    let browser = Chromium::start();
    let tab = browser.open(&format!("http://{}/check", proxy.http()));
    tab.wait("the page", "typeof way === 'function'");
    let wrong = tab.ask(&format!(
        "({TABLE}).filter((row) => way(row, row.webrtc !== false) !== row.way).map((row) => JSON.stringify(row))"
    ));
    assert_eq!(wrong, Value::from(vec![0; 0]));
    assert_eq!(tab.ask(&format!("({TABLE}).length > 20")), true);
}

/// What the agent reads to the help desk: the second error of the same code is the one that decides.
#[test]
fn a_list_that_could_not_be_sent_says_what_the_proxy_would_have_said() {
    const ALONE: &str = "const real = window.fetch;
        window.fetch = (where, ...more) =>
            where === '/check/report' ? Promise.reject(new TypeError('cut')) : real(where, ...more);
        window.RTCPeerConnection = class extends EventTarget {
            iceGatheringState = 'new';
            createDataChannel() {}
            close() {}
            async createOffer() {}
            async setLocalDescription() {
                const said = ['TURN host lookup received error.', 'TURN allocate request timed out.'];
                for (const errorText of said) {
                    const event = new Event('icecandidateerror');
                    this.dispatchEvent(Object.assign(event, { errorCode: 701, errorText }));
                }
                this.iceGatheringState = 'complete';
                this.dispatchEvent(new Event('icegatheringstatechange'));
            }
        };
        document.getElementById('start').click()";
    if !have("chromium") {
        return;
    }
    let office = Office::new(own_loopback(), open(), Region::healthy(), "");
    let browser = Chromium::start();
    let tab = office.verdict_in(&browser);
    tab.ask(ALONE);
    tab.wait("the list", "document.getElementById('sentence').textContent.includes('could not be sent')");
    let voice = tab.ask("document.querySelector('#groups li').textContent");
    assert!(
        voice.as_str().unwrap().starts_with("turnnlb-") && voice.as_str().unwrap().ends_with("UDP blocked"),
        "{voice}"
    );
    office.expect_reports(1);
}

/// The proxy still dials when the page's time is over.
#[test]
fn a_host_that_hangs_behind_the_proxy_went_through_it() {
    if !have("chromium") {
        return;
    }
    let hole = Blackhole::new();
    let more = format!(
        "\"participant.connect.us-west-2.amazonaws.com:443\" = \"{}\"\n[egress]\nconnect_timeout = \"60s\"\n",
        hole.address()
    );
    let office = Office::new(own_loopback(), open(), Region::healthy(), &more);
    let browser = office.chromium(&[office.pac(), office.rules()]);
    let desk = office.checked(&browser);
    expect(&desk, "category_unreachable", "for chat: participant.connect.us-west-2.amazonaws.com.");
    assert_eq!(desk["categories"]["chat"]["status"], "failed", "{desk:#}");
}

/// A network of the test's own with an interface beside loopback: without one browsers ask no voice server.
/// It is given no address of its own accord, which would come a second or two later: to a browser that is
/// another network, and it ends what is under way.
fn in_an_office_network(tools: &[&str], work: impl FnOnce() + Send + 'static) {
    in_a_network_of_its_own(tools, || {
        let commands = "ip link add desk type veth peer name wall; \
                        ip link set desk addrgenmode none; ip link set wall addrgenmode none; ip link set desk up; ip link set wall up; \
                        ip addr add 10.77.0.2/24 dev desk; ip route add default via 10.77.0.1";
        assert!(Command::new("sh").args(["-ec", commands]).status().unwrap().success());
        work();
    });
}

/// Sign-in pages lead elsewhere; the page mustn't follow, and an answer it is.
#[test]
fn a_host_that_leads_elsewhere_has_answered_in_both_browsers() {
    in_an_office_network(&["chromium", "firefox-esr", "certutil"], || {
        let redirecting = || {
            Region::serving(|mut tls| {
                while read_request(&mut tls).is_some() {
                    let answer =
                        "HTTP/1.1 302 Found\r\nLocation: https://idp.example/\r\nContent-Length: 0\r\n\r\n";
                    if tls.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            })
        };
        let office = Office::new([127, 0, 0, 1].into(), open(), redirecting(), "");
        let browser = office.chromium(&[office.pac(), office.rules()]);
        expect(&office.checked(&browser), "ok", "");
        drop(office);
        let office = Office::new([127, 0, 0, 1].into(), open(), redirecting(), "");
        let browser = office.firefox(&office.voice(), "");
        expect(&office.checked(&browser), "ok", "");
    });
}

/// All that Firefox tells apart: each in a network of its own, for its names of voice servers lead to loopback alone.
#[test]
fn firefox_gets_the_same_verdicts() {
    in_an_office_network(&["firefox-esr", "certutil"], || {
        let policy = "user_pref(\"media.peerconnection.ice.proxy_only\", true);\n";
        let off = "user_pref(\"media.peerconnection.enabled\", false);\n";
        let past = "user_pref(\"network.proxy.type\", 0);\n";
        for (answers, resolves, more, verdict, says) in [
            (open(), true, "", "ok", "can reach everything"),
            (silent(), true, "", "udp_blocked", "UDP 3478"),
            (open(), false, "", "turn_dns", "look up"),
            (open(), true, policy, "browser_policy", "setting"),
            (open(), true, off, "browser_policy", "setting"),
            (open(), true, past, "not_through_proxy", "does not use this proxy"),
        ] {
            let office = Office::new([127, 0, 0, 1].into(), answers, Region::healthy(), "");
            let names = if resolves { office.voice() } else { Vec::new() };
            let browser = office.firefox(&names, more);
            let desk = office.checked(&browser);
            expect(&desk, verdict, says);
            assert!(desk["browser"].as_str().unwrap().contains("Firefox/"), "{desk:#}");
        }
    });
}
