//! The status of a process that shows its clients whole, as it is shown where nobody may be: by a successor that
//! anonymises, and in what leaves the company.

use serde_json::Value;

use crate::address::cut_in;
use crate::findings::change::without_clients;

/// Cuts the clients' addresses in an object of `/api/status`, of whichever version. Where servers alone stand
/// nothing is cut: targets, the rounds of the watch, changed answers of DNS.
pub(crate) fn status(status: &mut Value) {
    change(status, "/summary", cut_in);
    change(status, "/watch/changed", without_clients);
    for finding in status.get_mut("findings").and_then(Value::as_array_mut).into_iter().flatten() {
        change(finding, "/paste", cut_in);
        change(finding, "/changed", without_clients);
        change(finding, "/networks", cut_in);
        if let Some(Value::Array(networks)) = finding.get_mut("networks") {
            // Two of one network are one.
            networks.dedup();
        }
    }
}

/// Changes the text at a place, or each text of the list that is there.
fn change(whole: &mut Value, place: &str, how: fn(&str) -> String) {
    match whole.pointer_mut(place) {
        Some(Value::String(text)) => *text = how(text),
        Some(Value::Array(texts)) => {
            for text in texts {
                if let Value::String(text) = text {
                    *text = how(text);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clients_are_cut_and_servers_stay() {
        let reload =
            "09:01:12 UTC reload: proxy.clients: [] → [\"10.4.7.21/32\"]; dns.servers: [] → [\"10.0.0.2\"]";
        let dns = "09:02:12 UTC DNS for a.example: 10.0.0.3 → 10.0.0.4";
        let told = |client: &str, networks: &[&str], reload: &str, listed: &str| {
            json!({
                "summary": format!("1 of 2 active clients ({client}) fails, 10.0.0.9:443. Just before: {listed}."),
                "watch": { "changed": [reload, dns], "summary": "TCP to 10.0.0.5 fails" },
                "findings": [
                    { "networks": networks, "paste": format!("for 10.0.0.9:443 in {client}"),
                      "changed": [reload, dns], "targets": ["10.0.0.9:443"] },
                    {}, "x", { "networks": null, "changed": [5] },
                ],
                "rules": [{ "domain": "10.0.0.7" }],
            })
        };
        let networks = ["2001:db8:1:2::/64", "2001:db8:1:3::/64", "10.4.7.21/32"];
        let mut whole = told("10.4.7.21", &networks, reload, "proxy.clients: [] → [\"10.4.7.21/32\"]");
        status(&mut whole);
        let cut = reload.replace("10.4.7.21/32", "10.4.7.0/24");
        let expected = told(
            "10.4.7.0/24",
            &["2001:db8:1::/48", "10.4.7.0/24"],
            &cut,
            "proxy.clients: [] → [\"10.4.7.0/24\"]",
        );
        assert_eq!(whole, expected);
        for other in [json!(null), json!([1]), json!({ "watch": null, "findings": "x" })] {
            let mut same = other.clone();
            status(&mut same);
            assert_eq!(same, other);
        }
    }
}
