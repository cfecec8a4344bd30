//! `ccpgate bundle`: one archive for a support ticket, without a secret, that says the same elsewhere.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::read::GzDecoder;
use rustls::version::TLS13;
use serde_json::Value;

use crate::support::{
    Agent, Authority, Proxy, Ran, Raw, Refusing, Secured, Upstream, ccpgate, ccpgate_with, eventually,
    ticket_keys,
};

/// Every byte of an archive, unpacked.
fn unpacked(file: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(fs::File::open(file).unwrap()).read_to_end(&mut tar).unwrap();
    tar
}

fn names(file: &Path) -> Vec<String> {
    let tar = unpacked(file);
    let mut archive = tar::Archive::new(&tar[..]);
    let entries = archive.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn replayed(file: &Path, more: &[&str]) -> Ran {
    ccpgate(None, &[&["bundle", "--replay", file.to_str().unwrap()], more].concat()).expect(0)
}

#[test]
fn a_bundle_holds_no_secret_and_says_the_same_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (secured, clients, upstream) = (Secured::new(), Authority::new(), Upstream::echo());
    let dns = Refusing::new();
    fs::write(secured.path("clients.pem"), clients.pem()).unwrap();
    fs::write(secured.path("parent.credentials"), "parent-user:parent-S3cret\n").unwrap();
    fs::set_permissions(secured.path("parent.credentials"), fs::Permissions::from_mode(0o600)).unwrap();
    let keys = ["a.key", "b.key"].map(|name| secured.ticket_key(name));
    let tls = format!(
        "{}client_ca = {:?}\n",
        ticket_keys(&keys.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>()),
        secured.path("clients.pem")
    );
    let more = format!(
        "[proxy]\nclients = [\"127.0.0.2\", \"127.0.0.0/30\"]\n[ledger]\nanonymise = true\n\
         [dns]\nservers = [\"{}\"]\ntimeout = \"1s\"\n\
         [egress]\nproxy = \"http://127.0.0.1:1\"\nproxy_for = [\"*.parent.example\"]\nproxy_credentials = {:?}\n",
        dns.address(),
        secured.path("parent.credentials"),
    );
    let policy = secured.policy(&upstream, &tls, &more);
    let proxy = Proxy::start(&policy);
    let agent = Agent::with_certificate(
        &secured.authority,
        &[&TLS13],
        clients.client_certificate("Jane Subject", |_| {}),
    );
    let mut shown = agent.connect(&proxy);
    assert_eq!(shown.connect_target("good.example:443").status, 200);
    shown.expect_echo(b"tunnel-S3cret");
    let mut plain = Raw::connect_from("127.0.0.2".parse().unwrap(), proxy.http());
    assert_eq!(plain.connect_target("good.example:443").status, 200);
    plain.send("plain-S3cret");
    let mut denied = Raw::connect_from("127.0.0.3".parse().unwrap(), proxy.http());
    denied.send("CONNECT user-S3cret:pass-S3cret@evil.example:443 HTTP/1.1\r\n\r\n");
    assert_eq!(denied.read_answer().status, 400);
    proxy.connect().connect_target("evil.example:443");
    let stranger =
        Raw::connect_from("127.0.0.77".parse().unwrap(), proxy.http()).connect_target("x.example:443");
    assert_eq!(stranger.status, 403);

    let file = folder.path().join("ticket.tar.gz");
    let config = proxy.config_file();
    let admin = format!("http://{}", proxy.admin());
    let arguments =
        ["-c", config.to_str().unwrap(), "bundle", file.to_str().unwrap(), "--admin", admin.as_str()];
    let made = ccpgate(None, &arguments).expect(0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let parts = [
        "manifest.json",
        "status.json",
        "check.json",
        "check.txt",
        "denied.json",
        "tunnels.json",
        "learned.json",
        "metrics.txt",
        "config.toml",
    ];
    assert_eq!(names(&file), parts.map(|part| format!("ccpgate-bundle/{part}")));

    let tar = unpacked(&file);
    let text = String::from_utf8_lossy(&tar);
    let mut secrets: Vec<String> = [
        "S3cret",
        "parent-user",
        "Jane Subject",
        "127.0.0.2\"",
        "127.0.0.77",
        "PRIVATE KEY",
        "BEGIN CERTIFICATE",
    ]
    .map(str::to_owned)
    .into();
    let held = ["proxy.key", "proxy.pem", "clients.pem", "a.key", "b.key"];
    for line in held.iter().flat_map(|name| {
        let text = String::from_utf8_lossy(&fs::read(secured.path(name)).unwrap()).into_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    }) {
        if line.len() > 8 {
            secrets.push(line);
        }
    }
    assert!(secrets.len() > 20, "{secrets:?}");
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "{secret} is in the bundle:\n{text}");
    }
    // What a supporter needs is there.
    for needed in [
        "good.example:443",
        "evil.example:443",
        "127.0.0.0",
        "a.key",
        "*.parent.example",
        "ccpgate_tunnels_active",
    ] {
        assert!(text.contains(needed), "{needed} isn't in the bundle:\n{text}");
    }
    assert!(text.contains("127.0.0.0/24"), "the networks of proxy.clients are cut, too");

    // Elsewhere: another folder, no configuration, no proxy.
    drop(proxy);
    assert_eq!(replayed(&file, &[]).stdout, made.stdout);
    for section in ["== status ==", "== check ==", "== denied ==", "== tunnels =="] {
        assert!(made.stdout.contains(section), "{section} in\n{}", made.stdout);
    }
    let object = replayed(&file, &["--json"]).json();
    assert_eq!((&object["schema_version"], &object["manifest"]["reached"]), (&1.into(), &true.into()));
    assert_eq!(object["tunnels"]["live"].as_array().unwrap().len(), 2, "{object}");
    let config = replayed(&file, &["--part", "config.toml"]).stdout;
    ccpgate(Some(&config), &["config", "show"]).expect(0);
    let ran = ccpgate(None, &["bundle", "--replay", file.to_str().unwrap(), "--part", "x"]).expect(2);
    assert!(ran.stderr.contains("config.toml"), "{}", ran.stderr);
    // It is never written over.
    let again = ccpgate(None, &["bundle", file.to_str().unwrap(), "--no-check"]).expect(2);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(unpacked(&file), tar);
    // A folder that isn't there is noticed before the network is tested.
    let nowhere = folder.path().join("none/b.tar.gz");
    let ran = ccpgate(None, &["bundle", nowhere.to_str().unwrap()]).expect(2);
    assert!(ran.stderr.contains("its folder can't be entered"), "{}", ran.stderr);
    assert!(ran.stdout.is_empty());
}

/// A proxy of which a desk that fails alone is the finding, just after a reload that has changed its clients.
fn with_one_desk_after_a_reload(more: &str) -> (Proxy, Upstream) {
    let upstream = Upstream::echo();
    let toml = |clients: &str| {
        format!(
            "[policy]\ntls = \"sni\"\n[[allow]]\npattern = \"good.example\"\n[edl]\nclients = [\"127.6.7.8\"]\n\
             [proxy]\nclients = [{clients}]\nproxy_protocol = [\"127.8.9.10\"]\n{more}{}",
            upstream.for_targets(&["good.example:443"])
        )
    };
    let proxy = Proxy::start(&toml("\"127.0.0.0/8\""));
    proxy.reload(&toml("\"127.0.0.1\", \"127.4.9.9\", \"127.8.9.10\", \"2001:db8:1:2::77\""), "ok");
    for _ in 0..5 {
        let mut odd = Raw::connect_from("127.4.9.9".parse().unwrap(), proxy.http());
        assert_eq!(odd.connect_target("good.example:443").status, 200);
        odd.send("SSH-2.0-x\r\n");
        odd.expect_gone();
    }
    eventually("a finding", || {
        let status = proxy.status();
        let found = status["findings"].as_array().unwrap();
        found.iter().any(|one| one["cause"] == "foreign_protocol").then_some(())
    });
    (proxy, upstream)
}

/// Fails where a client's address is whole in a text, or one of the servers isn't.
#[track_caller]
fn expect_clients_cut(text: &str) {
    for whole in ["127.4.9.9", "127.6.7.8", "2001:db8:1:2", "127.8.9.10/32 of proxy.clients"] {
        assert!(!text.contains(whole), "{whole} is in:\n{text}");
    }
    for needed in ["127.4.9.0/24", "2001:db8:1::/48", "proxy.clients: "] {
        assert!(text.contains(needed), "{needed} isn't in:\n{text}");
    }
}

#[test]
fn no_client_is_whole_in_a_bundle_of_a_proxy_that_shows_them() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, upstream) = with_one_desk_after_a_reload("");
    // The proxy itself shows them, until it is told otherwise.
    assert!(proxy.status()["summary"].as_str().unwrap().contains("127.4.9.9"));
    let file = folder.path().join("b.tar.gz");
    let (admin, config) = (format!("http://{}", proxy.admin()), proxy.config_file());
    let arguments =
        ["bundle", file.to_str().unwrap(), "--no-check", "--admin", &admin, "-c", config.to_str().unwrap()];
    let made = ccpgate_with(None, &arguments, &[("CCPGATE_LEDGER__ANONYMISE", "true")]).expect(0);
    let text = String::from_utf8_lossy(&unpacked(&file)).into_owned();
    expect_clients_cut(&text);
    expect_clients_cut(&made.stdout);
    let object = replayed(&file, &["--json"]).json();
    assert_eq!(object["manifest"]["anonymised"], true);
    let found = &object["status"]["findings"][0];
    assert_eq!(found["networks"], Value::from(vec!["127.4.9.0/24"]), "{found}");
    assert!(found["paste"].as_str().unwrap().ends_with("in 127.4.9.0/24"), "{found}");
    // Servers are what a supporter looks for.
    assert!(text.contains(&upstream.address().to_string()), "{text}");
}

#[test]
fn a_proxy_that_anonymises_tells_no_client_of_a_difference() {
    let (proxy, upstream) = with_one_desk_after_a_reload("[ledger]\nanonymise = true\n");
    for path in ["/api/status", "/api/history"] {
        expect_clients_cut(&proxy.get(path).text());
    }
    // What changed before it was told to anonymise is cut like what comes after.
    drop((proxy, upstream));
    let (proxy, _upstream) = with_one_desk_after_a_reload("");
    let now = fs::read_to_string(proxy.config_file()).unwrap() + "[ledger]\nanonymise = true\n";
    proxy.rewrite_config_raw(&now);
    proxy.hang_up("ok");
    for path in ["/api/status", "/api/history"] {
        expect_clients_cut(&proxy.get(path).text());
    }
    proxy.log_line("the warning", |line| {
        line["event"] == "policy_warning"
            && line["message"].as_str().unwrap().contains("127.8.9.0/24 of proxy.clients")
    });
}

#[test]
fn without_a_running_proxy_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.tar.gz");
    let refusing = Refusing::new();
    let admin = format!("http://{}", refusing.address());
    let arguments = ["bundle", file.to_str().unwrap(), "--no-check", "--admin", &admin];
    let made =
        ccpgate(Some("[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n"), &arguments).expect(0);
    assert!(made.stdout.contains("not reached") && made.stdout.contains(&admin), "{}", made.stdout);
    assert!(made.stdout.contains("status.json: nobody answers"), "{}", made.stdout);
    assert_eq!(names(&file), ["ccpgate-bundle/manifest.json", "ccpgate-bundle/config.toml"]);
    assert_eq!(replayed(&file, &[]).stdout, made.stdout);
    let manifest: Value = replayed(&file, &["--json"]).json()["manifest"].clone();
    assert_eq!((&manifest["reached"], &manifest["anonymised"]), (&false.into(), &false.into()));
}

#[test]
fn what_is_no_bundle_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.tar.gz");
    let name = file.to_str().unwrap();
    ccpgate(None, &["bundle", name, "--no-check", "--admin", "127.0.0.1:1"]).expect(0);
    let whole = fs::read(&file).unwrap();
    for (bytes, why) in [
        (&whole[..whole.len() - 5], "cut"),
        (&whole[..whole.len() / 2], "cut"),
        (b"PK\x03\x04 a zip", "gzip"),
        (b"", "gzip"),
    ] {
        fs::write(&file, bytes).unwrap();
        let ran = ccpgate(None, &["bundle", "--replay", name]).expect(2);
        assert!(ran.stderr.contains(why) && ran.stderr.contains(name), "{why}: {}", ran.stderr);
    }
    for arguments in [
        &["bundle"][..],
        &["bundle", "--replay", "/nonexistent/b.tar.gz"],
        &["bundle", "--replay", folder.path().to_str().unwrap()],
        &["bundle", "/nonexistent/b.tar.gz", "--no-check", "--admin", "127.0.0.1:1"],
        &["bundle", name, "--part", "config.toml"],
        &["bundle", name, "--replay", name],
    ] {
        assert!(!ccpgate(None, arguments).expect(2).stderr.is_empty(), "{arguments:?}");
    }
}
