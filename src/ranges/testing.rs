//! Versions of ip-ranges.json for tests, made up.

use super::{Ranges, read};

/// One with entries of lines `region service prefix`, of both families.
pub(crate) fn ranges<'a>(token: &str, created: &str, lines: impl IntoIterator<Item = &'a str>) -> Ranges {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for line in lines {
        let [region, service, prefix] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (all, key) = match prefix.contains(':') {
            true => (&mut six, "ipv6_prefix"),
            false => (&mut four, "ip_prefix"),
        };
        all.push(format!(
            r#"{{"{key}": "{prefix}", "region": "{region}", "service": "{service}", "network_border_group": "{region}"}}"#
        ));
    }
    let text = format!(
        r#"{{"syncToken": "{token}", "createDate": "{created}", "prefixes": [{}], "ipv6_prefixes": [{}]}}"#,
        four.join(","),
        six.join(",")
    );
    read::read(text.as_bytes()).unwrap()
}
