//! The way of a request through proxies, as `Via` tells it (RFC 9110 section 7.6.3), and whether it has
//! come round. A name does not tell proxies apart, for a chain may well have two of one name: each
//! process marks its name with a number of its own, as RFC 8586 has it for content delivery networks.
//! No I/O.

use std::fmt::Write as _;

/// Of so many proxies on a circle the names are shown, and so much of each.
const SHOWN: usize = 8;
const LONGEST: usize = 40;

/// What this process calls itself towards other proxies.
#[derive(Debug)]
pub(crate) struct Mark(String);

impl Default for Mark {
    /// Drawn at random: two processes never have the same.
    fn default() -> Self {
        let mut number = [0; 8];
        // It fails only when the process has no source of randomness at all, and then TLS didn't start.
        let _ = aws_lc_rs::rand::fill(&mut number);
        Self(format!("{:016x}", u64::from_be_bytes(number)))
    }
}

impl Mark {
    /// The value of `Via` for a request that came with `before`; `name` is `proxy.name`.
    pub(super) fn via(&self, name: &str, before: Option<&str>) -> String {
        let mut via = String::new();
        // What can't stand in a field of ours is left out, whoever let it through.
        let fit = |text: &&str| text.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~'));
        if let Some(before) = before.filter(fit).map(str::trim).filter(|text| !text.is_empty()) {
            let _ = write!(via, "{before}, ");
        }
        via.push_str("1.1 ");
        // RFC 9110 section 5.6.2: what a token may have.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        via.extend(name.chars().take(64).map(|c| if token(c) { c } else { '-' }));
        let _ = write!(via, "-{}", self.0);
        via
    }

    /// The proxies that a request has gone through since it was here, by name; none where it is here
    /// for the first time.
    pub(super) fn since(&self, via: &str) -> Option<Vec<String>> {
        let mut since = None;
        for entry in entries(via) {
            let Some(by) = entry.split_whitespace().nth(1) else { continue };
            match (by.rsplit_once('-'), &mut since) {
                (Some((_, number)), _) if number == self.0 => since = Some(Vec::new()),
                (_, Some(names)) if names.len() < SHOWN => names.push(shown(by)),
                _ => {}
            }
        }
        since
    }
}

/// The entries of a list; a comma within a comment ends none.
fn entries(via: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    via.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

/// The name that a proxy gives itself, without the number of another process of ours.
fn shown(by: &str) -> String {
    let number = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let name = by.rsplit_once('-').filter(|(_, tail)| number(tail)).map_or(by, |(name, _)| name);
    name.chars().take(LONGEST).filter(char::is_ascii_graphic).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_that_comes_round_is_known_by_the_mark_alone() {
        let (ours, twin) = (Mark::default(), Mark::default());
        let once = ours.via("ccpgate", None);
        assert_eq!(ours.since(&once), Some(vec![]));
        assert_eq!(twin.since(&once), None, "another process of the same name");
        let twice = twin.via("ccpgate", Some(&once));
        assert_eq!(ours.since(&twice), Some(vec!["ccpgate".to_owned()]));
        assert_eq!(twin.since(&twice), Some(vec![]));
        let through = format!("1.0 fred, {once} (a, comment), HTTP/1.1 squid:3128 (squid/6.1)");
        assert_eq!(ours.since(&through), Some(vec!["squid:3128".to_owned()]));
        for other in ["", ",", "1.1", "1.1 ccpgate", "1.1 ccpgate-", "(1.1 x", "1.1 (ccpgate)"] {
            assert_eq!(ours.since(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_becomes_a_token_and_nothing_enters_by_the_field() {
        let mark = Mark::default();
        assert!(mark.via("Office, 2nd floor", None).starts_with("1.1 Office--2nd-floor-"));
        assert!(mark.via("ccpgate", Some("1.1 a\r\nX: y")).starts_with("1.1 ccpgate-"));
        assert!(mark.via("ccpgate", Some(" 1.0 a ")).starts_with("1.0 a, 1.1 ccpgate-"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_shown_is_short(via: String) {
            let mark = Mark::default();
            prop_assert_eq!(mark.since(&via), None);
            let forth = mark.via("ccpgate", Some(&via));
            // An open comment swallows what follows.
            prop_assert!(via.contains('(') || mark.since(&forth).is_some());
            for name in mark.since(&format!("{forth}, {via}")).unwrap_or_default() {
                prop_assert!(name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
