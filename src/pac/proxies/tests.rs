//! Which proxies are named, and what is said of a list that doesn't fit the listeners.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::config::{Loaded, Sources, load};
use crate::plan::Plan;

fn loaded(set: &[&str]) -> (Loaded, Plan) {
    let set = set.iter().map(|flag| (*flag).to_owned()).collect();
    let loaded = load(&Sources { set, ..Sources::default() }).unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan::new(&loaded);
    (loaded, plan)
}

/// The line of the PAC file that names the proxies.
fn listed(pac: &str) -> &str {
    pac.lines().find_map(|line| line.strip_prefix("var LISTED = ")).unwrap()
}

#[track_caller]
fn expect_standing(set: &[&str], expected: &str) {
    let (loaded, plan) = loaded(set);
    let pac = crate::pac::render(&plan.policy, &Advertise::from(&loaded.config).standing(None).unwrap());
    assert_eq!(listed(&pac), expected, "{set:?}");
}

/// Somebody's.
const DESK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 4, 1, 7));

#[track_caller]
fn expect_fetched(set: &[&str], host: Option<&str>, local: &str, expected: &str) {
    let (loaded, plan) = loaded(set);
    let advertise = Advertise::from(&loaded.config);
    let pac = crate::pac::render(
        &plan.policy,
        &advertise.as_fetched(host, local.parse().unwrap(), Key::of_client(DESK)),
    );
    assert_eq!(listed(&pac), expected, "{set:?}");
}

#[test]
fn lanes_are_the_ports_of_one_name_and_scheme() {
    let advertise = "proxy.advertise=https://p1:3129,p1:3128,https://P1:3139,p2:3128,https://p2:3129,p1:3138";
    expect_standing(
        &[advertise],
        r#""HTTPS p1:3129; PROXY p1:3128; HTTPS P1:3139; PROXY p2:3128; HTTPS p2:3129; PROXY p1:3138";"#,
    );
    expect_standing(
        &[advertise, "pac.lanes=true"],
        r#"[["HTTPS p1:3129", "HTTPS P1:3139"], ["PROXY p1:3128", "PROXY p1:3138"], ["PROXY p2:3128"], ["HTTPS p2:3129"]];"#,
    );
    // Nothing to spread over: as without.
    expect_standing(
        &["proxy.advertise=p1:3128,p2:3128", "pac.lanes=true"],
        r#""PROXY p1:3128; PROXY p2:3128";"#,
    );
    expect_standing(
        &["proxy.advertise=[::1]:3128,[::1]:3138", "pac.lanes=true"],
        r#"[["PROXY [::1]:3128", "PROXY [::1]:3138"]];"#,
    );
}

#[test]
fn the_words_of_one_proxy_stay_together_in_the_order_of_a_client() {
    let advertise = "proxy.advertise=https://p1:3129,https://p2:3129,https://p3:3129,p1:3128,P2:3128,p3:3128";
    let (loaded, plan) = loaded(&[advertise, "pac.spread=client"]);
    let advertise = Advertise::from(&loaded.config);
    let mut orders = std::collections::BTreeSet::new();
    for n in 0..200 {
        let client = IpAddr::V4(Ipv4Addr::new(10, 4, 1, n));
        let local = "127.0.0.1:3128".parse().unwrap();
        let fetched =
            crate::pac::render(&plan.policy, &advertise.as_fetched(None, local, Key::of_client(client)));
        let words: Vec<String> =
            listed(&fetched).trim_matches(['"', ';']).split("; ").map(str::to_owned).collect();
        assert_eq!(words.len(), 6);
        let name = |word: &str| word.split([' ', ':']).nth(1).unwrap().to_ascii_lowercase();
        for pair in words.chunks(2) {
            assert_eq!(name(&pair[0]), name(&pair[1]), "{words:?}");
            assert!(pair[0].starts_with("HTTPS ") && pair[1].starts_with("PROXY "), "{words:?}");
        }
        // The same for the one who asks in the client's name.
        let asked =
            crate::pac::render(&plan.policy, &advertise.standing(Key::of_text(&client.to_string())).unwrap());
        assert_eq!(listed(&asked), listed(&fetched));
        orders.insert(words);
    }
    assert_eq!(orders.len(), 6, "all orders of three");
    // Nobody's key: as it is written.
    let standing = crate::pac::render(&plan.policy, &advertise.standing(None).unwrap());
    assert!(listed(&standing).starts_with("\"HTTPS p1:3129; HTTPS p2:3129;"), "{}", listed(&standing));
}

#[test]
fn lanes_stay_with_their_proxy() {
    let advertise = "proxy.advertise=p1:3128,p2:3128,p1:3138,p2:3138";
    let spread = ["p1", "p2"].map(|first| {
        let other = if first == "p1" { "p2" } else { "p1" };
        format!(
            r#"[["PROXY {first}:3128", "PROXY {first}:3138"], ["PROXY {other}:3128", "PROXY {other}:3138"]];"#
        )
    });
    let (loaded, plan) = loaded(&[advertise, "pac.lanes=true", "pac.spread=client"]);
    let advertise = Advertise::from(&loaded.config);
    let seen: std::collections::BTreeSet<String> = (0..20)
        .map(|n| {
            crate::pac::render(&plan.policy, &advertise.standing(Key::of_text(&format!("desk-{n}"))).unwrap())
        })
        .map(|pac| listed(&pac).to_owned())
        .collect();
    assert_eq!(seen, spread.into_iter().collect());
}

#[test]
fn without_advertise_the_listeners_are_named() {
    let listen = "proxy.listen=127.0.0.1:3128,127.0.0.1:3138,[::1]:3128";
    let tls = "tls.listen=0.0.0.0:3129,[::]:3129,0.0.0.0:3139";
    expect_standing(&[listen], r#""PROXY 127.0.0.1:3128";"#);
    expect_standing(&[listen, "pac.lanes=true"], r#"[["PROXY 127.0.0.1:3128", "PROXY 127.0.0.1:3138"]];"#);
    expect_fetched(
        &[listen, tls],
        Some("proxy1.corp:3138"),
        "127.0.0.1:3138",
        r#""HTTPS proxy1.corp:3129; PROXY proxy1.corp:3128";"#,
    );
    expect_fetched(
        &[listen, tls, "pac.lanes=true"],
        Some("proxy1.corp:3138"),
        "127.0.0.1:3138",
        r#"[["HTTPS proxy1.corp:3129", "HTTPS proxy1.corp:3139"], ["PROXY proxy1.corp:3128", "PROXY proxy1.corp:3138"]];"#,
    );
    // Over IPv6 there is one port of each.
    expect_fetched(
        &[listen, tls, "pac.lanes=true"],
        None,
        "[::1]:3128",
        r#""HTTPS [::1]:3129; PROXY [::1]:3128";"#,
    );
    // Where the browser came in, not where the first listener is.
    expect_fetched(
        &["proxy.listen=127.0.0.1:3128,10.1.2.3:3138"],
        None,
        "10.1.2.3:3138",
        r#""PROXY 10.1.2.3:3138";"#,
    );
    expect_fetched(
        &["proxy.listen=127.0.0.1:3128", "tls.listen=10.1.2.3:3129"],
        Some("p"),
        "127.0.0.1:3128",
        r#""HTTPS p:3129; PROXY p:3128";"#,
    );
}

/// Each remark by its beginning, `warning` or `note`, and the words that it must have.
#[track_caller]
fn expect_remarks(set: &[&str], expected: &[(&str, &[&str])]) {
    let (loaded, plan) = loaded(set);
    let found: Vec<_> = remarks(&Advertise::from(&loaded.config), &plan.policy)
        .into_iter()
        .map(|remark| match remark {
            Remark::Warning(text) => ("warning", text),
            Remark::Note(text) => ("note", text),
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{set:?}: {found:#?}");
    for ((kind, text), (expected, words)) in found.iter().zip(expected) {
        assert_eq!(kind, expected, "{set:?}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{set:?}: {text}");
    }
}

#[test]
fn a_list_that_fits_is_not_remarked_upon() {
    for fits in [
        &[][..],
        &["tls.listen=0.0.0.0:3129"],
        &["proxy.advertise=p1:3128,p2:3128"],
        &["proxy.advertise=https://p1:3129,p1:3128", "tls.listen=0.0.0.0:3129"],
        &["proxy.advertise=https://p1:3129", "tls.listen=0.0.0.0:3129"],
        // Another machine has no TLS, and another instance another port.
        &["proxy.advertise=https://p1:3129,p2:3128", "tls.listen=0.0.0.0:3129"],
        &["proxy.advertise=p2:3128,https://p1:3129", "tls.listen=0.0.0.0:3129"],
        &["proxy.advertise=p1:3128,p1:3130"],
        // The system chooses the port.
        &["proxy.advertise=p1:4444", "proxy.listen=127.0.0.1:0"],
        &[
            "proxy.advertise=p1:3128,p1:3138,p2:80",
            "proxy.listen=0.0.0.0:3128,0.0.0.0:3138",
            "pac.lanes=true",
        ],
        &["proxy.listen=0.0.0.0:3128,0.0.0.0:3138", "pac.lanes=true"],
        &["proxy.listen=127.0.0.1:0,127.0.0.2:0", "pac.lanes=true"],
        &["pac.direct=plain,*.corp.example,10.0.0.0/8"],
    ] {
        expect_remarks(fits, &[]);
    }
}

#[test]
fn a_tls_listener_that_browsers_are_not_sent_to_is_warned_of() {
    let tls = "tls.listen=0.0.0.0:3129";
    expect_remarks(
        &[tls, "proxy.advertise=p1:3128,p2:3128"],
        &[("warning", &["in clear", "put \"https://p1:3129\" first"])],
    );
    expect_remarks(&[tls, "proxy.advertise=[::1]:3128"], &[("warning", &["\"https://[::1]:3129\" first"])]);
    expect_remarks(
        &[tls, "proxy.advertise=P1:3128,https://p1:3129"],
        &[("warning", &["\"P1:3128\" before \"https://p1:3129\"", "in clear"])],
    );
}

#[test]
fn what_is_advertised_and_does_not_listen_is_told() {
    expect_remarks(
        &["proxy.advertise=https://p1:3129,p1:3128"],
        &[("warning", &["\"https://p1:3129\"", "tls.listen is empty"])],
    );
    expect_remarks(
        &["proxy.advertise=https://p1:3129,p1:3128", "tls.listen=0.0.0.0:3129", "proxy.listen="],
        &[("warning", &["\"p1:3128\"", "proxy.listen is empty"])],
    );
    expect_remarks(
        &["proxy.advertise=p1:3182,p2:80"],
        &[("note", &["\"p1:3182\"", "port 3128 only", "port mapping"])],
    );
    // The scheme is the wrong one.
    expect_remarks(
        &["proxy.advertise=https://p1:3128"],
        &[("warning", &["\"https://p1:3128\"", "proxy.listen", "write \"p1:3128\""])],
    );
    expect_remarks(
        &["proxy.advertise=https://p1:3129,p2:3129", "tls.listen=0.0.0.0:3129"],
        &[("warning", &["\"p2:3129\"", "tls.listen", "write \"https://p2:3129\""])],
    );
    // Agents begin at each lane, so each has to listen.
    expect_remarks(
        &["proxy.advertise=p1:3128,p1:3183", "proxy.listen=0.0.0.0:3128,0.0.0.0:3138", "pac.lanes=true"],
        &[("note", &["\"p1:3183\"", "3128, 3138"])],
    );
}

#[test]
fn settings_without_effect_or_with_too_much_are_warned_of() {
    expect_remarks(&["pac.lanes=true"], &[("warning", &["pac.lanes", "second port"])]);
    for nothing in [&["pac.spread=client"][..], &["pac.spread=client", "proxy.advertise=p1:3128,P1:3138"]] {
        expect_remarks(nothing, &[("warning", &["pac.spread", "proxy.advertise"])]);
    }
    expect_remarks(&["pac.spread=client", "proxy.advertise=p1:3128,p2:3128"], &[]);
    expect_remarks(
        &["pac.lanes=true", "proxy.advertise=p1:3128,p2:3128"],
        &[("warning", &["pac.lanes", "second port of one proxy"])],
    );
    expect_remarks(
        &["pac.lanes=true", "proxy.listen=127.0.0.1:3128,[::1]:3128"],
        &[("warning", &["pac.lanes", "listen on a second port"])],
    );
    expect_remarks(
        &["connect.instances=acme", "pac.direct=*.connect.aws"],
        &[("warning", &["\"*.connect.aws\"", "acme.my.connect.aws", "without the proxy"])],
    );
}
