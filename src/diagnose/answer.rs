//! Whether an HTTP answer is the service's own, and what time the server had. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use psl::Psl as _;

use super::targets::Endpoint;
use crate::agent::http::Answer;
use crate::egress::{printable, without_tags};
use crate::target::{self, Host, Target};

/// How much of a page is quoted, in characters.
const QUOTED: usize = 160;
/// Longest age of a stored answer that is believed.
const OLDEST: u64 = 10 * 365 * 24 * 3600;

/// Where Amazon's own redirects lead.
const AMAZON: &[&str] = &[
    "amazonaws.com",
    "amazon.com",
    "aws",
    "aws.dev",
    "awsapps.com",
    "awsstatic.com",
    "a2z.com",
    "cloudfront.net",
    "amazonaws-us-gov.com",
    "amazoncognito.com",
];

/// The moment at which a server gave its answer. A cache on the way says how old its copy is.
pub(crate) fn date(answer: &Answer) -> Option<SystemTime> {
    let date = answer.field("date")?;
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    let age = answer.field("age").and_then(|age| age.parse().ok()).unwrap_or(0).min(OLDEST);
    let since = u64::try_from(zoned.timestamp().as_second()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(since)).and_then(|at| at.checked_add(Duration::from_secs(age)))
}

/// Why an answer isn't the service's, in words; none where it may be. `public`: a certificate of the
/// public authorities vouches for who answers.
pub(crate) fn foreign(answer: &Answer, endpoint: &Endpoint, public: bool) -> Option<String> {
    // RFC 6585 section 6: captive portals answer so, and no service does.
    if answer.status == 511 {
        return Some(format!("a portal asks for a sign-in (511){}", quoted(answer)));
    }
    if (300..400).contains(&answer.status)
        && let Some(to) = answer.field("location")
        && leads_away(to, &endpoint.host)
        // A site of the administrator's own may redirect anywhere.
        && !(public && endpoint.added)
    {
        return Some(format!("a redirect to a foreign site: {}", printable(to, QUOTED)));
    }
    if !public && !is_amazons(answer) && is_block_page(answer) {
        return Some(format!("a block page ({}){}", answer.status, quoted(answer)));
    }
    None
}

/// Whether a redirect leaves Amazon and the site that it comes from.
fn leads_away(location: &str, host: &str) -> bool {
    let rest = match target::scheme(location) {
        None => location,
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            rest
        }
        Some(_) => return true,
    };
    // Without an authority it is relative to this host.
    if !rest.starts_with("//") {
        return false;
    }
    let Ok(Target { host: to, .. }) = Target::parse_human(&format!("https:{rest}")) else { return true };
    let Host::Name(to) = to else { return true };
    let below =
        |domain: &str| &*to == domain || to.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    !below(registered(host)) && !AMAZON.iter().any(|domain| below(domain))
}

/// The part of a name that its owner registered: the public suffix and one label more.
fn registered(host: &str) -> &str {
    let suffix = psl::List.find(host.rsplit('.').map(str::as_bytes)).len;
    let before = host.len().saturating_sub(suffix + 1);
    let label = host.get(..before).and_then(|rest| rest.rfind('.')).map_or(0, |dot| dot + 1);
    host.get(label..).unwrap_or(host)
}

/// Whether an answer has marks that Amazon's servers leave.
fn is_amazons(answer: &Answer) -> bool {
    answer.fields().any(|(name, value)| {
        name.starts_with("x-amz")
            || (name == "server" && (value.contains("Amazon") || value.contains("awselb")))
    })
}

/// Whether a page reads like that of a filter. Asked only of answers that somebody on the way has
/// decrypted, and that have no mark of Amazon's.
fn is_block_page(answer: &Answer) -> bool {
    const WORDS: &[&str] = &[
        "blocked",
        "access denied",
        "access to this",
        "not allowed",
        "not permitted",
        "web filter",
        "webfilter",
        "url category",
        "url filter",
        "category:",
        "policy",
        "forbidden by",
        "captive portal",
        "sign in to",
        "authentication required",
        "zscaler",
        "netskope",
        "fortiguard",
        "fortigate",
        "umbrella",
        "palo alto",
        "sophos",
        "check point",
        "forcepoint",
        "websense",
        "barracuda",
        "bluecoat",
        "blue coat",
        "squid",
    ];
    let is_page = answer.field("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
        || answer.body.trim_ascii_start().starts_with(b"<");
    let text = String::from_utf8_lossy(&answer.body).to_lowercase();
    is_page && WORDS.iter().any(|word| text.contains(word))
}

/// The words of an answer's page, where it has any.
fn quoted(answer: &Answer) -> String {
    words(&answer.body)
}

/// The words of an unexpected answer, to be put behind a sentence.
pub(super) fn words(bytes: &[u8]) -> String {
    let text = printable(&without_tags(&String::from_utf8_lossy(bytes)), QUOTED);
    if text.is_empty() { text } else { format!(": \"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_within_amazon_and_the_own_site_are_no_portal() {
        for (location, host, away) in [
            ("/connect/login", "acme.my.connect.aws", false),
            ("https://acme.my.connect.aws/connect/", "acme.my.connect.aws", false),
            ("https://us-west-2.signin.aws.amazon.com/x", "acme.awsapps.com", false),
            ("https://us-east-1.signin.aws/platform", "acme.my.connect.aws", false),
            ("HTTPS://AWS.AMAZON.COM", "signin.aws.amazon.com", false),
            ("https://www.idp.example/", "login.idp.example", false),
            ("https://portal.hotel.example/login?u=x", "acme.my.connect.aws", true),
            ("http://10.0.0.1:8080/", "acme.my.connect.aws", true),
            ("//portal.example/", "acme.my.connect.aws", true),
            ("https://notamazon.com/", "acme.my.connect.aws", true),
            ("https://amazonaws.com.evil.example/", "acme.my.connect.aws", true),
            ("javascript://x", "acme.my.connect.aws", true),
            ("javascript:alert(1)", "acme.my.connect.aws", true),
            ("", "acme.my.connect.aws", false),
            ("/login?return=https://acme.my.connect.aws/", "acme.my.connect.aws", false),
            ("/adfs/ls/?wa=wsignin1.0&wreply=https://portal.example/", "acme.my.connect.aws", false),
            ("login?to=http://portal.example/", "acme.my.connect.aws", false),
            ("?to=https://portal.example/", "acme.my.connect.aws", false),
            ("/a#https://portal.example/", "acme.my.connect.aws", false),
            ("./a:b", "acme.my.connect.aws", false),
            ("//acme.my.connect.aws/?to=https://portal.example/", "acme.my.connect.aws", false),
            ("//acme.my.connect.aws:443?to=//portal.example/", "acme.my.connect.aws", false),
            ("//portal.example/?to=https://acme.my.connect.aws/", "acme.my.connect.aws", true),
            ("https://portal.example/?to=https://acme.my.connect.aws/", "acme.my.connect.aws", true),
            ("//acme.my.connect.aws@portal.example/", "acme.my.connect.aws", true),
            ("///portal.example/", "acme.my.connect.aws", true),
        ] {
            assert_eq!(leads_away(location, host), away, "{location}");
        }
    }
}
