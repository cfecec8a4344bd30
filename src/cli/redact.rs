//! What leaves the company in a bundle: no password in a URL, and with `ledger.anonymise` no client's
//! whole address. Keys and passwords are in files, and no file's content gets here at all.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::Value;

use crate::address::{cut, cut_network};
use crate::admin::anonymised;
use crate::bundle::{Bundle, Part};
use crate::config::Loaded;
use crate::findings::networks;

/// The effective configuration, as `config show` prints it, without what may be a secret.
pub(super) fn configuration(loaded: &Loaded, anonymise: bool) -> String {
    if !anonymise {
        return loaded.to_toml_for_anybody();
    }
    let mut loaded = loaded.clone();
    for clients in [&mut loaded.config.proxy.clients, &mut loaded.config.edl.clients] {
        *clients = networks::shown(clients, true);
    }
    loaded.to_toml_for_anybody()
}

/// All parts of a bundle as they may leave.
pub(super) fn bundle(mut bundle: Bundle, anonymise: bool) -> Bundle {
    let parts: Vec<Part> = bundle.parts().collect();
    for part in parts {
        if part.is_json()
            && let Some(mut value) = bundle.json(part)
        {
            walk(&mut value, anonymise);
            if anonymise && part == Part::Status {
                anonymised::status(&mut value);
            }
            without_names(&mut value);
            bundle.put(part, serde_json::to_vec_pretty(&value).unwrap_or_default());
        } else if let Some(text) = bundle.text(part) {
            bundle.put(part, without_users(&text).into_bytes());
        }
    }
    bundle
}

fn walk(value: &mut Value, anonymise: bool) {
    match value {
        Value::String(text) => *text = without_users(text),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, anonymise)),
        Value::Object(fields) => {
            for (key, value) in fields {
                walk(value, anonymise);
                if anonymise && let Value::String(text) = value {
                    match key.as_str() {
                        "client" => *text = client(text),
                        // The subject of a certificate names a person or a machine.
                        "client_cert" | "subject" => "cut".clone_into(text),
                        _ => {}
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Puts numbers in the place of the names that consumers of lists log in with: they stand in a file, and no
/// file's content leaves.
fn without_names(status: &mut Value) {
    let mut known: Vec<String> = Vec::new();
    let consumers = status.get_mut("edl").and_then(|edl| edl.get_mut("consumers"));
    for row in consumers.and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(fields) = row.as_object_mut() else { continue };
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let (name, user, client) = (text("consumer"), text("user"), text("client"));
        let shown = user.as_ref().map(|user| {
            let at = known.iter().position(|one| one == user).unwrap_or_else(|| {
                known.push(user.clone());
                known.len() - 1
            });
            format!("user {}", at + 1)
        });
        // One without a login is called by its address, which was cut where addresses are.
        let called = shown.clone().or(client).unwrap_or_else(|| "a consumer".to_owned());
        let rest = text("sentence")
            .zip(name)
            .and_then(|(sentence, name)| Some(format!("{called}{}", sentence.strip_prefix(&name)?)));
        for (key, value) in [("consumer", Some(called)), ("user", shown), ("sentence", rest)] {
            fields.insert(key.to_owned(), value.map_or(Value::Null, Value::String));
        }
    }
}

/// An address or a network of a client, cut; what is neither isn't shown.
fn client(text: &str) -> String {
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    match (address, text.parse::<IpNet>()) {
        (Ok(address), _) => cut(address).to_string(),
        (_, Ok(net)) => cut_network(net).to_string(),
        _ => "cut".to_owned(),
    }
}

/// Leaves out what stands before the `@` of URLs, wherever one comes from.
fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || "/?#\"'<>,;`".contains(c);
        let end = after.find(ends).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(user) => {
                out.push_str("...");
                rest = &after[user..];
            }
            None => rest = after,
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_user_part_stays() {
        for (text, shown) in [
            ("http://me:S3cret@parent.corp:8080", "http://...@parent.corp:8080"),
            (
                "a https://a@S3cret@b.example/x@y \"ws://S3cret@c\" z",
                "a https://...@b.example/x@y \"ws://...@c\" z",
            ),
            ("http://plain.example mail@example.com", "http://plain.example mail@example.com"),
            ("://", "://"),
            ("x://@", "x://...@"),
        ] {
            assert_eq!(without_users(text), shown);
        }
    }

    #[test]
    fn consumers_of_lists_lose_their_names_and_stay_apart() {
        let row = |consumer: &str, user: Option<&str>, sentence: &str| json!({ "consumer": consumer, "client": "10.1.1.1", "user": user, "list": "domains", "sentence": sentence });
        let mut value = json!({ "edl": { "consumers": [
            row("fw-b", Some("fw-b"), "fw-b holds the current list"),
            row("fw-a", Some("fw-a"), "fw-a still holds the list of 3 November; 2 prefixes missing"),
            row("10.1.1.77", None, "10.1.1.77 holds the current list"),
            row("fw-b", Some("fw-b"), "another sentence about fw-b"),
            json!({}), json!("fw"),
        ] }, "x": 1 });
        without_names(&mut value);
        let called = |at: usize, key: &str| value["edl"]["consumers"][at][key].clone();
        assert_eq!(called(0, "consumer"), "user 1");
        assert_eq!(called(0, "sentence"), "user 1 holds the current list");
        assert_eq!(called(1, "user"), "user 2");
        assert_eq!(called(1, "sentence"), "user 2 still holds the list of 3 November; 2 prefixes missing");
        // Cut like its address, where that was cut.
        assert_eq!(called(2, "sentence"), "10.1.1.1 holds the current list");
        assert_eq!((called(2, "user"), called(3, "consumer")), (Value::Null, json!("user 1")));
        assert_eq!(called(3, "sentence"), Value::Null);
        assert!(!value.to_string().contains("fw-"), "{value}");
        // What has no lists stays as it is.
        let mut other = json!([{ "target": "a" }]);
        without_names(&mut other);
        assert_eq!(other, json!([{ "target": "a" }]));
    }

    #[test]
    fn clients_are_cut_to_their_networks() {
        let mut value = json!({ "live": [{ "client": "10.20.30.40", "upstream": "192.0.2.1:443" }],
            "x": { "client": "2001:db8:1:2::3" }, "y": [{ "client": "[2001:db8:1:2::3]:5" }, { "client": "Jane" }],
            "z": { "client_cert": "CN=jane", "client": 5 } });
        walk(&mut value, true);
        assert_eq!(
            value,
            json!({ "live": [{ "client": "10.20.30.0", "upstream": "192.0.2.1:443" }],
            "x": { "client": "2001:db8:1::" }, "y": [{ "client": "2001:db8:1::" }, { "client": "cut" }],
            "z": { "client_cert": "cut", "client": 5 } })
        );
        assert_eq!(
            (client("10.30.0.7/32"), client("10.0.0.0/8")),
            ("10.30.0.0/24".into(), "10.0.0.0/8".into())
        );
    }
}
