//! The endpoints that all customers of a cloud share: whose data a request is about is said in its path
//! or its signature, which nobody sees from outside. Whether a pattern can match one is told by the
//! forms of their names, since AWS adds services and Regions all the time. Pure.
//!
//! Forms: <https://docs.aws.amazon.com/general/latest/gr/rande.html>.

use super::catalogue;
use crate::policy::{Pattern, is_region, label_matches};

/// Under these AWS has the endpoints of its services.
const SUFFIXES: [&str; 5] =
    ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "api.aws", "api.amazonwebservices.com.cn"];
/// Object stores of others that serve every customer's buckets by path.
const BY_PATH: [&str; 3] =
    ["storage.googleapis.com", "storage.cloud.google.com", "commondatastorage.googleapis.com"];

/// Why what the pattern matches is every customer's, in a sentence without a full stop; none where it
/// can't match an endpoint of that kind, or one of those that Amazon Connect itself has.
pub(super) fn shared_by_all(pattern: &Pattern) -> Option<String> {
    if let Some(host) = BY_PATH.into_iter().find(|host| covers(pattern.as_str(), host)) {
        return Some(format!("{host} serves the buckets of all its customers by path"));
    }
    let mut of_suffix = SUFFIXES
        .into_iter()
        .filter_map(|suffix| pattern.as_str().strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')));
    let labels: Vec<&str> = of_suffix.next()?.split('.').collect();
    let service = match labels[..] {
        // `sts.amazonaws.com`, `s3-us-west-2.amazonaws.com`.
        [service] if !is_region(service) => service,
        // `sqs.us-west-2.amazonaws.com`, and the older `us-west-2.queue.amazonaws.com`.
        [service, region] if may_be_region(region) => service,
        [region, service] if is_region(region) => service,
        // `s3.dualstack.us-west-2.amazonaws.com`.
        [service, "dualstack", region] if may_be_region(region) => service,
        _ => return None,
    };
    Some(if service.starts_with("s3") {
        "an S3 endpoint serves the buckets of all AWS customers by path, a bucket's own host is \
         BUCKET.s3.REGION.amazonaws.com"
            .to_owned()
    } else if pattern.is_exact() {
        format!("{pattern} is an AWS service's endpoint for all its customers")
    } else {
        "it matches AWS services' endpoints for all their customers".to_owned()
    })
}

/// Whether a pattern's text matches a host, label by label.
fn covers(pattern: &str, host: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut all = true;
    for label in host.split('.') {
        all &= wanted.next().is_some_and(|wanted| label_matches(wanted, label));
    }
    all && wanted.next().is_none()
}

/// Whether a label has the form of a Region's code, or a star that may stand for one.
fn may_be_region(label: &str) -> bool {
    is_region(label)
        || label.contains('*') && catalogue().offered().any(|(code, _)| label_matches(label, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_may_stand_for_a_region() {
        assert!(may_be_region("us-*") && may_be_region("*") && may_be_region("eusc-de-east-1"));
        assert!(!may_be_region("queue*") && !may_be_region("queue"));
        assert!(catalogue().regions.keys().all(|code| is_region(code)));
    }
}
