//! Targets that attackers and odd clients ask for, a numbered table row each. A target is strictly
//! `host:port`, or refused.

use crate::support::Right::{Refused, Tunnel, TunnelOrRefused};
use crate::support::{LITERAL, MALFORMED, Right, Table};

const NO_RULE: Right = Refused(&[403], &["no_rule"]);

#[test]
fn ports_of_the_target() {
    let mut table = Table::new();
    for (case, target) in [
        (1, "good.example"),
        (2, "good.example:"),
        (3, "good.example:0"),
        (4, "good.example:65536"),
        (4, "good.example:99999"),
        (4, "good.example:4294967739"),
        (4, "good.example:18446744073709552059"),
        (5, "good.example:-1"),
        (5, "good.example:+443"),
        (5, "good.example:0x1bb"),
        (5, "good.example:https"),
        (5, "good.example:४४३"),
        (5, "good.example:443:443"),
        (5, "good.example:443/"),
    ] {
        table.target(case, target, &MALFORMED);
    }
    table.target(5, "good.example:4 43", &MALFORMED);
    for target in ["good.example:0443", "good.example:00000000443"] {
        table.target(6, target, &TunnelOrRefused(&[400], &["malformed"]));
    }
    table.finish();
}

#[test]
fn hosts_of_the_target() {
    let mut table = Table::new();
    for (case, target) in [
        (7, ":443"),
        (8, "user@good.example:443"),
        (8, "user:pw@good.example:443"),
        (8, "good.example:443@evil.example:443"),
        (9, "[good.example]:443"),
        (10, "[::1%25.wild.example]:443"),
        (10, "[fe80::1%eth0]:443"),
        (12, "::1:443"),
        (12, "[::1:443"),
        (12, "::1]:443"),
        (12, "[[::1]]:443"),
        (12, "[]:443"),
        (15, "good.example..:443"),
        (15, ".good.example:443"),
        (15, "good..example:443"),
        (17, "%67ood.example:443"),
        (17, "good.example%00.evil.example:443"),
        (17, "good.example%2eevil.example:443"),
        (18, "gööd.example:443"),
        (18, "ｇood.example:443"),
        (18, "good。example:443"),
        (18, "good\u{200b}.example:443"),
        (20, "good.example\0.evil.example:443"),
        (20, "good.example\\:443"),
        (20, "good|.example:443"),
        (20, "good\".example:443"),
        (20, "good<.example:443"),
        (20, "good;.example:443"),
        (20, "good,evil.example:443"),
        (20, "good'.example:443"),
    ] {
        table.target(case, target, &MALFORMED);
    }
    for byte in [b'\t', 0x7f, 0x80, 0xff] {
        let mut target = b"good".to_vec();
        target.push(byte);
        target.extend(b".example:443");
        table.target(20, target, &MALFORMED);
    }
    for target in ["[::1]:443", "[2600:f0f2:7100::1]:443"] {
        table.target(11, target, &LITERAL);
    }
    for target in ["[::ffff:169.254.169.254]:443", "[64:ff9b::a9fe:a9fe]:443"] {
        table.target(13, target, &LITERAL);
    }
    table.target(14, "good.example.:443", &Tunnel);
    table.target(16, "GoOd.ExAmPlE:443", &Tunnel);
    // Never decoded: what reads as "good" is no more than this label.
    for target in ["xn--good-.example:443", "xn--a.example:443", "xn--99999999999.example:443"] {
        table.target(19, target, &NO_RULE);
    }
    table.target(19, "xn--good-.wild.example:443", &Refused(&[502], &["dns"]));
    for label in [64, 250, 251, 252, 10_000] {
        let target = format!("{}.wild.example:443", "a".repeat(label));
        table.target(21, target, &Refused(&[400, 414, 431], &["malformed", "header_size"]));
    }
    let long = format!("{}wild.example:443", "a.".repeat(121));
    table.target(21, long, &MALFORMED);
    for target in ["*.wild.example:443", "rtc*.part.example:443"] {
        table.target(22, target, &Refused(&[400, 403], &["malformed", "no_rule"]));
    }
    for target in [
        "evil-good.example:443",
        "xgood.example:443",
        "good.example.evil.example:443",
        "rtc.evil.part.example:443",
        "rtc1.part.example.evil.example:443",
        "wild.example:443",
        "evilwild.example:443",
    ] {
        table.target(65, target, &NO_RULE);
    }
    // What carries the media goes over UDP: there is no tunnel to it, on no port.
    for target in [
        "turnnlb-d76454ac48d20c1e.elb.us-west-2.amazonaws.com:3478",
        "turnnlb-d76454ac48d20c1e.elb.us-west-2.amazonaws.com:443",
    ] {
        table.target(92, target, &Refused(&[403], &["port", "no_rule"]));
    }
    for target in
        ["127.0.0.1:443", "127.1:443", "2130706433:443", "0x7f000001:443", "0177.0.0.1:443", "0:443"]
    {
        table.target(70, target, &Refused(&[400, 403], &["ip_literal", "no_rule", "malformed"]));
    }
    table.target(70, "127.0.0.1.:443", &Refused(&[400, 403], &["ip_literal", "no_rule", "malformed"]));
    table.finish();
}
