use super::*;
use crate::export::foreign::{self, read};
use crate::policy::Category;

fn policy(patterns: &[&str]) -> Policy {
    let rules = patterns
        .iter()
        .map(|text| Rule::added(Pattern::parse(text).unwrap(), vec![443], Category::Api))
        .collect();
    Policy::new(rules, Vec::new())
}

fn list(text: &str) -> List {
    read(text, &|name| match name {
        "names" | "/etc/squid/names" => Ok("# ours\n.y.example\nlogin.x.example\n".to_owned()),
        "more.conf" => Ok("acl more dstdomain api.x.example\ninclude more.conf\n".to_owned()),
        other => Err(format!("no {other}")),
    })
    .unwrap()
}

fn audit(patterns: &[&str], texts: &[&str]) -> Audit {
    let lists: Vec<_> = texts.iter().map(|text| ("list".to_owned(), list(text))).collect();
    Audit::new(&policy(patterns), &lists)
}

fn missing(audit: &Audit) -> Vec<&str> {
    audit.missing.iter().map(|missing| missing.pattern.as_str()).collect()
}

fn wider(audit: &Audit) -> Vec<(&str, &str)> {
    audit.wider.iter().map(|wider| (wider.entry.as_str(), wider.lets_in.as_str())).collect()
}

const NEEDED: [&str; 3] = ["login.x.example", "rtc*.x.example", "*.y.example"];

#[test]
fn what_is_covered_in_part_is_missing() {
    let found = audit(&NEEDED, &["login.x.example\nrtc.x.example\nrtc1.x.example\n*.y.example\n"]);
    assert_eq!((found.files[0].kind, found.files[0].entries), (Kind::Domains, 4));
    assert_eq!(missing(&found), ["rtc*.x.example"]);
    assert_eq!((wider(&found), found.unneeded.len()), (Vec::new(), 0));
    // One label below isn't all that is below.
    assert_eq!(missing(&audit(&NEEDED, &["login.x.example\n*.x.example\n^.y.example/\n"])), ["*.y.example"]);
    // Two files are one list.
    assert_eq!(missing(&audit(&NEEDED, &["login.x.example\n.y.example", "*.x.example"])), Vec::<&str>::new());
}

#[test]
fn a_slash_makes_no_url_list_of_names() {
    for more in ["15.193.0.0/19", "2600::/40", "// panel", "# panel / login", "login.x.example # a/b"] {
        let found =
            audit(&["login.x.example", "*.y.example"], &[&format!("{more}\nlogin.x.example\n.y.example\n")]);
        assert_eq!((found.files[0].kind, missing(&found)), (Kind::Domains, Vec::new()), "{more}");
    }
}

#[test]
fn what_is_wider_is_named_with_a_host() {
    let found = audit(&NEEDED, &[".x.example\n.y.example\nwww.shop.example\n"]);
    assert_eq!(wider(&found), [(".x.example", "x.example"), (".y.example", "y.example")]);
    assert_eq!(found.unneeded, ["www.shop.example"]);
    // Without the slash Palo Alto lets more behind the name in.
    let found = audit(&NEEDED, &["login.x.example\n*.y.example/\n^.x.example/"]);
    assert_eq!(found.files[0].kind, Kind::Edl);
    assert_eq!(
        wider(&found),
        [("login.x.example", "login.x.example.evil.example"), ("^.x.example/", "other.x.example")]
    );
}

#[test]
fn squid_is_read_with_its_files_and_its_order() {
    let found = audit(
        &NEEDED,
        &["acl ok dstdomain -n \"/etc/squid/names\"\nacl rtc dstdom_regex -n -i ^rtc[^.]*\\.x\\.example$\n\
           acl bad dstdomain z.y.example\nacl src1 src 10.0.0.0/8\nacl more2 dstdomain \\\n  .unused.example\n\
           http_access deny !Safe_ports\nhttp_access deny bad\nhttp_access allow CONNECT ok src1\n\
           http_access allow rtc\nhttp_access deny all\n"],
    );
    assert_eq!(found.files[0].kind, Kind::Squid);
    assert_eq!(missing(&found), Vec::<&str>::new());
    assert_eq!(wider(&found), [(".y.example", "y.example")]);
    // What a line in front denies isn't on the list.
    let found = audit(
        &NEEDED,
        &[
            "acl ok dstdomain .x.example .y.example\nacl bad dstdom_regex ^login\nhttp_access deny bad\nhttp_access allow ok\n",
        ],
    );
    assert_eq!(missing(&found), ["login.x.example"]);
    // What a line behind denies is let through before.
    let ordered = |first: &str, then: &str| {
        let acls = "acl ok dstdomain .x.example .y.example\nacl bad dstdom_regex ^login\n";
        format!("{acls}http_access {first}\nhttp_access {then}\nhttp_access deny all\n")
    };
    for (first, then, lacks) in [
        ("allow ok", "deny bad", Vec::new()),
        ("deny bad", "allow ok", vec!["login.x.example"]),
        ("allow CONNECT ok !bad", "deny bad", vec!["login.x.example"]),
        ("deny !Safe_ports", "allow localnet ok", Vec::new()),
        // The same acl in two lines is decided by the first.
        ("deny localnet ok", "allow ok", vec!["login.x.example", "rtc*.x.example", "*.y.example"]),
    ] {
        assert_eq!(missing(&audit(&NEEDED, &[&ordered(first, then)])), lacks, "{first}, {then}");
    }
    // What isn't listed is kept out first, and the rest is let through to all.
    for (lines, lacks, lets_in) in [
        (
            "deny !ok\nhttp_access allow localnet",
            Vec::new(),
            vec![(".x.example", "x.example"), (".y.example", "y.example")],
        ),
        (
            "deny CONNECT !bad\nhttp_access allow all",
            vec!["rtc*.x.example", "*.y.example"],
            vec![("^login", "login.x.example.evil.example")],
        ),
        (
            "allow localnet !bad",
            vec!["login.x.example"],
            vec![("http_access allow localnet !bad", "other.example")],
        ),
        (
            "deny bad !ok\nhttp_access allow ok",
            Vec::new(),
            vec![(".x.example", "x.example"), (".y.example", "y.example")],
        ),
    ] {
        let found = audit(&NEEDED, &[&ordered(lines, "deny all")]);
        assert_eq!((missing(&found), wider(&found)), (lacks, lets_in), "{lines}");
    }
    // A line for some clients alone lists nothing, and is told.
    let told = |line: &str| list(&ordered("allow ok", line)).remarks;
    for line in ["allow staff", "allow CONNECT staff", "allow staff !night"] {
        let remarks = told(line);
        assert!(
            remarks.iter().any(|remark| remark.contains(&format!("http_access {line}: it"))),
            "{remarks:?}"
        );
    }
    for line in ["allow localhost", "allow localhost manager", "allow staff ok", "allow all", "deny staff"] {
        assert_eq!(told(line), Vec::<String>::new(), "{line}");
    }
    // All acls of a line fit together, as do those of all-of; what is known of one line is no more than that.
    let acls = "acl x dstdomain .x.example\nacl login dstdom_regex ^login\nacl both all-of x login\n\
                acl staff any-of night day\nacl mixed any-of night x\nacl at_night all-of night x\n";
    for (lines, lacks) in [
        ("http_access allow x login\n", vec!["rtc*.x.example", "*.y.example"]),
        ("http_access\tallow\tboth # x\n", vec!["rtc*.x.example", "*.y.example"]),
        ("http_access deny both\nhttp_access allow x\n", vec!["login.x.example", "*.y.example"]),
        ("http_access deny x !login\nhttp_access allow all\n", vec!["rtc*.x.example"]),
        ("http_access allow x staff\n", vec!["*.y.example"]),
        ("http_access allow mixed\n", vec!["*.y.example"]),
        ("http_access allow at_night\n", vec!["*.y.example"]),
        ("http_access deny at_night\nhttp_access allow all\n", vec![]),
        ("http_access deny mixed\nhttp_access allow all\n", vec!["login.x.example", "rtc*.x.example"]),
        ("http_access allow x !CONNECT\nhttp_access allow login\n", vec!["rtc*.x.example", "*.y.example"]),
    ] {
        assert_eq!(missing(&audit(&NEEDED, &[&format!("{acls}{lines}")])), lacks, "{lines}");
    }
    let remarks = list(&format!("{acls}http_access allow staff\nhttp_access allow x\n")).remarks;
    assert!(remarks.iter().any(|remark| remark.contains("allow staff: it")), "{remarks:?}");
    // A fragment without http_access: what an acl excepts isn't on the list, and each entry is there once.
    let found = audit(
        &NEEDED,
        &[
            "acl n dstdomain -n login.x.example\nacl p dstdom_regex -n -i ^rtc[^.]*\\.x\\.example$ ^.+\\.y\\.example$\n\
           acl no dstdomain login.x.example\nacl listed any-of n p\nacl ours all-of listed !no\n",
        ],
    );
    assert_eq!((missing(&found), found.files[0].entries), (vec!["login.x.example"], 4));
    // A dot that isn't escaped, and no end.
    let found = audit(&["a.x.example"], &["acl ok dstdom_regex ^a.x.example\nhttp_access allow ok\n"]);
    assert_eq!(wider(&found), [("^a.x.example", "a.x.example.evil.example")]);
    // A file of another kind has something to say of each line.
    let words: String = (0..40).map(|line| format!("line{line}\n")).collect();
    let told = |text: &str| list(text).told().collect::<Vec<_>>();
    let some = told(&format!("{words}login.x.example\n"));
    assert_eq!((some.len(), some[10].as_str()), (11, "and 30 more like these"));
    assert_eq!(told("line\nlogin.x.example\n").len(), 1);
    let none = read(&words, &|_| Err(String::new())).unwrap_err();
    assert!(none.contains("\"line9\" can't be read") && !none.contains("line10"), "{none}");
    assert!(none.contains("(and 30 more like these); expected"), "{none}");
    // Files that include one another end somewhere, and what can't be read is told.
    let read = list("include more.conf\nacl x dstdomain \"nowhere\"\nacl y dstdom_regex (\n");
    assert_eq!(read.entries.len(), 8);
    assert!(read.remarks.iter().any(|remark| remark.contains("include one another")), "{:?}", read.remarks);
    assert!(read.remarks.iter().any(|remark| remark.contains("no nowhere")), "{:?}", read.remarks);
    assert!(read.remarks.iter().any(|remark| remark.contains("\"(\" can't be read")), "{:?}", read.remarks);
    // As Debian installs it, and with a fragment that no line names.
    for fragment in ["", "acl ccpgate dstdomain .y.example\n"] {
        let text = format!(
            "acl localnet src 10.0.0.0/8\n{fragment}http_access allow localhost\nhttp_access deny all\n"
        );
        assert_eq!(missing(&audit(&NEEDED, &[&text])), NEEDED, "{text}");
        let said = told(&text);
        assert!(said.iter().any(|remark| remark.contains("lets agents through to any host")), "{said:?}");
        // Another file may have what this one lacks.
        assert_eq!(missing(&audit(&NEEDED, &[&text, "*.y.example\n"])), NEEDED[..2]);
    }
    // No line of http_access, and nothing that stands for a host: no list at all.
    let none = foreign::read("acl localnet src 10.0.0.0/8\n", &|_| Err(String::new())).unwrap_err();
    assert!(none.contains("no entry"), "{none}");
    let all = audit(&NEEDED, &["http_access allow all\n"]);
    assert!(all.missing.is_empty() && wider(&all) == [("http_access allow all", "other.example")]);
}

#[test]
fn a_pac_file_counts_by_its_names() {
    let found = audit(
        &NEEDED,
        &[
            "function FindProxyForURL(url, host) {\n if (dnsDomainIs(host, \".y.example\") || host == \"login.x.example\" ||\n\
           shExpMatch(host, 'rtc*.x.example')) return \"PROXY proxy.corp:3128\";\n return \"DIRECT\";\n}\n",
        ],
    );
    assert_eq!((found.files[0].kind, found.files[0].entries), (Kind::Pac, 3));
    assert_eq!(missing(&found), Vec::<&str>::new());
    // A star of a PAC file crosses dots.
    assert_eq!(wider(&found), [("rtc*.x.example", "rtcother.example.x.example")]);
}

#[test]
fn media_names_are_missed_on_lists_of_firewalls_alone() {
    let choice = crate::catalogue::Choice { regions: vec!["us-west-2".to_owned()], ..Default::default() };
    let policy = Policy::new(crate::catalogue::resolve(&choice).rules, Vec::new());
    let media = |text: &str| {
        let audit = Audit::new(&policy, &[("list".to_owned(), list(text))]);
        audit.missing.iter().any(|missing| missing.category == Category::Media)
    };
    assert!(media("www.example.org\n") && media("www.example.org/\n"));
    assert!(!media("acl a dstdomain www.example.org\n"));
    // Each of our own forms passes its own audit where it is exact.
    for product in [super::super::list::Product::Squid, super::super::list::Product::Paloalto] {
        let text = super::super::list::export(&policy, product).text;
        let audit = Audit::new(&policy, &[("ours".to_owned(), list(&text))]);
        let tcp = audit.missing.iter().filter(|missing| missing.category != Category::Media);
        assert_eq!(
            tcp.map(|missing| &missing.pattern).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{product:?}"
        );
        assert_eq!(audit.unneeded, Vec::<String>::new(), "{product:?}");
    }
}

#[test]
fn what_is_no_list_is_refused() {
    for text in ["", "# nothing\n", "\u{0}\u{1}\n", "function FindProxyForURL() {}"] {
        assert!(read(text, &|_| Err(String::new())).unwrap_err().contains("no entry"), "{text:?}");
    }
}

#[test]
fn files_and_groups_that_name_one_another_end() {
    let squid = |text: &str| read(text, &|_| Ok(text.to_owned()));
    // Eight lines of four files each, all of them this one: 4^8 readings, were they not bounded.
    let text = "acl a dstdomain .y.example\ninclude a b c d\nhttp_access allow a\n";
    let found = squid(text).unwrap();
    assert!(
        found.remarks.iter().any(|remark| remark.contains("too much is included")),
        "{:?}",
        found.remarks
    );
    assert!(found.remarks.len() < 10_000, "{}", found.remarks.len());
    // Each group names the one before twice: 2^40 entries, were they copied.
    let mut text = "acl g0 dstdomain .y.example\n".to_owned();
    for n in 1..=40 {
        text += &format!("acl g{n} any-of g{0} g{0} g{n}\n", n - 1);
    }
    assert_eq!(squid(&text).unwrap().entries.len(), 1);
    let list = squid(&(text + "http_access allow g40\n")).unwrap();
    assert!(list.entries.len() == 1 && list.lists("a.y.example") && !list.lists("y.test"));
    // Deeper than any configuration.
    let mut text = "acl g0 dstdomain .y.example\nhttp_access allow g3000\n".to_owned();
    for n in 1..=3000 {
        text += &format!("acl g{n} any-of g{}\n", n - 1);
    }
    assert!(!squid(&text).unwrap().lists("a.y.example"));
}
