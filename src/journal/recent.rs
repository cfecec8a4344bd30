//! The last so many different things, by when they were last seen: what comes anew takes the place of
//! what was seen longest ago. A touch costs two look-ups, whatever comes; nothing is searched.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// At most so many values by key.
pub(super) struct Recent<K, V> {
    most: usize,
    values: HashMap<Arc<K>, (u64, V)>,
    /// Which key was seen when, in the order of a counter.
    order: BTreeMap<u64, Arc<K>>,
    next: u64,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, values: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    /// The value of a key that is seen now.
    pub(super) fn touch(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        let at = self.next;
        self.next += 1;
        let key = match self.values.get_key_value(&key) {
            Some((known, (before, _))) => {
                self.order.remove(before);
                known.clone()
            }
            None => {
                if self.values.len() >= self.most
                    && let Some((_, oldest)) = self.order.pop_first()
                {
                    self.values.remove(&oldest);
                }
                Arc::new(key)
            }
        };
        self.order.insert(at, key.clone());
        let (seen, value) = self.values.entry(key).or_insert_with(|| (at, new()));
        *seen = at;
        value
    }

    /// The value of a key, which isn't seen by that.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key).map(|(_, value)| value)
    }

    /// The last seen first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let known = |key: &Arc<K>| self.values.get_key_value(key);
        self.order.values().rev().filter_map(known).map(|(key, (_, value))| (&**key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_longest_ago_goes() {
        let mut recent = Recent::new(3);
        for key in [1, 2, 3, 1, 4, 5] {
            *recent.touch(key, || 0) += 1;
        }
        let all: Vec<_> = recent.iter().map(|(key, count)| (*key, *count)).collect();
        assert_eq!(all, [(5, 1), (4, 1), (1, 2)]);
        assert_eq!(recent.get_mut(&2), None);
        assert_eq!((recent.values.len(), recent.order.len()), (3, 3));
    }
}
