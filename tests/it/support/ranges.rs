//! Versions of ip-ranges.json, made up.

use jiff::Timestamp;

/// One that AWS made at a time, with IPv4 entries of lines `region service prefix`; its token is the time.
pub(crate) fn ip_ranges(made: Timestamp, lines: &[impl AsRef<str>]) -> String {
    let entry = |line: &str| {
        let [region, service, prefix] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        format!(r#"{{"ip_prefix": "{prefix}", "region": "{region}", "service": "{service}"}}"#)
    };
    let entries: Vec<String> = lines.iter().map(|line| entry(line.as_ref())).collect();
    format!(
        r#"{{"syncToken": "{}", "createDate": "{}", "prefixes": [{}], "ipv6_prefixes": []}}"#,
        made.as_second(),
        made.strftime("%Y-%m-%d-%H-%M-%S"),
        entries.join(",")
    )
}
