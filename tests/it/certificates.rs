//! The listener's certificate: replaced while connections live, watched over, and never lost to a
//! broken file. A renewed one keeps all sessions: that is what AWS's advice is about.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::date_time_ymd;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Agent, Proxy, Raw, Secured, Upstream, ccpgate, eventually, have};

const TARGET: &str = "good.example:443";
const RELOADED: &str = "ccpgate_reloads_total{result=\"ok\"}";
const FAILED: &str = "ccpgate_reloads_total{result=\"error\"}";
const SUCCESSFUL: &str = "ccpgate_config_last_reload_successful";

/// The certificate that a newcomer sees.
fn shown(proxy: &Proxy, secured: &Secured) -> Vec<u8> {
    secured.agent().connect(proxy).certificate()
}

#[test]
fn a_renewed_certificate_is_picked_up_and_nobody_notices() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    let mut live = secured.agent().connect(&proxy);
    assert_eq!(live.connect_target(TARGET).status, 200);
    let old = shown(&proxy, &secured);

    // By itself: two files, one after the other, are one change.
    secured.renew(|params| params.not_after = date_time_ymd(2090, 1, 1));
    proxy.metric_eventually(RELOADED, 1.0);
    assert_ne!(shown(&proxy, &secured), old);
    live.expect_echo(b"a live tunnel goes on");
    assert!(agent.resumes(&proxy), "a renewed certificate keeps all sessions");
    let series = format!(
        "ccpgate_certificate_expiry_timestamp_seconds{{certificate=\"{}\"}}",
        secured.path("proxy.pem").display()
    );
    assert_eq!(proxy.metric(&series), date_time_ymd(2090, 1, 1).unix_timestamp() as f64);
    assert_eq!(proxy.metric(FAILED), 0.0);

    // And on SIGHUP, at once.
    let old = shown(&proxy, &secured);
    secured.renew(|_| {});
    proxy.hang_up("ok");
    assert_ne!(shown(&proxy, &secured), old);
    assert!(agent.resumes(&proxy));
    live.expect_echo(b"and on");
}

#[test]
fn a_mounted_secret_is_picked_up_when_its_link_is_swapped() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let mount = secured.path("mount");
    for version in ["..v1", "..v2"] {
        let (chain, key) = secured.certificate(|_| {});
        fs::create_dir_all(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("tls.crt"), chain).unwrap();
        fs::write(mount.join(version).join("tls.key"), key).unwrap();
    }
    symlink("..v1", mount.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
    }
    let tls = format!("certificate = {:?}\nkey = {:?}", mount.join("tls.crt"), mount.join("tls.key"));
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[tls]\nlisten = [\"127.0.0.1:0\"]\n{tls}\n{}",
        upstream.for_targets(&[TARGET])
    ));
    let agent = secured.agent();
    let old = agent.connect(&proxy).certificate();
    assert!(agent.resumes(&proxy) || agent.resumes(&proxy));
    symlink("..v2", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    proxy.metric_eventually(RELOADED, 1.0);
    assert_ne!(shown(&proxy, &secured), old);
    assert!(agent.resumes(&proxy));
}

#[test]
fn a_broken_replacement_keeps_the_old_one_and_says_so() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    let old = shown(&proxy, &secured);
    let good = fs::read_to_string(secured.path("proxy.pem")).unwrap();
    let (other_chain, _) = secured.certificate(|_| {});
    for (chain, said) in [
        (&good[..good.len() / 2], "proxy.pem"),
        ("", "holds no certificate"),
        (other_chain.as_str(), "does not belong to the certificate"),
    ] {
        secured.replace("proxy.pem", chain);
        // By SIGHUP, or by itself if that is faster.
        proxy.signal(Signal::HUP);
        let line = proxy.log_line(said, |line| {
            line["event"] == "reload_failed" && line["error"].as_str().unwrap().contains(said)
        });
        assert!(line["error"].as_str().unwrap().contains("tls.certificate"), "the key of it: {line}");
        assert_eq!(proxy.metric(SUCCESSFUL), 0.0);
        assert_eq!(shown(&proxy, &secured), old);
        assert!(agent.resumes(&proxy));
    }
    fs::remove_file(secured.path("proxy.pem")).unwrap();
    // This time without being told.
    proxy.log_line("the missing file", |line| {
        line["event"] == "reload_failed" && line["error"].as_str().unwrap().contains("can't be read")
    });
    assert!(proxy.metric(FAILED) >= 4.0);
    assert_eq!(shown(&proxy, &secured), old);
    // Repaired, it comes into force by itself.
    secured.renew(|_| {});
    proxy.metric_eventually(SUCCESSFUL, 1.0);
    eventually("the repaired certificate", || (shown(&proxy, &secured) != old).then_some(()));
    assert!(agent.resumes(&proxy));
}

/// What opens a pipe as a file waits for a writer, and what reads a device to its end never gets there.
#[test]
fn a_reload_waits_for_no_authority_that_is_no_file() {
    let config =
        "[connect]\nregions = [\"eu-west-2\"]\ninstances = [\"acme\"]\n[dns]\nservers = [\"127.0.0.1:1\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let proxy = Proxy::start(config);
    for no_file in [pipe.to_str().unwrap(), "/dev/zero"] {
        for (section, key) in [
            ("[egress]\nproxy = \"https://parent.corp:8443\"\nproxy_ca", "egress.proxy_ca"),
            ("[ranges]\nurl = \"https://mirror.corp/ip-ranges.json\"\nca", "ranges.ca"),
            ("[watch]\nevery = \"1h\"\nca", "watch.ca"),
        ] {
            proxy.reload(&format!("{config}{section} = {no_file:?}\n"), "error");
            proxy.log_line(key, |line| {
                let error = line["error"].as_str().unwrap_or_default();
                line["event"] == "reload_failed"
                    && error.contains(key)
                    && error.contains(&format!("{no_file}: is not a regular file"))
            });
        }
    }
    proxy.reload(config, "ok");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_at_start() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let (_, other_key) = secured.certificate(|_| {});
    let good_key = fs::read_to_string(secured.path("proxy.key")).unwrap();
    for (key, said) in [
        (other_key.as_str(), "does not belong to the certificate"),
        ("", "proxy.key"),
        ("-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n", "proxy.key"),
    ] {
        secured.replace("proxy.key", key);
        let ran = ccpgate(Some(&secured.policy(&upstream, "", "")), &["serve"]).expect(2);
        let error = &ran.stderr;
        assert!(error.contains("tls.certificate, tls.key") && error.contains(said), "{said:?} in {error}");
    }
    secured.replace("proxy.key", &good_key);
    let proxy = secured.start(&upstream, "", "");
    assert!(!secured.agent().resumes(&proxy));
}

/// Files as openssl makes them and as hands spoil them; no message shows what is in a key.
#[test]
fn what_is_wrong_with_a_file_is_said_in_our_own_words() {
    if !have("openssl") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let (chain, key) = (secured.path("proxy.pem"), secured.path("proxy.key"));
    let (good_chain, good_key) = (fs::read_to_string(&chain).unwrap(), fs::read_to_string(&key).unwrap());
    let openssl = |arguments: &[&str]| {
        let ran =
            Command::new("openssl").args(arguments).current_dir(chain.parent().unwrap()).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    let new = |kind: &str, days: &str| {
        let named = ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:x", "-days", days];
        openssl(
            &[
                &["req", "-x509", "-nodes", "-newkey", kind, "-keyout", "proxy.key", "-out", "proxy.pem"][..],
                &named,
            ]
            .concat(),
        );
    };
    let refused = |words: &str| {
        let error = ccpgate(Some(&secured.policy(&upstream, "", "")), &["config", "check"]).expect(2).stderr;
        assert!(error.contains(words), "{words:?} in {error}");
        error
    };
    new("rsa:1024", "9");
    refused("RSA key has 1024 bits");
    openssl(&[
        "req",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-keyout",
        "proxy.key",
        "-out",
        "request.pem",
        "-subj",
        "/CN=x",
    ]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "request.pem",
        "-signkey",
        "proxy.key",
        "-out",
        "proxy.pem",
        "-days",
        "9",
    ]);
    refused("X.509 version 1");
    secured.replace("proxy.pem", &good_chain);
    openssl(&["ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", "proxy.key"]);
    refused("holds a private key that can't be used: make an ECDSA one");
    // An editor or a secret store that took the line breaks out.
    for spoilt in [good_key.replace('\n', ""), good_key.replace('\n', " "), good_key.replace("-----END", "")]
    {
        secured.replace("proxy.key", &spoilt);
        let error = refused("proxy.key");
        let inside = good_key.lines().nth(1).unwrap();
        assert!(!error.contains(&inside[..12]), "the key is in the message: {error}");
    }
}

/// TLS 1.2: a server that says nothing to the request to negotiate anew would leave the client
/// waiting, for the rest of a shift in a quiet tunnel.
#[test]
fn a_request_to_negotiate_anew_is_answered_at_once() {
    if !have("openssl") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nheader_timeout = \"10m\"");
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-quiet", "-no_ign_eof", "-connect", &proxy.https().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = openssl.stdin.take().unwrap();
    // A letter on a line of its own is a command of s_client's.
    input.write_all(b"R\n").unwrap();
    let ran = openssl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("no renegotiation"), "{said}");
    drop(input);
}

fn warnings(proxy: &Proxy) -> Vec<String> {
    // All of them come before the last line of a start.
    proxy.log_line("ready", |line| line["event"] == "ready");
    let warned = |line: &Value| (line["event"] == "tls_warning").then(|| line["message"].to_string());
    proxy.log_so_far().iter().filter_map(warned).collect()
}

#[test]
fn the_end_of_a_certificate_is_shown_and_warned_of() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (days, warned) in [(31, None), (29, Some("expires in 28 days")), (0, Some("has expired"))] {
        let end = now + days * 86_400 - u64::from(days == 0) * 60;
        secured.renew(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(end - 1);
        });
        let proxy = secured.start(&upstream, "", "");
        let line = proxy.log_line("the certificate's line", |line| line["event"] == "certificate");
        assert!(line["expires"].as_str().unwrap().contains('T'), "{line}");
        assert_eq!(line["certificate"], secured.path("proxy.pem").display().to_string(), "{line}");
        assert_eq!(line["window"], "10h", "{line}");
        let warnings = warnings(&proxy);
        match warned {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(words) => assert!(warnings.iter().any(|w| w.contains(words)), "{words} in {warnings:?}"),
        }
        let series = format!(
            "ccpgate_certificate_expiry_timestamp_seconds{{certificate=\"{}\"}}",
            secured.path("proxy.pem").display()
        );
        assert_eq!(proxy.metric(&series), (end - 1) as f64);
    }
}

/// A renewal that meets a process without descriptors to read it must not be forgotten.
#[test]
fn a_renewal_that_could_not_be_read_is_tried_again() {
    if !have("prlimit") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy =
        Proxy::start_with_files(&secured.policy(&upstream, "", "[limits]\nheader_timeout = \"5m\""), 90);
    let old = shown(&proxy, &secured);
    // Connections that are in nobody's way but hold all descriptors there are.
    let held: Vec<Raw> = (0..90).map(|_| proxy.connect()).collect();
    proxy.log_line("no descriptors", |line| line["event"] == "accept_failed");
    secured.renew(|_| {});
    let failed = proxy.log_line("the failure", |line| line["event"] == "reload_failed");
    assert!(failed["error"].as_str().unwrap().contains("Too many open files"), "{failed}");
    drop(held);
    proxy.log_line("the renewal", |line| line["event"] == "certificate_reloaded");
    assert_ne!(shown(&proxy, &secured), old);
    proxy.metric_eventually("ccpgate_tls_files_last_load_successful", 1.0);
    proxy.metric_eventually("ccpgate_config_last_reload_successful", 1.0);
}

/// A renewal that was issued for next week, or a machine whose clock stands in the past: every agent's browser
/// refuses it.
#[test]
fn a_certificate_whose_time_has_not_come_is_warned_of() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    assert!(warnings(&proxy).is_empty());
    secured.renew(|params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    let warned = |line: &Value| {
        let said = line["message"].as_str().unwrap_or_default();
        line["event"] == "tls_warning" && said.contains("it is not valid before 2090-01-01T00:00:00Z")
    };
    proxy.log_line("the warning", warned);
    let status = proxy.status();
    let summary = status["summary"].as_str().unwrap();
    assert_eq!(status["state"], "degraded", "{summary}");
    assert!(summary.contains("isn't valid before 2090-01-01T00:00:00Z: browsers refuse"), "{summary}");
    assert!(
        summary.ends_with(" Otherwise all is well; no client was here in the last ten minutes."),
        "{summary}"
    );
    let again = secured.start(&upstream, "", "");
    again.log_line("the warning at the start", warned);
    assert!(warnings(&again).iter().all(|warning| !warning.contains("expire")));
}

#[test]
fn a_certificate_that_has_expired_is_the_first_thing_that_the_status_says() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    assert_eq!(proxy.status()["state"], "ok");
    secured.renew(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let status = eventually("the certificate in use", || {
        Some(proxy.status()).filter(|status| status["state"] == "degraded")
    });
    let summary = status["summary"].as_str().unwrap();
    assert!(summary.contains("has expired at 2021-01-01T00:00:00Z: browsers refuse"), "{summary}");
}

#[test]
fn a_listener_can_come_and_go_by_reload() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let without = format!("[[allow]]\npattern = \"good.example\"\n{}", upstream.for_targets(&[TARGET]));
    let proxy = Proxy::start(&without);
    let mut plain = proxy.tunnel(TARGET);
    proxy.reload(&secured.policy(&upstream, "", ""), "ok");
    let agent: Agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    let mut live = agent.connect(&proxy);
    assert!(live.resumed());
    assert_eq!(live.connect_target(TARGET).status, 200);
    let gone = proxy.https();
    proxy.reload(&without, "ok");
    eventually("the listener's end", || std::net::TcpStream::connect(gone).err().map(|_| ()));
    live.expect_echo(b"a live tunnel goes on");
    plain.expect_echo(b"this one, too");
}
