//! One answer out of those of several processes, as JSON. What an older one says of a client is shown no
//! closer than this one may show it, and it may be of any version: of its lists only the objects are taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::status::Remarks;
use crate::address::cut;
use crate::findings::{networks, words};

/// Adds the tunnels of others to an object of `/api/tunnels`; what ended before `forgotten` is left out.
pub(super) fn tunnels(
    mut whole: Value,
    others: Vec<Value>,
    limit: usize,
    forgotten: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    for mut other in others {
        for (list, left_out) in [("live", "live_left_out"), ("ended", "ended_left_out")] {
            add(&mut whole[left_out], &other[left_out]);
            let mut rows = objects(take(&mut other, list));
            rows.retain(|row| {
                let kept = row["ended"].as_str().is_none_or(|ended| ended >= forgotten);
                if !kept {
                    later(&mut whole["complete_since"], row["ended"].clone());
                }
                kept
            });
            extend(&mut whole[list], rows, &wanted);
        }
        later(&mut whole["complete_since"], take(&mut other, "complete_since"));
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
    for mut row in std::iter::once(own).chain(others).flat_map(objects) {
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
        let mut list = take(&mut other, "failures");
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
        extend(&mut whole, objects(other), &wanted);
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
    // There may be thousands of rules.
    let key =
        |rule: &Value| ["domain", "category"].map(|key| rule[key].as_str().unwrap_or_default().to_owned());
    let mut places: HashMap<_, _> = rules.iter().enumerate().map(|(at, rule)| (key(rule), at)).collect();
    for mut other in objects(others) {
        change(&mut other);
        let at = *places.entry(key(&other)).or_insert(rules.len());
        let Some(rule) = rules.get_mut(at) else {
            rules.push(other);
            continue;
        };
        for key in ["active", "total", "failed", "sent", "received"] {
            add(&mut rule[key], &other[key]);
        }
        let lately = &mut rule["lately"];
        if !lately.is_object() {
            *lately = json!({});
        }
        for key in ["ended", "failed"] {
            add(&mut lately[key], &other["lately"][key]);
        }
        later(&mut rule["last_used"], take(&mut other, "last_used"));
    }
}

/// Adds the status of an older process to that of all newer ones.
pub(super) fn merge_status(whole: &mut Value, mut other: Value) {
    if let Value::Array(rules) = &mut whole["rules"] {
        merge_rules(rules, take(&mut other, "rules"), |_| {});
    }
    for list in ["generations", "findings"] {
        let Value::Array(all) = &mut whole[list] else { continue };
        // A finding that both have is told by the newer one.
        let is_known = |one: &Value, all: &[Value]| {
            list == "findings"
                && all
                    .iter()
                    .any(|known| known["cause"] == one["cause"] && known["category"] == one["category"])
        };
        for one in objects(take(&mut other, list)) {
            if !is_known(&one, all) {
                all.push(one);
            }
        }
    }
    for key in ["client_connections", "busy", "failures"] {
        whole[key] = json!(whole[key].as_i64().unwrap_or(0).saturating_add(other[key].as_i64().unwrap_or(0)));
    }
    for key in ["active", "failing"] {
        // Most clients are with both: a sum would count them twice.
        if other["clients"][key].as_u64() > whole["clients"][key].as_u64() {
            whole["clients"][key] = other["clients"][key].clone();
        }
    }
    if gravity(&other["state"]) > gravity(&whole["state"]) {
        for key in ["state", "summary"] {
            whole[key] = take(&mut other, key);
        }
    }
}

/// Says in the status of all processes what is to be said of the one that serves.
pub(super) fn remark(whole: &mut Value, remarks: &Remarks) {
    let findings = whole["findings"].as_array().map_or(0, Vec::len);
    let [active, failing] =
        ["active", "failing"].map(|key| whole["clients"][key].as_u64().unwrap_or(0).try_into().unwrap_or(0));
    // Most clients may be with an older process: a line of one process counts its own alone.
    let line = match whole["summary"].as_str() {
        Some(line) if findings > 0 => line.to_owned(),
        _ => words::all_is_well(active, failing),
    };
    whole["summary"] = words::remarked(line, &remarks.sentences).into();
    let state = json!(remarks.state);
    if gravity(&state) > gravity(&whole["state"]) {
        whole["state"] = state;
    }
}

fn gravity(state: &Value) -> Option<usize> {
    ["ok", "degraded", "failed"].iter().position(|known| state == known)
}

fn add(sum: &mut Value, more: &Value) {
    *sum = json!(sum.as_u64().unwrap_or(0).saturating_add(more.as_u64().unwrap_or(0)));
}

/// The later of two times.
fn later(time: &mut Value, other: Value) {
    if other.as_str() > time.as_str() {
        *time = other;
    }
}

/// What is there under a key of whatever another process told.
pub(super) fn take(other: &mut Value, key: &str) -> Value {
    other.get_mut(key).map(Value::take).unwrap_or_default()
}

/// The rows of a list that can be changed by their keys.
fn objects(list: Value) -> Vec<Value> {
    let Value::Array(mut rows) = list else { return Vec::new() };
    rows.retain(Value::is_object);
    rows
}

fn extend(all: &mut Value, more: Vec<Value>, wanted: impl Fn(&Value) -> bool) {
    if let Value::Array(all) = all {
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
    use crate::findings::State;

    #[test]
    fn what_ended_too_long_ago_is_forgotten_with_the_process_that_told_it() {
        let ended = |at: &str| json!({"id": at, "ended": at});
        let whole = json!({"live": [], "ended": [ended("05")], "complete_since": "01", "ended_left_out": 0, "live_left_out": 0});
        let other = json!({"live": [{"id": "l"}], "ended": [ended("04"), ended("03"), ended("02")], "complete_since": "00"});
        let all = tunnels(whole, vec![other], 10, "04", |_| true);
        assert_eq!(all["ended"], json!([ended("05"), ended("04")]));
        assert_eq!((&all["live"], &all["complete_since"]), (&json!([{"id": "l"}]), &json!("03")));
    }

    /// Objects of all these keys with each of these values, alone and in lists, and the bare values.
    fn odd() -> Vec<Value> {
        let plain =
            [json!(null), json!(true), json!(u64::MAX), json!(i64::MIN), json!("x"), json!([]), json!({})];
        let keys = [
            "live",
            "ended",
            "live_left_out",
            "ended_left_out",
            "complete_since",
            "failures",
            "reasons",
            "left_out",
            "rules",
            "generations",
            "findings",
            "clients",
            "active",
            "busy",
            "failing",
            "state",
            "count",
            "first",
            "last",
            "last_used",
            "lately",
            "failed",
            "total",
            "domain",
            "client",
            "detail",
            "network",
            "target",
        ];
        let wrap = |values: &[Value]| -> Vec<Value> {
            let object = |value: &Value| {
                Value::Object(keys.map(|key| (key.to_owned(), value.clone())).into_iter().collect())
            };
            values.iter().flat_map(|value| [object(value), json!([value, value])]).collect()
        };
        let once = wrap(&plain);
        let twice = wrap(&once);
        let thrice = wrap(&twice);
        [&plain[..], &once, &twice, &thrice].concat()
    }

    #[test]
    fn no_answer_of_another_version_ends_this_process() {
        let whole = json!({"live": [], "ended": [], "complete_since": "2026", "failures": [], "reasons": [], "rules": [],
            "generations": [], "findings": [], "clients": {"active": 1}, "busy": 1, "failures_in_all": 1, "state": "ok"});
        for other in odd() {
            let others = || vec![other.clone(), other.clone()];
            let mut all = tunnels(whole.clone(), others(), 10, "2025", |_| true);
            anonymise(all["live"].as_array_mut().into_iter().flatten());
            let _ = rows(other.clone(), others(), &["domain"], &["count", "total"]);
            let _ = failures(whole.clone(), others(), 10, |_| true);
            let _ = desks(json!([]), others(), 10, |_| true);
            let mut rules = Vec::new();
            for other in others() {
                merge_rules(&mut rules, other, |rule| rule["active"] = json!(0));
            }
            let mut status =
                json!({"rules": [], "generations": [], "findings": [], "clients": {}, "busy": i64::MAX});
            others().into_iter().for_each(|other| merge_status(&mut status, other));
        }
    }

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

        let remarks = |state| Remarks { state, sentences: vec!["So it is.".to_owned()] };
        remark(&mut whole, &remarks(State::Ok));
        assert_eq!((&whole["state"], &whole["summary"]), (&json!("degraded"), &json!("not well So it is.")));
        // Without a finding the line counts the clients of all.
        let mut well = json!({"state": "ok", "summary": "All is well", "findings": [], "clients": {"active": 2, "failing": 0}});
        let mut remarked = well.clone();
        remark(&mut well, &Remarks::NONE);
        assert_eq!(well["summary"], "All is well: 2 active clients, and nothing fails.");
        remark(&mut remarked, &remarks(State::Degraded));
        assert_eq!(remarked["state"], "degraded");
        assert_eq!(
            remarked["summary"],
            "So it is. Otherwise all is well: 2 active clients, and nothing fails."
        );
    }
}
