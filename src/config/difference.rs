//! What differs between two configurations: what somebody asks first when something fails after a
//! reload. It is shown to all who see the status, so it says nothing that may be a secret.

use super::Config;
use super::section::{Reader, Section as _};

/// Characters of a value that are shown.
const SHOWN: usize = 120;

impl Config {
    /// Each key whose value is another in `new`, as `key: old → new`, or as `key: old, …` where they differ in
    /// what isn't shown; `[[allow]]` entry by entry.
    pub(crate) fn differences(&self, new: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let whole = self.values(Reader::Owner).zip(new.values(Reader::Owner));
        let shown = self.values(Reader::Anybody).zip(new.values(Reader::Anybody));
        for (_, ((key, old), (_, new))) in whole.zip(shown).filter(|((old, new), _)| old != new) {
            found.push(match old == new {
                false => format!("{key}: {} → {}", cut(&old), cut(&new)),
                true => format!("{key}: {}, with another part that isn't shown", cut(&old)),
            });
        }
        for (word, one, other) in [("without", self, new), ("with", new, self)] {
            let gone = one.allow.iter().filter(|entry| !other.allow.contains(entry));
            found.extend(gone.map(|entry| {
                let keys = entry.write(Reader::Anybody).into_iter();
                let keys = keys.map(|(key, value)| format!("{key} = {value}"));
                format!("[[allow]] {word} {}", cut(&keys.collect::<Vec<_>>().join(", ")))
            }));
        }
        found
    }

    /// Each key, `dns.servers`, with its value; `[[allow]]` is apart.
    fn values(&self, reader: Reader) -> impl Iterator<Item = (String, toml::Value)> {
        let keys = |(section, keys): (&'static str, Vec<(&'static str, toml::Value)>)| {
            keys.into_iter().map(move |(key, value)| (format!("{section}.{key}"), value))
        };
        self.write(reader).into_iter().flat_map(keys)
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
        let url =
            |query: &str| config(&[&format!("ranges.url=https://mirror.example/ip-ranges.json{query}")]);
        let (plain, one, other) = (url(""), url("?sig=S3cret"), url("?sig=S4cret"));
        let shown = "\"https://mirror.example/ip-ranges.json";
        assert_eq!(plain.differences(&one), [format!("ranges.url: {shown}\" → {shown}?...\"")]);
        assert_eq!(
            one.differences(&other),
            [format!("ranges.url: {shown}?...\", with another part that isn't shown")]
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
