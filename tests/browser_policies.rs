#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
//! The policies of `deploy/browser-policies`: what is imported on Windows says the same as the files for
//! Linux, the browsers have their own names for it, and none of them breaks voice.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/browser-policies").join(name))
        .unwrap()
}

fn policies(name: &str) -> Map<String, Value> {
    serde_json::from_str::<Value>(&read(name)).unwrap().as_object().unwrap().clone()
}

/// A `.reg` file as policies: strings, JSON in strings, and numbered values of a subkey as lists.
fn registry(text: &str, root: &str) -> Map<String, Value> {
    let mut lines = text.split_terminator("\r\n");
    assert_eq!(lines.next(), Some("Windows Registry Editor Version 5.00"));
    let (mut found, mut key) = (Map::new(), None::<String>);
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let below = name.strip_prefix(root).unwrap_or_else(|| panic!("{name} isn't below {root}"));
            key = below.strip_prefix('\\').map(str::to_owned);
            continue;
        }
        // Both sides of the sign are strings in the notation of JSON.
        let (name, value) = line.split_once('=').unwrap();
        let (name, value): (String, String) =
            (serde_json::from_str(name).unwrap(), serde_json::from_str(value).unwrap());
        match &key {
            None => {
                let parsed = value.starts_with('{').then(|| serde_json::from_str(&value).unwrap());
                found.insert(name, parsed.unwrap_or_else(|| json!(value)));
            }
            Some(list) => {
                let list = found.entry(list.clone()).or_insert_with(|| json!([])).as_array_mut().unwrap();
                list.push(json!(value));
                assert_eq!(name, list.len().to_string());
            }
        }
    }
    found
}

#[test]
fn windows_gets_what_linux_gets() {
    for (browser, root) in [
        ("chrome", r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Google\Chrome"),
        ("edge", r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Edge"),
    ] {
        assert_eq!(registry(&read(&format!("{browser}.reg")), root), policies(&format!("{browser}.json")));
    }
}

#[test]
fn edge_has_names_of_its_own_for_the_same() {
    let own = BTreeMap::from([
        ("WebRtcIPHandling", "WebRtcLocalhostIpHandling"),
        ("TabDiscardingExceptions", "SleepingTabsBlockedForUrls"),
    ]);
    let renamed: Map<String, Value> = policies("chrome.json")
        .into_iter()
        .map(|(name, value)| (own.get(name.as_str()).map_or(name.clone(), |name| (*name).to_owned()), value))
        .collect();
    assert_eq!(renamed, policies("edge.json"));
}

#[test]
fn none_breaks_voice_and_all_name_one_pac_file() {
    let (chrome, firefox) = (policies("chrome.json"), policies("firefox.json"));
    assert_eq!(chrome["WebRtcIPHandling"], "default");
    let firefox = &firefox["policies"];
    assert_eq!(firefox["Preferences"]["media.peerconnection.ice.proxy_only"]["Value"], false);
    assert_eq!(firefox["Preferences"]["media.peerconnection.enabled"]["Value"], true);
    assert_eq!(firefox["Proxy"]["AutoConfigURL"], chrome["ProxySettings"]["ProxyPacUrl"]);
    assert_eq!(firefox["Permissions"]["Microphone"]["Allow"], chrome["AudioCaptureAllowedUrls"]);
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/browser-policies.md"))
            .unwrap();
    for name in chrome.keys().chain(policies("edge.json").keys()) {
        assert!(page.contains(&format!("`{name}`")), "{name} isn't explained");
    }
    for name in firefox.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{name}`")), "{name} isn't explained");
    }
}
