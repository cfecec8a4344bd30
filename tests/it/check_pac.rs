//! `check --pac`: does the PAC file that browsers have send every listed host to the proxy?

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Dns, Ran, Reply, Upstream, ccpgate, read_request};

/// Nothing of this leaves the machine: every name is this machine, where nobody listens.
const CONFIG: &str = r#"
[connect]
regions = ["us-west-2"]
instances = ["acme"]
[proxy]
advertise = ["proxy.corp:3128", "https://proxy.corp:3129"]
[dns]
servers = ["127.0.0.1:9"]
timeout = "1s"
"#;

/// The configuration under which the file is written; categories keep the test quick.
fn check(config: &str, pac: &str, more: &[&str]) -> Ran {
    let common = ["check", "--json", "--category", "telecom", "--category", "signalling", "--pac", pac];
    ccpgate(Some(config), &[&common[..], more].concat())
}

fn ours(config: &str) -> String {
    ccpgate(Some(config), &["pac"]).expect(0).stdout
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// The hosts that the report says the file doesn't send to the proxy.
fn missing(report: &Value) -> Vec<&str> {
    let all = report["endpoints"].as_array().unwrap();
    let missing = all.iter().filter(|endpoint| endpoint["cause"] == "pac_missing");
    missing.map(|endpoint| endpoint["host"].as_str().unwrap()).collect()
}

#[test]
fn our_own_file_is_judged_as_it_stands() {
    let whole = file(&ours(CONFIG));
    let report = check(CONFIG, path(&whole), &[]).expect(0).json();
    assert_eq!((&report["pac"]["status"], missing(&report)), (&json!("ok"), vec![]), "{report:#}");
    assert_eq!(report["pac"]["source"], path(&whole));
    // One that was fetched for fewer regions, and one that lost a line since.
    let old = file(&ours(&CONFIG.replace("us-west-2", "eu-west-2")));
    let report = check(CONFIG, path(&old), &[]).expect(1).json();
    assert_eq!(
        (&report["pac"]["status"], &report["cause"]),
        (&json!("failed"), &json!("pac_missing")),
        "{report:#}"
    );
    assert_eq!(report["owner"], "proxy");
    let wildcard = "*.transport.connect.us-west-2.amazonaws.com";
    assert!(missing(&report).contains(&wildcard), "{report:#}");
    let line = ",\n  \".transport.connect.us-west-2.amazonaws.com\": 1";
    let text = ours(CONFIG);
    assert!(text.contains(line), "{text}");
    let cut = file(&text.replacen(line, "", 1));
    let report = check(CONFIG, &format!("file://{}", path(&cut)), &[]).expect(1).json();
    assert_eq!(missing(&report), [wildcard], "{report:#}");
    let all = report["endpoints"].as_array().unwrap();
    let found = all.iter().find(|endpoint| endpoint["host"] == wildcard).unwrap();
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.contains("answers \"DIRECT\" for https://ccpgate.transport."), "{detail}");
    assert_eq!(found["status"], "failed");
}

#[test]
fn a_file_that_leads_to_another_proxy_or_past_it_by_intent_is_told_so() {
    let elsewhere = file(&ours(&CONFIG.replace("proxy.corp", "old.corp")));
    let report = check(CONFIG, path(&elsewhere), &[]).expect(1).json();
    assert!(!missing(&report).is_empty(), "{report:#}");
    let any = CONFIG.replace("advertise", "name = \"x\"\n#");
    let report = check(&any, path(&elsewhere), &[]).expect(0).json();
    assert_eq!(report["pac"]["status"], "ok", "{report:#}");
    let direct = format!("{CONFIG}\n[pac]\ndirect = [\"*.connect.us-west-2.amazonaws.com\"]\n");
    let wanted = file(&ours(&direct));
    let report = check(&direct, path(&wanted), &[]).expect(0).json();
    assert_eq!(report["pac"]["status"], "ok", "{report:#}");
    assert!(check(CONFIG, path(&wanted), &[]).expect(1).json()["pac"]["status"] == "failed");
}

#[test]
fn a_file_that_answers_the_same_for_every_host_needs_no_engine() {
    let past =
        file("// Until the move is over.\nfunction FindProxyForURL(url, host) { return \"DIRECT\"; }\n");
    let report = check(CONFIG, path(&past), &[]).expect(1).json();
    assert_eq!(
        (&report["verdict"], &report["cause"], &report["owner"]),
        (&json!("failed"), &json!("pac_missing"), &json!("proxy")),
        "{report:#}"
    );
    assert_eq!(missing(&report).len(), report["endpoints"].as_array().unwrap().len(), "{report:#}");
    let through =
        file("function FindProxyForURL(url,host){return 'HTTPS proxy.corp:3129; PROXY proxy.corp:3128'}");
    let report = check(CONFIG, path(&through), &[]).expect(0).json();
    assert_eq!((&report["pac"]["status"], missing(&report)), (&json!("ok"), vec![]), "{report:#}");
    let elsewhere = file("function FindProxyForURL(url, host) { return 'PROXY old.corp:8080'; }");
    assert!(!missing(&check(CONFIG, path(&elsewhere), &[]).expect(1).json()).is_empty());
}

#[test]
fn a_foreign_file_is_judged_by_an_engine_or_untested() {
    let foreign = file(
        "function FindProxyForURL(url, host) {\n\
         \x20 if (shExpMatch(host, '*.awsapps.com') || dnsDomainIs(host, '.connect.aws')) { return 'PROXY proxy.corp:3128'; }\n\
         \x20 return 'DIRECT';\n}\n",
    );
    let engine = cfg!(feature = "pac-engine");
    let report = check(CONFIG, path(&foreign), &[]).expect(i32::from(engine)).json();
    if engine {
        assert_eq!(report["cause"], "pac_missing", "{report:#}");
        assert!(missing(&report).contains(&"*.transport.connect.us-west-2.amazonaws.com"), "{report:#}");
        // A file that tells pages from WebSockets.
        let pages = file(
            "function FindProxyForURL(url, host) { return url.substring(0, 6) == 'https:' ? 'PROXY proxy.corp:3128' : 'DIRECT'; }",
        );
        let report = check(CONFIG, path(&pages), &[]).expect(1).json();
        let first = missing(&report);
        assert!(first.contains(&"*.transport.connect.us-west-2.amazonaws.com"), "{report:#}");
        let broken = file("function FindProxyForURL(url, host) { return ");
        let report = check(CONFIG, path(&broken), &[]).expect(1).json();
        assert!(report["endpoints"][0]["detail"].as_str().unwrap().contains("has an error"), "{report:#}");
    } else {
        assert_eq!((&report["pac"]["status"], missing(&report)), (&json!("untested"), vec![]), "{report:#}");
        let detail = report["pac"]["detail"].as_str().unwrap();
        assert!(detail.contains("--features pac-engine"), "{detail}");
        let all = report["endpoints"].as_array().unwrap();
        assert!(
            all.iter().any(|endpoint| endpoint["status"] == "untested" && endpoint["detail"] == detail),
            "{report:#}"
        );
    }
}

/// Answers one request after the other with these bytes.
fn web(answers: Vec<Vec<u8>>) -> Upstream {
    let next = AtomicUsize::new(0);
    Upstream::serve(move |mut stream| {
        if read_request(&mut stream).is_some() {
            // A reader that has had enough goes.
            let _ = stream.write_all(&answers[next.fetch_add(1, Ordering::SeqCst)]);
        }
    })
}

/// The family that answers first leads nowhere, as on an egress that has the other alone.
#[test]
fn the_file_is_fetched_by_the_family_that_answers_late() {
    let text = ours(CONFIG);
    let web = web(vec![format!("HTTP/1.1 200 OK\r\n\r\n{text}").into_bytes()]);
    let dns = Dns::start();
    let late = |address| Reply::Late(Duration::from_millis(300), Box::new(Reply::addresses(&[address])));
    dns.set("pac.corp", Reply::split(late("127.0.0.1"), Reply::addresses(&["::1"])));
    dns.set("none.corp", Reply::split(late("127.0.0.2"), Reply::addresses(&["::1"])));
    let config = CONFIG.replace("127.0.0.1:9", &dns.address().to_string());
    let port = web.address().port();
    let report = check(&config, &format!("http://pac.corp:{port}/proxy.pac"), &[]).expect(0).json();
    assert_eq!(report["pac"]["status"], "ok", "{report:#}");
    let said = check(&config, &format!("http://none.corp:{port}/proxy.pac"), &[]).expect(2).stderr;
    assert!(said.contains("connection refused by"), "{said}");
}

#[test]
fn the_file_is_fetched_as_browsers_fetch_it() {
    let text = ours(CONFIG);
    let plain = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
        text.len()
    );
    let closed = format!("HTTP/1.1 200 OK\r\n\r\n{text}");
    let moved = "HTTP/1.1 302 Found\r\nLocation: /other.pac\r\nContent-Length: 0\r\n\r\n".to_owned();
    for answers in [vec![plain.clone()], vec![chunked], vec![closed], vec![moved.clone(), plain]] {
        let web = web(answers.into_iter().map(String::into_bytes).collect());
        let report = check(CONFIG, &format!("http://{}/proxy.pac", web.address()), &[]).expect(0).json();
        assert_eq!(report["pac"]["status"], "ok", "{report:#}");
    }
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len() + 1);
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 3 << 20]].concat();
    for (answers, word) in [
        (vec![b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()], "answers 404"),
        (vec![cut.into_bytes()], "cut"),
        (vec![endless], "larger than 1024 KiB"),
        (vec![moved.into_bytes(); 5], "redirects"),
        (vec![b"\x15\x03\x01\x00\x02\x02\x46".to_vec()], "something else than HTTP"),
    ] {
        let web = web(answers);
        let said = check(CONFIG, &format!("http://{}", web.address()), &[]).expect(2).stderr;
        assert!(said.contains("--pac") && said.contains(word), "{word}: {said}");
    }
    for (wrong, word) in [
        ("", "empty"),
        ("/no/such/file.pac", "/no/such/file.pac can't be read"),
        ("ftp://pac.corp/x", "http"),
        ("http://", "valid is"),
        ("http://u:p@pac.corp/", "password"),
        ("file://other/x", "another machine"),
    ] {
        let said = check(CONFIG, wrong, &[]).expect(2).stderr;
        assert!(said.contains("--pac") && said.contains(word), "{wrong}: {said}");
    }
}
