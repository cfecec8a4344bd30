//! Which rules a choice makes, checked against what AWS prints.

use std::collections::BTreeSet;

use proptest::prelude::*;
use strum::VariantArray;

use super::*;
use crate::policy::Category;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn acme(regions: &[&str]) -> Choice {
    Choice {
        regions: strings(regions),
        instances: strings(&["acme"]),
        attachment_buckets: strings(&["acme-files"]),
        ..Choice::default()
    }
}

fn list(choice: &Choice) -> Resolved {
    resolve(choice)
}

fn patterns(choice: &Choice) -> BTreeSet<String> {
    list(choice).rules.iter().map(|rule| rule.pattern.as_str().to_owned()).collect()
}

#[track_caller]
fn has(choice: &Choice, all: &[&str], none: &[&str]) {
    let got = patterns(choice);
    for name in all {
        assert!(got.contains(*name), "{name} is missing from {got:#?}");
    }
    for name in none {
        assert!(!got.contains(*name), "{name} is in {got:#?}");
    }
}

/// The rows of the training text's table, for one Region.
const SEED: [(&str, u16, Protocol, Category); 13] = [
    ("rtc*.connect-telecom.us-west-2.amazonaws.com", 443, Protocol::Tcp, Category::Telecom),
    ("acme.my.connect.aws", 443, Protocol::Tcp, Category::Login),
    ("*.static.connect.aws", 443, Protocol::Tcp, Category::Static),
    ("acme.awsapps.com", 443, Protocol::Tcp, Category::Login),
    ("*.cloudfront.net", 443, Protocol::Tcp, Category::Static),
    ("*.execute-api.us-west-2.amazonaws.com", 443, Protocol::Tcp, Category::Api),
    ("participant.connect.us-west-2.amazonaws.com", 443, Protocol::Tcp, Category::Chat),
    ("*.transport.connect.us-west-2.amazonaws.com", 443, Protocol::Tcp, Category::Signalling),
    ("acme-files.s3.us-west-2.amazonaws.com", 443, Protocol::Tcp, Category::Attachments),
    ("turnnlb-*.elb.us-west-2.amazonaws.com", 3478, Protocol::Udp, Category::Media),
    ("turnnlb-8d79b4466d82ad0e.elb.us-west-2.amazonaws.com", 3478, Protocol::Udp, Category::Media),
    ("turnnlb-dbc4ebb71307fda2.elb.us-west-2.amazonaws.com", 3478, Protocol::Udp, Category::Media),
    ("*.telemetry.connect.us-west-2.amazonaws.com", 443, Protocol::Tcp, Category::Api),
];

#[test]
fn the_full_list_has_every_seed_row() {
    let rules = list(&acme(&["us-west-2"])).rules;
    for (name, port, protocol, category) in SEED {
        let rule = rules.iter().find(|rule| rule.pattern.as_str() == name);
        let rule = rule.unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((rule.ports.as_slice(), rule.protocol, rule.category), (&[port][..], protocol, category));
    }
    assert!(!rules.iter().any(|rule| rule.pattern.as_str().contains("us-east-1.elb")));
}

#[test]
fn every_seed_telecom_and_turn_name_is_there() {
    let seed = [
        ("us-west-2", "rtc*.connect-telecom.us-west-2.amazonaws.com", "8d79b4466d82ad0e"),
        ("us-east-1", "rtc*.connect-telecom.us-east-1.amazonaws.com", "d76454ac48d20c1e"),
        ("eu-central-1", "rtc*.connect-telecom.eu-central-1.amazonaws.com", "ea5316ebe2759cbc"),
        ("ap-southeast-2", "rtc*.connect-telecom.ap-southeast-2.amazonaws.com", "93f2de0c97c4316b"),
        ("ap-northeast-1", "rtc*.connect-telecom.ap-northeast-1.amazonaws.com", "3c6ddabcbeb821d8"),
        ("eu-west-2", "rtc.cell-1.prod.eu-west-2.prod.connect.aws.a2z.com", "1dc64a459ead57ea"),
        ("ap-southeast-1", "rtc.cell-1.prod.ap-southeast-1.prod.connect.aws.a2z.com", "261982506d86d300"),
    ];
    for (region, telecom, turn) in seed {
        let turn = format!("turnnlb-{turn}.elb.{region}.amazonaws.com");
        has(&acme(&[region]), &[telecom, &turn], &[]);
    }
}

#[test]
fn both_telecom_forms_stand_side_by_side_whatever_legacy_says() {
    for region in ["eu-west-2", "ap-southeast-1"] {
        let general = format!("rtc*.connect-telecom.{region}.amazonaws.com");
        let own = format!("rtc.cell-1.prod.{region}.prod.connect.aws.a2z.com");
        for legacy in [true, false] {
            has(&Choice { legacy, ..acme(&[region]) }, &[&general, &own], &[]);
        }
    }
}

#[test]
fn media_less_panels_have_no_udp() {
    let choice = Choice { media: false, features: Feature::VARIANTS.to_vec(), ..acme(&["*"]) };
    let resolved = list(&choice);
    assert!(resolved.rules.iter().all(|rule| rule.protocol == Protocol::Tcp));
    assert!(resolved.warnings.iter().any(|line| line.contains("connect.media")));
}

#[test]
fn without_legacy_replaced_names_are_gone() {
    let choice = Choice { legacy: false, ..acme(&["us-west-2"]) };
    has(
        &choice,
        &["d38fzyjx9jg8fj.cloudfront.net", "d366s8lxuwna4d.cloudfront.net", "d18af777lco7lp.cloudfront.net"],
        &["acme.awsapps.com", "*.execute-api.us-west-2.amazonaws.com", "*.cloudfront.net"],
    );
    assert!(list(&choice).rules.iter().all(|rule| rule.generation != Generation::Legacy));
}

#[test]
fn the_broad_cloudfront_name_stays_where_nothing_is_published() {
    for region in ["af-south-1", "ap-northeast-3", "us-gov-west-1"] {
        for (legacy, wildcards) in [(false, Wildcards::Documented), (true, Wildcards::Narrow)] {
            let resolved = list(&Choice { legacy, wildcards, ..acme(&["us-west-2", region]) });
            let kept = resolved.rules.iter().find(|rule| rule.pattern.as_str() == "*.cloudfront.net");
            assert_eq!(kept.expect(region).generation, Generation::Current);
            let line = resolved.warnings.iter().find(|line| line.contains("*.cloudfront.net"));
            assert!(line.expect(region).ends_with(&format!("no narrower list for {region}")));
        }
    }
    // Canada's static files come from the instance's own name.
    let canada = Choice { legacy: false, ..acme(&["ca-central-1"]) };
    has(&canada, &["acme.my.connect.aws", "d2wfbsypmqjmog.cloudfront.net"], &["*.cloudfront.net"]);
}

#[test]
fn with_legacy_the_broad_name_and_the_published_hosts_are_listed() {
    has(
        &acme(&["eu-west-2"]),
        &["*.cloudfront.net", "dl32tyuy2mmv6.cloudfront.net", "d2p8ibh10q5exz.cloudfront.net"],
        &[],
    );
    has(&acme(&["ca-central-1"]), &["*.cloudfront.net"], &[]);
}

#[test]
fn narrow_puts_published_hosts_in_place_of_shared_wildcards() {
    let choice = Choice { wildcards: Wildcards::Narrow, ..acme(&["us-west-2"]) };
    has(
        &choice,
        &[
            "turnnlb-8d79b4466d82ad0e.elb.us-west-2.amazonaws.com",
            "d38fzyjx9jg8fj.cloudfront.net",
            "amcs-captcha-prod-us-east-1.s3.dualstack.us-east-1.amazonaws.com",
            "*.execute-api.us-west-2.amazonaws.com",
            "acme.awsapps.com",
        ],
        &[
            "turnnlb-*.elb.us-west-2.amazonaws.com",
            "*.cloudfront.net",
            "*.s3.dualstack.us-west-2.amazonaws.com",
            "*.s3.dualstack.us-east-1.amazonaws.com",
        ],
    );
    let narrow = Choice { legacy: false, ..choice };
    let resolved = list(&narrow);
    assert!(resolved.rules.iter().all(|rule| rule.breadth != Breadth::Shared), "{:#?}", resolved.warnings);
}

#[test]
fn sign_in_chooses_its_pages() {
    let only = |signin| Choice { signin: vec![signin], ..acme(&["eu-west-2"]) };
    let password = [
        "*.signin.aws",
        "*.threat-mitigation.aws.amazon.com",
        "*.s3.dualstack.eu-west-2.amazonaws.com",
        "*.s3.dualstack.us-east-1.amazonaws.com",
        "*.s3.dualstack.us-west-2.amazonaws.com",
        "d16q6638mh01s7.cloudfront.net",
    ];
    let saml =
        ["eu-west-2.signin.aws.amazon.com", "signin.aws.amazon.com", "eu-west-2.console.aws.amazon.com"];
    has(&only(SignIn::Password), &password, &saml);
    has(&only(SignIn::Saml), &saml, &password);
    let portal = [
        "d-*.awsapps.com",
        "*.sso.eu-west-2.amazonaws.com",
        "*.sso-portal.eu-west-2.amazonaws.com",
        "oidc.eu-west-2.amazonaws.com",
        "eu-west-2.signin.aws",
        "ssoins-*.eu-west-2.portal.amazonaws.com",
    ];
    has(&acme(&["eu-west-2"]), &[], &portal);
    let identity_center = only(SignIn::IdentityCenter);
    has(&identity_center, &portal, &password);
    has(&identity_center, &saml, &[]);
    let resolved = list(&identity_center);
    let breadth =
        |name: &str| resolved.rules.iter().find(|rule| rule.pattern.as_str() == name).map(|r| r.breadth);
    assert_eq!(breadth("d-*.awsapps.com"), Some(Breadth::Shared));
    assert_eq!(breadth("*.sso.eu-west-2.amazonaws.com"), Some(Breadth::Service));
    assert!(resolved.warnings.iter().any(|line| line.contains("d-*.awsapps.com")), "{:?}", resolved.warnings);
    has(
        &Choice { signin: vec![SignIn::IdentityCenter], ..acme(&["us-gov-west-1"]) },
        &["start.us-gov-home.awsapps.com", "*.sso.us-gov-west-1.amazonaws.com"],
        &["d-*.awsapps.com"],
    );
    has(
        &acme(&["us-east-1"]),
        &["signin.aws.amazon.com", "us-east-1.console.aws.amazon.com"],
        &["us-east-1.signin.aws.amazon.com"],
    );
}

#[test]
fn govcloud_has_its_own_names_and_no_v1_panel() {
    let gov = patterns(&acme(&["us-gov-west-1"]));
    for name in [
        "acme.govcloud.connect.aws",
        "*.signin-fips.amazonaws-us-gov.com",
        "signin.amazonaws-us-gov.com",
        "s3-us-gov-west-1.amazonaws.com",
    ] {
        assert!(gov.contains(name), "{name}");
    }
    for name in ["acme.my.connect.aws", "acme.awsapps.com", "*.signin.aws", "signin.aws.amazon.com"] {
        assert!(!gov.contains(name), "{name}");
    }
    assert!(!gov.iter().any(|name| name.contains("connect-telecom")));
    let commercial: Vec<&str> =
        catalogue().offered().map(|(code, _)| code).filter(|code| *code != "us-gov-west-1").collect();
    let choice = Choice { features: Feature::VARIANTS.to_vec(), ..acme(&commercial) };
    assert!(!patterns(&choice).iter().any(|name| name.contains("gov")));
}

#[test]
fn star_means_all_offered_regions() {
    let all: Vec<&str> = catalogue().offered().map(|(code, _)| code).collect();
    assert_eq!(patterns(&acme(&["*"])), patterns(&acme(&all)));
    for code in all {
        has(&acme(&["*"]), &[&format!("participant.connect.{code}.amazonaws.com")], &[]);
    }
    has(&acme(&["*"]), &[], &["participant.connect.ap-south-1.amazonaws.com"]);
}

#[test]
fn any_instance_is_shared_and_warned_of_first() {
    let resolved = list(&Choice { instances: strings(&["*"]), ..acme(&["us-west-2"]) });
    for name in ["*.my.connect.aws", "*.awsapps.com"] {
        let rule = resolved.rules.iter().find(|rule| rule.pattern.as_str() == name).expect(name);
        assert_eq!(rule.breadth, Breadth::Shared);
    }
    let first = &resolved.warnings[0];
    assert!(
        first.contains("*.my.connect.aws, *.awsapps.com") && first.contains("connect.instances"),
        "{first}"
    );
    let named = list(&acme(&["us-west-2"]));
    assert!(!named.warnings.iter().any(|line| line.contains("connect.instances")));
    assert!(
        named.warnings.iter().any(|line| line.contains("*.cloudfront.net; connect.wildcards = \"narrow\""))
    );
}

#[test]
fn buckets_are_exact_and_never_a_wildcard() {
    let choice =
        Choice { attachment_buckets: strings(&["files.acme.example"]), ..acme(&["us-west-2", "eu-west-2"]) };
    has(
        &choice,
        &["files.acme.example.s3.us-west-2.amazonaws.com", "files.acme.example.s3.eu-west-2.amazonaws.com"],
        &["*.s3.us-west-2.amazonaws.com"],
    );
    let none = Choice { attachment_buckets: Vec::new(), ..choice };
    assert!(list(&none).rules.iter().all(|rule| rule.category != Category::Attachments));
}

#[test]
fn features_add_their_groups() {
    let with = |feature| Choice { features: vec![feature], ..acme(&["us-east-1", "us-west-2"]) };
    has(&acme(&["us-east-1"]), &[], &["*.chime.aws", "cases.us-east-1.amazonaws.com"]);
    has(&with(Feature::Video), &["*.chime.aws"], &[]);
    has(
        &with(Feature::ScreenRecording),
        &["connect-recording-staging-*.s3.dualstack.us-east-1.amazonaws.com", "screenrecording.connect.aws"],
        &[],
    );
    has(
        &with(Feature::Scheduling),
        &["bm-prod-us-east-1-cell-2-uploadservice-staging.s3.us-east-1.amazonaws.com"],
        &[],
    );
    has(
        &with(Feature::GlobalResiliency),
        &[
            "*.us-east-1.sign-in.connect.aws",
            "*.us-west-2.sign-in.connect.aws",
            "*.us-west-2.region-discovery.connect.aws",
        ],
        &[],
    );
    has(
        &with(Feature::ServiceApis),
        &["profile.us-west-2.api.aws", "ui.wisdom.us-west-2.prod.internal.clover.aws.dev"],
        &[],
    );
    has(
        &with(Feature::Fips),
        &["participant.connect-fips.us-west-2.amazonaws.com"],
        &["profile.us-west-2.api.aws"],
    );
    let fips = Choice { features: vec![Feature::Fips], ..acme(&["eu-west-2"]) };
    assert!(list(&fips).warnings.iter().any(|line| line.contains("no FIPS endpoints for eu-west-2")));
    let video: Vec<(Vec<u16>, Protocol)> = list(&with(Feature::Video))
        .rules
        .into_iter()
        .filter(|rule| rule.pattern.as_str() == "*.chime.aws")
        .map(|rule| (rule.ports, rule.protocol))
        .collect();
    assert_eq!(video, [(vec![443], Protocol::Tcp), (vec![3478], Protocol::Udp)]);
}

#[test]
fn every_row_is_reachable_and_every_pattern_parses() {
    let mut left: BTreeSet<String> = BTreeSet::new();
    let catalogue = catalogue();
    let choice = Choice {
        instances: strings(&["acme", "*"]),
        features: Feature::VARIANTS.to_vec(),
        signin: SignIn::VARIANTS.to_vec(),
        ..acme(&["*"])
    };
    let got = patterns(&choice);
    let chosen = Chosen::of(&choice);
    for row in &catalogue.endpoints {
        for (code, region) in catalogue.offered().filter(|(code, _)| row.holds_in(code)) {
            for name in names(row, code, region, &chosen) {
                Pattern::parse(&name).unwrap_or_else(|error| panic!("{}: {error}", row.id));
                if !row.retired && !got.contains(&name) {
                    left.insert(name);
                }
            }
        }
    }
    assert!(left.is_empty(), "{left:#?}");
    assert!(catalogue.endpoints.iter().filter(|row| row.retired).count() == 1);
    assert!(!got.contains("*.awsglobalaccelerator.com"));
}

proptest! {
    // Each case asks about every exact rule; a few dozen cover the switches.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_choice_is_sorted_unique_and_needs_no_more(
        regions in proptest::sample::subsequence(
            catalogue().offered().map(|(code, _)| code.to_owned()).collect::<Vec<_>>(), 1..=12),
        any in any::<bool>(),
        media in any::<bool>(),
        legacy in any::<bool>(),
        narrow in any::<bool>(),
        signin in proptest::sample::subsequence(SignIn::VARIANTS.to_vec(), 0..=3),
        features in proptest::sample::subsequence(Feature::VARIANTS.to_vec(), 0..=6),
    ) {
        let wildcards = if narrow { Wildcards::Narrow } else { Wildcards::Documented };
        let instances = strings(if any { &["*"] } else { &["acme", "acme-2"] });
        let choice = Choice {
            regions, instances, attachment_buckets: strings(&["acme-files"]), media, legacy, signin, features, wildcards,
            instance_ids: Vec::new(), origins: Vec::new(),
        };
        let resolved = list(&choice);
        let keys: Vec<_> =
            resolved.rules.iter().map(|rule| (rule.category, rule.pattern.as_str(), rule.protocol)).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(&keys, &sorted);
        prop_assert!(resolved.rules.iter().all(|rule| legacy || rule.generation != Generation::Legacy));
        prop_assert_eq!(resolved.warnings.iter().any(|line| line.contains("name yours")), any);
        // What is on the list has no need left to be explained.
        for rule in resolved.rules.iter().filter(|rule| rule.pattern.is_exact()) {
            let found = crate::catalogue::find_elsewhere_given(rule.pattern.as_str(), &choice);
            prop_assert_eq!(found, None);
        }
    }

    #[test]
    fn whatever_the_readers_take_names_its_endpoint(
        alias in "\\PC{0,70}|[a-zA-Z0-9-]{1,63}|xn--[a-z]{3}|[0-9.]{1,9}",
        bucket in "\\PC{0,70}|[a-z0-9.-]{3,63}|(a[.]){30}abc",
    ) {
        let read: Vec<String> = super::super::alias(&alias).into_iter().collect();
        let buckets: Vec<String> = super::super::bucket(&bucket).into_iter().collect();
        let named = read.len() + buckets.len();
        let choice = |instances, attachment_buckets| Choice {
            instances, attachment_buckets, regions: strings(&["us-west-2"]), legacy: false, ..Choice::default()
        };
        let with = list(&choice(read, buckets)).rules.len();
        let without = list(&choice(Vec::new(), Vec::new())).rules.len();
        prop_assert_eq!(with, without + named);
    }
}
