//! Whether strangers can obtain names that a pattern matches: the catalogue's own shared names and
//! the public suffix list (both of its sections) are asked. Pure; what becomes of the answer is
//! decided by the plan.

use std::sync::LazyLock;

use psl::{Psl as _, Type};

use super::resolve::names;
use super::service_endpoint::shared_by_all;
use super::values::Chosen;
use super::{Choice, catalogue};
use crate::policy::{Breadth, Pattern, label_matches};

/// Why a pattern of the administrator's own is open to strangers, in a sentence without a full
/// stop; none where only the owner of the name it stands for can make names that it matches.
///
/// A pattern without a star is never open by this measure, unless all customers share that very host,
/// as they do the endpoint of an AWS service; nor is one whose label below the shared suffix is spelt
/// out (`*.acme.github.io` is Acme's).
#[must_use]
pub fn open_to_strangers(pattern: &Pattern) -> Option<String> {
    if is_of_a_service(pattern) {
        return None;
    }
    if let Some(why) = shared_by_all(pattern) {
        return Some(why);
    }
    for shared in shared_names() {
        let suffix = shared.literal_suffix();
        if pattern == shared || (!shared.is_exact() && reaches_below(pattern, suffix)) {
            return Some(format!("any AWS customer can obtain a name below {suffix}"));
        }
    }
    if pattern.is_exact() {
        return None;
    }
    let suffix = pattern.literal_suffix();
    if suffix.is_empty() {
        return Some("a star stands for the domain itself, and anybody can register one".to_owned());
    }
    // Which of the suffixes below are meant by stars further left is not looked into: a pattern
    // that begins with a star and is long enough to have one between is taken to reach some.
    let labels = |name: &str| name.split('.').count();
    let first = pattern.as_str().split('.').next().unwrap_or_default();
    let reaches = first == "*" || (first.contains('*') && labels(pattern.as_str()) > labels(suffix) + 1);
    match listed(suffix) {
        Listed::Suffix => Some(format!(
            "{suffix} is a public suffix (publicsuffix.org): anybody can obtain a name below it"
        )),
        Listed::Above if reaches => Some(format!(
            "public suffixes (publicsuffix.org) lie below {suffix}: anybody can obtain a name below those"
        )),
        Listed::Above | Listed::No => None,
    }
}

/// What the public suffix list says about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    /// It is a suffix.
    Suffix,
    /// It is none, and some lie below it.
    Above,
    No,
}

/// The list is compiled into a decision by labels, from the right: it asks for a label more as
/// long as it has entries further down.
fn listed(name: &str) -> Listed {
    let mut asked_for_more = false;
    let mut labels = name.rsplit('.').map(str::as_bytes);
    let info = psl::List.find(std::iter::from_fn(|| {
        let label = labels.next();
        asked_for_more |= label.is_none();
        label
    }));
    // An entry is listed by its kind; a top-level domain that is on no list has none.
    if info.typ.is_some_and(|kind| matches!(kind, Type::Icann | Type::Private)) && info.len == name.len() {
        Listed::Suffix
    } else if asked_for_more {
        Listed::Above
    } else {
        Listed::No
    }
}

/// Whether the pattern matches names below `suffix` whose label directly below it is not spelt out.
fn reaches_below(pattern: &Pattern, suffix: &str) -> bool {
    let (tail, deep) = match pattern.as_str().strip_prefix("*.") {
        Some(tail) => (tail, true),
        None => (pattern.as_str(), false),
    };
    let mut wanted = tail.rsplit('.');
    for label in suffix.rsplit('.') {
        match wanted.next() {
            Some(wanted) if label_matches(wanted, label) => {}
            Some(_) => return false,
            None => return deep,
        }
    }
    wanted.next().map_or(deep, |owner| owner.contains('*'))
}

/// Whether the catalogue has this very pattern as one of names that an AWS service alone creates.
#[must_use]
pub fn is_of_a_service(pattern: &Pattern) -> bool {
    static NAMES: LazyLock<Vec<Pattern>> = LazyLock::new(|| names_of(Breadth::Service));
    NAMES.binary_search(pattern).is_ok()
}

/// The names that AWS shares among its customers, in every Region.
fn shared_names() -> &'static [Pattern] {
    static NAMES: LazyLock<Vec<Pattern>> = LazyLock::new(|| names_of(Breadth::Shared));
    &NAMES
}

/// The catalogue's names of this breadth, in every Region, sorted.
fn names_of(breadth: Breadth) -> Vec<Pattern> {
    let everyone = Choice {
        instances: vec!["*".to_owned()],
        attachment_buckets: vec!["*".to_owned()],
        ..Choice::default()
    };
    let everyone = Chosen { choice: &everyone, instances: vec!["*".to_owned()], ..Chosen::of(&everyone) };
    let catalogue = catalogue();
    let rows = catalogue.endpoints.iter().filter(|row| row.breadth == breadth);
    let mut all: Vec<Pattern> = rows
        .flat_map(|row| {
            let regions = catalogue.offered().filter(|(code, _)| row.holds_in(code));
            regions.flat_map(|(code, region)| names(row, code, region, &everyone)).collect::<Vec<_>>()
        })
        .filter_map(|name| Pattern::parse(&name).ok())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(pattern: &str) -> Option<String> {
        open_to_strangers(&Pattern::parse(pattern).unwrap())
    }

    #[test]
    fn wide_patterns_are_open_to_strangers() {
        for pattern in [
            "*.amazonaws.com",
            "*.us-west-2.amazonaws.com",
            "*.cloudfront.net",
            "d*.cloudfront.net",
            "*.awsapps.com",
            "d-*.awsapps.com",
            "*.s3.us-west-2.amazonaws.com",
            "acme-*.s3.eu-west-1.amazonaws.com",
            "*.s3.*.amazonaws.com",
            "*.execute-api.eu-west-1.amazonaws.com",
            "*.my.connect.aws",
            "*.co.uk",
            "*.uk",
            "*.com",
            "shop*.com",
            "example.*",
            "*.blob.core.windows.net",
            "*.core.windows.net",
            "*.windows.net",
            "*.github.io",
            "foo*.azurewebsites.net",
            "*.lambda-url.us-west-2.on.aws",
            "*.on.aws",
            "*.web.app",
            "s3-us-gov-west-1.amazonaws.com",
            "s3.amazonaws.com",
            "s3*.amazonaws.com",
            "s3.us-west-2.amazonaws.com",
            "s3.*.amazonaws.com",
            "s3-fips.us-east-1.amazonaws.com",
            "s3.dualstack.eu-west-1.amazonaws.com",
            "s3.cn-north-1.amazonaws.com.cn",
            "s3.us-west-2.api.aws",
            "sqs.us-west-2.amazonaws.com",
            "us-west-2.queue.amazonaws.com",
            "dynamodb*.us-*.amazonaws.com",
            "lambda.eu-central-1.amazonaws.com",
            "lambda.eu-nowhere-9.amazonaws.com",
            "sts.amazonaws.com",
            "*.api.aws",
            "*.us-west-2.api.aws",
            "storage.googleapis.com",
            "storage*.googleapis.com",
        ] {
            assert!(why(pattern).is_some(), "{pattern}");
        }
    }

    #[test]
    fn names_of_one_owner_are_not() {
        for pattern in [
            "acme.awsapps.com",
            "d-1234567890.awsapps.com",
            "d38fzyjx9jg8fj.cloudfront.net",
            "acme-files.s3.us-west-2.amazonaws.com",
            "*.acme.github.io",
            "acme.github.io",
            "*.acme.co.uk",
            "*.crm.example",
            "*.acme.com",
            "login*.acme.com",
            "foo*.windows.net",
            "*.transport.connect.us-west-2.amazonaws.com",
            "participant.connect.us-west-2.amazonaws.com",
            "rtc*.connect-telecom.us-west-2.amazonaws.com",
            "connect.us-west-2.amazonaws.com",
            "profile.eu-west-2.api.aws",
            "acme.s3.amazonaws.com",
            "abc123.execute-api.us-west-2.amazonaws.com",
            "s3.acme.example",
            "s3.us-west-2.acme.com",
            "192.0.2.1",
            "localhost",
        ] {
            assert_eq!(why(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn the_reason_names_what_is_shared() {
        let said = |pattern| why(pattern).unwrap();
        assert!(said("*.github.io").starts_with("github.io is a public suffix"));
        assert!(said("*.windows.net").contains("lie below windows.net"));
        assert!(said("*.awsapps.com").contains("below awsapps.com"));
        assert!(said("s3.us-west-2.amazonaws.com").contains("buckets of all AWS customers by path"));
        assert!(said("sqs.us-west-2.amazonaws.com").starts_with("sqs.us-west-2.amazonaws.com is an AWS"));
    }
}
