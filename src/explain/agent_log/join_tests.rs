use super::*;
use crate::catalogue::symptoms;

fn time(text: &str) -> Timestamp {
    format!("2026-11-27T{text}Z").parse().unwrap()
}

fn tunnel(id: &str, category: Category, moved: &str, end: Option<(&str, EndedBy, &str)>) -> Tunnel {
    Tunnel {
        id: id.to_owned(),
        host: "a.transport.connect.us-west-2.amazonaws.com".to_owned(),
        category,
        began: time("08:00:00"),
        moved: time(moved),
        end: end.map(|(at, by, outcome)| End { at: time(at), by, outcome: outcome.to_owned() }),
    }
}

fn row(id: &str) -> &'static Symptom {
    symptoms().iter().find(|row| row.id == id).unwrap()
}

#[track_caller]
fn judged_as(id: &str, tunnels: &[Tunnel]) -> (Side, String, String) {
    let desk = Desk { tunnels: tunnels.to_vec(), complete_since: Some(time("08:00:00")), now: None };
    let joined = join(time("09:03:11"), row(id), &desk).unwrap();
    (joined.side, joined.sentence, joined.tunnels.join(" "))
}

#[track_caller]
fn judged(tunnels: &[Tunnel]) -> (Side, String, String) {
    judged_as("handshake", tunnels)
}

/// A tunnel to a host of the sign-in, of the API or of the administrator's own, named by that host.
fn login(host: &str, moved: &str, end: Option<(&str, EndedBy, &str)>) -> Tunnel {
    Tunnel { host: host.to_owned(), ..tunnel(host, Category::Login, moved, end) }
}

const INSTANCE: &str = "acme.my.connect.aws";
const SIGNIN: &str = "us-west-2.signin.aws.amazon.com";
const PROVIDER: &str = "login.idp.example";

#[test]
fn an_unrelated_host_of_the_same_category_says_nothing() {
    let cut = login(INSTANCE, "09:02:38", None);
    let closed = login(SIGNIN, "09:02:30", Some(("09:02:30", EndedBy::Client, "ok")));
    let (side, sentence, ids) = judged_as("api-failed", &[cut, closed.clone()]);
    assert_eq!((side, ids.as_str()), (Side::Network, INSTANCE), "{sentence}");
    for other in [
        closed,
        login(PROVIDER, "09:03:08", None),
        login(PROVIDER, "09:02:30", None),
        login(PROVIDER, "09:03:01", Some(("09:03:01", EndedBy::Upstream, "upstream_reset"))),
        login("pics.s3.dualstack.us-east-1.amazonaws.com", "09:03:08", None),
        login("d-1234567890.awsapps.com", "09:03:08", None),
    ] {
        let (side, sentence, ids) = judged_as("api-failed", std::slice::from_ref(&other));
        assert_eq!((side, ids.as_str()), (Side::Proxy, ""), "{}: {sentence}", other.host);
        let hosts = "*.my.connect.aws, *.awsapps.com, *.govcloud.connect.aws, *.execute-api.*.amazonaws.com";
        assert!(sentence.starts_with(&format!("no tunnel of this desk to {hosts} existed at")), "{sentence}");
    }
    for own in ["acme.awsapps.com", "acme.govcloud.connect.aws", "x.execute-api.us-west-2.amazonaws.com"] {
        assert_eq!(judged_as("api-failed", &[login(own, "09:03:08", None)]).0, Side::Aws, "{own}");
    }
}

#[test]
fn what_went_wrong_comes_before_what_did_not() {
    let failed = login(INSTANCE, "09:02:51", Some(("09:02:51", EndedBy::Proxy, "connect")));
    let silent = login("b.my.connect.aws", "09:02:45", None);
    let reset =
        login("c.my.connect.aws", "09:03:05", Some(("09:03:05", EndedBy::Upstream, "upstream_reset")));
    let open = login("d.my.connect.aws", "09:03:10", None);
    let closed = login("e.my.connect.aws", "09:03:10", Some(("09:03:10", EndedBy::Client, "ok")));
    let mut all = vec![closed, open, reset, silent, failed];
    while let Some(expected) = all.last().map(|tunnel| tunnel.id.clone()) {
        assert_eq!(judged_as("api-failed", &all).2, expected);
        all.pop();
    }
}

#[test]
fn silence_says_nothing_beside_another_tunnel_to_the_same_host_that_moves_bytes() {
    let named = |id: &str, tunnel: Tunnel| Tunnel { id: id.to_owned(), ..tunnel };
    let idle = named("idle", login(INSTANCE, "09:02:30", Some(("09:03:45", EndedBy::Client, "ok"))));
    let live = named("live", login(INSTANCE, "09:03:10", None));
    let (side, sentence, ids) = judged_as("api-failed", &[idle.clone(), live.clone()]);
    assert_eq!((side, ids.as_str()), (Side::Aws, "live"), "{sentence}");
    // That another host is reached says nothing of this one's silence, nor does one that failed.
    let other = login("b.my.connect.aws", "09:03:10", None);
    assert_eq!(judged_as("api-failed", &[idle.clone(), other]).2, "idle");
    let reset = login(INSTANCE, "09:03:05", Some(("09:03:05", EndedBy::Upstream, "upstream_reset")));
    assert_eq!(judged_as("api-failed", &[idle, live, named("reset", reset)]).2, "reset");
    let left = tunnel("left", Category::Signalling, "09:02:11", None);
    let new = tunnel("new", Category::Signalling, "09:03:09", None);
    assert_eq!(judged(std::slice::from_ref(&left)).0, Side::Network);
    let (side, sentence, ids) = judged(&[left, new]);
    assert_eq!((side, ids.as_str()), (Side::Aws, "new"), "{sentence}");
}

#[test]
fn an_ordinary_close_decides_for_web_sockets_alone() {
    let closed = |at| login(INSTANCE, at, Some((at, EndedBy::Client, "ok")));
    // It was gone by then, and nothing came after it.
    assert_eq!(judged_as("api-failed", &[closed("09:03:06")]).0, Side::Proxy);
    let (side, sentence, ids) = judged_as("api-failed", &[closed("09:03:10")]);
    assert_eq!((side, ids.as_str()), (Side::Unknown, INSTANCE), "{sentence}");
    let closed = tunnel("t", Category::Signalling, "09:03:06", Some(("09:03:06", EndedBy::Client, "ok")));
    assert_eq!(judged(&[closed]).0, Side::Desk);
}

#[test]
fn a_sign_in_goes_to_many_hosts() {
    let failed = login(PROVIDER, "09:03:09", Some(("09:03:09", EndedBy::Proxy, "dns")));
    let well = login(SIGNIN, "09:03:10", None);
    assert_eq!(judged_as("signin", &[well.clone(), failed.clone()]).2, PROVIDER);
    let (side, sentence, _) = judged_as("signin", std::slice::from_ref(&well));
    assert_eq!(side, Side::Unknown, "one of them says nothing of the others: {sentence}");
    assert_eq!(judged_as("signin", &[login(SIGNIN, "09:00:00", None)]).0, Side::Unknown);
    assert_eq!(judged_as("signin", &[login(PROVIDER, "09:03:08", None)]).0, Side::Proxy);
    // A panel that loads needs more than its own host.
    assert_eq!(judged_as("initialization", &[login(INSTANCE, "09:03:10", None)]).0, Side::Unknown);
}

#[test]
fn a_silent_tunnel_that_was_reset() {
    let (side, sentence, ids) = judged(&[
        login(INSTANCE, "09:03:10", None),
        tunnel(
            "dead",
            Category::Signalling,
            "09:02:38",
            Some(("09:03:02", EndedBy::Upstream, "upstream_reset")),
        ),
    ]);
    assert_eq!((side, ids.as_str()), (Side::Network, "dead"));
    assert_eq!(
        sentence,
        "this desk's tunnel to a.transport.connect.us-west-2.amazonaws.com was silent from 09:02:38Z \
         and was reset by AWS's side at 09:03:02Z"
    );
}

#[test]
fn no_tunnel_means_past_the_proxy() {
    for tunnels in [
        vec![],
        vec![login(INSTANCE, "09:03:10", None)],
        vec![tunnel("old", Category::Signalling, "08:10:00", Some(("08:10:00", EndedBy::Client, "ok")))],
    ] {
        let (side, sentence, ids) = judged(&tunnels);
        assert_eq!((side, ids.as_str()), (Side::Proxy, ""));
        assert!(sentence.contains("went past the proxy"), "{sentence}");
    }
}

#[test]
fn sides() {
    let cases = [
        (("09:03:05", None), Side::Aws),
        (("09:02:11", None), Side::Network),
        (("09:03:00", Some(("09:03:01", EndedBy::Proxy, "idle_timeout"))), Side::Proxy),
        (("09:03:00", Some(("09:03:01", EndedBy::Proxy, "drained"))), Side::Proxy),
        (("09:03:00", Some(("09:03:01", EndedBy::Client, "client_reset"))), Side::Desk),
        (("09:03:00", Some(("09:03:01", EndedBy::Client, "ok"))), Side::Desk),
        (("09:03:00", Some(("09:03:01", EndedBy::Upstream, "ok"))), Side::Aws),
        (("09:03:00", Some(("09:03:01", EndedBy::Proxy, "connect"))), Side::Network),
        // It ended after the failure, and was well until then.
        (("09:03:10", Some(("09:05:00", EndedBy::Upstream, "upstream_reset"))), Side::Aws),
    ];
    for ((moved, end), side) in cases {
        let (judged, sentence, _) = judged(&[tunnel("t", Category::Signalling, moved, end)]);
        assert_eq!(judged, side, "{sentence}");
    }
}

#[test]
fn the_likeliest_host_speaks() {
    let telecom = Tunnel {
        host: "rtc1.connect-telecom.us-west-2.amazonaws.com".to_owned(),
        ..tunnel("telecom", Category::Telecom, "09:03:00", Some(("09:03:01", EndedBy::Client, "ok")))
    };
    let signalling = tunnel("signalling", Category::Signalling, "09:03:09", None);
    assert_eq!(judged(&[telecom, signalling]).2, "signalling");
}

#[test]
fn media_goes_past_the_proxy() {
    for id in ["ice-timeout", "busy"] {
        assert_eq!(join(time("09:03:11"), row(id), &Desk::default()), None, "{id}");
    }
}

#[test]
fn what_the_proxy_does_not_remember_proves_nothing() {
    let desk = |since| Desk { complete_since: Some(time(since)), ..Desk::default() };
    let join = |since| join(time("09:03:11"), row("handshake"), &desk(since)).unwrap();
    assert_eq!(join("09:02:11").side, Side::Proxy);
    let unknown = join("09:02:12");
    assert_eq!(unknown.side, Side::Unknown);
    assert!(unknown.sentence.contains("2026-11-27 09:02:12Z"), "{}", unknown.sentence);
}

#[test]
fn a_log_may_tell_any_time() {
    let ended = Some(("09:03:02", EndedBy::Upstream, "upstream_reset"));
    let tunnel = tunnel("t", Category::Signalling, "09:02:38", ended);
    for tunnels in [vec![], vec![tunnel]] {
        let desk = Desk { tunnels, complete_since: Some(time("08:00:00")), now: Some(Timestamp::MAX) };
        let side = |at| join(at, row("handshake"), &desk).unwrap().side;
        assert_eq!((side(Timestamp::MIN), side(Timestamp::MAX)), (Side::Unknown, Side::Proxy));
    }
}

#[test]
fn a_failure_in_the_future_proves_that_a_clock_is_wrong() {
    let desk = |now| Desk { now: Some(time(now)), ..Desk::default() };
    let side = |now| join(time("09:03:11"), row("handshake"), &desk(now)).unwrap().side;
    assert_eq!(
        (side("09:03:12"), side("08:58:11"), side("08:58:10")),
        (Side::Proxy, Side::Proxy, Side::Unknown)
    );
}
