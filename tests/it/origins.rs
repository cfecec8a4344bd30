//! `ccpgate origins`: the commands that approve the sites which embed the panel.

use crate::support::ccpgate;

const CONFIG: &str =
    "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\norigins = [\"https://crm.example\"]\n";
const ID: &str = "12345678-90ab-cdef-1234-567890abcdef";

#[test]
fn each_site_is_approved_for_each_instance() {
    let config = CONFIG.replace(
        "origins = [",
        &format!("instance_ids = [\"{ID}\"]\norigins = [\"https://desk.example:8443\", "),
    );
    let text = ccpgate(Some(&config), &["origins"]).expect(0).stdout;
    for site in ["https://crm.example", "https://desk.example:8443"] {
        let command = format!(
            "aws connect associate-approved-origin --region us-west-2 --instance-id {ID} --origin {site}"
        );
        assert!(text.lines().any(|line| line == command), "{command}: {text}");
    }
    assert!(!text.contains("list-instances"), "{text}");
    let json = ccpgate(Some(&config), &["origins", "--json"]).expect(0).json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["approvals"].as_array().unwrap().len(), 2);
}

#[test]
fn without_an_id_there_is_a_placeholder_and_the_command_that_finds_it() {
    let text = ccpgate(Some(CONFIG), &["origins"]).expect(0).stdout;
    assert!(text.contains("--instance-id INSTANCE_ID --origin https://crm.example"), "{text}");
    assert!(
        text.contains("aws connect list-instances --region us-west-2 --query \"InstanceSummaryList[?InstanceAlias=='acme'].Id\""),
        "{text}"
    );
    let none = CONFIG.replace("\"https://crm.example\"", "");
    let ran = ccpgate(Some(&none), &["origins"]).expect(2);
    assert!(ran.stderr.contains("connect.origins names no site"), "{}", ran.stderr);
}

#[test]
fn mistakes_are_refused_with_what_was_meant() {
    for (wrong, why) in [
        ("http://crm.example", "did you mean \"https://crm.example\"?"),
        ("https://crm.example/", "did you mean \"https://crm.example\"?"),
        ("https://crm.example/desk", "an origin has no path"),
        ("https://crm.example?q", "an origin has no query"),
        ("https://me@crm.example", "an origin has no user"),
        ("https://*.example", "no wildcards"),
        (&format!("https://{}example", "a.".repeat(140)), "is no host"),
    ] {
        let ran = ccpgate(Some(&CONFIG.replace("https://crm.example", wrong)), &["origins"]).expect(2);
        assert!(ran.stderr.contains("connect.origins") && ran.stderr.contains(why), "{}", ran.stderr);
    }
}
