//! What the configuration lacks, and what only looks like it.

use super::*;
use crate::findings::words;

#[test]
fn what_the_configuration_lacks_is_named() {
    let mut proxy = Proxy::with_agents(300);
    for host in ["participant.connect.eu-west-2.amazonaws.com", "acme.my.connect.aws"] {
        proxy.denied(desk(1), host);
    }
    assert_eq!(proxy.causes(), [], "one client");
    proxy.denied(desk(2), "participant.connect.eu-west-2.amazonaws.com");
    let report = proxy.look();
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((finding.key.cause, finding.clients.len()), (Cause::NotConfigured, 2));
    assert_eq!(words::remedy(finding), "add \"eu-west-2\" in connect.regions, and reload");
    assert_eq!(finding.targets, ["participant.connect.eu-west-2.amazonaws.com"]);
    // An alias that somebody mistyped in the configuration locks everybody out.
    let mut proxy = Proxy::new();
    proxy.choice.instances = vec!["acmee".to_owned()];
    for number in 0..5 {
        proxy.denied(desk(number), "acme.my.connect.aws");
    }
    let report = proxy.look();
    assert_eq!(words::remedy(&report.findings[0]), "add \"acme\" in connect.instances, and reload");
    assert_eq!((report.state(), report.active), (State::Failed, 5));
}

#[test]
fn a_host_that_nobody_lists_needs_many_clients() {
    let mut proxy = Proxy::with_agents(100);
    for number in 0..19 {
        proxy.denied(desk(number), "crm.example");
    }
    assert_eq!(proxy.causes(), []);
    proxy.denied(desk(19), "crm.example");
    assert_eq!(proxy.causes(), [(Cause::NotConfigured, None, 20)]);
    // What browsers ask for by themselves stays silent, whoever asks.
    let mut proxy = Proxy::with_agents(100);
    for number in 0..100 {
        proxy.denied(desk(number), "update.googleapis.com");
        proxy.denied(desk(number), "edge.microsoft.com");
        proxy.denied(desk(number), &format!("shop{number}.example"));
    }
    assert_eq!(proxy.causes(), []);
}

/// A name that any AWS customer can have says nothing of what the configuration lacks: it is a host like any other.
#[test]
fn a_name_that_anybody_can_have_is_no_proof_that_something_is_missing() {
    for host in [
        "abc123.execute-api.us-east-1.amazonaws.com",
        "slack-files.s3.us-east-1.amazonaws.com",
        "media.s3.dualstack.eu-west-2.amazonaws.com",
        "corp.awsapps.com",
        "d-9967123456.awsapps.com",
        "ssoins-12.us-east-1.portal.amazonaws.com",
        "TurnNlb-shop.elb.us-west-2.amazonaws.com",
        "connect-recording-staging-x.s3.dualstack.ap-northeast-1.amazonaws.com",
        "x.awsglobalaccelerator.com",
    ] {
        let host = host.to_ascii_lowercase();
        let choice = || Choice {
            regions: vec!["eu-central-1".to_owned()],
            instances: vec!["acme".to_owned()],
            ..Choice::default()
        };
        let mut proxy = Proxy::with_agents(100);
        proxy.choice = choice();
        for number in 0..19 {
            proxy.denied(desk(number), &host);
        }
        assert_eq!(proxy.causes(), [], "{host}: less than 20 %");
        proxy.denied(desk(19), &host);
        let report = proxy.look();
        let [finding] = &report.findings[..] else { panic!("{host}: {report:?}") };
        assert_eq!((finding.key.category, &finding.targets[..]), (None, &[host.clone()][..]));
        assert!(words::remedy(finding).contains(&format!("run `ccpgate explain {host}`")), "{host}");
        // Nor does it say that calls fail.
        let mut proxy = Proxy::with_agents(5);
        proxy.choice = choice();
        for number in 0..3 {
            proxy.denied(desk(number), &host);
        }
        assert_eq!(proxy.look().state(), State::Degraded, "{host}");
    }
}

/// Names that Connect or a sign-in service alone hands out prove it, and so does a bucket that is named.
#[test]
fn a_name_that_aws_alone_hands_out_is_proof() {
    for (host, remedy) in [
        ("rival.my.connect.aws", "\"rival\" in connect.instances"),
        ("a.transport.connect.us-east-1.amazonaws.com", "\"us-east-1\" in connect.regions"),
        ("portal.sso.eu-central-1.amazonaws.com", "\"identity-center\" in connect.signin"),
        ("acme-files.s3.us-east-1.amazonaws.com", "\"us-east-1\" in connect.regions"),
        ("1f2e.eu-central-1.sign-in.connect.aws", "\"global-resiliency\" in connect.features"),
    ] {
        let mut proxy = Proxy::with_agents(100);
        proxy.choice = Choice {
            regions: vec!["eu-central-1".to_owned()],
            instances: vec!["acme".to_owned()],
            attachment_buckets: vec!["acme-files".to_owned()],
            ..Choice::default()
        };
        proxy.denied(desk(1), host);
        proxy.denied(desk(2), host);
        let report = proxy.look();
        let [finding] = &report.findings[..] else { panic!("{host}: {report:?}") };
        assert_eq!(words::remedy(finding), format!("add {remedy}, and reload"));
    }
}

/// The finding ends at the next look, and no other takes its place until the agents have tried again.
#[test]
fn a_reload_that_mends_it_ends_it() {
    let mistyped = |proxy: &mut Proxy| proxy.choice.instances = vec!["acmee".to_owned()];
    type Mend = fn(&mut Proxy);
    let mended: [(&str, Mend); 4] = [
        ("acme.my.connect.aws", |proxy| proxy.choice.instances = vec!["acme".to_owned()]),
        ("participant.connect.eu-west-2.amazonaws.com", |proxy| {
            proxy.choice.regions.push("eu-west-2".to_owned())
        }),
        ("crm.example", |proxy| proxy.allow = vec![Pattern::parse("crm.example").unwrap()]),
        // Denied on purpose: nothing is lacking any more.
        ("ads.example", |proxy| proxy.deny = vec![Pattern::parse("ads.example").unwrap()]),
    ];
    for (host, mend) in mended {
        let mut proxy = Proxy::new();
        mistyped(&mut proxy);
        // They come first in the order of look-ups.
        for other in 0..40 {
            proxy.denied(desk(other % 2), &format!("shop{other}.example"));
            proxy.denied(desk(2), &format!("shop{other}.example"));
        }
        for number in 0..50 {
            proxy.denied(desk(number), host);
        }
        for _ in 0..10 {
            proxy.now += 1;
            proxy.look();
        }
        assert_eq!(proxy.look().findings.len(), 1, "{host}");
        mend(&mut proxy);
        proxy.reload();
        for _ in 0..60 {
            proxy.now += 1;
            assert_eq!(proxy.causes(), [], "{host}");
        }
        // Taken back, it is lacking again, and agents find out.
        mistyped(&mut proxy);
        proxy.choice.regions = vec!["us-west-2".to_owned()];
        (proxy.allow, proxy.deny) = (Vec::new(), Vec::new());
        proxy.reload();
        for _ in 0..10 {
            proxy.now += 1;
            assert_eq!(proxy.causes(), [], "{host}");
        }
        for number in 0..50 {
            proxy.denied(desk(number), host);
        }
        assert_eq!(proxy.causes().len(), 1, "{host}");
    }
}

#[test]
fn a_reload_of_something_else_leaves_it_as_it_is() {
    let mut proxy = Proxy::new();
    proxy.choice.instances = vec!["acmee".to_owned()];
    for other in 0..40 {
        for number in 0..2 {
            proxy.denied(desk(number), &format!("shop{other}.example"));
        }
    }
    for number in 0..50 {
        proxy.denied(desk(number), "acme.my.connect.aws");
        proxy.denied(desk(number), "participant.connect.eu-west-2.amazonaws.com");
        proxy.denied(desk(number), "crm.example");
    }
    let keys = |report: &Report| report.findings.iter().map(|f| (f.key, f.since)).collect::<Vec<_>>();
    for _ in 0..10 {
        proxy.now += 1;
        proxy.look();
    }
    let before = keys(&proxy.look());
    assert_eq!(before.len(), 3);
    for _ in 0..3 {
        proxy.reload();
        for _ in 0..15 {
            proxy.now += 1;
            assert_eq!(keys(&proxy.look()), before);
        }
    }
    // One of them is mended: the others stay what they are.
    proxy.choice.instances = vec!["acme".to_owned()];
    proxy.reload();
    let left: Vec<_> =
        before.iter().filter(|(key, _)| key.category != Some(Category::Login)).copied().collect();
    assert_eq!(left.len(), 2);
    for _ in 0..15 {
        proxy.now += 1;
        assert_eq!(keys(&proxy.look()), left);
    }
}

/// What no host stands for any more makes room: aliases that a client makes up don't take the place of what agents need.
#[test]
fn needs_that_no_host_stands_for_make_room() {
    let mut proxy = Proxy::new();
    for round in 0..20 {
        for made_up in 0..64 {
            for _ in 0..3 {
                proxy.denied(desk(7), &format!("x{round}-{made_up}.my.connect.aws"));
            }
        }
        for _ in 0..9 {
            proxy.look();
        }
    }
    proxy.now += 700;
    // What one client asked for goes.
    for made_up in 0..600 {
        proxy.denied(desk(8), &format!("h{made_up}.example"));
    }
    for number in 0..2 {
        proxy.denied(desk(number), "participant.connect.eu-west-2.amazonaws.com");
    }
    let report = proxy.look();
    assert_eq!(words::remedy(&report.findings[0]), "add \"eu-west-2\" in connect.regions, and reload");
}
