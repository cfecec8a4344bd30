//! What `check` says is what a CONNECT through `serve` meets, and what `check --via` that proxy says.

use super::{check_site, endpoint, expect_cause, site};
use crate::support::{Blackhole, Dns, Proxy, Refusing, Reply, Upstream, ccpgate};

const LOOPBACK: &str = "[egress]\nallow_private = [\"127.0.0.1/32\"]\nconnect_timeout = \"1s\"\n";

/// The same configuration for `check` and for `serve`. `via` is the cause that is known behind the
/// proxy.
#[track_caller]
fn agree(more: &str, (cause, owner): (&str, &str), (status, error): (u16, &str), via: &str) {
    let config = site(more);
    let report = check_site(&config, &[]);
    expect_cause(&report, "failed", cause, owner);
    let proxy = Proxy::start(&config);
    let answer = proxy.connect().connect_target("site.example:443");
    assert_eq!(
        (answer.status, answer.proxy_status("error")),
        (status, Some(error)),
        "{cause}: {}",
        answer.head
    );
    let url = format!("http://{}", proxy.http());
    let report = check_site(&config, &["--via", &url]);
    assert_eq!((&report["verdict"], &report["cause"]), (&"failed".into(), &via.into()), "{report:#}");
    assert_eq!(report["via"], url);
    let site = endpoint(&report, "site.example");
    assert!(site["address"].is_null() && site["steps"]["dns_ms"].is_null(), "{site:#}");
}

#[test]
fn connections_that_fail() {
    let (refusing, hole) = (Refusing::new(), Blackhole::new());
    let to = |address| format!("{LOOPBACK}[egress.connect_to]\n\"site.example:443\" = \"{address}\"\n");
    agree(&to(refusing.address()), ("tcp_refused", "firewall"), (502, "connection_refused"), "tcp_refused");
    agree(&to(hole.address()), ("tcp_timeout", "firewall"), (504, "connection_timeout"), "tcp_timeout");
    // No address of this machine: there is nothing to dial from.
    let foreign = format!(
        "[egress]\nsource_address = [\"203.0.113.7\"]\n[egress.connect_to]\n\"site.example:443\" = \"{}\"\n",
        refusing.address()
    );
    // The proxy is dialled from there as well.
    agree(&foreign, ("source_address", "firewall"), (503, "connection_limit_reached"), "source_address");
}

#[test]
fn names_that_dont_resolve() {
    for (reply, cause, answer, via) in [
        (Reply::Code(3), "dns_nxdomain", (502, "dns_error"), "dns_nxdomain"),
        (Reply::Nothing, "dns_nxdomain", (502, "dns_error"), "dns_nxdomain"),
        (Reply::Failure, "dns_servfail", (502, "dns_error"), "dns_servfail"),
        (Reply::Refused, "dns_servfail", (502, "dns_error"), "dns_servfail"),
        (Reply::Mute, "dns_timeout", (504, "dns_timeout"), "dns_timeout"),
        (Reply::addresses(&["10.0.0.1"]), "dns_private", (403, "destination_ip_prohibited"), "dns_private"),
        (
            Reply::addresses(&["0.0.0.0", "::"]),
            "dns_private",
            (403, "destination_ip_prohibited"),
            "dns_private",
        ),
    ] {
        let dns = Dns::start();
        dns.set_otherwise(reply);
        agree(&dns.as_config(), (cause, "network"), answer, via);
    }
}

#[test]
fn parents_that_refuse() {
    let down = Refusing::new();
    let parent = |address| format!("[egress]\nproxy = \"http://{address}\"\nconnect_timeout = \"2s\"\n");
    agree(
        &parent(down.address()),
        ("proxy_unreachable", "proxy"),
        (502, "connection_refused"),
        "tcp_refused",
    );
    for (status, cause) in [(403, "proxy_denied"), (407, "proxy_auth"), (503, "proxy_limit")] {
        let proxy = super::via::says(&format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"));
        agree(&parent(proxy.address()), (cause, "proxy"), (502, "connection_refused"), "tcp_refused");
    }
}

/// Twenty names that don't resolve are one finding.
#[test]
fn a_dead_resolver_is_one_finding() {
    let dns = Dns::start();
    dns.set_otherwise(Reply::Mute);
    let config = format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n{}",
        dns.as_config()
    );
    let report = ccpgate(Some(&config), &["check", "--json"]).expect(1).json();
    assert_eq!((&report["cause"], &report["owner"]), (&"dns_timeout".into(), &"network".into()));
    for one in report["endpoints"].as_array().unwrap().iter().filter(|e| e["status"] != "untested") {
        assert!(one["cause"] == "dns_timeout" || one["because"] == "dns_timeout", "{one:#}");
        assert!(one["steps"]["connect_ms"].is_null(), "{one:#}");
    }
}

#[test]
fn an_instance_that_nobody_knows_is_the_configurations() {
    let (dns, echo) = (Dns::start(), Upstream::echo());
    dns.set_otherwise(Reply::addresses(&["127.0.0.1"]));
    dns.set("acmee.my.connect.aws", Reply::Code(3));
    dns.set("acmee.awsapps.com", Reply::Code(3));
    let config = |alias: &str| {
        format!(
            "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"{alias}\"]\nmedia = false\n{}{LOOPBACK}{}",
            dns.as_config(),
            // Something else than the service, so that a failure of another kind is beside it.
            echo.for_targets(&["participant.connect.us-west-2.amazonaws.com:443"])
        )
    };
    let report =
        ccpgate(Some(&config("acmee")), &["check", "--json", "--category", "login"]).expect(1).json();
    for host in ["acmee.my.connect.aws", "acmee.awsapps.com"] {
        let instance = endpoint(&report, host);
        assert_eq!(instance["cause"], "instance_unknown", "{instance:#}");
    }
    // A name under the domain that AWS replaced may be missing.
    dns.set("acme.awsapps.com", Reply::Code(3));
    let report = ccpgate(Some(&config("acme")), &["check", "--json", "--category", "login"]).expect(1).json();
    assert_eq!(endpoint(&report, "acme.awsapps.com")["status"], "untested", "{report:#}");
}

#[test]
fn a_slow_resolver_degrades() {
    let (dns, region) = (Dns::start(), crate::support::Region::healthy());
    let late =
        Reply::Late(std::time::Duration::from_millis(1300), Box::new(Reply::addresses(&["127.0.0.1"])));
    dns.set_otherwise(late);
    let port = region.upstream().address().port();
    let config = format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n[[allow]]\npattern = \"site.example\"\nports = [{port}]\n\
         [egress]\nallow_private = [\"127.0.0.1/32\"]\n[dns]\nservers = [\"{}\"]\ntimeout = \"3s\"\n",
        dns.address()
    );
    let report = check_site(&config, &["--ca", region.ca()]);
    expect_cause(&report, "degraded", "dns_slow", "network");
    assert!(endpoint(&report, "site.example")["steps"]["dns_ms"].as_u64().unwrap() >= 1000, "{report:#}");
}
