use super::super::{Kind, read};
use super::*;
use crate::catalogue::{Choice, Feature, Wildcards};
use crate::export::audit::Audit;
use crate::pac::{Answers, Direct, render};
use crate::policy::{Pattern, Policy};

fn list(text: &str) -> List {
    read(text, &|_| Err(String::new())).unwrap()
}

fn audit(policy: &Policy, text: &str) -> Audit {
    Audit::new(policy, &[("proxy.pac".to_owned(), list(text))])
}

fn missing(audit: &Audit) -> Vec<&str> {
    audit.missing.iter().map(|missing| missing.pattern.as_str()).collect()
}

fn answers() -> Answers {
    Answers {
        listed: vec![vec!["PROXY p.corp:3128".to_owned()]],
        otherwise: "DIRECT".to_owned(),
        direct: Vec::new(),
    }
}

/// Policies with every kind of pattern.
fn policies() -> Vec<Policy> {
    let regions = |regions: &[&str]| regions.iter().map(|region| (*region).to_owned()).collect();
    let plain =
        Choice { regions: regions(&["us-west-2"]), instances: vec!["acme".to_owned()], ..Choice::default() };
    let more = Choice {
        regions: regions(&["eu-west-2", "us-east-1"]),
        instances: vec!["acme".to_owned(), "acme-2".to_owned()],
        attachment_buckets: vec!["acme-files".to_owned()],
        features: vec![Feature::Video, Feature::ScreenRecording],
        wildcards: Wildcards::Narrow,
        ..Choice::default()
    };
    [plain, more]
        .iter()
        .map(|choice| Policy::new(crate::catalogue::resolve(choice).rules, Vec::new()))
        .collect()
}

#[test]
fn our_own_file_has_what_it_was_made_of() {
    for policy in policies() {
        let ours = render(&policy, &answers());
        for text in [ours.replace('\n', "\r\n"), format!("\u{feff}{ours}\n"), ours] {
            let audit = audit(&policy, &text);
            assert_eq!((missing(&audit), audit.wider.len()), (vec![], 0), "{:?}", audit.wider);
            assert_eq!(audit.unneeded, Vec::<String>::new());
            assert!(audit.files[0].entries > 10);
        }
    }
    // Of one region, it lacks the other's; what goes past the proxy isn't on it.
    let [one, two] = &policies()[..] else { panic!() };
    let audit_of_one = audit(two, &render(one, &answers()));
    assert!(missing(&audit_of_one).contains(&"acme-2.my.connect.aws"));
    assert!(!audit_of_one.unneeded.is_empty());
    let pattern = Pattern::parse("acme-2.my.connect.aws").unwrap();
    let past = Answers { direct: vec![Direct::Pattern(pattern)], ..answers() };
    assert_eq!(missing(&audit(two, &render(two, &past))), ["acme-2.my.connect.aws"]);
}

/// A file of another version has the same tables before other functions.
#[test]
fn the_tables_of_another_version_are_read() {
    let policy = &policies()[1];
    let ours = render(policy, &answers());
    let other = ours.replace("// No name is longer than 253 characters.", "// Names end somewhere.");
    assert!(Own::recognise(&other).is_none());
    assert_eq!(missing(&audit(policy, &other)), Vec::<&str>::new());
}

#[test]
fn names_that_were_commented_out_are_not_listed() {
    let mut found = List { kind: Kind::Pac, ..list("a.example\n") };
    found.entries.clear();
    names(
        "// don't: \"one.example\"\nvar a = 'two.example'; /* \"three.example\" */ var b = \"http://x/\" + \"four.example\";\n\
         var c = d / 2; // it's\nvar e = 'five.example' /* \"six.example\"",
        &mut found,
    );
    let texts: Vec<&str> = found.entries.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(texts, ["two.example", "four.example", "five.example"]);
}

#[cfg(not(feature = "pac-engine"))]
#[test]
fn what_is_not_run_is_said() {
    let file = list("function FindProxyForURL(u, h) { return h == 'a.example' ? 'PROXY p:1' : 'DIRECT'; }");
    assert!(file.remarks[0].contains("pac-engine"), "{:?}", file.remarks);
}

#[cfg(feature = "pac-engine")]
mod with_the_engine {
    use super::*;
    use crate::policy::{Category, Rule};

    fn needed(patterns: &[&str]) -> Policy {
        let rule = |text: &&str| Rule::added(Pattern::parse(text).unwrap(), vec![443], Category::Api);
        Policy::new(patterns.iter().map(rule).collect(), Vec::new())
    }

    fn file(body: &str) -> String {
        format!("function FindProxyForURL(url, host) {{ {body} }}")
    }

    #[test]
    fn what_it_answers_counts_not_how_it_is_written() {
        let policy = needed(&["login.x.example", "rtc*.x.example", "*.y.example"]);
        for body in [
            // Names that stand nowhere as a whole.
            "var d = ['x', 'y'].map(function (l) { return '.' + l + '.exam' + 'ple'; });\
             for (var i in d) { if (dnsDomainIs(host, d[i])) return 'PROXY p.corp:3128'; } return 'DIRECT';",
            "return /^(login|rtc[^.]*)[.]x[.]example$|[.]y[.]example$/.test(host) ? 'HTTPS p.corp:1' : 'DIRECT';",
            "if (isPlainHostName(host)) return 'DIRECT'; return 'PROXY old.corp:8080';",
        ] {
            assert_eq!(missing(&audit(&policy, &file(body))), Vec::<&str>::new(), "{body}");
        }
        // A name that goes past the proxy is in the file, and isn't on its list.
        let audit_of = audit(
            &policy,
            &file(
                "if (host == 'login.x.example' || shExpMatch(host, 'rtc*.x.example')) return 'DIRECT';\
                 if (dnsDomainIs(host, '.y.example') || host == 'shop.example') return 'PROXY p.corp:3128';",
            ),
        );
        assert_eq!(missing(&audit_of), ["login.x.example", "rtc*.x.example"]);
        assert_eq!(
            (audit_of.files[0].entries, &audit_of.unneeded[..]),
            (2, &["shop.example".to_owned()][..])
        );
        // What goes to a proxy whatever its name is told as such.
        let audit_of = audit(&policy, &file("return 'PROXY old.corp:8080';"));
        assert_eq!(audit_of.wider[0].entry, "every other host: PROXY old.corp:8080");
    }

    #[test]
    fn a_file_that_cannot_be_run_is_refused() {
        let refused = |text: &str| read(text, &|_| Err(String::new())).unwrap_err();
        assert!(refused("function FindProxyForURL( {").contains("browsers go past every proxy"));
        assert!(refused(&file("for (;;) {}")).contains("takes longer"));
        // One that fails for some hosts: no verdict, and the time for one question at most.
        let list = list(&file("if (host == 'login.x.example') { for (;;) {} } return 'PROXY p.corp:3128';"));
        let lists = [("proxy.pac".to_owned(), list)];
        let begun = std::time::Instant::now();
        let _ = Audit::new(&needed(&["login.x.example", "*.y.example"]), &lists);
        assert!(lists[0].1.trouble().is_some_and(|why| why.contains("login.x.example")));
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }
}
