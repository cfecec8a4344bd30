#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
//! The configuration as users meet it: the example file, one file per mistake, and the order of
//! the layers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccpgate::catalogue::{Feature, SignIn, Wildcards};
use ccpgate::config::{Config, ConfigErrors, Loaded, Source, Sources, load, schema};
use ccpgate::journal::log::{Format as LogFormat, Level};
use ccpgate::pac::rendezvous::Spread;
use ccpgate::policy::{Category, Mode};
use ccpgate::tunnel::hello::Check as TlsCheck;

const EXAMPLE: &str = "config/ccpgate.example.toml";

fn from(file: Option<&Path>, env: &[(&str, &str)], set: &[&str]) -> Result<Loaded, ConfigErrors> {
    load(&Sources {
        file: file.map(Path::to_owned),
        env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        set: set.iter().map(|flag| flag.to_string()).collect(),
    })
}

/// The configuration of a file with this text, and the file's directory.
fn from_text(text: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Loaded, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ccpgate.toml");
    std::fs::write(&file, text).unwrap();
    from(Some(&file), env, set)
}

fn message(result: Result<Loaded, ConfigErrors>) -> String {
    result.expect_err("this configuration is wrong").to_string()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_default_serves_loopback_alone() {
    let config = Config::default();
    assert_eq!(config.connect.regions, ["us-east-1"]);
    assert_eq!(config.connect.instances, ["*"]);
    assert_eq!(config.proxy.listen, [address("127.0.0.1:3128")]);
    assert_eq!(config.admin.listen, address("127.0.0.1:9128"));
    assert_eq!(config.policy.tls, TlsCheck::Sni);
    assert_eq!(config.policy.mode, Mode::Enforce);
    assert_eq!(config.connect.signin, [SignIn::Password, SignIn::Saml]);
    assert_eq!(config.limits.request_header, 16 * 1024);
    assert_eq!(config.limits.idle_timeout, Duration::ZERO);
    assert_eq!(config.limits.drain, Duration::from_secs(10 * 3600));
    assert_eq!(config.limits.reboot_drain, Duration::from_secs(60));
    assert_eq!(config.tls.client_ca, None);
    assert!(config.tls.listen.is_empty() && config.allow.is_empty());
}

#[test]
fn the_example_sets_every_key() {
    let loaded = from(Some(Path::new(EXAMPLE)), &[], &[]).unwrap_or_else(|error| panic!("{error}"));
    let config = &loaded.config;
    assert_eq!(config.connect.instances, ["acme"]);
    assert_eq!(config.connect.features, [Feature::ScreenRecording]);
    assert_eq!(config.connect.wildcards, Wildcards::Narrow);
    assert_eq!(config.allow.len(), 2);
    assert_eq!(config.allow[0].category, Category::Login);
    assert_eq!(config.allow[1].category, Category::Extra);
    assert_eq!(config.allow[1].ports, [443, 8443]);
    assert_eq!(config.proxy.clients[1].to_string(), "10.30.0.7/32");
    assert_eq!(config.proxy.proxy_protocol[1].to_string(), "10.9.0.11/32");
    assert!(config.proxy.advertise[0].https && !config.proxy.advertise[1].https);
    assert_eq!(config.pac.spread, Spread::Client);
    assert_eq!(config.dns.servers, [address("10.0.0.2:53"), address("10.0.0.3:5353")]);
    assert_eq!(config.shift.lunch, Duration::from_secs(75 * 60));
    assert_eq!(config.log.format, LogFormat::Json);
    let (redirect, to) = config.egress.connect_to.first_key_value().unwrap();
    assert_eq!((redirect.pattern.as_str(), redirect.port), ("*.crm.example", 8443));
    assert_eq!(*to, address("10.9.0.20:8443"));

    let shown = loaded.to_json();
    let default = from(None, &[], &[]).unwrap().to_json();
    // What is best left as it is.
    let same = BTreeSet::from(["connect.media", "watch.stun", "watch.ca"]);
    for (key, entry) in shown.as_object().unwrap() {
        assert_eq!(entry["source"], EXAMPLE, "{key} isn't in the example");
        assert_eq!(entry["value"] == default[key]["value"], same.contains(key.as_str()), "{key}");
    }
}

#[test]
fn each_mistake_gets_its_message() {
    // Relative, so that messages name the same path everywhere.
    let folder = Path::new("tests/config/mistakes");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 30, "the mistakes have gone from {}", folder.display());
    for file in files {
        let got = message(from(Some(&file), &[], &[])) + "\n";
        let expected = std::fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        assert_eq!(got, expected, "\n{}\nexpected:\n{expected}\ngot:\n{got}", file.display());
    }
}

#[test]
fn layers_win_in_their_order() {
    let file = "[log]\nlevel = \"warn\"\nformat = \"json\"\naccess = false\n";
    let env = [("CCPGATE_LOG__LEVEL", "error"), ("CCPGATE_LOG__ACCESS", "true")];
    let loaded = from_text(file, &env, &["log.level=debug"]).unwrap();
    assert_eq!(loaded.config.log.level, Level::Debug);
    assert_eq!(loaded.config.log.format, LogFormat::Json);
    assert!(loaded.config.log.access);
    let source = |key: &str| loaded.provenance.of(key).to_vec();
    assert_eq!(source("log.level"), [Source::Set]);
    assert_eq!(source("log.access"), [Source::Environment("CCPGATE_LOG__ACCESS".into())]);
    assert_eq!(source("log.format"), [Source::File(loaded.file.clone().unwrap())]);
    assert_eq!(source("proxy.name"), [Source::Default]);
}

#[test]
fn a_stronger_layer_replaces_a_wrong_value() {
    let loaded = from_text("[limits]\nconnections = 0\n", &[], &["limits.connections=7"]).unwrap();
    assert_eq!(loaded.config.limits.connections, 7);
}

#[test]
fn the_environment_can_say_everything() {
    let env = [
        ("CCPGATE_CONNECT__REGIONS", "us-east-1,us-west-2"),
        ("CCPGATE_CONNECT__INSTANCES", "012345"),
        ("CCPGATE_PROXY__CLIENTS", r#"["10.0.0.0/8", "192.0.2.1"]"#),
        ("CCPGATE_PROXY__LISTEN", "[::1]:3128, 127.0.0.1:3128"),
        ("CCPGATE_PROXY__ADVERTISE", ""),
        ("CCPGATE_TLS__CLIENT_CA", ""),
        ("CCPGATE_DNS__HOSTS", r#"{ "a.example" = ["127.0.0.1"] }"#),
        ("CCPGATE_LIMITS__CONNECTIONS", "5"),
        ("CCPGATE_LIMITS__REQUEST_HEADER", "4096"),
        ("CCPGATE_LOG__ACCESS", "false"),
        // Not ours: no section and key.
        ("CCPGATE_CONFIG", "elsewhere.toml"),
        ("CCPGATE_PORT_3128_TCP_ADDR", "10.0.0.1"),
        ("CCPGATE_SERVICE_HOST", "10.0.0.1"),
        ("CCPGATE__ODD", "1"),
        ("OTHER__KEY", "1"),
    ];
    let config = from(None, &env, &[]).unwrap_or_else(|error| panic!("{error}")).config;
    assert_eq!(config.connect.regions, ["us-east-1", "us-west-2"]);
    assert_eq!(config.connect.instances, ["012345"]);
    assert_eq!(config.proxy.clients.len(), 2);
    assert_eq!(config.proxy.listen, [address("[::1]:3128"), address("127.0.0.1:3128")]);
    assert!(config.proxy.advertise.is_empty());
    assert_eq!(config.dns.hosts["a.example"].len(), 1);
    assert_eq!((config.limits.connections, config.limits.request_header), (5, 4096));
    assert!(!config.log.access);
}

#[test]
fn flags_can_say_everything() {
    let set = [
        "log.level=debug",
        "connect.instances=[12345, \"acme\"]",
        "connect.regions = us-west-2",
        r#"egress.connect_to."a.example:443"="127.0.0.1:8443""#,
        r#"egress.connect_to={ "b.example:443" = "127.0.0.1:8444" }"#,
        r#"allow=[{ pattern = "idp.example", ports = [8443] }]"#,
        "policy.tls='off'",
    ];
    let config = from(None, &[], &set).unwrap_or_else(|error| panic!("{error}")).config;
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.connect.instances, ["12345", "acme"]);
    assert_eq!(config.connect.regions, ["us-west-2"]);
    assert_eq!(config.egress.connect_to.len(), 2);
    assert_eq!(config.allow[0].ports, [8443]);
    assert_eq!(config.policy.tls, TlsCheck::Off);
}

#[test]
fn problems_of_all_layers_come_at_once() {
    let env = [("CCPGATE_PROXY__LISEN", "127.0.0.1:1"), ("CCPGATE_LIMITS__CONNECTIONS", "many")];
    let set = ["log.levle=debug", "shift.length=0s", "nonsense", "policy.deny=[\"a\", b]"];
    let error = message(from_text("[dns]\ntimeout = 3\n", &env, &set));
    let expected = [
        r#"ccpgate.toml:2:1: dns.timeout = 3: the unit is missing, did you mean "3s"?"#,
        r#"environment CCPGATE_PROXY__LISEN: proxy.lisen = "127.0.0.1:1": unknown key, did you mean `listen`?"#,
        r#"environment CCPGATE_LIMITS__CONNECTIONS: limits.connections = "many": expected a whole number from 1 to"#,
        r#"--set: log.levle = "debug": unknown key, did you mean `level`?"#,
        r#"--set: shift.length = "0s": must be longer than nothing; expected a duration such as "90s""#,
        r#"--set: "nonsense": expected SECTION.KEY=VALUE, such as log.level=debug"#,
        r#"--set: policy.deny: "[\"a\", b]" is not valid TOML"#,
    ];
    for line in expected {
        assert!(error.contains(line), "expected:\n{line}\ngot:\n{error}");
    }
    assert_eq!(error.lines().count(), expected.len(), "{error}");
}

#[test]
fn relative_paths_count_from_the_file_that_names_them() {
    let text = "[tls]\ncertificate = \"certs/a.pem\"\nticket_keys = [\"/run/t.key\"]\n";
    let loaded = from_text(text, &[("CCPGATE_TLS__CLIENT_CA", "ca.pem")], &[]).unwrap();
    let beside = loaded.file.unwrap().parent().unwrap().join("certs/a.pem");
    let here = std::env::current_dir().unwrap();
    assert_eq!(loaded.config.tls.certificate, beside);
    assert_eq!(loaded.config.tls.ticket_keys, [Path::new("/run/t.key")]);
    assert_eq!(loaded.config.tls.client_ca, Some(here.join("ca.pem")));
    assert_eq!(loaded.config.tls.key, here.join("certs/proxy.key"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("odd.toml");
    let got = |file: &Path| message(from(Some(file), &[], &[]));
    assert!(got(&file).contains("odd.toml: no such file"));
    assert!(got(directory.path()).ends_with("this is a directory, expected a TOML file"));
    std::fs::write(&file, b"[log]\nlevel = \"\xff\"\n").unwrap();
    assert!(got(&file).contains("odd.toml:2:10: not UTF-8"), "{}", got(&file));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(got(&file).contains("odd.toml: the file is larger than 1 MiB"));
}

#[test]
fn a_variable_that_is_not_utf8_is_named() {
    let error = message(from(None, &[("CCPGATE_PROXY__NAME", "a\u{fffd}")], &[]));
    assert_eq!(error, "environment CCPGATE_PROXY__NAME: proxy.name: not valid UTF-8");
}

#[test]
fn what_show_prints_is_the_same_configuration_again() {
    let set = [r#"dns.hosts."b.example"=["127.0.0.2"]"#];
    let loaded = from(Some(Path::new(EXAMPLE)), &[("CCPGATE_LOG__LEVEL", "warn")], &set).unwrap();
    let shown = loaded.to_toml();
    for line in [
        "level = \"warn\" # environment CCPGATE_LOG__LEVEL",
        "drain = \"11h\" # config/ccpgate.example.toml",
        "request_header = \"32KiB\" # config/ccpgate.example.toml",
        "[[allow]] # config/ccpgate.example.toml",
        "ports = [443, 8443] # config/ccpgate.example.toml",
        "category = \"extra\" # default",
        "# config/ccpgate.example.toml, --set",
    ] {
        assert!(shown.contains(line), "expected {line}\nin\n{shown}");
    }
    let again = from_text(&shown, &[], &[]).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.config, loaded.config);

    let plain = from(None, &[], &[]).unwrap();
    assert!(plain.to_toml().contains("name = \"ccpgate\" # default\n"));
    assert_eq!(plain.to_json()["proxy.name"], serde_json::json!({ "value": "ccpgate", "source": "default" }));
    assert_eq!(from_text(&plain.to_toml(), &[], &[]).unwrap().config, plain.config);
}

#[test]
fn the_schema_knows_the_keys_of_the_example() {
    let schema = schema();
    let example: toml::Table = toml::from_str(&std::fs::read_to_string(EXAMPLE).unwrap()).unwrap();
    for (section, keys) in &example {
        let known = &schema["properties"][section];
        for key in keys.as_table().into_iter().flat_map(toml::Table::keys) {
            assert!(known["properties"][key].is_object(), "{section}.{key}");
        }
    }
}
