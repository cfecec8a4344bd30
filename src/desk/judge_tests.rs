use serde_json::{Value, json};

use super::*;

const HOSTS: [(&str, Category); 4] = [
    ("acme.my.connect.aws", Category::Login),
    ("signin.aws.amazon.com", Category::Login),
    ("files.example", Category::Static),
    ("chat.example", Category::Chat),
];

fn plan() -> Plan {
    let hosts = HOSTS.map(|(host, category)| Listed { host: host.into(), category });
    let media = ["turn-a.example", "turn-b.example"].map(Arc::from).to_vec();
    Plan { hosts: hosts.to_vec(), media, untested: vec![Category::Signalling], left_out: 0 }
}

/// A desk where all is well, as its browser tells it.
fn well() -> Value {
    let hosts = HOSTS.map(|(host, _)| json!({"host": host, "result": "answered", "ms": 80}));
    let open = |host: &str| json!({"host": host, "state": "complete", "codes": [701, 401], "texts": ["STUN host lookup received error.", "Unauthorized."], "ms": 90});
    json!({"took_ms": 900, "browser": "b", "webrtc": true, "hosts": hosts, "media": [open("turn-a.example"), open("turn-b.example")]})
}

fn read(report: &Value) -> Report {
    Report::read(report.to_string().as_bytes()).unwrap()
}

/// What the proxy saw of them: all stood but these.
fn seen(without: &[&str], failed: &[(&str, &'static str)]) -> Traces {
    let hosts = HOSTS.iter().filter(|(host, _)| !without.contains(host));
    let why = |host: &str| failed.iter().find(|(known, _)| *known == host).map(|(_, why)| *why);
    Traces {
        hosts: hosts.map(|(host, _)| (Arc::from(*host), why(host))).collect(),
        complete: true,
        prompt: true,
    }
}

fn judged(report: &Value, traces: &Traces) -> Judgement {
    judge(&plan(), &read(report), traces).unwrap()
}

fn host(result: &str, which: usize) -> Value {
    let mut report = well();
    report["hosts"][which]["result"] = json!(result);
    report
}

#[test]
fn a_healthy_desk_is_ok() {
    let judged = judged(&well(), &seen(&[], &[]));
    assert_eq!(
        (judged.verdict, &*judged.sentence),
        (Verdict::Ok, "Your computer can reach everything that Amazon Connect needs.")
    );
    assert_eq!(judged.categories[&Category::Signalling].status, Status::Untested);
    assert!(judged.media.iter().all(|one| one.status == Way::Open));
}

/// As Chromium 148 and 156 and Firefox 153 were measured. The page is held to the same table in a browser.
#[test]
fn what_browsers_tell_of_the_voice_path() {
    let table: Vec<Value> = serde_json::from_str(include_str!("testdata/ways.json")).unwrap();
    for row in table {
        let mut report = well();
        report["webrtc"] = row.get("webrtc").cloned().unwrap_or(json!(true));
        for one in report["media"].as_array_mut().unwrap() {
            let mut told = row.clone();
            told["host"] = one["host"].clone();
            *one = told;
        }
        let judged = judged(&report, &seen(&[], &[]));
        assert!(judged.media.iter().all(|one| json!(one.status) == row["way"]), "{row}: {judged:?}");
        let (verdict, says) = match judged.media[0].status {
            Way::Open => (Verdict::Ok, "can reach everything"),
            Way::TurnDns => (Verdict::TurnDns, "can't look up the names of Amazon's"),
            Way::UdpBlocked => (Verdict::UdpBlocked, "UDP 3478 is blocked on this network."),
            Way::BrowserPolicy => (Verdict::BrowserPolicy, "not allowed"),
            Way::Untested => panic!("{row}"),
        };
        assert_eq!(judged.verdict, verdict, "{row}");
        assert!(judged.sentence.contains(says), "{row}: {}", judged.sentence);
    }
}

#[test]
fn some_media_endpoints_of_several() {
    let mut report = well();
    report["media"][1] = json!({"host": "turn-b.example", "state": "gathering", "ms": 9000});
    let one = judged(&report, &seen(&[], &[]));
    assert_eq!(one.verdict, Verdict::UdpBlocked);
    assert!(one.sentence.contains("can't reach 1 of Amazon's 2 voice servers"), "{}", one.sentence);
    assert_eq!(one.media[0].status, Way::Open);
}

#[test]
fn a_host_that_the_proxy_saw_nothing_of_went_another_way() {
    let all: Vec<&str> = HOSTS.iter().map(|(host, _)| *host).collect();
    let past = judged(&well(), &seen(&all, &[]));
    assert_eq!(past.verdict, Verdict::NotThroughProxy);
    assert!(past.sentence.contains("does not use this proxy"), "{}", past.sentence);
    // However it fared there.
    for result in ["answered", "failed", "silent"] {
        let one = judged(&host(result, 2), &seen(&["files.example"], &[]));
        assert_eq!(one.verdict, Verdict::NotThroughProxy, "{result}");
        assert!(one.sentence.ends_with("past the proxy to files.example."), "{}", one.sentence);
        assert_eq!(one.categories[&Category::Static].status, Status::Astray);
        assert_eq!(one.categories[&Category::Login].status, Status::Ok);
    }
    let four = judged(&well(), &seen(&all[1..], &[]));
    assert!(
        four.sentence.ends_with("signin.aws.amazon.com, files.example, chat.example."),
        "{}",
        four.sentence
    );
}

#[test]
fn what_the_proxy_has_forgotten_proves_nothing() {
    let traces = Traces { hosts: BTreeMap::new(), complete: false, prompt: true };
    assert_eq!(judged(&well(), &traces).verdict, Verdict::Ok);
    assert_eq!(judged(&host("failed", 2), &traces).verdict, Verdict::CategoryUnreachable);
}

#[test]
fn a_host_that_the_proxy_may_still_be_at_is_no_proof() {
    let traces = Traces { prompt: false, ..seen(&["files.example"], &[]) };
    assert_eq!(judged(&host("silent", 2), &traces).verdict, Verdict::CategoryUnreachable);
    assert_eq!(judged(&host("failed", 2), &traces).verdict, Verdict::NotThroughProxy);
}

#[test]
fn a_category_that_is_not_reached_is_named_with_what_the_proxy_saw() {
    let mut report = host("failed", 0);
    report["hosts"][3]["result"] = json!("silent");
    let judged = judged(&report, &seen(&[], &[("chat.example", "connect")]));
    assert_eq!(judged.verdict, Verdict::CategoryUnreachable);
    assert_eq!(
        judged.sentence,
        "Your computer can't reach what Amazon Connect needs for login and chat: acme.my.connect.aws, chat.example."
    );
    assert_eq!(judged.categories[&Category::Login].hosts[0].because, Some("tls_or_http"));
    assert_eq!(judged.categories[&Category::Chat].hosts[0].because, Some("connect"));
}

#[test]
fn without_the_proxy_nothing_else_is_sure_and_without_voice_there_are_no_calls() {
    let mut report = well();
    report["media"][1] = json!({"host": "turn-b.example", "state": "gathering", "ms": 9000});
    report["hosts"][2]["result"] = json!("failed");
    assert_eq!(judged(&report, &seen(&[], &[])).verdict, Verdict::UdpBlocked);
    assert_eq!(judged(&report, &seen(&["files.example"], &[])).verdict, Verdict::NotThroughProxy);
}

#[test]
fn a_report_counts_for_what_it_tells_of_the_plan_alone() {
    for (report, tells) in [
        (json!({}), false),
        (json!({"webrtc": true}), false),
        (json!({"hosts": [{"host": "evil.example", "result": "failed"}]}), false),
        (json!({"hosts": [{"host": "files.example", "result": "answered"}]}), true),
        (json!({"media": [{"host": "turn-a.example", "state": "gathering"}]}), true),
    ] {
        let judged = judge(&plan(), &read(&report), &seen(&[], &[]));
        assert_eq!(judged.is_some(), tells, "{report}");
        let text = serde_json::to_string(&judged).unwrap();
        assert!(!text.contains("evil"), "{text}");
    }
}

/// The sentence about many names some and counts the rest.
#[test]
fn a_sentence_names_three_hosts() {
    let hosts = (0..7).map(|n| Arc::from(format!("h{n}.example"))).collect();
    let said = Said { key: "not_through_proxy_some", hosts, categories: Vec::new(), count: 0, all: 0 };
    assert!(
        said.in_english().ends_with("h0.example, h1.example, h2.example and 4 more."),
        "{}",
        said.in_english()
    );
}
