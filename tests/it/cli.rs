//! The command line: results on stdout, talk on stderr, exit codes that scripts rely on, and errors
//! that name file, key, value and what would be valid.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

use crate::support::{ccpgate, ccpgate_by, ccpgate_with};

const CONFIG: &str = r#"
[connect]
regions = ["us-west-2"]
instances = ["acme"]
attachment_buckets = ["acme-files"]
[[allow]]
pattern = "login.idp.example"
category = "login"
[policy]
deny = ["*.bad.cloudfront.net"]
"#;

#[test]
fn version_says_what_this_is() {
    let ran = ccpgate(None, &["version"]).expect(0);
    assert!(ran.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", ran.stdout);
    assert!(ran.stdout.to_ascii_lowercase().contains("aws-lc"), "the TLS provider: {}", ran.stdout);
}

#[test]
fn allowlist_as_json_has_every_key_and_keeps_stdout_clean() {
    let ran = ccpgate(Some(CONFIG), &["allowlist", "--format", "json"]).expect(0);
    let rules = ran.json();
    let rules = rules.as_array().unwrap();
    assert!(rules.len() > 10, "{} rules", rules.len());
    for rule in rules {
        for key in ["pattern", "ports", "protocol", "category", "generation", "breadth", "carries", "source"]
        {
            assert!(!rule[key].is_null(), "no {key} in {rule}");
        }
        assert!(["tcp", "udp"].contains(&rule["protocol"].as_str().unwrap()), "{rule}");
        assert!(["current", "legacy", "new"].contains(&rule["generation"].as_str().unwrap()), "{rule}");
        assert!(["tenant", "service", "shared"].contains(&rule["breadth"].as_str().unwrap()), "{rule}");
    }
    let find = |pattern: &str| {
        rules
            .iter()
            .find(|rule| rule["pattern"] == pattern)
            .unwrap_or_else(|| panic!("no {pattern} in {rules:#?}"))
    };
    let telecom = find("rtc*.connect-telecom.us-west-2.amazonaws.com");
    assert_eq!((&telecom["category"], &telecom["ports"][0]), (&"telecom".into(), &443.into()), "{telecom}");
    assert_eq!(find("acme.my.connect.aws")["breadth"], "tenant");
    assert_eq!(find("*.cloudfront.net")["breadth"], "shared");
    assert_eq!(find("acme-files.s3.us-west-2.amazonaws.com")["category"], "attachments");
    assert_eq!(find("login.idp.example")["category"], "login");
    let media = rules.iter().find(|rule| rule["category"] == "media").unwrap();
    assert_eq!((&media["protocol"], &media["ports"][0]), (&"udp".into(), &3478.into()), "{media}");
}

#[test]
fn allowlist_as_table_and_text() {
    let table = ccpgate(Some(CONFIG), &["allowlist"]).expect(0).stdout;
    assert!(table.contains("acme.my.connect.aws") && table.contains("telecom"), "{table}");
    let text = ccpgate(Some(CONFIG), &["allowlist", "--format", "txt"]).expect(0).stdout;
    assert!(text.lines().any(|line| line.contains("acme.my.connect.aws")), "{text}");
}

#[test]
fn an_entry_that_strangers_can_serve_is_shared_and_warned_of() {
    let config = "[connect]\ninstances = [\"acme\"]\n[[allow]]\npattern = \"*.github.io\"\n\
                  [[allow]]\npattern = \"*.amazonaws.com\"\n[[allow]]\npattern = \"acme.awsapps.com\"\nports = [8443]\n\
                  [[allow]]\npattern = \"s3.us-west-2.amazonaws.com\"\n[[allow]]\npattern = \"cases.us-west-2.amazonaws.com\"\n";
    let ran = ccpgate(Some(config), &["allowlist", "--format", "json"]).expect(0);
    let json = ran.json();
    let breadth = |pattern: &str| {
        let rules = json.as_array().unwrap().iter();
        rules.filter(|rule| rule["pattern"] == pattern).map(|rule| rule["breadth"].clone()).next_back()
    };
    assert_eq!(breadth("*.github.io"), Some("shared".into()));
    assert_eq!(breadth("*.amazonaws.com"), Some("shared".into()));
    assert_eq!(breadth("acme.awsapps.com"), Some("tenant".into()));
    assert_eq!(breadth("s3.us-west-2.amazonaws.com"), Some("shared".into()));
    assert_eq!(breadth("cases.us-west-2.amazonaws.com"), Some("service".into()));
    for command in [&["allowlist"][..], &["config", "check"]] {
        let said = ccpgate(Some(config), command).expect(0).stderr;
        assert!(said.contains("allow[0].pattern *.github.io"), "{said}");
        assert!(said.contains("allow[1].pattern *.amazonaws.com"), "{said}");
        assert!(said.contains("allow[3].pattern s3.us-west-2.amazonaws.com"), "{said}");
        assert!(!said.contains("allow[2]") && !said.contains("allow[4]"), "{said}");
    }
}

#[test]
fn an_answer_is_not_buried_under_warnings() {
    for command in [&["explain", "tools.connect.aws"][..], &["pac"], &["config", "show"]] {
        let said = ccpgate(None, command).expect(0).stderr;
        assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
        assert!(said.contains("connect.instances = [\"*\"]"), "{command:?}: {said}");
        assert!(said.ends_with(": ccpgate config check\n"), "{command:?}: {said}");
    }
}

/// What a hint says to type reads the same configuration as the command that gave it.
#[test]
fn a_hint_can_be_typed_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it's acme.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let set = "connect.instances=[\"*\"]";
    let file = file.to_str().unwrap();
    for options in [&["-c", file][..], &["-c", file, "--set", set], &["--set", set]] {
        let said = ccpgate(None, &[&["explain", "tools.connect.aws"][..], options].concat()).expect(0).stderr;
        let hint = said.split(": ").last().unwrap().trim();
        let typed = hint.replace("ccpgate", env!("CARGO_BIN_EXE_ccpgate"));
        let by_hint = Command::new("sh").args(["-c", &typed]).output().unwrap();
        let by_hand = ccpgate(None, &[&["config", "check"][..], options].concat()).expect(0);
        assert_eq!(String::from_utf8(by_hint.stdout).unwrap(), by_hand.stdout, "{hint}");
        assert_eq!(String::from_utf8(by_hint.stderr).unwrap(), by_hand.stderr, "{hint}");
    }
}

#[test]
fn an_answer_says_by_which_file_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ccpgate.toml"), CONFIG).unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_ccpgate"))
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let mode = [("CCPGATE_POLICY__MODE", "report")];
    for command in
        [&["explain", "tools.connect.aws"][..], &["allowlist"], &["config", "check"], &["config", "show"]]
    {
        let (_, said) = run(command, &mode);
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with("ccpgate: answers by ccpgate.toml of this folder"), "{command:?}: {said}");
        assert!(first.ends_with("CCPGATE_POLICY__MODE"), "{command:?}: {said}");
    }
    let (json, _) = run(&["explain", "--json", "tools.connect.aws"], &mode);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["configuration"]["file"], "ccpgate.toml");
    assert_eq!(json["configuration"]["variables"], serde_json::json!(["CCPGATE_POLICY__MODE"]));
    // Variables of others are no part of it.
    let (_, said) = run(&["explain", "tools.connect.aws", "-c", "./ccpgate.toml"], &[("CCPGATE__ODD", "1")]);
    assert!(!said.contains("answers by"), "{said}");
    // A file that was named by its path surprises nobody.
    let (_, said) = run(&["explain", "tools.connect.aws", "-c", "./ccpgate.toml"], &[]);
    assert!(!said.contains("answers by"), "{said}");
}

#[test]
fn a_check_tells_mistakes_in_keys_and_in_files_at_once() {
    let config = "[limits]\ndrain = \"soon\"\n[policy]\ndeny = [\".bad.example\"]\n\
                  [tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"missing.pem\"\n";
    let said = ccpgate(Some(config), &["config", "check"]).expect(2).stderr;
    for part in ["limits.drain = \"soon\": expected a duration", "write \"*.bad.example\"", "missing.pem"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[test]
fn explain_reads_the_address_of_a_media_server() {
    let target = "turn:turnnlb-d76454ac48d20c1e.elb.us-east-1.amazonaws.com:3478?transport=udp";
    let json = ccpgate(Some(CONFIG), &["explain", "--json", target]).expect(1).json();
    assert_eq!((&json["protocol"], &json["ports"][0]), (&"udp".into(), &3478.into()), "{json}");
    let json = ccpgate(Some(CONFIG), &["explain", "--json", "d-1234567890.awsapps.com"]).expect(1).json();
    assert!(json["elsewhere"].as_str().unwrap().contains("identity-center"), "{json}");
}

#[test]
fn any_instance_is_warned_of_on_stderr() {
    let config = "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"*\"]\n";
    let ran = ccpgate(Some(config), &["allowlist", "--format", "json"]).expect(0);
    assert!(ran.json().is_array());
    assert!(ran.stderr.contains("instances"), "{}", ran.stderr);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.tar.gz");
    for command in [
        &["bundle", file.to_str().unwrap(), "--no-check"][..],
        &["pac"],
        &["config", "check"],
        &["explain", "tools.connect.aws"],
    ] {
        let said = ccpgate(Some(config), command).expect(0).stderr;
        assert!(said.contains("instances"), "{command:?}: {said}");
    }
}

#[test]
fn explain_answers_by_exit_code_and_in_words() {
    let allowed = ccpgate(Some(CONFIG), &["explain", "acme.my.connect.aws"]).expect(0);
    assert!(allowed.stdout.contains("allowed"), "{}", allowed.stdout);
    let denied = ccpgate(Some(CONFIG), &["explain", "evil.example"]).expect(1);
    assert!(denied.stdout.contains("denied") && denied.stdout.contains("no_rule"), "{}", denied.stdout);
    // Without TLS it is another port.
    for plain in ["http://acme.my.connect.aws/", "ws://acme.my.connect.aws"] {
        let denied = ccpgate(Some(CONFIG), &["explain", plain]).expect(1);
        assert!(denied.stdout.starts_with("acme.my.connect.aws:80: denied, port"), "{}", denied.stdout);
    }
    // One denied among several is a negative answer.
    ccpgate(Some(CONFIG), &["explain", "acme.my.connect.aws", "evil.example"]).expect(1);
    for nonsense in ["ho st", "host:99999", "[::1", "user@host", "", "a..b", "ftp://x/"] {
        let ran = ccpgate(Some(CONFIG), &["explain", nonsense]).expect(2);
        assert!(!ran.stderr.is_empty(), "{nonsense:?}");
    }
}

#[test]
fn explain_names_the_parent_that_carries_a_target() {
    let parent = "\n[egress]\nproxy = \"http://parent.corp:8080\"\nproxy_for = [\"*.my.connect.aws\"]\n";
    let carried = ccpgate(Some(&format!("{CONFIG}{parent}")), &["explain", "acme.my.connect.aws"]).expect(0);
    assert!(carried.stdout.contains("\n  through     http://parent.corp:8080"), "{}", carried.stdout);
    let redirected = "connect_to = { \"acme.my.connect.aws:443\" = \"127.0.0.1:8443\" }\n";
    for (more, target, code) in
        [("", "login.idp.example", 0), (redirected, "acme.my.connect.aws", 0), ("", "evil.my.connect.aws", 1)]
    {
        let config = format!("{CONFIG}{parent}{more}");
        let ran = ccpgate(Some(&config), &["explain", "--json", target]).expect(code);
        assert_eq!(ran.json()["through"], Value::Null, "{target}");
    }
}

#[test]
fn explain_as_json() {
    for (target, shown, decision, reason) in [
        ("acme.my.connect.aws", "acme.my.connect.aws:443", "allowed", None),
        ("ACME.my.connect.aws.:443", "acme.my.connect.aws:443", "allowed", None),
        (
            "wss://rtc1.connect-telecom.us-west-2.amazonaws.com/x",
            "rtc1.connect-telecom.us-west-2.amazonaws.com:443",
            "allowed",
            None,
        ),
        ("https://login.idp.example/a?b", "login.idp.example:443", "allowed", None),
        ("acme.my.connect.aws:8443", "acme.my.connect.aws:8443", "denied", Some("port")),
        ("x.bad.cloudfront.net", "x.bad.cloudfront.net:443", "denied", Some("deny_rule")),
        ("192.0.2.1", "192.0.2.1:443", "denied", Some("ip_literal")),
        ("[2001:db8::1]:443", "[2001:db8::1]:443", "denied", Some("ip_literal")),
        ("bücher.example", "xn--bcher-kva.example:443", "denied", Some("no_rule")),
        ("other.my.connect.aws", "other.my.connect.aws:443", "denied", Some("no_rule")),
    ] {
        let code = i32::from(decision == "denied");
        let json = ccpgate(Some(CONFIG), &["explain", "--json", target]).expect(code).json();
        let json = if json.is_array() { json[0].clone() } else { json };
        assert_eq!((&json["schema_version"], &json["target"]), (&1.into(), &shown.into()), "{json}");
        assert_eq!(json["decision"], decision, "{json}");
        assert_eq!(json["reason"], reason.map_or(Value::Null, Value::from), "{json}");
        for key in ["target", "decision", "reason", "rule", "category", "agent_sees", "nearest"] {
            assert!(json.get(key).is_some(), "no {key} in {json}");
        }
        if decision == "allowed" {
            assert!(json["rule"].is_string() && json["category"].is_string(), "{json}");
        }
    }
    let near = ccpgate(Some(CONFIG), &["explain", "--json", "acne.my.connect.aws"]).expect(1).json();
    let near = if near.is_array() { near[0].clone() } else { near };
    assert_eq!(near["nearest"]["rule"], "acme.my.connect.aws", "{near}");
    assert!(near["nearest"]["why"].is_string(), "{near}");
    let several =
        ccpgate(Some(CONFIG), &["explain", "--json", "acme.my.connect.aws", "evil.example"]).expect(1);
    assert_eq!(several.json().as_array().map(Vec::len), Some(2));
}

#[test]
fn pac_is_printed_as_served() {
    let config = format!("{CONFIG}\n[proxy]\nadvertise = [\"proxy1.corp:3128\"]");
    let pac = ccpgate(Some(&config), &["pac"]).expect(0).stdout;
    assert!(pac.is_ascii());
    assert!(pac.contains("FindProxyForURL") && pac.contains("PROXY proxy1.corp:3128"), "{pac}");
    let anywhere = format!("{CONFIG}\n[proxy]\nlisten = [\"0.0.0.0:3128\"]");
    let ran = ccpgate(Some(&anywhere), &["pac"]);
    assert!(
        ran.stderr.contains("advertise"),
        "0.0.0.0 is no address for a browser: {}{}",
        ran.stdout,
        ran.stderr
    );
}

#[test]
fn config_check_show_and_schema() {
    ccpgate(Some(CONFIG), &["config", "check"]).expect(0);
    ccpgate(None, &["config", "check"]).expect(0);
    let shown = ccpgate(Some(CONFIG), &["config", "show"]).expect(0).stdout;
    assert!(
        shown.contains("us-west-2") && shown.contains("test.toml"),
        "where each value came from: {shown}"
    );
    assert!(shown.contains("header_timeout") && shown.contains("default"), "{shown}");
    let shown = ccpgate(Some(CONFIG), &["config", "show", "--json"]).expect(0).json();
    assert_eq!(shown["schema_version"], 1, "{shown}");
    assert_eq!(shown["limits.header_timeout"]["source"], "default", "{shown}");
    let schema = ccpgate(None, &["config", "schema"]).expect(0).json();
    assert!(
        schema["properties"]["limits"].is_object() || schema.to_string().contains("header_timeout"),
        "{schema}"
    );
}

#[test]
fn mistakes_name_file_key_and_what_would_be_valid() {
    for (config, named) in [
        ("[limits]\nconnectoins = 5\n", vec!["test.toml", "connectoins", "connections"]),
        ("[limts]\nconnections = 5\n", vec!["test.toml", "limts", "limits"]),
        ("[policy]\nmode = \"lax\"\n", vec!["test.toml", "policy.mode", "lax", "enforce", "report"]),
        ("[connect]\nregions = [\"us-wset-2\"]\n", vec!["regions", "us-wset-2", "us-west-2"]),
        ("[connect]\nregions = []\n", vec!["regions"]),
        ("[limits]\nheader_timeout = \"soon\"\n", vec!["test.toml", "header_timeout", "soon"]),
        ("[limits]\nrequest_header = \"16 parsecs\"\n", vec!["test.toml", "request_header", "16KiB"]),
        ("[proxy]\nlisten = [\"localhost\"]\n", vec!["test.toml", "proxy.listen", "localhost"]),
        ("[proxy]\nclients = [\"10.0.0.0/33\"]\n", vec!["test.toml", "proxy.clients", "10.0.0.0/33"]),
        ("[[allow]]\npattern = \"a.**.b\"\n", vec!["test.toml", "a.**.b"]),
        ("[[allow]]\npattern = \"x.example\"\ncategory = \"chatt\"\n", vec!["category", "chatt", "chat"]),
        ("[[allow]]\nports = [443]\n", vec!["pattern"]),
        ("[connect\n", vec!["test.toml"]),
    ] {
        let ran = ccpgate(Some(config), &["config", "check"]).expect(2);
        for word in named {
            assert!(ran.stderr.contains(word), "no {word:?} for\n{config}\nin: {}", ran.stderr);
        }
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    }
    // All problems at once.
    let both = ccpgate(Some("[limits]\nconnectoins = 5\n[policy]\nmode = \"lax\"\n"), &["config", "check"])
        .expect(2);
    assert!(both.stderr.contains("connectoins") && both.stderr.contains("lax"), "{}", both.stderr);
}

#[test]
fn the_environment_is_a_layer_of_its_own() {
    let set = [("CCPGATE_LIMITS__CONNECTIONS", "77"), ("CCPGATE_PROXY__LISTEN", "[\"127.0.0.1:4128\"]")];
    let shown = ccpgate_with(Some(CONFIG), &["config", "show"], &set).expect(0).stdout;
    assert!(shown.contains("77") && shown.contains("CCPGATE_LIMITS__CONNECTIONS"), "{shown}");
    assert!(shown.contains("127.0.0.1:4128"), "{shown}");
    // Kubernetes injects these.
    let foreign = [("CCPGATE_PORT", "tcp://10.0.0.1:80"), ("CCPGATE_SERVICE_HOST", "10.0.0.1")];
    ccpgate_with(Some(CONFIG), &["config", "check"], &foreign).expect(0);
    let wrong = [("CCPGATE_LIMITS__CONNECTOINS", "77")];
    let ran = ccpgate_with(Some(CONFIG), &["config", "check"], &wrong).expect(2);
    assert!(ran.stderr.contains("CCPGATE_LIMITS__CONNECTOINS"), "{}", ran.stderr);
    let broken = [("CCPGATE_LIMITS__CONNECTIONS", "many")];
    let ran = ccpgate_with(Some(CONFIG), &["config", "check"], &broken).expect(2);
    assert!(ran.stderr.contains("CCPGATE_LIMITS__CONNECTIONS"), "{}", ran.stderr);
}

#[test]
fn wrong_usage_is_exit_2() {
    for arguments in [
        &["srve"][..],
        &["explain"],
        &["allowlist", "--format", "xml"],
        &["config", "frobnicate"],
        &["-c", "missing.toml", "config", "check"],
    ] {
        let ran = ccpgate(None, arguments).expect(2);
        assert!(
            !ran.stderr.is_empty() && ran.stdout.is_empty(),
            "{arguments:?}: {}{}",
            ran.stdout,
            ran.stderr
        );
    }
    let help = ccpgate(None, &["--help"]).expect(0).stdout;
    for command in ["serve", "allowlist", "explain", "pac", "config", "version"] {
        assert!(help.contains(command), "no {command} in the help");
    }
}

#[test]
fn an_address_in_use_is_exit_2_and_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let config = format!("[proxy]\nlisten = [\"{busy}\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n");
    let ran = ccpgate(Some(&config), &["serve"]).expect(2);
    assert!(ran.stderr.contains(&busy.to_string()), "{}", ran.stderr);
}

#[test]
fn a_check_reads_what_the_tls_listener_would() {
    let config = format!("{CONFIG}[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"missing.pem\"\n");
    let said = ccpgate(Some(&config), &["config", "check"]).expect(2).stderr;
    assert!(said.contains("tls.certificate") && said.contains("missing.pem"), "{said}");
    ccpgate(Some(&config), &["config", "show"]).expect(0);
}

#[test]
fn a_check_reads_the_authority_of_the_watch() {
    let said = ccpgate(Some("[watch]\nca = \"missing.pem\"\n"), &["config", "check"]).expect(2).stderr;
    assert!(said.contains("watch.ca") && said.contains("missing.pem"), "{said}");
}

#[test]
fn a_typing_error_is_told_the_nearest_command() {
    let said = ccpgate(None, &["alowlist"]).expect(2).stderr;
    assert!(said.contains("allowlist"), "{said}");
}

#[test]
fn a_sound_configuration_is_told_as_an_object_too() {
    let said = ccpgate(Some(CONFIG), &["config", "check", "--json"]).expect(0).json();
    let rules = ccpgate(Some(CONFIG), &["allowlist", "--json"]).expect(0).json();
    let udp = rules.as_array().unwrap().iter().filter(|rule| rule["protocol"] == "udp").count();
    assert_eq!((&said["schema_version"], &said["valid"]), (&1.into(), &true.into()), "{said:#}");
    assert_eq!((&said["patterns"]["udp"], &said["deny"]), (&udp.into(), &1.into()), "{said:#}");
    assert_eq!((&said["instances"][0], &said["mode"]), (&"acme".into(), &"enforce".into()), "{said:#}");
    assert_eq!(
        (&said["listen"][0], &said["against_live"]),
        (&"127.0.0.1:3128".into(), &Value::Null),
        "{said:#}"
    );
    let wrong = ccpgate(Some("[connect]\nregions = []\n"), &["config", "check", "--json"]).expect(2);
    assert!(wrong.stdout.is_empty() && wrong.stderr.contains("connect.regions"), "{}", wrong.stderr);
}

#[test]
fn a_dash_is_standard_input() {
    let says = |arguments: &[&str], input: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        let mut piped = Command::new("sh");
        piped.args(["-c", "file=$1; shift; cat \"$file\" | \"$@\"", "sh"]).arg(file.path());
        piped.arg(env!("CARGO_BIN_EXE_ccpgate"));
        ccpgate_by(piped, None, arguments)
    };
    let all = ccpgate(None, &["allowlist", "--format", "txt"]).expect(0).stdout;
    let audit = says(&["audit", "-", "--json"], &all).expect(0).json();
    assert_eq!((&audit["missing"], &audit["files"][0]["kind"]), (&serde_json::json!([]), &"domains".into()));
    let log = r#"[{"time": "2026-11-27T09:03:11.000Z", "level": "ERROR", "text": "Softphone error occurred :  ice_collection_timeout Ice collection timedout. "}]"#;
    let report = says(&["explain", "--log", "-", "--json"], log).expect(1).json();
    assert_eq!(report["errors"][0]["verdict"], "network", "{report:#}");
    let wrong = says(&["explain", "--log", "-"], "[1,").expect(2).stderr;
    assert!(wrong.contains("line 1, column"), "{wrong}");
    for arguments in [&["ranges", "show", "--file", "-"][..], &["firewall", "--file", "-"]] {
        let wrong = says(arguments, "<html>").expect(2).stderr;
        assert!(wrong.contains("line 1, column 1"), "{arguments:?}: {wrong}");
    }
}

/// In the words of what the proxy does: report mode denies nothing that no rule allows.
#[test]
fn explain_tells_what_report_mode_lets_through() {
    for (mode, through) in [("report", true), ("enforce", false)] {
        let toml = format!("[policy]\nmode = \"{mode}\"\n");
        let explain =
            |arguments: &[&str]| ccpgate(Some(&toml), &[&["explain"], arguments].concat()).expect(1);
        let json = explain(&["--json", "www.unlisted.example"]).json();
        assert_eq!((&json["decision"], &json["let_through"]), (&"denied".into(), &through.into()));
        let text = explain(&["www.unlisted.example"]).stdout;
        assert_eq!(
            text.contains("policy.mode = \"report\" counts it, and denies nothing"),
            through,
            "{text}"
        );
        // Refused all the same.
        assert_eq!(explain(&["--json", "10.1.2.3"]).json()["let_through"], false);
    }
}
