//! `tls.ticket_keys`: replicas and restarts share sessions, keys roll without losing one, and a key
//! file that can't be trusted never comes into force.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustls::version::{TLS12, TLS13};

use crate::support::{Agent, Proxy, Secured, Upstream, ccpgate, eventually, ticket_keys};

const RELOADED: &str = "ccpgate_reloads_total{result=\"ok\"}";
const FAILED: &str = "ccpgate_reloads_total{result=\"error\"}";

fn agents(secured: &Secured) -> [Agent; 2] {
    [&TLS13, &TLS12].map(|version| Agent::of_version(&secured.authority, version))
}

#[test]
fn replicas_and_restarts_share_sessions() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let key = secured.ticket_key("a.key");
    let keys = ticket_keys(&[&key]);
    let (one, two) = (secured.start(&upstream, &keys, ""), secured.start(&upstream, &keys, ""));
    for agent in agents(&secured) {
        assert!(!agent.resumes(&one));
        assert!(agent.resumes(&two), "on the other replica");
        assert!(agent.resumes(&one));
    }
    let both = agents(&secured);
    for agent in &both {
        assert!(!agent.resumes(&one));
    }
    drop(one);
    let again = secured.start(&upstream, &keys, "");
    for agent in &both {
        assert!(agent.resumes(&again), "after a restart");
        assert!(agent.resumes(&two));
    }
    assert_eq!(again.metric("ccpgate_tls_sessions"), 0.0, "tickets carry everything");
}

#[test]
fn a_ticket_past_the_window_is_refused_though_its_key_is_there() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let keys = ticket_keys(&[&secured.ticket_key("a.key")]);
    let shift = "[shift]\nlength = \"2s\"\nbreaks = \"0s\"\nlunch = \"0s\"";
    let (one, two) = (secured.start(&upstream, &keys, shift), secured.start(&upstream, &keys, shift));
    let agents = agents(&secured);
    for agent in &agents {
        assert!(!agent.resumes(&one));
    }
    std::thread::sleep(std::time::Duration::from_millis(3100));
    for agent in &agents {
        assert!(!agent.resumes(&two));
    }
}

#[test]
fn keys_roll_without_losing_a_session() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let (old, new) = (secured.ticket_key("old.key"), secured.ticket_key("new.key"));
    let policy = |keys: &[&Path]| secured.policy(&upstream, &ticket_keys(keys), "");
    let replicas = [Proxy::start(&policy(&[&old])), Proxy::start(&policy(&[&old]))];
    let agents = agents(&secured);
    for agent in &agents {
        assert!(!agent.resumes(&replicas[0]));
    }
    // The order of the manual: the new key second everywhere, then first, then the old one away.
    for step in [vec![&*old, &*new], vec![&*new, &*old], vec![&*new]] {
        for changed in &replicas {
            changed.reload(&policy(&step), "ok");
            for agent in &agents {
                for replica in &replicas {
                    assert!(agent.resumes(replica), "with {step:?}");
                }
            }
        }
    }
}

/// Puts the files of a version in place as Kubernetes does: by one rename of a link to a folder.
fn swap(folder: &Path, version: &str) {
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn a_changed_key_file_is_noticed_by_itself() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let mount = secured.path("mount");
    for version in ["..v1", "..v2"] {
        fs::create_dir_all(mount.join(version)).unwrap();
        secured.ticket_key(&format!("mount/{version}/ticket.key"));
    }
    swap(&mount, "..v1");
    symlink("..data/ticket.key", mount.join("ticket.key")).unwrap();
    let proxy = secured.start(&upstream, &ticket_keys(&[&mount.join("ticket.key")]), "");
    // A replica that has the second key already shows which one is in force.
    let other = secured.start(&upstream, &ticket_keys(&[&mount.join("..v2/ticket.key")]), "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    assert!(!agent.resumes(&other));
    swap(&mount, "..v2");
    proxy.metric_eventually(RELOADED, 1.0);
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    assert!(agent.resumes(&other), "both seal with the second key");
}

/// Files that must never become a key, and what is said of them.
fn bad_files(secured: &Secured) -> Vec<(&'static str, Vec<u8>, u32, &'static str)> {
    let good = fs::read(secured.ticket_key("good.key")).unwrap();
    vec![
        ("truncated", good[..31].to_vec(), 0o600, "31 bytes"),
        ("empty", Vec::new(), 0o600, "0 bytes"),
        ("too long", [&good[..], &good[..]].concat()[..48].to_vec(), 0o600, "48 bytes"),
        ("all zeroes", vec![0; 32], 0o600, "not random"),
        ("a password", b"correct horse battery staple 123".to_vec(), 0o600, "not random"),
        ("world-readable", good.clone(), 0o644, "mode 0644"),
        ("a duplicate", good, 0o600, "same key"),
    ]
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    let next = path.with_extension("next");
    fs::write(&next, bytes).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(next, path).unwrap();
}

#[test]
fn a_key_file_that_cannot_be_trusted_is_refused_at_start() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let bad = secured.path("bad.key");
    for (what, bytes, mode, said) in bad_files(&secured) {
        write(&bad, &bytes, mode);
        let keys = ticket_keys(&[&secured.path("good.key"), &bad]);
        let policy =
            secured.policy(&upstream, &keys, "[proxy]\nlisten = []\n[admin]\nlisten = \"127.0.0.1:0\"");
        let ran = ccpgate(Some(&policy), &["serve"]).expect(2);
        let error = &ran.stderr;
        assert!(error.contains("tls.ticket_keys") && error.contains("bad.key"), "{what}: {error}");
        assert!(error.contains(said), "{what}: expected {said:?} in {error}");
    }
    let missing = ticket_keys(&[&secured.path("missing.key")]);
    let ran = ccpgate(Some(&secured.policy(&upstream, &missing, "")), &["serve"]).expect(2);
    assert!(ran.stderr.contains("missing.key"), "{}", ran.stderr);
}

#[test]
fn a_key_file_that_cannot_be_trusted_changes_nothing_at_a_reload() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let (good, second) = (secured.ticket_key("good.key"), secured.ticket_key("second.key"));
    let policy = secured.policy(&upstream, &ticket_keys(&[&second, &good]), "");
    let proxy = Proxy::start(&policy);
    let replica = Proxy::start(&policy);
    let agent = secured.agent();
    assert!(!agent.resumes(&replica));
    let mut failures = 0.0;
    let bytes = fs::read(&good).unwrap();
    for (what, bytes, mode, said) in [
        ("truncated", bytes[..31].to_vec(), 0o600, "31 bytes"),
        ("weak", vec![7; 32], 0o600, "not random"),
        ("world-readable", fs::read(&second).unwrap(), 0o644, "mode 0644"),
        ("a duplicate", bytes, 0o600, "same key"),
    ] {
        write(&second, &bytes, mode);
        failures += 1.0;
        eventually("the reload to fail", || {
            // By SIGHUP or by itself, whichever is first.
            proxy.signal(rustix::process::Signal::HUP);
            std::thread::sleep(std::time::Duration::from_millis(50));
            (proxy.metric(FAILED) >= failures).then_some(())
        });
        failures = proxy.metric(FAILED);
        let line = proxy.log_line(what, |line| {
            line["event"] == "reload_failed" && line["error"].as_str().unwrap().contains(said)
        });
        assert!(line["error"].as_str().unwrap().contains("second.key"), "{line}");
        assert!(agent.resumes(&proxy), "{what}: the old keys stay in force");
        assert_eq!(proxy.metric("ccpgate_config_last_reload_successful"), 0.0);
    }
}

#[test]
fn a_key_file_is_made_private_and_never_overwritten() {
    let secured = Secured::new();
    let path = secured.ticket_key("new.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    let ran = ccpgate(None, &["ticket-key", path.to_str().unwrap()]).expect(2);
    assert!(ran.stderr.contains("never overwritten"), "{}", ran.stderr);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn keys_beside_a_client_ca_are_warned_of() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let key = secured.ticket_key("a.key");
    let tls = format!("{}client_ca = {:?}", ticket_keys(&[&key]), secured.path("ca.pem"));
    let proxy = secured.start(&upstream, &tls, "");
    proxy.log_line("the warning", |line| {
        line["event"] == "tls_warning" && line["message"].as_str().unwrap().contains("ticket_keys")
    });
}
