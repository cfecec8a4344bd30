//! Reads `connect.origins` and `connect.instance_ids`: the sites that embed the panel, and the instances
//! that have to approve them. What AWS would refuse, or accept and never match, is refused here.

use crate::target::Host;

/// What AWS takes for an origin at most, in bytes.
const LONGEST_ORIGIN: usize = 267;

/// What AWS takes for an instance's id at most.
const LONGEST_ID: usize = 100;

/// Reads an item of `connect.origins`: scheme, host, and a port that isn't 443, as a browser names the
/// site of a page.
///
/// # Errors
/// Why it is none, with what was probably meant.
pub fn origin(text: &str) -> Result<String, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(meant("the scheme is missing", &format!("https://{text}")));
    };
    if !scheme.eq_ignore_ascii_case("https") {
        let why = format!("the scheme {scheme:?} can't embed the panel");
        return Err(if scheme.eq_ignore_ascii_case("http") {
            meant(&why, &format!("https://{rest}"))
        } else {
            why
        });
    }
    if let Some(at) = rest.find(['/', '?', '#']) {
        let what = match &rest[at..] {
            "/" => "a slash at the end never matches what a browser sends",
            other if other.starts_with('/') => "an origin has no path",
            other if other.starts_with('?') => "an origin has no query",
            _ => "an origin has no fragment",
        };
        return Err(meant(what, &format!("https://{}", &rest[..at])));
    }
    if let Some((_, host)) = rest.rsplit_once('@') {
        return Err(meant("an origin has no user", &format!("https://{host}")));
    }
    if rest.contains('*') {
        return Err("AWS approves single sites, no wildcards: list each one".to_owned());
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = Host::parse(host.as_bytes()).map_err(|error| format!("{host:?} is no host: {error}"))?;
    let host = match host {
        Host::Ip(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        other => other.to_string(),
    };
    let port = match port {
        None => String::new(),
        Some("443") => {
            return Err(meant(
                "browsers leave out port 443, which is the scheme's own",
                &format!("https://{host}"),
            ));
        }
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => format!(":{port}"),
            _ => return Err(format!("the port {digits:?} is not a number from 1 to 65535")),
        },
    };
    let origin = format!("https://{host}{port}");
    if origin.len() > LONGEST_ORIGIN {
        return Err(format!("{} characters, and AWS takes {LONGEST_ORIGIN} at most", origin.len()));
    }
    Ok(origin)
}

/// A reason, with a correction that is an origin itself.
fn meant(why: &str, text: &str) -> String {
    match origin(text) {
        Ok(origin) => format!("{why}, did you mean {origin:?}?"),
        Err(_) => why.to_owned(),
    }
}

/// Reads an item of `connect.instance_ids`: the id of an instance, which isn't its alias.
///
/// # Errors
/// Why it is none, with the id where the text is an ARN that holds one.
pub fn instance_id(text: &str) -> Result<String, String> {
    if let Some(id) = text.strip_prefix("arn:").and_then(|arn| arn.rsplit_once("instance/")).map(|(_, id)| id)
    {
        return Err(match instance_id(id) {
            Ok(id) => format!("this is an ARN, did you mean {id:?}?"),
            Err(_) => "this is an ARN".to_owned(),
        });
    }
    let fits = (1..=LONGEST_ID).contains(&text.len());
    if !fits || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || text.starts_with('-') {
        return Err(String::new());
    }
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return Err("this looks like an alias; `aws connect list-instances` shows the ids".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_taken_in_the_form_that_browsers_send() {
        for (text, read) in [
            ("https://crm.example", "https://crm.example"),
            ("HTTPS://CRM.Example", "https://crm.example"),
            ("https://crm.example:8443", "https://crm.example:8443"),
            ("https://crm.example.", "https://crm.example"),
            ("https://10.0.0.7", "https://10.0.0.7"),
            ("https://[2001:db8::7]:8443", "https://[2001:db8::7]:8443"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(read), "{text}");
            assert_eq!(origin(read).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_aws_refuses_or_never_matches_is_refused() {
        for (text, why) in [
            ("http://crm.example", "did you mean \"https://crm.example\"?"),
            ("ftp://crm.example", "the scheme \"ftp\""),
            ("crm.example", "the scheme is missing, did you mean \"https://crm.example\"?"),
            ("https://crm.example/", "a slash at the end"),
            ("https://crm.example/desk?x", "an origin has no path, did you mean \"https://crm.example\"?"),
            ("https://crm.example?x=/", "no query"),
            ("https://crm.example#top", "no fragment"),
            ("https://me:pw@crm.example", "no user, did you mean \"https://crm.example\"?"),
            ("https://*.crm.example", "no wildcards"),
            ("https://crm.example:443", "port 443"),
            ("https://crm.example:0", "the port"),
            ("https://crm.example:+8443", "the port"),
            ("https://crm.example:", "the port"),
            ("https://", "is no host"),
            ("https://crm example", "is no host"),
            ("", "the scheme is missing"),
        ] {
            let said = origin(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        // 253 bytes are a name's most, so only a port could make one longer; AWS's bound holds anyway.
        let long = format!("https://{}.example", "a.".repeat(130).trim_end_matches('.'));
        assert!(origin(&long).is_err());
    }

    #[test]
    fn an_id_is_no_alias() {
        let id = "12345678-90ab-cdef-1234-567890abcdef";
        assert_eq!(instance_id(id).as_deref(), Ok(id));
        let arn = format!("arn:aws:connect:us-west-2:123456789012:instance/{id}");
        assert!(instance_id(&arn).unwrap_err().contains(&format!("did you mean \"{id}\"?")));
        assert!(instance_id("acme").unwrap_err().contains("an alias"));
        for text in ["", "a b-1", "-1-a", "$(x)-1", &"1-".repeat(51)] {
            assert!(instance_id(text).is_err(), "{text}");
        }
    }
}
