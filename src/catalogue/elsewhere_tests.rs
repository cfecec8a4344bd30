//! What a denied host is told to need, row by row.

use super::*;

fn first(host: &str) -> (&'static str, &'static str, String) {
    let found = find_elsewhere(host).unwrap_or_else(|| panic!("{host} is in the catalogue"));
    (found.id, found.key, found.value)
}

#[test]
fn names_the_key_and_the_value() {
    let cases = [
        ("participant.connect.eu-west-2.amazonaws.com", "participant", "connect.regions", "eu-west-2"),
        ("a.transport.connect.us-west-2.amazonaws.com", "transport", "connect.regions", "us-west-2"),
        ("acme.my.connect.aws", "instance", "connect.instances", "acme"),
        ("acme.awsapps.com", "instance-legacy", "connect.instances", "acme"),
        ("files.acme.s3.eu-west-2.amazonaws.com", "attachments", "connect.regions", "eu-west-2"),
        ("d16q6638mh01s7.cloudfront.net", "login-cloudfront", "connect.regions", "eu-west-2"),
        ("signal.m1.ue1.app.chime.aws", "video", "connect.features", "video"),
        ("eu-central-1.signin.aws.amazon.com", "saml-signin", "connect.regions", "eu-central-1"),
        ("signin.aws.amazon.com", "saml-signin-global", "connect.signin", "saml"),
        ("d-1234567890.awsapps.com", "identity-center-portal", "connect.signin", "identity-center"),
        ("portal.sso.eu-central-1.amazonaws.com", "identity-center", "connect.regions", "eu-central-1"),
        ("assets.sso-portal.us-west-2.amazonaws.com", "identity-center", "connect.regions", "us-west-2"),
        (
            "portal.sso.eu-west-1.amazonaws.com",
            "identity-center",
            "allow",
            "portal.sso.eu-west-1.amazonaws.com",
        ),
        (
            "portal.sso.eusc-de-east-1.amazonaws.com",
            "identity-center",
            "allow",
            "portal.sso.eusc-de-east-1.amazonaws.com",
        ),
        ("x.awsglobalaccelerator.com", "globalaccelerator", "allow", "x.awsglobalaccelerator.com"),
        ("pics.s3.dualstack.us-east-1.amazonaws.com", "signin-assets", "connect.regions", "us-east-1"),
        ("acme.govcloud.connect.aws", "instance-gov", "connect.regions", "us-gov-west-1"),
    ];
    for (host, id, key, value) in cases {
        assert_eq!(first(host), (id, key, value.to_owned()), "{host}");
    }
    for unknown in ["example.com", "my.connect.aws", "participant.connect.ap-south-1.amazonaws.com"] {
        assert_eq!(find_elsewhere(unknown), None, "{unknown}");
    }
}

#[test]
fn no_value_is_named_that_the_configuration_refuses() {
    let acme = Choice {
        regions: vec!["us-west-2".to_owned()],
        instances: vec!["acme".to_owned()],
        ..Choice::default()
    };
    for host in [
        "x.acme.my.connect.aws",
        "x.acme.awsapps.com",
        "x.acme.govcloud.connect.aws",
        "_x.my.connect.aws",
        "-x.my.connect.aws",
        "foo.us-gov-home.awsapps.com",
        "ab.s3.us-west-2.amazonaws.com",
        "a_b.s3.us-west-2.amazonaws.com",
        "x-s3alias.s3.us-west-2.amazonaws.com",
    ] {
        assert_eq!(find_elsewhere(host), None, "{host}");
        assert_eq!(find_elsewhere_given(host, &acme), None, "{host}");
    }
}

#[test]
fn every_name_of_the_catalogue_is_read_once() {
    let everyone = Choice {
        instances: vec!["*".to_owned()],
        attachment_buckets: vec!["*".to_owned()],
        ..Choice::default()
    };
    let chosen = Chosen {
        choice: &everyone,
        regions: Default::default(),
        instances: vec!["*".to_owned()],
        any_instance: true,
    };
    let rows = catalogue().endpoints.iter();
    let all = rows.flat_map(|row| catalogue().offered().map(move |(code, region)| (row, code, region)));
    let all = all.filter(|(row, code, _)| row.holds_in(code));
    let names: usize = all.map(|(row, code, region)| names(row, code, region, &chosen).len()).sum();
    assert_eq!(KNOWN.len(), names, "each of them parses");
    let first = KNOWN.as_ptr();
    assert!(find_elsewhere("participant.connect.eu-west-2.amazonaws.com").is_some());
    assert_eq!(KNOWN.as_ptr(), first);
}

#[test]
fn names_only_what_the_choice_lacks() {
    let choice = Choice {
        regions: vec!["us-west-2".to_owned()],
        instances: vec!["acme".to_owned()],
        legacy: false,
        ..Choice::default()
    };
    let need = |host: &str| find_elsewhere_given(host, &choice).map(|found| found.to_string());
    let cases = [
        (
            "participant.connect.eu-west-2.amazonaws.com",
            "participant.connect.{region}.amazonaws.com of eu-west-2, which needs \"eu-west-2\" in connect.regions",
        ),
        (
            "rival.awsapps.com",
            "{instance}.awsapps.com, which needs \"rival\" in connect.instances and which needs connect.legacy = true",
        ),
        ("d123.cloudfront.net", "*.cloudfront.net, which needs connect.legacy = true"),
        (
            "d16q6638mh01s7.cloudfront.net",
            "d16q6638mh01s7.cloudfront.net (eu-west-2), which needs \"eu-west-2\" in connect.regions",
        ),
        (
            "acme.govcloud.connect.aws",
            "{instance}.govcloud.connect.aws (us-gov-west-1), which needs \"us-gov-west-1\" in connect.regions",
        ),
    ];
    for (host, text) in cases {
        assert_eq!(need(host).as_deref(), Some(text), "{host}");
    }
    assert_eq!(need("acme.my.connect.aws"), None, "it is on the list");
    assert_eq!(need("tools.connect.aws"), None, "it is on every list");
}
