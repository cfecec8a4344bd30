//! What `check` says is what the proxy does: `serve` with the same configuration answers a CONNECT to
//! the endpoint as the cause of `check` lets one expect.

use serde_json::Value;

use super::network::Asked;
use crate::support::{Proxy, Raw};

/// What a CONNECT gets where `check` names a cause.
enum Answer {
    /// This error of Proxy-Status.
    Refused(&'static str),
    /// 200: what is wrong lies inside the tunnel, or not on this way.
    Opened,
    /// The one or the other, by which packet is quicker.
    OpenedOr(&'static str),
    /// The proxy of `--via` answers this.
    FromVia(u16),
    /// No CONNECT has to do with it.
    None,
}

fn answer_to(cause: &str) -> Answer {
    match cause {
        "dns_nxdomain" | "instance_unknown" | "dns_servfail" => Answer::Refused("dns_error"),
        "dns_timeout" => Answer::Refused("dns_timeout"),
        "dns_private" => Answer::Refused("destination_ip_prohibited"),
        "tcp_refused" => Answer::Refused("connection_refused"),
        "tcp_timeout" => Answer::Refused("connection_timeout"),
        "tcp_unreachable" => Answer::Refused("destination_ip_unroutable"),
        // A socket that the proxy has no place for is the proxy's own limit.
        "source_address" => Answer::Refused("connection_limit_reached"),
        "tcp_reset" => Answer::OpenedOr("connection_terminated"),
        "proxy_auth" => Answer::FromVia(407),
        "proxy_denied" => Answer::FromVia(403),
        "proxy_limit" => Answer::FromVia(503),
        "clock_skew" | "dns_slow" | "path_mtu" | "tls_intercepted" | "tls_expired" | "tls_wrong_name"
        | "tls_failed" | "http_unexpected" | "ws_refused" | "ws_stripped" | "ws_hung" | "ws_cut"
        | "ws_buffered" | "ws_slow" | "idle_cut" => Answer::Opened,
        "proxy_unreachable" | "pac_missing" | "udp_blocked" | "turn_partial" | "turn_loss" => Answer::None,
        other => panic!("a cause without its CONNECT: {other}"),
    }
}

/// Where `serve` says another thing than the report, for one endpoint of each cause and one that is
/// well.
pub(super) fn disagreements(asked: &Asked, report: &Value) -> Vec<String> {
    let endpoints = report["endpoints"].as_array().cloned().unwrap_or_default();
    let mut targets: Vec<(Option<&str>, String)> = Vec::new();
    for endpoint in endpoints.iter().filter(|e| e["protocol"] == "tcp") {
        let cause = endpoint["cause"].as_str();
        let known = cause.is_some() || endpoint["status"] == "ok";
        if known && !targets.iter().any(|(of, _)| *of == cause) {
            let target = format!("{}:{}", endpoint["host"].as_str().unwrap_or_default(), endpoint["port"]);
            targets.push((cause, target));
        }
    }
    if targets.is_empty() {
        return Vec::new();
    }
    if let Some(via) = asked.via {
        return targets.iter().filter_map(|(cause, target)| through(via, *cause, target)).collect();
    }
    let proxy = Proxy::start(&asked.config);
    targets.iter().filter_map(|(cause, target)| compare(&proxy, *cause, target)).collect()
}

fn compare(proxy: &Proxy, cause: Option<&str>, target: &str) -> Option<String> {
    let answer = proxy.connect().connect_target(target);
    let error = answer.proxy_status("error");
    let agrees = match cause.map_or(Answer::Opened, answer_to) {
        Answer::Opened => answer.status == 200,
        Answer::OpenedOr(other) => answer.status == 200 || error == Some(other),
        Answer::Refused(expected) => error == Some(expected),
        Answer::FromVia(_) | Answer::None => true,
    };
    (!agrees).then(|| format!("check says {cause:?}, a CONNECT to {target} gets {}", answer.head))
}

fn through(via: std::net::SocketAddr, cause: Option<&str>, target: &str) -> Option<String> {
    let expected = match cause.map_or(Answer::Opened, answer_to) {
        Answer::Opened | Answer::OpenedOr(_) => 200,
        Answer::FromVia(status) => status,
        Answer::Refused(_) | Answer::None => return None,
    };
    let answer = Raw::connect(via).connect_target(target);
    (answer.status != expected).then(|| {
        format!("check says {cause:?}, the proxy of --via answers a CONNECT to {target}: {}", answer.head)
    })
}
