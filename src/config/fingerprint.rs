//! A short word for a whole configuration, to tell a fleet whose proxies run different ones.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::Loaded;
use super::section::{Reader, Section as _};
use crate::digest::short_hex;

/// So many bytes of the digest: enough that two configurations never share a word by chance.
const BYTES: usize = 6;

impl Loaded {
    /// Twelve hexadecimal digits over all values, wherever they came from, but for the addresses that are
    /// listened on: those differ from one proxy of a fleet to the next. Files below the folder of the
    /// configuration, the working directory, or the folder of systemd's credentials, count by their path
    /// from there.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint_beside(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new))
    }

    /// The same with the credentials of this service in that folder, which is called by the instance, as in
    /// /run/credentials/ccpgate@a.service (systemd.exec(5)).
    fn fingerprint_beside(&self, credentials: Option<&Path>) -> String {
        // Written as the values are: without a slash at its end, or two in a row.
        let credentials = credentials
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.components().collect::<PathBuf>());
        let folder =
            self.file.as_deref().and_then(Path::parent).map(|folder| std::path::absolute(folder).ok());
        // The credentials' own folder first: it may be below one of the others.
        let bases = [credentials, folder.flatten(), std::env::current_dir().ok()];
        let bases: Vec<String> = bases.iter().flatten().map(|base| format!("{}/", base.display())).collect();
        let keys = |keys: Vec<(&'static str, toml::Value)>| -> Json {
            let kept = keys.into_iter().filter(|(key, _)| *key != "listen");
            Json::Object(kept.map(|(key, value)| (key.to_owned(), relative(json!(value), &bases))).collect())
        };
        let sections = self
            .config
            .write(Reader::Owner)
            .into_iter()
            .map(|(section, values)| json!([section, keys(values)]));
        let allow = self.config.allow.iter().map(|allow| keys(allow.write(Reader::Owner)));
        let all = json!([sections.collect::<Vec<_>>(), allow.collect::<Vec<_>>()]);
        short_hex::<BYTES>(all.to_string().as_bytes())
    }
}

/// The same with paths from where they count.
fn relative(value: Json, bases: &[String]) -> Json {
    match value {
        Json::String(text) => {
            let below = bases.iter().find_map(|base| text.strip_prefix(base.as_str()));
            Json::String(below.unwrap_or(&text).to_owned())
        }
        Json::Array(items) => items.into_iter().map(|item| relative(item, bases)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Sources, load};

    #[test]
    fn it_changes_with_every_value_but_the_addresses_of_listeners() {
        let of = |set: &[&str]| {
            let set = set.iter().map(|flag| (*flag).to_owned()).collect();
            load(&Sources { set, ..Sources::default() }).unwrap().fingerprint()
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

    #[test]
    fn the_same_file_in_another_folder_is_the_same_configuration() {
        let of = |certificate: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("c.toml");
            std::fs::write(&file, format!("[tls]\ncertificate = {certificate:?}\n")).unwrap();
            load(&Sources { file: Some(file), ..Sources::default() }).unwrap().fingerprint()
        };
        assert_eq!(of("a.pem"), of("a.pem"));
        assert_ne!(of("a.pem"), of("b.pem"));
        assert_ne!(of("a.pem"), of("/a.pem"));
    }

    #[test]
    fn credentials_count_by_their_names_whatever_instance_they_are_of() {
        // As a drop-in sets them: %d/proxy.key.
        let of = |folder: &str, credentials: Option<&str>| {
            let variable = |name: &str, file: &str| (name.to_owned(), format!("{folder}/{file}"));
            let env = vec![
                variable("CCPGATE_TLS__KEY", "proxy.key"),
                variable("CCPGATE_TLS__TICKET_KEYS", "ticket.key"),
            ];
            let loaded = load(&Sources { env, ..Sources::default() }).unwrap();
            loaded.fingerprint_beside(credentials.map(Path::new))
        };
        const A: &str = "/run/credentials/ccpgate@a.service";
        const B: &str = "/run/credentials/ccpgate@b.service";
        assert_eq!(of(A, Some(A)), of(B, Some(B)));
        assert_eq!(of(A, Some(A)), of(B, Some("/run/credentials//ccpgate@b.service/")));
        assert_ne!(of(A, Some(A)), of(A, Some(B)), "another service's");
        // Beside the service there is no such folder, or none that counts.
        for none in [None, Some(""), Some("run")] {
            assert_ne!(of(A, none), of(B, none), "{none:?}");
        }
    }
}
