//! The allow list in the forms of other products: marks at their entries, and Squid's form in Squid.

use crate::support::{Raw, Squid, ccpgate, have};

const CONFIG: &str = r#"
[connect]
regions = ["us-west-2"]
instances = ["acme"]
[[allow]]
pattern = "login.idp.example"
[[allow]]
pattern = "*.crm.example"
[policy]
deny = ["*.bad.cloudfront.net"]
"#;

#[test]
fn every_entry_has_its_mark() {
    for format in ["squid", "smokescreen", "envoy", "suricata"] {
        let text = ccpgate(Some(CONFIG), &["allowlist", "--format", format]).expect(0).stdout;
        assert!(text.contains("# exact: acme.my.connect.aws"), "{format}: {text}");
    }
    for format in ["paloalto", "zscaler", "aws-network-firewall", "fortigate", "checkpoint", "umbrella"] {
        let ran = ccpgate(Some(CONFIG), &["allowlist", "--format", format]).expect(0);
        let mark = if format == "umbrella" { "widened" } else { "exact" };
        assert!(ran.stderr.contains(&format!("{mark}: acme.my.connect.aws")), "{format}: {}", ran.stderr);
        assert!(ran.stdout.contains("my.connect.aws") || format == "fortigate", "{format}: {}", ran.stdout);
        assert!(!ran.stdout.contains('\r') && ran.stdout.ends_with('\n'), "{format}");
    }
    let ran = ccpgate(Some(CONFIG), &["allowlist", "--format", "paloalto"]).expect(0);
    assert!(ran.stdout.lines().all(|line| line.ends_with('/')), "{}", ran.stdout);
    assert!(ran.stdout.contains("^.connect-telecom.us-west-2.amazonaws.com/\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("widened: *.cloudfront.net, also lets a.bad.cloudfront.net through"));
}

#[test]
fn squid_itself_decides_as_the_proxy_does() {
    if !have("squid") {
        return;
    }
    let list = ccpgate(Some(CONFIG), &["allowlist", "--format", "squid"]).expect(0).stdout;
    // What is let through goes to a parent that isn't there: nothing is resolved, and 503 tells it from 403.
    let squid = Squid::start(&format!(
        "{list}http_access allow CONNECT ccpgate\nhttp_access deny all\n\
         cache_peer 127.0.0.1 parent 9 0 no-query default\nnever_direct allow all\nconnect_retries 0\n"
    ));
    let hosts = [
        "acme.my.connect.aws",
        "ACME.my.connect.aws",
        "other.my.connect.aws",
        "x.acme.my.connect.aws",
        "my.connect.aws",
        "rtc1-a.connect-telecom.us-west-2.amazonaws.com",
        "rtc.connect-telecom.us-west-2.amazonaws.com",
        "rtc.a.connect-telecom.us-west-2.amazonaws.com",
        "xrtc.connect-telecom.us-west-2.amazonaws.com",
        "rtc.connect-telecom.us-west-2.amazonaws.com.evil.example",
        "rtcxconnect-telecom.us-west-2.amazonaws.com",
        "d111.cloudfront.net",
        "d1.bad.cloudfront.net",
        "bad.cloudfront.net",
        "cloudfront.net",
        "login.idp.example",
        "xlogin.idp.example",
        "a.b.crm.example",
        "crm.example",
        "www.example.org",
    ];
    let explained = ccpgate(Some(CONFIG), &[&["explain", "--json"][..], &hosts].concat()).json();
    let mut allowed = 0;
    for (host, said) in hosts.iter().zip(explained.as_array().unwrap()) {
        let mut client = Raw::connect(([127, 0, 0, 1], squid.port.number()).into());
        let answer = client.connect_target(&format!("{host}:443"));
        let is_allowed = said["decision"] == "allowed";
        allowed += usize::from(is_allowed);
        assert_eq!(answer.status != 403, is_allowed, "{host}: {}", answer.head);
    }
    assert!((6..hosts.len() - 6).contains(&allowed), "{allowed}");
}

#[test]
fn audit_says_what_another_list_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // Our own list for Squid, by a file that another one includes.
    write("ccpgate.conf", &ccpgate(Some(CONFIG), &["allowlist", "--format", "squid"]).expect(0).stdout);
    let squid = write(
        "squid.conf",
        // With a star, as Debian's own file includes its folder.
        "include ccp*.conf\nhttp_access allow CONNECT ccpgate\nhttp_access deny all\n",
    );
    let ran = ccpgate(Some(CONFIG), &["audit", &squid, "--json"]).expect(0);
    let json = ran.json();
    assert_eq!((&json["schema_version"], &json["missing"]), (&1.into(), &serde_json::json!([])));
    assert_eq!(json["files"][0]["kind"], "squid");
    assert_eq!((&json["wider"], &json["unneeded"]), (&serde_json::json!([]), &serde_json::json!([])));

    let list = write("list.txt", ".my.connect.aws\nlogin.idp.example\nwww.shop.example\n");
    let ran = ccpgate(Some(CONFIG), &["audit", &list, "--json"]).expect(1);
    let json = ran.json();
    assert_eq!((&json["files"][0]["kind"], &json["files"][0]["entries"]), (&"domains".into(), &3.into()));
    let missing = json["missing"].as_array().unwrap();
    let rtc =
        missing.iter().find(|m| m["pattern"] == "rtc*.connect-telecom.us-west-2.amazonaws.com").unwrap();
    assert!(rtc["category"] == "telecom" && rtc["agent_sees"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(missing.iter().any(|m| m["category"] == "media"), "the names of media servers");
    assert!(!missing.iter().any(|m| m["pattern"] == "acme.my.connect.aws"));
    assert_eq!(json["wider"][0]["entry"], ".my.connect.aws");
    assert_eq!(json["unneeded"], serde_json::json!(["www.shop.example"]));
    let text = ccpgate(Some(CONFIG), &["audit", &list]).expect(1).stdout;
    assert!(text.contains("missing: ") && text.contains("wider than needed: 1"), "{text}");

    let empty = write("empty", "# nothing\n");
    let ran = ccpgate(Some(CONFIG), &["audit", &list, &empty]).expect(2);
    assert!(ran.stderr.contains(&empty) && ran.stderr.contains("no entry"), "{}", ran.stderr);
    let lost = write("lost.conf", "include gone.conf\n");
    let ran = ccpgate(Some(CONFIG), &["audit", &lost]).expect(2);
    assert!(ran.stderr.contains("include gone.conf: can't be read"), "{}", ran.stderr);
    let ran = ccpgate(Some(CONFIG), &["audit", "/nowhere"]).expect(2);
    assert!(ran.stderr.contains("/nowhere: can't be read"), "{}", ran.stderr);
}

/// `config/ccpgate.example.toml` makes a PAC file, and that has all that it was made of.
#[test]
fn audit_of_our_own_pac_file_misses_nothing() {
    let config = std::fs::read_to_string("config/ccpgate.example.toml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let pac = ccpgate(Some(&config), &["pac"]).expect(0).stdout;
    // As a web server for Windows may hand it out.
    for (name, text) in [("proxy.pac", pac.clone()), ("crlf.pac", pac.replace('\n', "\r\n"))] {
        let json = ccpgate(Some(&config), &["audit", &write(name, text), "--json"]).expect(0).json();
        assert_eq!(json["files"][0]["kind"], "pac");
        for none in ["missing", "wider", "unneeded"] {
            assert_eq!(json[none], serde_json::json!([]), "{name}: {none}");
        }
    }
    // One that was edited: with an engine it is run, without one that is said.
    let edited = write("edited.pac", pac.replace("return OTHERWISE;", "return \"DIRECT\";"));
    let ran = ccpgate(Some(&config), &["audit", &edited]).expect(0);
    assert_eq!(ran.stderr.contains("isn't run"), !cfg!(feature = "pac-engine"), "{}", ran.stderr);
}
