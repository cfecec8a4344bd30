//! The watch: rounds of `check` inside the running proxy, in its metrics, findings and status.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::turn::{Turn, open};
use crate::support::{Proxy, Refusing, Region, eventually};

/// The watch in the status, once it has this verdict.
fn verdict(proxy: &Proxy, wanted: &str) -> Value {
    eventually(&format!("a round that is {wanted}"), || {
        Some(proxy.status()["watch"].clone()).filter(|watch| watch["verdict"] == wanted)
    })
}

fn watching(region: &Region, every: &str) -> String {
    let ca = region.ca();
    format!("[watch]\nevery = \"{every}\"\nca = \"{ca}\"\n{}", region.config())
}

const LOGIN: &str = "category=\"login\",host=\"acme.my.connect.aws\",protocol=\"tcp\"";

#[test]
fn a_fault_on_the_way_is_found_without_an_agent() {
    let region = Region::healthy();
    let well = watching(&region, "1s");
    let proxy = Proxy::start(&well);
    let watch = verdict(&proxy, "ok");
    assert_eq!(watch["every_s"], 1);
    for key in ["last", "since", "last_good", "summary"] {
        assert!(watch[key].is_string(), "{key} of {watch}");
    }
    assert_eq!(watch["endpoints"], Value::Array(Vec::new()));
    assert_eq!(proxy.status()["state"], "ok");
    proxy.metric_eventually(&format!("ccpgate_probe_success{{{LOGIN}}}"), 1.0);
    assert!(proxy.metric(&format!("ccpgate_probe_duration_seconds{{{LOGIN}}}")) < 10.0);
    // The firewall in front of AWS begins to refuse.
    let refusing = Refusing::new();
    let dead = well.replace(&region.upstream().address().to_string(), &refusing.address().to_string());
    proxy.reload(&dead, "ok");
    let watch = verdict(&proxy, "failed");
    assert_eq!((&watch["cause"], &watch["owner"]), (&"tcp_refused".into(), &"firewall".into()), "{watch}");
    assert!(watch["last_good"].is_string(), "it was well before: {watch}");
    let changed = watch["changed"].to_string();
    assert!(changed.contains("reload: egress.connect_to"), "{changed}");
    assert!(watch["endpoints"].as_array().unwrap().iter().any(|e| e["host"] == "acme.my.connect.aws"));
    let status = proxy.status();
    assert_eq!(status["state"], "failed", "the last round failed");
    let finding = &status["findings"][0];
    assert_eq!((&finding["cause"], &finding["clients_failing"]), (&"tcp_refused".into(), &0.into()));
    let summary = status["summary"].as_str().unwrap();
    assert!(summary.starts_with("The watch fails in") && summary.contains("Just before"), "{summary}");
    proxy.metric_eventually(&format!("ccpgate_probe_success{{{LOGIN}}}"), 0.0);
    let series = "ccpgate_finding{cause=\"tcp_refused\",category=\"login\",owner=\"firewall\"}";
    proxy.metric_eventually(series, 1.0);
    proxy.log_line("the round", |line| line["event"] == "watch" && line["verdict"] == "failed");
    // And it is open again.
    proxy.reload(&well, "ok");
    verdict(&proxy, "ok");
    proxy.metric_eventually(series, 0.0);
}

#[test]
fn it_is_off_by_default_and_a_reload_switches_it() {
    let region = Region::healthy();
    let proxy = Proxy::start(&region.config());
    assert_eq!(proxy.status()["watch"], Value::Null);
    assert!(proxy.metrics().family("ccpgate_probe_success").next().is_none());
    proxy.reload(&watching(&region, "1s"), "ok");
    verdict(&proxy, "ok");
    proxy.reload(&region.config(), "ok");
    eventually("the end of the watch", || proxy.status()["watch"].is_null().then_some(()));
    assert!(proxy.metrics().family("ccpgate_probe_success").next().is_none());
}

#[test]
fn an_authority_that_cannot_be_read_changes_nothing() {
    let region = Region::healthy();
    let well = watching(&region, "1h");
    let proxy = Proxy::start(&well);
    proxy.reload(&well.replace(region.ca(), "/nowhere/ca.pem"), "error");
    let line = proxy.log_line("the refusal", |line| line["event"] == "reload_failed");
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("watch.ca") && error.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn media_endpoints_are_tested_over_udp_where_stun_says_so() {
    const HOST: &str = "turnnlb-1dc64a459ead57ea.elb.eu-west-2.amazonaws.com";
    let turn = Turn::start(open());
    let config = |stun: bool| {
        format!(
            "[connect]\nregions = [\"eu-west-2\"]\ninstances = [\"acme\"]\n[dns]\nservers = [\"127.0.0.1:1\"]\n\
             [watch]\nevery = \"1s\"\nstun = {stun}\n[egress.connect_to]\n\"{HOST}:3478\" = \"{}\"\n",
            turn.address()
        )
    };
    let proxy = Proxy::start(&config(true));
    let series = format!("category=\"media\",host=\"{HOST}\",protocol=\"udp\"");
    let loss = format!("ccpgate_probe_loss_ratio{{host=\"{HOST}\"}}");
    eventually("a round with media", || {
        let metrics = proxy.metrics();
        let reached = metrics.get(&format!("ccpgate_probe_success{{{series}}}"));
        (reached == Some(1.0) && metrics.get(&loss) == Some(0.0)).then_some(())
    });
    proxy.reload(&config(false), "ok");
    eventually("a round without media", || {
        let metrics = proxy.metrics();
        let media = metrics.family("ccpgate_probe_success").any(|(series, _)| series.contains("media"));
        (!media).then_some(())
    });
}

#[test]
fn a_drain_ends_it() {
    let region = Region::healthy();
    let mut proxy = Proxy::start(&watching(&region, "1s"));
    verdict(&proxy, "ok");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
}
