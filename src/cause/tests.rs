use std::collections::BTreeSet;
use std::str::FromStr;

use super::*;

fn all() -> impl Iterator<Item = Cause> {
    Cause::VARIANTS.iter().copied()
}

/// The order and the words of the contract, row by row.
#[test]
fn words_and_order_are_those_that_users_rely_on() {
    let words: Vec<&str> = all().map(Cause::as_str).collect();
    let expected = "clock_skew proxy_unreachable proxy_auth proxy_denied proxy_limit pac_missing \
         dns_nxdomain dns_servfail dns_timeout dns_private outside_ranges dns_slow instance_unknown \
         tcp_refused tcp_timeout tcp_reset tcp_unreachable source_address path_mtu \
         tls_intercepted tls_expired tls_wrong_name tls_failed http_unexpected \
         ws_refused ws_stripped ws_hung ws_cut ws_buffered ws_slow idle_cut \
         udp_blocked turn_partial turn_loss \
         not_configured tunnel_reset tunnel_idle one_desk foreign_protocol limit ranges_stale ranges_aside ranges_due";
    assert_eq!(words, expected.split_whitespace().collect::<Vec<_>>());
    assert!(Cause::VARIANTS.is_sorted());
    for cause in all() {
        assert_eq!(Cause::from_str(cause.as_str()), Ok(cause));
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
    assert!(Cause::from_str("dns").is_err());
}

#[test]
fn every_cause_has_words() {
    let mut seen = BTreeSet::new();
    for cause in all() {
        let about = cause.about();
        for text in [about.definition, about.agent_sees, about.remedy] {
            assert!(text.len() > 20 && text == text.trim() && !text.ends_with('.'), "{cause:?}: {text}");
            assert!(text.chars().all(|c| !c.is_control()), "{cause:?}: {text}");
        }
        assert!(seen.insert(about.definition), "{cause:?} shares its definition");
        assert!(seen.insert(about.remedy), "{cause:?} shares its remedy");
        // What is measured and can be both has its numbers, or says what decides.
        if let Some(Threshold::From { .. }) = about.threshold {
            assert!(matches!(about.grade, Grade::Depends(_)), "{cause:?}");
        }
    }
}

#[test]
fn owners() {
    let of = |owner: Owner| {
        let words: Vec<&str> = all().filter(|c| c.about().owner == owner).map(Cause::as_str).collect();
        words.join(" ")
    };
    assert_eq!(of(Owner::Desk), "clock_skew one_desk foreign_protocol");
    assert_eq!(
        of(Owner::Proxy),
        "proxy_unreachable proxy_auth proxy_denied proxy_limit pac_missing limit ranges_stale ranges_aside"
    );
    assert_eq!(
        of(Owner::Network),
        "dns_nxdomain dns_servfail dns_timeout dns_private outside_ranges dns_slow path_mtu tunnel_reset \
         tunnel_idle"
    );
    assert_eq!(of(Owner::Configuration), "instance_unknown not_configured");
    assert_eq!(
        of(Owner::Firewall),
        "tcp_refused tcp_timeout tcp_reset tcp_unreachable source_address idle_cut udp_blocked \
         turn_partial turn_loss ranges_due"
    );
    assert_eq!(
        of(Owner::Security),
        "tls_intercepted tls_expired tls_wrong_name tls_failed http_unexpected ws_refused \
         ws_stripped ws_hung ws_cut ws_buffered ws_slow"
    );
}

#[test]
fn nothing_hides_in_a_circle() {
    // Whatever is left over when those that nothing hides are taken away, again and again.
    let mut left: Vec<Cause> = all().collect();
    while let Some(at) = left.iter().position(|c| !left.iter().any(|other| other.hides(*c))) {
        left.remove(at);
    }
    assert_eq!(left, []);
}

#[test]
fn what_hides_what() {
    use Cause as C;
    assert!(C::DnsTimeout.hides(C::TcpTimeout) && C::DnsTimeout.hides(C::UdpBlocked));
    assert!(C::ProxyUnreachable.hides(C::TlsFailed) && !C::ProxyUnreachable.hides(C::UdpBlocked));
    assert!(C::InstanceUnknown.hides(C::DnsNxdomain) && !C::DnsNxdomain.hides(C::InstanceUnknown));
    assert!(C::PathMtu.hides(C::TlsFailed) && !C::PathMtu.hides(C::UdpBlocked));
    assert!(C::TcpTimeout.hides(C::IdleCut) && C::ClockSkew.hides(C::TlsExpired));
    // Slow is not dead, and an interceptor that works isn't the block page behind it.
    assert!(!C::DnsSlow.hides(C::TcpTimeout) && !C::TlsIntercepted.hides(C::HttpUnexpected));
    assert!(!C::ClockSkew.hides(C::TcpTimeout));
}

#[test]
fn thresholds() {
    let seconds = Duration::from_secs;
    let clock = Cause::ClockSkew.about().threshold.unwrap();
    let cases = [(9, None), (10, Some(Severity::Degraded)), (300, Some(Severity::Failed))];
    for (measured, severity) in cases {
        assert_eq!(clock.judge(seconds(measured)), severity, "{measured}");
    }
    let slow = Cause::DnsSlow.about().threshold.unwrap();
    assert_eq!(slow.judge(seconds(1)), None);
    assert_eq!(slow.judge(Duration::from_millis(1001)), Some(Severity::Degraded));
    let silent = Cause::UdpBlocked.about().threshold.unwrap();
    assert_eq!(silent.judge(seconds(8)), Some(Severity::Failed));
    let loss = Cause::TurnLoss.about().threshold.unwrap();
    for ((lost, sent), severity) in [
        ((4, 8), None),
        ((5, 50), None),
        ((5, 49), Some(Severity::Degraded)),
        ((u32::MAX, u32::MAX), Some(Severity::Degraded)),
    ] {
        assert_eq!(loss.judge_loss(lost, sent), severity, "{lost} of {sent}");
    }
    assert_eq!((loss.judge(seconds(99)), clock.judge_loss(9, 9)), (None, None));
    assert_eq!(clock.to_string(), "degraded from 10 s, failed from 5 min");
    assert_eq!(loss.to_string(), "at least 5 lost and over 10 %");
}
