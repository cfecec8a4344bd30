//! What is said of our own file without an engine, held against the engine.

use super::direct;
use super::*;
use crate::pac::own::Own;

const LANES: &[&[&str]] =
    &[&["HTTPS p.corp:3129", "HTTPS p.corp:3130", "HTTPS p.corp:3131"], &["PROXY p.corp:3128"]];

/// Asserts that a file is recognised, and answers the same by both ways.
fn agrees(pac: &str, hosts: &[String]) {
    let own = Own::recognise(pac).expect("our own file");
    let urls: Vec<String> = hosts.iter().map(|host| format!("https://{host}/")).collect();
    let answers = ask(pac, urls.iter().map(String::as_str).zip(hosts.iter().map(String::as_str)));
    for (host, answer) in hosts.iter().zip(answers) {
        let parsed = Host::parse(host.as_bytes()).unwrap();
        assert_eq!(own.answer(&parsed), answer, "{host}");
    }
}

#[test]
fn any_other_file_is_not_ours() {
    let ours = rendered(&policy(&["a.example.com", "*.b.example.com", "c*.example.com"]));
    assert!(Own::recognise(&ours).is_some());
    assert!(Own::recognise(&format!("\u{feff}{}\r\n\r\n", ours.replace('\n', "\r\n"))).is_some());
    for (what, with) in [
        // A function that was edited, or that comes later and wins.
        ("return \"DIRECT\";", "return \"PROXY x:1\";"),
        ("function FindProxyForURL", "function findProxyForURL"),
        ("var OTHERWISE = ", "var OTHERWISE = LISTED + "),
        ("var OTHERWISE = ", "var otherwise = "),
        ("// Single hosts", "FindProxyForURL = 1; // Single hosts"),
        ("[^.]*", "[^,]*"),
        ("\".a.example.com\": 1", "\".a.example.com\": 1,"),
        ("\".a.example.com\": 1", "\".a.example.com\": -1"),
        ("[8, 32512, 0]", "[8, 32512]"),
        ("[8, 32512, 0]", "[33, 32512, 0]"),
    ] {
        assert!(ours.contains(what), "{what}");
        assert!(Own::recognise(&ours.replacen(what, with, 1)).is_none(), "{with}");
    }
    for text in [
        "",
        "function FindProxyForURL(url, host) { return \"DIRECT\"; }",
        &ours[1..],
        &ours[..ours.len() / 2],
    ] {
        assert!(Own::recognise(text).is_none(), "{text}");
    }
    let deep = format!("var OTHERWISE = {}", "[".repeat(100_000));
    assert!(Own::recognise(&ours.replace("var OTHERWISE = ", &deep)).is_none());
    let later = format!("{ours}\nfunction FindProxyForURL() {{ return \"DIRECT\"; }}\n");
    assert!(Own::recognise(&later).is_none());
}

#[test]
fn lanes_and_odd_words_are_read_back() {
    let mut answers = answers(&["PROXY \"; alert(1) //\\\n\u{2028}\u{1f600}</script>"], "SOCKS x:1; DIRECT");
    let listed = policy(&["*.example.com", "shard*.example.net", "192.0.2.9", "2001:db8::9", "example.*"]);
    let hosts: Vec<String> = [
        "a.example.com",
        "example.com",
        "shard12-a.example.net",
        "12shard.example.com",
        "192.0.2.9",
        "[2001:db8::9]",
        "example.org",
        "localhost",
        "a.localhost",
        "127.0.0.9",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "intranet",
    ]
    .map(str::to_owned)
    .to_vec();
    agrees(&render(&listed, &answers), &hosts);
    answers.direct = ["plain", "10.0.0.0/8", "2001:db8::/33", "*.direct.example.com", "a.example.com"]
        .iter()
        .map(|entry| direct::entry(entry))
        .collect();
    answers.listed = LANES.iter().map(|row| row.iter().map(|word| (*word).to_owned()).collect()).collect();
    let mut hosts = hosts;
    hosts.extend(["x.direct.example.com", "10.255.0.1", "11.0.0.1"].map(str::to_owned));
    hosts.extend((0..200).map(|n| format!("h{n}.shard{}.example.com", n * 7)));
    agrees(&render(&listed, &answers), &hosts);
    let nothing = Answers { listed: Vec::new(), ..answers };
    agrees(&render(&listed, &nothing), &hosts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn answers_as_an_engine_does(
        patterns in proptest::collection::vec(any_pattern(), 0..12),
        direct in proptest::collection::vec(any_pattern(), 0..3),
        hosts in proptest::collection::vec(r"([abAB_-]{1,3}\.){0,4}[ab]\.(com|net)", 60),
        lanes: bool,
    ) {
        let mut answers = answers(&ON.split("; ").collect::<Vec<_>>(), OFF);
        if lanes {
            answers.listed = LANES.iter().map(|row| row.iter().map(|word| (*word).to_owned()).collect()).collect();
        }
        answers.direct = direct.iter().map(|text| Direct::Pattern(Pattern::parse(text).unwrap())).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        agrees(&render(&policy(&patterns), &answers), &hosts);
    }
}
