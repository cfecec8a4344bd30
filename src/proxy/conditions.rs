//! What a request for a file says of the form of its answer: whether it may be compressed, and which copy
//! the client has already.

use http::HeaderMap;

/// Conditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The client takes gzip (`Accept-Encoding`, RFC 9110 section 12.5.3).
    pub gzip: bool,
    /// The values of `If-None-Match`.
    pub known: Option<Box<str>>,
}

impl Conditions {
    /// Those of a request with these fields.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut conditions = Self::default();
        for (name, value) in fields {
            conditions.note(name.as_str(), value.as_bytes());
        }
        conditions
    }

    /// Takes note of a field; false when it is none of ours.
    pub fn note(&mut self, name: &str, value: &[u8]) -> bool {
        if name.eq_ignore_ascii_case("accept-encoding") {
            self.gzip |= takes_gzip(value);
        } else if name.eq_ignore_ascii_case("if-none-match") {
            let value = String::from_utf8_lossy(value);
            let before = self.known.take();
            self.known = Some(before.map_or(value.as_ref().into(), |b| format!("{b}, {value}").into()));
        } else {
            return false;
        }
        true
    }

    /// Whether the client has this copy, by its entity tag. The comparison is the weak one (RFC 9110 section
    /// 13.1.2), under which a tag is the same with `W/` before it.
    pub(crate) fn knows(&self, tag: &str) -> bool {
        let known = self.known.as_deref().unwrap_or_default();
        let mut tags = known.split(',').map(str::trim);
        tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
    }
}

/// Whether a list of codings has gzip, itself or by `*`, with a weight above zero.
fn takes_gzip(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let weight = |wanted: &str| {
        let mut all = value.split(',').filter_map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
            let mut weight = weight.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")).map(|(_, q)| q);
            let names_it = name.trim().eq_ignore_ascii_case(wanted);
            names_it.then(|| weight.next().map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0)))
        });
        all.next()
    };
    weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(fields: &[(&str, &str)]) -> Conditions {
        let mut conditions = Conditions::default();
        for (name, value) in fields {
            assert!(conditions.note(name, value.as_bytes()), "{name}");
        }
        conditions
    }

    #[test]
    fn gzip_only_where_it_is_taken() {
        for (value, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("x-gzip", true),
            ("*", true),
            ("br, *;q=0.1", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("gzipped", false),
            ("gzip;q=much", false),
            ("", false),
        ] {
            assert_eq!(noted(&[("Accept-Encoding", value)]).gzip, taken, "{value}");
        }
        assert!(noted(&[("accept-encoding", "br"), ("accept-encoding", "gzip")]).gzip);
        assert!(!Conditions::default().note("accept", b"gzip"));
    }

    #[test]
    fn a_known_tag_is_found_in_every_form() {
        for (value, known) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"a", false),
            ("a", false),
            ("\"A\"", false),
            ("", false),
        ] {
            assert_eq!(noted(&[("If-None-Match", value)]).knows("\"a\""), known, "{value}");
        }
        assert!(noted(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")]).knows("\"a\""));
        assert!(!Conditions::default().knows("\"a\""));
    }
}
