//! Credentials for a parent: sent, replaced at a reload, and shown nowhere.

use super::{TARGET, config, echoing_parent, expect_failure, parent_that_says, url};
use crate::support::{Proxy, ccpgate};

#[test]
fn credentials_are_sent_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parent.credentials");
    std::fs::write(&file, "agent:S3cret pa$$\n").unwrap();
    let more = format!("proxy_credentials = {file:?}\n");
    let (parent, asked) = echoing_parent();
    let proxy = Proxy::start(&config(&url(&parent), &more));
    proxy.tunnel(TARGET).expect_echo(b"with credentials");
    // `agent:S3cret pa$$` in base64.
    let expected = "Proxy-Authorization: Basic YWdlbnQ6UzNjcmV0IHBhJCQ=\r\n";
    assert!(asked.lock().unwrap()[0].contains(expected));

    // A parent that prints what it refuses; and one that wants others, or another scheme.
    for (said, told) in [
        ("HTTP/1.1 403 No\r\n\r\nYou sent YWdlbnQ6UzNjcmV0IHBhJCQ= (agent:S3cret pa$$)", "You sent ..."),
        (
            "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "Negotiate, NTLM, and only Basic",
        ),
        (
            "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
            "egress.proxy_credentials don't pass",
        ),
    ] {
        let (parent, _) = parent_that_says(said);
        proxy.reload(&config(&url(&parent), &more), "ok");
        let (answer, _) = expect_failure(&proxy, 502, "connection_refused");
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
    }
    let (stranger, _) =
        parent_that_says("HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n");
    proxy.reload(&config(&url(&stranger), ""), "ok");
    let (answer, _) = expect_failure(&proxy, 502, "connection_refused");
    assert!(answer.text().contains("egress.proxy_credentials is not set"), "{}", answer.text());
    assert_eq!(answer.field("proxy-authenticate"), None, "browsers are not asked");

    // A reload reads the file again, and a file that is missing changes nothing.
    std::fs::write(&file, "agent:0ther\r\n").unwrap();
    proxy.reload(&config(&url(&parent), &more), "ok");
    proxy.tunnel(TARGET).expect_echo(b"with others");
    assert!(asked.lock().unwrap()[1].contains("Basic YWdlbnQ6MHRoZXI=\r\n"));
    std::fs::remove_file(&file).unwrap();
    proxy.hang_up("error");
    proxy.tunnel(TARGET).expect_echo(b"as before");
    let told = proxy.log_line("the failed reload", |line| line["event"] == "reload_failed");
    let told = told["error"].as_str().unwrap();
    assert!(told.contains("egress.proxy_credentials") && told.contains("parent.credentials"), "{told}");

    for line in proxy.log_so_far() {
        let line = line.to_string();
        for secret in ["S3cret", "0ther", "YWdlbnQ6"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn no_command_shows_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c");
    let with_file = config("http://parent.corp:8080", &format!("proxy_credentials = {file:?}\n"));
    let both =
        config("https://parent.corp:8080", "proxy_credentials = \"no-login\"\nproxy_ca = \"no-ca.pem\"\n");
    let ran = ccpgate(Some(&both), &["config", "check"]).expect(2);
    assert!(ran.stderr.contains("no-login") && ran.stderr.contains("no-ca.pem"), "at once: {}", ran.stderr);
    for (text, told) in [
        (None, "can't be read: No such file"),
        (Some("S3cret"), "holds no user:password"),
        (Some("agent:S3cret\nmore:S3cret\n"), "more than one line"),
        (Some("agent:S3cret\u{7}"), "control characters"),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let ran = ccpgate(Some(&with_file), &["config", "check"]).expect(2);
        assert!(
            ran.stderr.contains("egress.proxy_credentials") && ran.stderr.contains(told),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("S3cret"), "{}", ran.stderr);
    }
    std::fs::write(&file, "agent:S3cret\n").unwrap();
    ccpgate(Some(&with_file), &["config", "check"]).expect(0);
    let shown = ccpgate(Some(&with_file), &["config", "show"]).expect(0).stdout;
    assert!(shown.contains("http://parent.corp:8080") && !shown.contains("S3cret"), "{shown}");
    for wrong in [
        "http://agent:S3cret@parent.corp:8080",
        "agent:S3cret@parent.corp",
        "a@S3cret@b",
        "http://a@S3cret/@b:1",
    ] {
        for ran in [
            ccpgate(Some(&config(wrong, "")), &["config", "check"]),
            ccpgate(None, &["config", "show", "--set", &format!("egress.proxy={wrong}")]),
        ] {
            let told = ran.expect(2).stderr;
            assert!(told.contains("egress.proxy_credentials") && !told.contains("S3cret"), "{told}");
        }
    }
    // What systemd gives to the service alone is no reason to refuse a reload.
    let kept = config("http://p:1", "proxy_credentials = \"/run/credentials/none.service/parent\"\n");
    let told = ccpgate(Some(&kept), &["config", "check"]).expect(0).stderr;
    assert!(told.contains("egress.proxy") && told.contains("only the service may read"), "{told}");
    // What has no effect is said.
    let alone = "[egress]\nproxy_for = [\"*.example.com\"]\n";
    let told = ccpgate(Some(alone), &["config", "check"]).expect(0).stderr;
    assert!(told.contains("egress.proxy_for has no effect"), "{told}");
}
