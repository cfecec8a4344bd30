//! What is found wrong with ip-ranges.json, beside clients and the rounds of the watch: it holds from the
//! moment when it is told until it is no longer told.

use std::collections::BTreeMap;

use super::{Finding, Key, Second, Source, Subject};
use crate::cause::Cause;
use crate::policy::Category;

/// One thing that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub cause: Cause,
    pub category: Option<Category>,
    /// What it is about, in short.
    pub targets: Vec<String>,
}

/// All that is wrong now, and since when.
#[derive(Debug, Default)]
pub struct Standings(BTreeMap<(Cause, Option<Category>), (Second, Vec<String>)>);

impl Standings {
    /// Takes in what is wrong now; what was told before and isn't any more is over.
    pub fn set(&mut self, now: Second, all: Vec<Standing>) {
        let before = std::mem::take(&mut self.0);
        for Standing { cause, category, targets } in all {
            let key = (cause, category);
            let since = before.get(&key).map_or(now, |(since, _)| *since);
            self.0.insert(key, (since, targets));
        }
    }

    /// Findings without clients.
    pub fn findings(&self, now: Second, active: usize) -> impl Iterator<Item = Finding> {
        self.0.iter().map(move |((cause, category), (since, targets))| Finding {
            key: Key { cause: *cause, category: *category, subject: Subject::None },
            source: Source::Ranges,
            since: *since,
            last: now,
            clients: Vec::new(),
            active,
            networks: Vec::new(),
            targets: targets.clone(),
            lacks: None,
            by: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_as_long_as_it_is_told() {
        let mut all = Standings::default();
        let due = |target: &str| Standing {
            cause: Cause::RangesDue,
            category: Some(Category::Media),
            targets: vec![target.to_owned()],
        };
        all.set(5, vec![due("15.193.6.0/24")]);
        all.set(9, vec![due("15.193.7.0/24")]);
        let found: Vec<Finding> = all.findings(10, 3).collect();
        assert_eq!((found.len(), found[0].since, found[0].last, found[0].active), (1, 5, 10, 3));
        assert_eq!(found[0].source, Source::Ranges);
        assert_eq!(found[0].targets, ["15.193.7.0/24"]);
        all.set(11, Vec::new());
        assert_eq!(all.findings(12, 3).count(), 0);
    }
}
