//! What is wrong with a server's certificate, in words that a person can act on: dates as dates, names as
//! names. No I/O.

use std::time::Duration;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::answer::printable;
use crate::wording::{first, span};

/// Longest text, in characters: a certificate may have a hundred names.
const LONGEST: usize = 300;
/// Names of a certificate that are told.
const NAMED: usize = 6;

/// Continues a sentence about a certificate, or is one.
pub(crate) fn in_words(why: &CertificateError) -> String {
    let text = match why {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("the certificate expired on {}, {} ago", date(*not_after), between(*not_after, *time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "the certificate is valid from {} on, in {} by this machine's clock",
                date(*not_before),
                between(*time, *not_before)
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("the certificate is for {}, not for {}", names(presented), expected.to_str())
        }
        CertificateError::Other(inner) => by_name(&inner.to_string()),
        other => by_name(&other.to_string()),
    };
    printable(&text, LONGEST)
}

/// What the library names by a type of its source text, such as `BadSignature`; its sentences stay as they are.
fn by_name(said: &str) -> String {
    let name: String = said.chars().take_while(char::is_ascii_alphanumeric).collect();
    match &*name {
        // As `openssl req -x509` makes them.
        "CaUsedAsEndEntity" => {
            "the certificate is that of an authority (CA:TRUE), which no server may show".to_owned()
        }
        name if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
            format!("the certificate: {}", apart(name.strip_suffix("Context").unwrap_or(name)))
        }
        _ => said.to_owned(),
    }
}

/// The words of a name.
fn apart(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// As AWS and every calendar write it.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "a date far away".to_owned(), |time| time.to_string())
}

fn between(from: UnixTime, until: UnixTime) -> String {
    span(Duration::from_secs(until.as_secs().saturating_sub(from.as_secs())))
}

/// The library writes `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| match (name.find('('), name.rfind(')')) {
        (Some(open), Some(close)) if open < close => name[open + 1..close].trim_matches('"').to_owned(),
        _ => name.clone(),
    };
    if presented.is_empty() { "no name at all".to_owned() } else { first(presented.iter().map(bare), NAMED) }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rustls::OtherError;
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn no_name_of_a_type_is_shown() {
        let context = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![1, 2],
            supported_algorithms: Vec::new(),
        };
        let theirs =
            |said: &str| CertificateError::Other(OtherError(Arc::new(io::Error::other(said.to_owned()))));
        for (error, words) in [
            (theirs("CaUsedAsEndEntity"), "an authority (CA:TRUE)"),
            (theirs("PathLenConstraintViolated"), "the certificate: path len constraint violated"),
            (theirs("TrailingData(Certificate)"), "the certificate: trailing data"),
            (theirs("it is blue"), "it is blue"),
            (CertificateError::BadSignature, "the certificate: bad signature"),
            (context, "the certificate: unsupported signature algorithm"),
        ] {
            let told = in_words(&error);
            assert!(told.contains(words) && !told.contains(['{', '[']), "{error:?}: {told}");
        }
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn dates_and_names_are_told_and_no_library_speaks() {
        let expired =
            CertificateError::ExpiredContext { time: at(1_795_824_383), not_after: at(1_795_651_583) };
        assert_eq!(in_words(&expired), "the certificate expired on 2026-11-26T00:06:23Z, 2 days ago");
        let early =
            CertificateError::NotValidYetContext { time: at(1_795_651_583), not_before: at(1_795_655_183) };
        assert_eq!(
            in_words(&early),
            "the certificate is valid from 2026-11-26T01:06:23Z on, in 60 min by this machine's clock"
        );
        let other = |presented: Vec<String>| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("acme.my.connect.aws").unwrap(),
            presented,
        };
        assert_eq!(
            in_words(&other(vec!["DnsName(\"portal.example\")".into(), "IpAddress(192.0.2.1)".into()])),
            "the certificate is for portal.example, 192.0.2.1, not for acme.my.connect.aws"
        );
        assert!(in_words(&other(Vec::new())).contains("for no name at all"));
        assert!(in_words(&other(vec!["DnsName(\"x\")".into(); 9])).contains("x, x and 3 more"));
        assert!(!in_words(&other(vec!["\u{1b}[2J".into()])).contains('\u{1b}'));
    }
}
