//! Live findings: what fails now, for how many clients and which, as /api/status, the metrics, the log
//! and the events tell it. Clients are loopback addresses; all of 127.0.0.0/8 is this machine.

use std::net::{IpAddr, Ipv4Addr};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Dns, Proxy, Raw, Refusing, Reply, Upstream, eventually};

const POLICY: &str = "[policy]\ntls = \"off\"\n\
    [[allow]]\npattern = \"login.example\"\ncategory = \"login\"\n\
    [[allow]]\npattern = \"signal.example\"\ncategory = \"signalling\"\n\
    [[allow]]\npattern = \"api.example\"\ncategory = \"api\"\n";

fn client(third: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(127, 4, third, last).into()
}

fn tunnel(proxy: &Proxy, client: IpAddr, target: &str) -> Raw {
    let mut raw = Raw::connect_from(client, proxy.http());
    let answer = raw.connect_target(target);
    assert_eq!(answer.status, 200, "{}", answer.head);
    raw
}

fn refused(proxy: &Proxy, client: IpAddr, target: &str) -> u16 {
    Raw::connect_from(client, proxy.http()).connect_target(target).status
}

/// The finding of this cause, once it is there.
fn finding(proxy: &Proxy, cause: &str) -> Value {
    eventually(&format!("a finding {cause}"), || {
        let status = proxy.status();
        let all = status["findings"].as_array().unwrap();
        all.iter().find(|finding| finding["cause"] == cause).cloned()
    })
}

/// A proxy that reaches its hosts, but for `dead`, which refuses.
fn with_a_dead_host(dead: &str) -> (Proxy, Upstream, Refusing) {
    let (upstream, refusing) = (Upstream::echo(), Refusing::new());
    let mut lines = upstream.for_targets(&["login.example:443", "signal.example:443", "api.example:443"]);
    let good = format!("\"{dead}:443\" = \"{}\"", upstream.address());
    lines = lines.replace(&good, &format!("\"{dead}:443\" = \"{}\"", refusing.address()));
    (Proxy::start(&format!("{POLICY}{lines}")), upstream, refusing)
}

#[test]
fn the_status_says_who_is_hit_and_whose_turn_it_is() {
    let (proxy, _upstream, _refusing) = with_a_dead_host("signal.example");
    let well = proxy.status();
    assert_eq!((&well["state"], &well["schema_version"]), (&"ok".into(), &1.into()), "{well}");
    assert_eq!(well["findings"], Value::Array(Vec::new()));
    // Five agents are logged in; signalling is dead for all who try, on two floors.
    let _agents: Vec<Raw> =
        (1..=5).map(|at| tunnel(&proxy, client(at % 2, at), "login.example:443")).collect();
    for at in 1..=4 {
        assert_eq!(refused(&proxy, client(at % 2, at), "signal.example:443"), 502);
    }
    let found = finding(&proxy, "tcp_refused");
    for (key, expected) in [
        ("category", Value::from("signalling")),
        ("clients_failing", 4.into()),
        ("clients_active", 5.into()),
        ("networks", vec!["127.4.0.0/16"].into()),
        ("owner", "firewall".into()),
        ("targets", vec!["signal.example:443"].into()),
    ] {
        assert_eq!(found[key], expected, "{key} of {found}");
    }
    for key in ["since", "agent_sees", "remedy", "paste"] {
        assert!(found[key].as_str().is_some_and(|text| text.len() > 10), "{key} of {found}");
    }
    assert!(found["changed"][0].as_str().unwrap().contains("started"), "{found}");
    let status = proxy.status();
    assert_eq!(status["state"], "failed", "four of five in signalling");
    let summary = status["summary"].as_str().unwrap();
    for part in [
        "4 of 5",
        "127.4.0.0/16",
        "signalling",
        "tcp_refused",
        "firewall team",
        "Paste",
        "signal.example:443",
    ] {
        assert!(summary.contains(part), "{part} in {summary}");
    }
    // The same in the metrics and, once, in the log.
    proxy.metric_eventually(
        "ccpgate_finding{cause=\"tcp_refused\",category=\"signalling\",owner=\"firewall\"}",
        1.0,
    );
    proxy.metric_eventually("ccpgate_clients_active", 5.0);
    proxy.metric_eventually("ccpgate_clients_failing", 4.0);
    let line = proxy.log_line("finding", |line| line["event"] == "finding");
    assert_eq!(
        (&line["cause"], &line["category"], &line["owner"]),
        (&"tcp_refused".into(), &"signalling".into(), &"firewall".into())
    );
    assert_eq!(proxy.log_so_far().iter().filter(|line| line["event"] == "finding").count(), 1);
    // Each failed tunnel's line has the cause, too.
    assert_eq!(proxy.access_line("tunnel", "signal.example:443")["cause"], "tcp_refused");
}

#[test]
fn it_is_over_when_its_clients_succeed_again() {
    let (proxy, upstream, _refusing) = with_a_dead_host("api.example");
    for at in 1..=3 {
        refused(&proxy, client(0, at), "api.example:443");
    }
    assert_eq!(finding(&proxy, "tcp_refused")["networks"], Value::from(vec!["127.4.0.0/24"]));
    assert_eq!(proxy.status()["state"], "degraded", "calls need no api to ring");
    let targets = ["login.example:443", "signal.example:443", "api.example:443"];
    proxy.reload(&format!("{POLICY}{}", upstream.for_targets(&targets)), "ok");
    let _tunnels: Vec<Raw> = (1..=3).map(|at| tunnel(&proxy, client(0, at), "api.example:443")).collect();
    // A tunnel is known a moment after its answer.
    let status = eventually("no client fails", || {
        let status = proxy.status();
        (status["clients"]["failing"] == 0).then_some(status)
    });
    assert_eq!(status["state"], "ok", "{status}");
    proxy.log_line("finding_over", |line| line["event"] == "finding_over" && line["cause"] == "tcp_refused");
    proxy
        .metric_eventually("ccpgate_finding{cause=\"tcp_refused\",category=\"api\",owner=\"firewall\"}", 0.0);
}

#[test]
fn a_reload_just_before_is_named_with_its_difference() {
    let upstream = Upstream::echo();
    let hosts = ["login.example:443", "signal.example:443"];
    let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&hosts)));
    let refusing = Refusing::new();
    let dead = format!("\"api.example:443\" = \"{}\"\n", refusing.address());
    proxy.reload(&format!("{POLICY}{}{dead}", upstream.for_targets(&hosts)), "ok");
    for at in 1..=3 {
        refused(&proxy, client(0, at), "api.example:443");
    }
    let found = finding(&proxy, "tcp_refused");
    let changed: Vec<&str> = found["changed"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(changed.iter().any(|change| change.contains("reload: egress.connect_to")), "{changed:?}");
    assert!(proxy.status()["summary"].as_str().unwrap().contains("Just before"));
}

#[test]
fn one_desk_in_a_loop_is_one_client_and_a_single_failure_is_nothing() {
    let (proxy, _upstream, _refusing) = with_a_dead_host("api.example");
    let _well: Vec<Raw> = (1..=6).map(|at| tunnel(&proxy, client(0, at), "login.example:443")).collect();
    refused(&proxy, client(0, 1), "api.example:443");
    assert_eq!(proxy.status()["findings"], Value::Array(Vec::new()));
    for _ in 0..60 {
        refused(&proxy, client(9, 9), "api.example:443");
    }
    let found = finding(&proxy, "one_desk");
    assert_eq!((&found["clients_failing"], &found["owner"]), (&1.into(), &"desk".into()), "{found}");
    assert_eq!(found["networks"], Value::from(vec!["127.4.9.9/32"]));
    // Whom it hits says nothing of what fails.
    assert!(
        found["paste"].as_str().unwrap().contains("one_desk, tcp_refused, for api.example:443"),
        "{found}"
    );
    let status = proxy.status();
    assert_eq!((status["findings"].as_array().unwrap().len(), &status["state"]), (1, &"degraded".into()));
}

#[test]
fn one_desk_is_not_told_of_what_another_asked_for() {
    let (proxy, upstream, refusing) = with_a_dead_host("api.example");
    let more = "[[allow]]\npattern = \"other.example\"\ncategory = \"api\"\n";
    let lines = ["api.example", "other.example"]
        .map(|host| format!("\"{host}:443\" = \"{}\"\n", refusing.address()))
        .concat();
    let login = upstream.for_targets(&["login.example:443"]);
    proxy.reload(&format!("{POLICY}{more}{login}{lines}"), "ok");
    let _well: Vec<Raw> = (1..=6).map(|at| tunnel(&proxy, client(0, at), "login.example:443")).collect();
    for _ in 0..5 {
        refused(&proxy, client(9, 9), "api.example:443");
    }
    finding(&proxy, "one_desk");
    refused(&proxy, client(0, 1), "other.example:443");
    // Both are known a moment after the answer.
    eventually("the other one's failure", || (proxy.status()["clients"]["failing"] == 2).then_some(()));
    let paste = finding(&proxy, "one_desk")["paste"].as_str().unwrap().to_owned();
    assert!(paste.contains("one_desk, tcp_refused, for api.example:443"), "{paste}");
    assert!(!paste.contains("other.example"), "{paste}");
}

#[test]
fn every_dns_failure_has_its_cause() {
    let dns = Dns::start();
    dns.set("login.example", Reply::Code(3));
    dns.set("signal.example", Reply::Code(2));
    dns.addresses("api.example", &["10.1.2.3"]);
    let proxy = Proxy::start(&format!("{POLICY}{}", dns.as_config()));
    for at in 1..=3 {
        for target in ["login.example:443", "signal.example:443", "api.example:443"] {
            refused(&proxy, client(0, at), target);
        }
    }
    for (cause, category) in
        [("dns_nxdomain", "login"), ("dns_servfail", "signalling"), ("dns_private", "api")]
    {
        let found = finding(&proxy, cause);
        assert_eq!((&found["category"], &found["owner"]), (&category.into(), &"network".into()), "{found}");
    }
}

#[test]
fn an_instance_that_does_not_exist_is_the_configurations_fault() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.set_otherwise(Reply::Code(3));
    let proxy = Proxy::start(&format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acmme\"]\n{POLICY}{}{}",
        dns.as_config(),
        upstream.for_targets(&["api.example:443"])
    ));
    let _well = tunnel(&proxy, client(0, 9), "api.example:443");
    for at in 1..=3 {
        refused(&proxy, client(0, at), "acmme.my.connect.aws:443");
    }
    let found = finding(&proxy, "instance_unknown");
    assert_eq!((&found["category"], &found["owner"]), (&"login".into(), &"configuration".into()), "{found}");
}

/// The alias was renamed, and everybody follows the old bookmark: nobody is left who has no trouble.
#[test]
fn an_instance_that_does_not_exist_is_found_where_every_agent_is_hit() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.set_otherwise(Reply::Code(3));
    let proxy = Proxy::start(&format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"old\"]\n{POLICY}\
         [[allow]]\npattern = \"idp.example\"\ncategory = \"login\"\n{}{}",
        dns.as_config(),
        upstream.for_targets(&["login.example:443"])
    ));
    for at in 1..=5 {
        let mut idp = tunnel(&proxy, client(0, at), "login.example:443");
        idp.expect_echo(b"saml");
        refused(&proxy, client(0, at), "old.my.connect.aws:443");
    }
    let found = finding(&proxy, "instance_unknown");
    assert_eq!((&found["category"], &found["owner"]), (&"login".into(), &"configuration".into()), "{found}");
    let hit = eventually("all of them", || {
        let found = finding(&proxy, "instance_unknown");
        (found["clients_failing"] == 5).then_some(found)
    });
    assert_eq!(hit["targets"], Value::from(vec!["old.my.connect.aws:443"]), "{hit}");
    // Another name that doesn't exist, as often: it is told by itself, and the first one stays.
    for at in 1..=5 {
        refused(&proxy, client(0, at), "old.my.connect.aws:443");
        refused(&proxy, client(0, at), "idp.example:443");
    }
    let other = finding(&proxy, "dns_nxdomain");
    assert_eq!((&other["category"], &other["targets"][0]), (&"login".into(), &"idp.example:443".into()));
    let still = finding(&proxy, "instance_unknown");
    assert_eq!((&still["since"], &still["targets"]), (&hit["since"], &hit["targets"]), "{still}");
}

#[test]
fn resets_for_several_clients_are_the_networks() {
    let resetter = Upstream::resetter();
    let proxy = Proxy::start(&format!("{POLICY}{}", resetter.for_targets(&["signal.example:443"])));
    for at in 1..=3 {
        let mut agent = tunnel(&proxy, client(0, at), "signal.example:443");
        agent.send("x");
        agent.expect_gone();
    }
    let found = finding(&proxy, "tunnel_reset");
    assert_eq!((&found["clients_failing"], &found["owner"]), (&3.into(), &"network".into()), "{found}");
}

#[test]
fn a_region_that_the_configuration_lacks_is_named() {
    let proxy = Proxy::start("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n");
    for at in 1..=3 {
        assert_eq!(refused(&proxy, client(0, at), "participant.connect.eu-west-2.amazonaws.com:443"), 403);
    }
    let found = finding(&proxy, "not_configured");
    assert_eq!((&found["category"], &found["owner"]), (&"chat".into(), &"configuration".into()), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("\"eu-west-2\" in connect.regions"), "{found}");
    assert_eq!(found["clients_failing"], 3);
}

/// Any AWS customer can have such a name: it is no sign that a Region or an instance is missing.
#[test]
fn a_name_that_anybody_can_have_opens_no_region() {
    let proxy = Proxy::start("[connect]\nregions = [\"eu-central-1\"]\ninstances = [\"acme\"]\n");
    let hosts = ["media.s3.dualstack.eu-west-2.amazonaws.com", "corp.awsapps.com"];
    for at in 1..=5 {
        for host in hosts.iter().filter(|_| at <= 3) {
            assert_eq!(refused(&proxy, client(0, at), &format!("{host}:443")), 403);
        }
        refused(&proxy, client(0, at), &format!("shop{at}.example:443"));
    }
    let status = eventually("a finding for each", || {
        let status = proxy.status();
        (status["findings"].as_array().unwrap().len() == hosts.len()).then_some(status)
    });
    for found in status["findings"].as_array().unwrap() {
        let host = found["targets"][0].as_str().unwrap();
        assert!(hosts.contains(&host), "{found}");
        assert!(found["remedy"].as_str().unwrap().contains(&format!("ccpgate explain {host}")), "{found}");
        assert_eq!((&found["category"], &found["clients_failing"]), (&Value::Null, &3.into()), "{found}");
    }
    assert_eq!((&status["state"], &status["clients"]["active"]), (&"degraded".into(), &5.into()));
    assert!(!status["summary"].as_str().unwrap().contains("Calls fail"), "{}", status["summary"]);
}

/// A reload that brings what was missing ends the finding, and no other takes its place.
#[test]
fn a_reload_that_mends_what_was_missing_ends_it() {
    let config = |instance: &str, more: &str| {
        format!("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"{instance}\"]\n{POLICY}{more}")
    };
    let proxy = Proxy::start(&config("acmee", ""));
    for at in 1..=5 {
        refused(&proxy, client(0, at), "acme.my.connect.aws:443");
        refused(&proxy, client(0, at), "crm.example:443");
    }
    eventually("both findings", || (proxy.status()["findings"].as_array().unwrap().len() == 2).then_some(()));
    let is_event = |line: &Value, name: &str| line["event"] == name;
    let over = |before: usize| {
        eventually("the end of a finding", || {
            let over = proxy.log_so_far().iter().filter(|line| is_event(line, "finding_over")).count();
            (over > before).then_some(())
        });
    };
    proxy.reload(&config("acme", ""), "ok");
    over(0);
    let left = proxy.status();
    assert_eq!(left["findings"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["findings"][0]["targets"][0], "crm.example");
    proxy.reload(&config("acme", "[[allow]]\npattern = \"crm.example\"\n"), "ok");
    over(1);
    for _ in 0..20 {
        let status = proxy.status();
        assert_eq!((&status["state"], &status["findings"]), (&"ok".into(), &Value::Array(Vec::new())));
    }
    let found = proxy.log_so_far().iter().filter(|line| is_event(line, "finding")).count();
    assert_eq!(found, 2, "each once");
}

/// However many hosts were denied before, and whatever else is changed.
#[test]
fn a_reload_of_something_else_leaves_findings_as_they_are() {
    let config =
        |more: &str| format!("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acmee\"]\n{POLICY}{more}");
    let proxy = Proxy::start(&config(""));
    for at in 1..=2 {
        for shop in 0..40 {
            refused(&proxy, client(0, at), &format!("shop{shop}.example:443"));
        }
    }
    for at in 1..=5 {
        refused(&proxy, client(0, at), "acme.my.connect.aws:443");
    }
    let all_five = |status: &Value| status["findings"][0]["clients_failing"] == 5;
    let before = eventually("the finding", || Some(proxy.status()).filter(all_five))["findings"][0].clone();
    assert!(before["remedy"].as_str().unwrap().contains("\"acme\" in connect.instances"), "{before}");
    for idle in 60..63 {
        proxy.reload(&config(&format!("[limits]\nidle_timeout = \"{idle}m\"\n")), "ok");
        for _ in 0..10 {
            let status = proxy.status();
            assert_eq!(status["findings"].as_array().unwrap().len(), 1, "{status}");
            assert_eq!(status["findings"][0]["since"], before["since"], "{status}");
        }
    }
    let events = proxy.log_so_far();
    assert!(events.iter().all(|line| line["event"] != "finding_over"), "{events:?}");
}

#[test]
fn a_host_that_many_ask_for_and_nobody_lists_is_named() {
    let proxy = Proxy::start(POLICY);
    for at in 1..=5 {
        refused(&proxy, client(0, at), "crm.example:443");
    }
    let found = finding(&proxy, "not_configured");
    assert!(found["remedy"].as_str().unwrap().contains("ccpgate explain crm.example"), "{found}");
}

#[test]
fn a_limit_of_this_proxy_is_named_with_its_key() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "{POLICY}[limits]\nconnections_per_client = 2\n{}",
        upstream.for_targets(&["login.example:443"])
    ));
    let _two: Vec<Raw> = (0..2).map(|_| tunnel(&proxy, client(0, 1), "login.example:443")).collect();
    assert_eq!(refused(&proxy, client(0, 1), "login.example:443"), 503);
    let found = finding(&proxy, "limit");
    assert_eq!((&found["owner"], &found["category"]), (&"proxy".into(), &"login".into()), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("limits.connections_per_client"), "{found}");
}

#[test]
fn a_burst_of_what_is_no_tls_is_a_desk() {
    let upstream = Upstream::echo();
    let policy = POLICY.replace("tls = \"off\"", "tls = \"sni\"");
    let proxy = Proxy::start(&format!("{policy}{}", upstream.for_targets(&["api.example:443"])));
    for _ in 0..5 {
        let mut odd = tunnel(&proxy, client(0, 7), "api.example:443");
        odd.send("SSH-2.0-x\r\n");
        odd.expect_gone();
    }
    let found = finding(&proxy, "foreign_protocol");
    assert_eq!((&found["owner"], &found["networks"][0]), (&"desk".into(), &"127.4.0.7/32".into()), "{found}");
}

#[test]
fn the_status_lists_rules_ratios_and_generations() {
    let (proxy, _upstream, _refusing) = with_a_dead_host("api.example");
    let mut agent = tunnel(&proxy, client(0, 1), "login.example:443");
    agent.expect_echo(b"hello");
    refused(&proxy, client(0, 1), "api.example:443");
    let status = eventually("the bytes in the status", || {
        Some(proxy.status()).filter(|status| rule(status, "login.example")["received"] == 5)
    });
    let login = rule(&status, "login.example");
    for (key, expected) in [
        ("category", Value::from("login")),
        ("active", 1.into()),
        ("total", 1.into()),
        ("failed", 0.into()),
        ("sent", 5.into()),
    ] {
        assert_eq!(login[key], expected, "{key} of {login}");
    }
    assert!(login["last_used"].is_string());
    let api = rule(&status, "api.example");
    assert_eq!((&api["active"], &api["total"], &api["failed"]), (&0.into(), &1.into(), &1.into()), "{api}");
    assert_eq!(rule(&status, "signal.example")["last_used"], Value::Null);
    assert_eq!(status["error_ratio"]["all"], 1.0);
    assert_eq!(status["error_ratio"]["login"], 0.0);
    let generation = &status["generations"][0];
    assert_eq!((&generation["tunnels"], &generation["draining"]), (&1.into(), &false.into()), "{generation}");
    assert!(generation["rss_bytes"].as_u64().unwrap() > 1 << 20);
    for key in
        ["version", "commit", "uptime_seconds", "draining", "config", "mode", "client_connections", "busy"]
    {
        assert!(!status[key].is_null(), "{key} of {status}");
    }
    assert!(status.as_object().unwrap().contains_key("watch") && status["ranges"].is_null());
}

fn rule(status: &Value, domain: &str) -> Value {
    let rules = status["rules"].as_array().unwrap();
    rules
        .iter()
        .find(|rule| rule["domain"] == domain)
        .unwrap_or_else(|| panic!("no {domain}: {status}"))
        .clone()
}

#[test]
fn crossing_the_line_is_logged_once_and_so_is_the_way_back() {
    let (proxy, _upstream, _refusing) = with_a_dead_host("api.example");
    let work = |count: usize| {
        for _ in 0..count {
            let mut agent = tunnel(&proxy, client(0, 1), "login.example:443");
            agent.finish();
            agent.expect_closed();
        }
    };
    work(195);
    for at in 1..=5 {
        refused(&proxy, client(0, at), "api.example:443");
    }
    let crossed = proxy.log_line("crossed", |line| line["event"] == "error_ratio_crossed");
    assert_eq!((&crossed["ratio"], &crossed["level"]), (&0.025.into(), &"warn".into()), "{crossed}");
    work(199);
    let recovered = proxy.log_line("recovered", |line| line["event"] == "error_ratio_recovered");
    assert!(recovered["ratio"].as_f64().unwrap() < 0.015, "{recovered}");
    let events = |name| proxy.log_so_far().iter().filter(|line| line["event"] == name).count();
    assert_eq!((events("error_ratio_crossed"), events("error_ratio_recovered")), (1, 1));
}

/// A reader of /api/events.
struct Events(Raw);

impl Events {
    fn open(proxy: &Proxy) -> Self {
        let mut raw = Raw::connect(proxy.admin());
        raw.send("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let answer = raw.read_head();
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.field("content-type").unwrap().starts_with("text/event-stream"), "{}", answer.head);
        Self(raw)
    }

    /// The next status. Events come as chunks, one each.
    fn next(&mut self) -> Value {
        let line = |raw: &mut Raw| {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(raw.read_exactly(1));
            }
            String::from_utf8(line).unwrap().trim_end().to_owned()
        };
        loop {
            let size = usize::from_str_radix(&line(&mut self.0), 16).unwrap();
            assert_ne!(size, 0, "the stream is over");
            let chunk = String::from_utf8(self.0.read_exactly(size)).unwrap();
            self.0.read_exactly(2);
            if let Some(data) = chunk.strip_prefix("event: status\ndata: ") {
                return serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
            }
            assert!(chunk.starts_with(':'), "{chunk}");
        }
    }
}

#[test]
fn events_tell_of_a_finding_and_end_with_the_drain() {
    let (mut proxy, _upstream, _refusing) = with_a_dead_host("api.example");
    let mut events = Events::open(&proxy);
    assert_eq!(events.next()["state"], "ok", "the first comes at once");
    for at in 1..=3 {
        refused(&proxy, client(0, at), "api.example:443");
    }
    let found = eventually("an event with the finding", || {
        Some(events.next()).filter(|status| status["findings"][0]["cause"] == "tcp_refused")
    });
    assert_eq!(found["schema_version"], 1);
    // A tunnel keeps the process, and so the admin listener, alive through the drain.
    let agent = tunnel(&proxy, client(0, 1), "login.example:443");
    proxy.signal(Signal::TERM);
    let _ = events.0.read_to_end();
    drop(agent);
    assert!(proxy.wait_exit().success());
}

#[test]
fn streams_leave_room_for_scrapes() {
    let (proxy, _upstream, _refusing) = with_a_dead_host("api.example");
    let streams: Vec<Events> = (0..64).map(|_| Events::open(&proxy)).collect();
    let answer = proxy.get("/api/events");
    assert_eq!(answer.status, 503, "the page polls beyond: {}", answer.head);
    assert!(answer.field("retry-after").is_some());
    assert_eq!(proxy.get("/metrics").status, 200);
    assert_eq!(proxy.status()["schema_version"], 1);
    drop(streams);
    eventually("a place for a stream", || {
        let mut raw = Raw::connect(proxy.admin());
        raw.send("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        (raw.read_head().status == 200).then_some(())
    });
}

#[test]
fn events_are_closed_to_rebound_names() {
    let proxy = Proxy::start(POLICY);
    let mut raw = Raw::connect(proxy.admin());
    raw.send("GET /api/events HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    assert_eq!(raw.read_answer().status, 403);
}

/// Of several hosts that no rule has the sentence names each: they are mended one by one.
#[test]
fn every_host_that_is_lacking_is_named_in_the_sentence() {
    let proxy = Proxy::start(POLICY);
    for at in 1..=3 {
        for target in ["idp.example:443", "sso.example:443"] {
            refused(&proxy, client(0, at), target);
        }
    }
    let both = eventually("both hosts", || {
        let summary = proxy.status()["summary"].as_str().unwrap().to_owned();
        (summary.contains("idp.example") && summary.contains("sso.example")).then_some(summary)
    });
    assert!(both.contains("Besides: not_configured, "), "{both}");
}
