//! Whether two patterns have a host in common, and which.

use std::collections::{BTreeSet, VecDeque};

use crate::policy::Pattern;
use crate::target::Host;

/// One step of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Character(u8),
    /// Any run of characters within a label, also none.
    Star,
    /// Any run of characters, dots among them: what stands in front of the dot of a leading `*.`.
    Labels,
}

/// Both patterns' places, and the character before.
type State = (usize, usize, u8);

/// The shortest host that both match.
pub(super) fn witness(a: &Pattern, b: &Pattern) -> Option<String> {
    let (left, right) = (steps(a), steps(b));
    let mut seen: BTreeSet<State> = BTreeSet::new();
    let mut queue: VecDeque<(State, String)> = VecDeque::from([((0, 0, b'.'), String::new())]);
    while let Some(((i, j, before), text)) = queue.pop_front() {
        if !seen.insert((i, j, before)) {
            continue;
        }
        if i == left.len() && j == right.len() && before != b'.' {
            let found = Host::parse(text.as_bytes()).is_ok_and(|host| a.matches(&host) && b.matches(&host));
            if found {
                return Some(text);
            }
        }
        // A run may end here.
        let is_run = |steps: &[Step], at: usize| matches!(steps.get(at), Some(Step::Star | Step::Labels));
        if is_run(&left, i) {
            queue.push_back(((i + 1, j, before), text.clone()));
        }
        if is_run(&right, j) {
            queue.push_back(((i, j + 1, before), text.clone()));
        }
        let fixed = |steps: &[Step], at: usize| match steps.get(at) {
            Some(Step::Character(c)) => Some(*c),
            _ => None,
        };
        let candidates = [fixed(&left, i), fixed(&right, j), Some(b'a'), Some(b'.')];
        for c in candidates.into_iter().flatten().filter(|c| *c != b'.' || before != b'.') {
            let after = |steps: &[Step], at: usize| match steps.get(at) {
                Some(Step::Character(own)) => (*own == c).then_some(at + 1),
                Some(Step::Star) => (c != b'.').then_some(at),
                Some(Step::Labels) => Some(at),
                None => None,
            };
            if let (Some(i), Some(j)) = (after(&left, i), after(&right, j)) {
                let mut longer = text.clone();
                longer.push(char::from(c));
                queue.push_back(((i, j, c), longer));
            }
        }
    }
    None
}

fn steps(pattern: &Pattern) -> Vec<Step> {
    let text = pattern.as_str();
    let (labels, rest) = match text.strip_prefix("*.") {
        Some(_) => (true, &text[1..]),
        None => (false, text),
    };
    let rest = rest.bytes().map(|b| if b == b'*' { Step::Star } else { Step::Character(b) });
    labels.then_some(Step::Labels).into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_share_a_host_name_it() {
        for (a, b, shared) in [
            ("*.cloudfront.net", "*.bad.cloudfront.net", Some("a.bad.cloudfront.net")),
            ("x.example.com", "*.example.com", Some("x.example.com")),
            ("*.example.com", "example.com", None),
            ("rtc*.x.net", "*1.x.net", Some("rtc1.x.net")),
            ("rtc*.x.net", "*.y.net", None),
            ("a*.x.net", "b*.x.net", None),
            ("*.x.net", "a*.b.x.net", Some("a.b.x.net")),
            ("*.x.net", "*.x.net", Some("a.x.net")),
        ] {
            let (a, b) = (Pattern::parse(a).unwrap(), Pattern::parse(b).unwrap());
            assert_eq!(witness(&a, &b).as_deref(), shared, "{a} {b}");
            assert_eq!(witness(&b, &a).as_deref(), shared, "{b} {a}");
        }
    }
}
