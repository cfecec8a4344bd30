//! What a running proxy remembers: its tunnels, what it denied, which hosts it learned; over the API
//! and by the commands that ask it.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::support::{PATIENCE, Proxy, Ran, Raw, Refusing, Upstream, ccpgate, eventually};

fn api(proxy: &Proxy, path: &str) -> Value {
    let answer = proxy.get(path);
    assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.head, answer.text());
    assert_eq!(answer.field("content-type"), Some("application/json"));
    answer.json()
}

fn ask(proxy: &Proxy, arguments: &[&str], code: i32) -> Ran {
    let url = format!("http://{}", proxy.admin());
    ccpgate(None, &[arguments, &["--admin", &url]].concat()).expect(code)
}

fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A tunnel from 127.0.0.`last`, which the ledger knows: it is told just after the 200.
fn tunnel_from(proxy: &Proxy, last: u8, target: &str) -> Raw {
    let known = || api(proxy, "/api/tunnels")["live"].as_array().unwrap().len();
    let before = known();
    let mut client = Raw::connect_from(client(last), proxy.http());
    assert_eq!(client.connect_target(target).status, 200, "{target}");
    eventually("the tunnel in the ledger", || (known() > before).then_some(()));
    client
}

const POLICY: &str = "[[allow]]\npattern = \"*.example\"\ncategory = \"chat\"\n";

#[test]
fn a_tunnel_is_shown_while_it_lives_and_after_its_end() {
    let upstream = Upstream::echo();
    let proxy =
        Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&["A.Example:443", "b.example:443"])));
    let mut first = tunnel_from(&proxy, 2, "A.example:443");
    let _second = tunnel_from(&proxy, 3, "b.example:443");
    first.expect_echo(b"hello");
    let row = eventually("five bytes each way", || {
        let all = api(&proxy, "/api/tunnels?client=127.0.0.2");
        let live = all["live"].as_array().unwrap();
        assert_eq!((live.len(), &all["ended"]), (1, &Value::Array(Vec::new())), "{all}");
        (live[0]["received"] == 5).then(|| live[0].clone())
    });
    assert_eq!(row["client"], "127.0.0.2");
    assert_eq!(row["target"], "a.example:443");
    assert_eq!((&row["domain"], &row["category"]), (&"*.example".into(), &"chat".into()));
    assert_eq!(row["sent"], 5);
    assert_eq!(row["upstream"], upstream.address().to_string());
    assert!(row["idle_s"].as_u64().unwrap() < PATIENCE.as_secs(), "{row}");
    assert_eq!(row["generation"], api(&proxy, "/api/status")["generations"][0]["id"]);
    assert!(row["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(api(&proxy, "/api/tunnels?host=b.example")["live"][0]["client"], "127.0.0.3");
    assert_eq!(api(&proxy, "/api/tunnels?host=b.example%3A443")["live"][0]["client"], "127.0.0.3");
    assert_eq!(api(&proxy, "/api/tunnels?host=*.example")["live"].as_array().unwrap().len(), 2);
    assert_eq!(
        api(&proxy, "/api/tunnels?client=127.0.0.0%2F8&host=none.example")["live"],
        Value::Array(vec![])
    );
    let limited = api(&proxy, "/api/tunnels?limit=1");
    assert_eq!((limited["live"].as_array().unwrap().len(), &limited["live_left_out"]), (1, &1.into()));

    first.finish();
    first.expect_closed();
    let line = proxy.access_line("tunnel", "a.example:443");
    let all = api(&proxy, "/api/tunnels?client=127.0.0.2");
    let ended = &all["ended"][0];
    assert_eq!(all["live"], Value::Array(Vec::new()));
    for key in ["id", "target", "domain", "category", "upstream", "outcome", "ended_by", "sent", "received"] {
        assert_eq!(ended[key], line[key], "{key}");
    }
    assert_eq!(ended["ended"], line["time"]);
    assert_eq!(ended["since"], row["since"]);

    let shown = ask(&proxy, &["tunnels"], 0).stdout;
    assert!(shown.contains("1 tunnel live") && shown.contains("1 tunnel ended, all since "), "{shown}");
    assert!(shown.contains("a.example:443") && shown.contains("b.example:443"), "{shown}");
    let json = ask(&proxy, &["tunnels", "--json", "--client", "127.0.0.3"], 0).json();
    assert_eq!((&json["schema_version"], &json["live"][0]["client"]), (&1.into(), &"127.0.0.3".into()));
    assert_eq!(json["ended"], Value::Array(Vec::new()));
    let json = ask(&proxy, &["tunnels", "--json", "--client", "127.0.0.3/32"], 0).json();
    assert_eq!(json["live"][0]["client"], "127.0.0.3", "a network");
}

#[test]
fn what_came_to_nothing_is_among_the_ended_and_no_more_than_ledger_ended() {
    let refusing = Refusing::new();
    let proxy = Proxy::start(&format!(
        "{POLICY}[egress.connect_to]\n\"*.example:443\" = \"{}\"\n[ledger]\nended = 2\n",
        refusing.address()
    ));
    for host in ["a.example", "b.example", "c.example"] {
        proxy.connect().connect_target(&format!("{host}:443"));
        proxy.access_line("tunnel", &format!("{host}:443"));
    }
    let all = api(&proxy, "/api/tunnels");
    let ended = all["ended"].as_array().unwrap();
    let targets: Vec<_> = ended.iter().map(|row| row["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["c.example:443", "b.example:443"]);
    assert_eq!((&ended[0]["outcome"], &ended[0]["ended_by"]), (&"connect".into(), &"proxy".into()));
    assert_eq!(all["ended_left_out"], 0);
    proxy.reload(&format!("{POLICY}[ledger]\nended = 0\n"), "ok");
    assert_eq!(api(&proxy, "/api/tunnels")["ended"], Value::Array(Vec::new()));
}

#[test]
fn a_query_that_is_no_address_or_host_is_told_what_would_be() {
    let proxy = Proxy::start(POLICY);
    for (query, valid) in [
        ("client=desk-7", "10.0.0.0/8"),
        ("client=10.0.0.300", "10.0.0.0/8"),
        ("host=a%00b", "host"),
        ("host=**", "pattern"),
        ("limit=0", "100000"),
        ("limit=-1", "100000"),
    ] {
        let answer = proxy.get(&format!("/api/tunnels?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(valid) && !answer.text().contains('\0'), "{query}: {}", answer.text());
    }
    for arguments in
        [["tunnels", "--client", "desk-7"], ["tunnels", "--host", "a b"], ["tunnels", "--limit", "0"]]
    {
        ccpgate(None, &arguments).expect(2);
    }
}

#[test]
fn with_anonymise_no_client_address_is_shown_anywhere() {
    let upstream = Upstream::echo();
    let anonymous = "[ledger]\nanonymise = true\n";
    let policy = format!(
        "{POLICY}{}[proxy]\nclients = [\"127.0.0.0/28\"]\n",
        upstream.for_targets(&["a.example:443"])
    );
    let proxy = Proxy::start(&format!("{policy}{anonymous}"));
    let mut ended = tunnel_from(&proxy, 7, "a.example:443");
    ended.finish();
    ended.expect_closed();
    let line = proxy.access_line("tunnel", "a.example:443");
    assert_eq!(line["client"], "127.0.0.0:0");
    let _live = tunnel_from(&proxy, 8, "a.example:443");
    assert_eq!(Raw::connect_from(client(99), proxy.http()).connect_target("a.example:443").status, 403);
    let denial = proxy.access_line("denied", "a.example:443");
    assert_eq!(denial["client"], "127.0.0.0:0");
    assert!(denial["detail"].as_str().unwrap().contains("127.0.0.0"), "{denial}");
    // Whoever asks for one address gets its whole network, and learns nothing of that one.
    let all = api(&proxy, "/api/tunnels?client=127.0.0.200");
    assert_eq!(
        (&all["live"][0]["client"], &all["ended"][0]["client"]),
        (&"127.0.0.0".into(), &"127.0.0.0".into())
    );
    assert_eq!(all["clients_are_networks"], true);
    let text = format!("{all}{}{:?}", ask(&proxy, &["tunnels"], 0).stdout, proxy.log_so_far());
    for address in ["127.0.0.7", "127.0.0.8", "127.0.0.99"] {
        assert!(!text.contains(address), "{address} in {text}");
    }
    proxy.reload(&policy, "ok");
    assert_eq!(api(&proxy, "/api/tunnels?client=127.0.0.8")["live"][0]["client"], "127.0.0.8");
}

#[test]
fn denials_are_gathered_by_target_with_what_would_let_them_through() {
    let proxy = Proxy::start(&format!("{POLICY}[policy]\ndeny = [\"bad.example\"]\n"));
    let deny = |last: u8, target: &str| {
        let status = Raw::connect_from(client(last), proxy.http()).connect_target(target).status;
        assert_eq!(status, 403, "{target}");
    };
    deny(1, "bad.example:443");
    for last in [2, 3, 2] {
        deny(last, "participant.connect.eu-west-2.amazonaws.com:443");
    }
    deny(4, "acme.my.connect.aws:8443");
    proxy.ask("GET http://idp.corp/login?password=S3cret HTTP/1.1\r\nHost: idp.corp\r\n\r\n");
    let all = api(&proxy, "/api/denied");
    let rows = all.as_array().unwrap();
    let targets: Vec<_> =
        rows.iter().map(|row| (row["target"].as_str().unwrap(), row["reason"].as_str().unwrap())).collect();
    assert_eq!(
        targets,
        [
            ("http://idp.corp", "method"),
            ("acme.my.connect.aws:8443", "port"),
            ("participant.connect.eu-west-2.amazonaws.com:443", "no_rule"),
            ("bad.example:443", "deny_rule"),
        ]
    );
    let region = &rows[2];
    assert_eq!((&region["count"], &region["clients"]), (&3.into(), &2.into()));
    assert!(region["elsewhere"].as_str().unwrap().contains("\"eu-west-2\" in connect.regions"), "{region}");
    assert!(region["nearest"]["rule"].as_str().unwrap().contains("us-west-2"), "{region}");
    assert!(region["first"].as_str() <= region["last"].as_str(), "{region}");
    assert_eq!(rows[1]["nearest"]["rule"], "acme.my.connect.aws");
    assert_eq!(rows[3]["nearest"]["rule"], "bad.example");
    let shown = ask(&proxy, &["denied"], 0).stdout;
    assert!(shown.contains("no_rule, 3 times by 2 clients"), "{shown}");
    assert!(shown.contains("\"eu-west-2\" in connect.regions"), "{shown}");
    assert_eq!(ask(&proxy, &["denied", "--json"], 0).json(), all);
    // A denied list that a reload has mended says so.
    let wider = format!("{POLICY}[connect]\nregions = [\"us-west-2\", \"eu-west-2\"]\n");
    proxy.reload(&wider, "ok");
    let row = &api(&proxy, "/api/denied")[2];
    assert_eq!((&row["allowed_now"], &row["elsewhere"]), (&true.into(), &Value::Null));
}

#[test]
fn report_mode_shows_what_it_would_deny() {
    let upstream = Upstream::echo();
    let proxy =
        Proxy::start(&format!("[policy]\nmode = \"report\"\n{}", upstream.for_targets(&["crm.example:443"])));
    let _live = tunnel_from(&proxy, 1, "crm.example:443");
    let row = &api(&proxy, "/api/denied")[0];
    assert_eq!((&row["target"], &row["let_through"]), (&"crm.example:443".into(), &true.into()));
    let live = &api(&proxy, "/api/tunnels")["live"][0];
    assert_eq!((&live["domain"], &live["category"]), (&"none".into(), &"none".into()));
    assert_eq!(api(&proxy, "/api/learned"), Value::Array(Vec::new()));
}

#[test]
fn hosts_under_open_rules_are_learned_as_entries() {
    let upstream = Upstream::echo();
    let targets = ["d1.cloudfront.net:443", "d2.cloudfront.net:443", "acme.my.connect.aws:443"];
    let proxy = Proxy::start(&upstream.for_targets(&targets));
    let mut live: Vec<Raw> = [(2, 0), (3, 0), (4, 0), (2, 1), (2, 2)]
        .into_iter()
        .map(|(last, at)| tunnel_from(&proxy, last, targets[at]))
        .collect();
    let mut first = live.remove(0);
    for client in [&mut first, &mut live[0]] {
        client.expect_echo(b"hello");
    }
    first.finish();
    first.expect_closed();
    proxy.access_line("tunnel", targets[0]);
    let of = |all: &Value, host: &str| {
        all.as_array().unwrap().iter().find(|row| row["host"] == host).cloned().unwrap_or_default()
    };
    let all = eventually("what a live tunnel moved as well", || {
        let all = api(&proxy, "/api/learned");
        (of(&all, "d1.cloudfront.net")["received"] == 10 && !of(&all, "d2.cloudfront.net").is_null())
            .then_some(all)
    });
    assert_eq!(all.as_array().unwrap().len(), 2, "the instance's own host is not one of them: {all}");
    let (first, second) = (of(&all, "d1.cloudfront.net"), of(&all, "d2.cloudfront.net"));
    assert_eq!((&first["clients"], &first["rule"]), (&3.into(), &"*.cloudfront.net".into()));
    assert_eq!((&first["sent"], &second["sent"]), (&10.into(), &0.into()));

    let entries = ask(&proxy, &["learned"], 0).stdout;
    let table: toml::Table = entries.parse().unwrap_or_else(|error| panic!("{error} in\n{entries}"));
    let allowed = table["allow"].as_array().unwrap();
    assert_eq!(allowed.len(), 1, "{entries}");
    assert_eq!(allowed[0]["pattern"].as_str(), Some("d1.cloudfront.net"));
    assert!(entries.contains("\n# pattern = \"d2.cloudfront.net\"\n"), "{entries}");
    ccpgate(Some(&entries), &["config", "check"]).expect(0);
    assert_eq!(ask(&proxy, &["learned", "--json"], 0).json(), all);
}

#[test]
fn proxies_of_one_fleet_show_the_same_configuration_hash() {
    let hash = |proxy: &Proxy| {
        let text = proxy.metrics().text;
        let series: Vec<&str> =
            text.lines().filter(|line| line.starts_with("ccpgate_config_hash{")).collect();
        assert_eq!(series.len(), 1, "{series:?}");
        series[0].to_owned()
    };
    let (one, two) = (Proxy::start(POLICY), Proxy::start(POLICY));
    assert_eq!(hash(&one), hash(&two));
    let before = hash(&one);
    one.reload(&format!("{POLICY}[limits]\ndrain = \"1h\"\n"), "ok");
    assert_ne!(hash(&one), before);
    one.reload("[limits]\ndrain = \"soon\"\n", "error");
    assert_ne!(hash(&one), before, "what is in force stays");
    one.reload(POLICY, "ok");
    assert_eq!(hash(&one), before);
    // Keys that systemd hands to each instance, in a folder of that instance's name.
    let with_key = |folder: &str, name: &str| {
        let key = format!("{folder}/{name}");
        let variables = [("CREDENTIALS_DIRECTORY", folder), ("CCPGATE_TLS__KEY", key.as_str())];
        hash(&Proxy::start_with_variables(POLICY, &variables))
    };
    let (a, b) = ("/run/credentials/ccpgate@a.service", "/run/credentials/ccpgate@b.service");
    assert_eq!(with_key(a, "proxy.key"), with_key(b, "proxy.key"));
    assert_ne!(with_key(a, "proxy.key"), with_key(b, "other.key"));
}
