//! What an agent's error or log proves, on the command line.

use serde_json::json;

use crate::support::ccpgate;

#[test]
fn a_symptom_is_answered_without_a_sound_configuration() {
    let broken = Some("[connect]\nregions = [\"nowhere\"]\n");
    let ran = ccpgate(broken, &["explain", "--symptom", "no ice candidte", "--json"]).expect(0);
    let found = &ran.json()["matches"][0];
    for key in ["text", "similarity", "network", "categories", "when_s", "means", "decides", "remedy"] {
        assert!(found.get(key).is_some(), "no {key} in {found}");
    }
    assert_eq!(found["categories"], json!(["media"]));
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    let busy = ccpgate(None, &["explain", "--json", "--symptom", "user_bussy_eror"]).expect(0).json();
    assert_eq!((&busy["matches"][0]["network"], &busy["schema_version"]), (&json!(false), &json!(1)));
    // The proxy's own certificate is another matter than one on the way to AWS.
    for (said, word) in [
        ("ERR_PROXY_CERTIFICATE_INVALID", "of the proxy itself"),
        ("ERR_CERT_AUTHORITY_INVALID", "isn't AWS's own"),
    ] {
        let found = ccpgate(None, &["explain", "--json", "--symptom", said]).expect(0).json();
        let means = found["matches"][0]["means"].as_str().unwrap();
        assert!(means.contains(word), "{said}: {means}");
    }
    let text = ccpgate(None, &["explain", "--symptom", "Microphone is not accessible"]).expect(0).stdout;
    assert!(text.contains("not the network"), "{text}");
}

#[test]
fn an_unknown_symptom_is_a_negative_answer_and_an_empty_one_wrong_usage() {
    let ran = ccpgate(None, &["explain", "--json", "--symptom", "The coffee machine is broken"]).expect(1);
    assert_eq!(ran.json()["matches"], json!([]));
    ccpgate(None, &["explain", "--symptom", "-- what?"]).expect(1);
    let long = "x y z ".repeat(20_000);
    assert!(ccpgate(None, &["explain", "--symptom", &long]).expect(1).stderr.contains("8192"));
    for arguments in [
        &["explain"][..],
        &["explain", "--symptom", " "],
        &["explain", "--symptom"],
        &["explain", "--symptom", "No ICE candidate", "a.example"],
        &["explain", "--symptom", "No ICE candidate", "--log", "x"],
    ] {
        assert!(!ccpgate(None, arguments).expect(2).stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_log_is_judged_by_exit_code_and_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent-log.txt");
    let name = file.to_str().unwrap();
    let line = |level: &str, text: &str| {
        json!({ "time": "2026-11-27T09:03:11.120Z", "component": "softphone", "level": level,
                "text": text, "exception": null, "objects": [] })
    };
    let read = |log: &str, code: i32| {
        std::fs::write(&file, log).unwrap();
        ccpgate(None, &["explain", "--log", name, "--json"]).expect(code)
    };
    let network = json!([
        { "time": "2026-11-27T09:03:00.000Z", "level": "TRACE", "text": "GET_AGENT_SNAPSHOT succeeded.",
          "objects": [{ "snapshot": { "skew": 15000 } }] },
        line("ERROR", " 7f3a SESSION Failed handshaking with signaling server Timeout"),
    ]);
    let report = read(&network.to_string(), 1).json();
    let error = &report["errors"][0];
    assert_eq!(error["verdict"], "network", "{report}");
    assert_eq!(error["categories"], json!(["signalling", "telecom"]));
    assert_eq!((&error["time"], &error["tunnels"]), (&json!("2026-11-27T09:03:11.120Z"), &json!([])));
    assert_eq!(error["corrected_time"], "2026-11-27T09:03:26.120Z");
    assert_eq!(report["clock"]["cause"], "clock_skew");

    let desk = json!([line("ERROR", " 7f3a SESSION User Busy, possibly multiple CCP windows open")]);
    assert_eq!(read(&desk.to_string(), 0).json()["errors"][0]["verdict"], "desk");
    let text = ccpgate(None, &["explain", "--log", name]).expect(0).stdout;
    assert!(text.contains("1 failure") && text.contains("uncorrected"), "{text}");

    let quiet = json!([line("INFO", "Sending heartbeat")]);
    assert_eq!(read(&quiet.to_string(), 0).json()["errors"], json!([]));
    let broken = read("[\n {\"text\": \"x\"},\n oops\n]", 2);
    assert!(broken.stderr.contains("line 3, column 2"), "{}", broken.stderr);
    assert!(broken.stderr.contains("agent-log.txt") && broken.stderr.contains("Download logs"));
    for none in ["/nonexistent/agent-log.txt", folder.path().to_str().unwrap()] {
        let ran = ccpgate(None, &["explain", "--log", none]).expect(2);
        assert!(ran.stderr.contains(none), "{}", ran.stderr);
    }
}
