//! What differs between two configurations: what somebody asks first when something fails after a
//! reload. There are no secrets in a configuration, only paths of files.

use super::Config;
use super::section::Section as _;

/// Characters of a value that are shown.
const SHOWN: usize = 120;

impl Config {
    /// Each key whose value is another in `new`, as `key: old → new`; `[[allow]]` entry by entry.
    pub(crate) fn differences(&self, new: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for ((section, old), (_, new)) in self.write().into_iter().zip(new.write()) {
            for ((key, old), (_, new)) in old.into_iter().zip(new).filter(|((_, old), (_, new))| old != new) {
                found.push(format!("{section}.{key}: {} → {}", cut(&old), cut(&new)));
            }
        }
        for (word, one, other) in [("without", self, new), ("with", new, self)] {
            let gone = one.allow.iter().filter(|entry| !other.allow.contains(entry));
            found.extend(gone.map(|entry| {
                let keys = entry.write().into_iter().map(|(key, value)| format!("{key} = {value}"));
                format!("[[allow]] {word} {}", cut(&keys.collect::<Vec<_>>().join(", ")))
            }));
        }
        found
    }
}

fn cut(value: &impl ToString) -> String {
    let whole = value.to_string().replace(char::is_control, " ");
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};

    #[test]
    fn names_what_changed_and_nothing_else() {
        let config = |set: &[&str]| {
            let set = set.iter().map(|flag| flag.to_string()).collect();
            load(&Sources { set, ..Sources::default() }).unwrap().config
        };
        let old = config(&["dns.servers=10.0.0.2"]);
        assert_eq!(old.differences(&old), [] as [&str; 0]);
        let new = config(&["dns.timeout=2s", "connect.instances=acme"]);
        assert_eq!(
            old.differences(&new),
            [
                "connect.instances: [\"*\"] → [\"acme\"]",
                "dns.servers: [\"10.0.0.2:53\"] → []",
                "dns.timeout: \"3s\" → \"2s\""
            ]
        );
        let mut more = new.clone();
        more.allow.push(super::super::Allow {
            pattern: crate::policy::Pattern::parse("login.idp.example").unwrap(),
            ports: vec![443],
            category: crate::policy::Category::Login,
        });
        let added = "pattern = \"login.idp.example\", ports = [443], category = \"login\"";
        assert_eq!(new.differences(&more), [format!("[[allow]] with {added}")]);
        assert_eq!(more.differences(&new), [format!("[[allow]] without {added}")]);
        let servers: Vec<String> = (1..50).map(|at| format!("\"10.0.0.{at}\"")).collect();
        let long = config(&[&format!("dns.servers=[{}]", servers.join(", "))]);
        assert!(old.differences(&long)[0].len() < 300);
    }
}
