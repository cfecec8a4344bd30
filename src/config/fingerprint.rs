//! A short word for a whole configuration, to tell a fleet whose proxies run different ones.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde_json::{Value as Json, json};

use super::Config;
use super::sections::Section as _;

/// So many bytes of the digest: enough that two configurations never share a word by chance.
const BYTES: usize = 6;

impl Config {
    /// Twelve hexadecimal digits over all values, wherever they came from, but for the addresses that are
    /// listened on: those differ from one proxy of a fleet to the next.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let keys = |keys: Vec<(&'static str, toml::Value)>| -> Json {
            let kept = keys.into_iter().filter(|(key, _)| *key != "listen");
            Json::Object(kept.map(|(key, value)| (key.to_owned(), json!(value))).collect())
        };
        let sections = self.write().into_iter().map(|(section, values)| json!([section, keys(values)]));
        let allow = self.allow.iter().map(|allow| keys(allow.write()));
        let all = json!([sections.collect::<Vec<_>>(), allow.collect::<Vec<_>>()]);
        HEXLOWER.encode(&digest(&SHA256, all.to_string().as_bytes()).as_ref()[..BYTES])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};

    #[test]
    fn it_changes_with_every_value_but_the_addresses_of_listeners() {
        let of = |set: &[&str]| {
            let set = set.iter().map(|flag| (*flag).to_owned()).collect();
            load(&Sources { set, ..Sources::default() }).unwrap().config.fingerprint()
        };
        let default = of(&[]);
        assert_eq!(default.len(), 12);
        for same in ["proxy.listen=[\"127.0.0.1:9\"]", "admin.listen=127.0.0.1:9", "log.level=info"] {
            assert_eq!(of(&[same]), default, "{same}");
        }
        for other in [
            "connect.regions=eu-west-2",
            "limits.drain=9h",
            "allow=[{ pattern = \"idp.example\" }]",
            "allow=[{ pattern = \"idp.example\", ports = [8443] }]",
            "dns.hosts={ \"a.example\" = [\"127.0.0.1\"] }",
        ] {
            assert_ne!(of(&[other]), default, "{other}");
        }
        assert_ne!(of(&["allow=[{ pattern = \"a\" }]"]), of(&["allow=[{ pattern = \"b\" }]"]));
    }
}
