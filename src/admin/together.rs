//! One answer out of those of several processes, as JSON. What an older one says of a client is shown no
//! closer than this one may show it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::address::cut;
use crate::findings::networks;

/// Adds the tunnels of others to an object of `/api/tunnels`.
pub(super) fn tunnels(
    mut whole: Value,
    others: Vec<Value>,
    limit: usize,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    for mut other in others {
        for (list, left_out) in [("live", "live_left_out"), ("ended", "ended_left_out")] {
            add(&mut whole[left_out], &other[left_out]);
            extend(&mut whole[list], other[list].take(), &wanted);
        }
        if other["complete_since"].as_str() > whole["complete_since"].as_str() {
            whole["complete_since"] = other["complete_since"].take();
        }
    }
    for (list, left_out, by) in [("live", "live_left_out", "since"), ("ended", "ended_left_out", "ended")] {
        let beyond = newest_first(&mut whole[list], by, limit);
        add(&mut whole[left_out], &json!(beyond));
    }
    whole
}

/// Rows with the same `keys` become one: `sums`, the most clients, from the first to the last time; all
/// else by the one that was last.
pub(super) fn rows(own: Value, others: Vec<Value>, keys: &[&str], sums: &[&str]) -> Vec<Value> {
    let mut whole: BTreeMap<Vec<String>, Value> = BTreeMap::new();
    let lists = std::iter::once(own).chain(others);
    let rows = lists.filter_map(|list| if let Value::Array(rows) = list { Some(rows) } else { None });
    for mut row in rows.flatten() {
        let key = keys.iter().map(|key| row[*key].as_str().unwrap_or_default().to_owned()).collect();
        let Some(known) = whole.get_mut(&key) else {
            whole.insert(key, row);
            continue;
        };
        if row["last"].as_str() > known["last"].as_str() {
            std::mem::swap(&mut row, known);
        }
        for sum in sums {
            add(&mut known[*sum], &row[*sum]);
        }
        if row["clients"].as_u64() > known["clients"].as_u64() {
            known["clients"] = row["clients"].take();
        }
        if row["first"].as_str() < known["first"].as_str() {
            known["first"] = row["first"].take();
        }
    }
    let mut rows = Value::Array(whole.into_values().collect());
    newest_first(&mut rows, "last", usize::MAX);
    if let Value::Array(rows) = rows { rows } else { Vec::new() }
}

/// Adds the failures of others to an object of `/api/failures`.
pub(super) fn failures(
    mut whole: Value,
    others: Vec<Value>,
    limit: usize,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let reasons = |object: &Value| object["reasons"].as_array().cloned().unwrap_or_default();
    let reasons: Vec<Value> = std::iter::once(&whole).chain(&others).flat_map(reasons).collect();
    let reasons: BTreeSet<&str> = reasons.iter().filter_map(Value::as_str).collect();
    let mut lists = Vec::new();
    for mut other in others {
        add(&mut whole["left_out"], &other["left_out"]);
        let mut list = other["failures"].take();
        if let Value::Array(rows) = &mut list {
            rows.retain(&wanted);
        }
        lists.push(list);
    }
    let keys = ["client", "target", "kind", "reason"];
    let mut rows = rows(whole["failures"].take(), lists, &keys, &["count"]);
    add(&mut whole["left_out"], &json!(rows.len().saturating_sub(limit)));
    rows.truncate(limit);
    whole["failures"] = Value::Array(rows);
    whole["reasons"] = json!(reasons);
    whole
}

/// Adds the desk checks of others to the array of `/api/desks`.
pub(super) fn desks(
    mut whole: Value,
    others: Vec<Value>,
    limit: usize,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    for other in others {
        extend(&mut whole, other, &wanted);
    }
    newest_first(&mut whole, "time", limit);
    whole
}

/// Shows the clients of rows by their networks alone.
pub(super) fn anonymise<'a>(rows: impl Iterator<Item = &'a mut Value>) {
    for row in rows {
        let Some(client) = client(row) else { continue };
        let shown = cut(client).to_string();
        if let Value::String(detail) = &mut row["detail"] {
            *detail = detail.replace(&client.to_string(), &shown);
        }
        if !row["network"].is_null() {
            row["network"] = json!(networks::of(client, true).to_string());
        }
        row["client"] = json!(shown);
    }
}

/// The address in a row's `client`.
pub(super) fn client(row: &Value) -> Option<IpAddr> {
    row["client"].as_str()?.parse().ok()
}

/// Adds the rules of another process; `change` changes each before.
pub(super) fn merge_rules(rules: &mut Vec<Value>, others: Value, change: impl Fn(&mut Value)) {
    let Value::Array(others) = others else { return };
    // There may be thousands of rules.
    let key =
        |rule: &Value| ["domain", "category"].map(|key| rule[key].as_str().unwrap_or_default().to_owned());
    let mut places: HashMap<_, _> = rules.iter().enumerate().map(|(at, rule)| (key(rule), at)).collect();
    for mut other in others {
        change(&mut other);
        let at = *places.entry(key(&other)).or_insert(rules.len());
        let Some(rule) = rules.get_mut(at) else {
            rules.push(other);
            continue;
        };
        for key in ["active", "total", "failed", "sent", "received"] {
            add(&mut rule[key], &other[key]);
        }
        for key in ["ended", "failed"] {
            add(&mut rule["lately"][key], &other["lately"][key]);
        }
        if other["last_used"].as_str() > rule["last_used"].as_str() {
            rule["last_used"] = other["last_used"].take();
        }
    }
}

/// Adds the status of an older process to that of all newer ones.
pub(super) fn merge_status(whole: &mut Value, mut other: Value) {
    if let Value::Array(rules) = &mut whole["rules"] {
        merge_rules(rules, other["rules"].take(), |_| {});
    }
    for list in ["generations", "findings"] {
        let (Value::Array(all), Value::Array(more)) = (&mut whole[list], other[list].take()) else {
            continue;
        };
        // A finding that both have is told by the newer one.
        let is_known = |one: &Value, all: &[Value]| {
            list == "findings"
                && all
                    .iter()
                    .any(|known| known["cause"] == one["cause"] && known["category"] == one["category"])
        };
        for one in more {
            if !is_known(&one, all) {
                all.push(one);
            }
        }
    }
    for key in ["client_connections", "busy", "failures"] {
        whole[key] = json!(whole[key].as_i64().unwrap_or(0) + other[key].as_i64().unwrap_or(0));
    }
    for key in ["active", "failing"] {
        // Most clients are with both: a sum would count them twice.
        if other["clients"][key].as_u64() > whole["clients"][key].as_u64() {
            whole["clients"][key] = other["clients"][key].take();
        }
    }
    let gravity = |status: &Value| ["ok", "degraded", "failed"].iter().position(|s| status["state"] == *s);
    if gravity(&other) > gravity(whole) {
        for key in ["state", "summary"] {
            whole[key] = other[key].take();
        }
    }
}

fn add(sum: &mut Value, more: &Value) {
    *sum = json!(sum.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0));
}

fn extend(all: &mut Value, more: Value, wanted: impl Fn(&Value) -> bool) {
    if let (Value::Array(all), Value::Array(more)) = (all, more) {
        all.extend(more.into_iter().filter(wanted));
    }
}

/// Sorts by a time and cuts; says how many were cut off.
fn newest_first(rows: &mut Value, by: &str, limit: usize) -> usize {
    let Value::Array(rows) = rows else { return 0 };
    rows.sort_by(|a, b| b[by].as_str().cmp(&a[by].as_str()));
    let beyond = rows.len().saturating_sub(limit);
    rows.truncate(limit);
    beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_all_is_the_sum_and_the_worst() {
        let rule = |active: u64, total: u64, at: &str| {
            json!({"domain": "a", "category": "api", "active": active, "total": total, "failed": 0,
                   "sent": 1, "received": 2, "last_used": at})
        };
        let finding = |cause: &str| json!({"cause": cause, "category": null});
        let mut whole = json!({
            "state": "ok", "summary": "well", "rules": [rule(1, 5, "2026-01-02")], "findings": [finding("one_desk")],
            "generations": [{"id": "2"}], "clients": {"active": 5, "failing": 0}, "busy": 1, "client_connections": 3,
        });
        merge_status(
            &mut whole,
            json!({
                "state": "degraded", "summary": "not well",
                "rules": [rule(2, 7, "2026-01-01"), {"domain": "gone", "category": "api", "active": 1}],
                "findings": [finding("one_desk"), finding("dns_timeout")],
                "generations": [{"id": "1"}], "clients": {"active": 4, "failing": 2}, "busy": 2, "client_connections": 2,
            }),
        );
        assert_eq!((&whole["state"], &whole["summary"]), (&json!("degraded"), &json!("not well")));
        let sum = &whole["rules"][0];
        assert_eq!((&sum["active"], &sum["total"], &sum["sent"]), (&json!(3), &json!(12), &json!(2)));
        assert_eq!(sum["last_used"], "2026-01-02");
        assert_eq!(whole["rules"][1]["domain"], "gone");
        assert_eq!(whole["findings"], json!([finding("one_desk"), finding("dns_timeout")]));
        assert_eq!(whole["generations"], json!([{"id": "2"}, {"id": "1"}]));
        assert_eq!(whole["clients"], json!({"active": 5, "failing": 2}));
        assert_eq!((&whole["busy"], &whole["client_connections"]), (&json!(3), &json!(5)));
    }
}
