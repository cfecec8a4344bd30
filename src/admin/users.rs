//! Who may fetch lists: names with hashes of their passwords, as `htpasswd -B` writes them. A password is
//! compared in constant time, and a name that isn't known takes as long as one that is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use bcrypt::HashParts;
use data_encoding::BASE64;
use tokio::sync::Semaphore;

use crate::lock::lock;
use crate::tls::secret::Secret;

/// So many bytes of a file are read at most.
const LARGEST: u64 = 1 << 20;
/// The largest cost that is taken: each fetch of a list takes the time for it, about a second here.
const MOST_COST: u32 = 14;
/// How many passwords are compared at a time: it is work for a processor, and agents' tunnels come first.
const AT_ONCE: usize = 1;
/// Longest name and password, in bytes.
const LONGEST: usize = 256;

/// The users of one file.
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
    /// The dearest of these hashes: an unknown name is compared with it, in vain.
    dearest: String,
    /// The digests of what was found right before, by name: a firewall that asks each minute costs a hash
    /// once.
    right: Mutex<BTreeMap<String, [u8; 32]>>,
    places: Semaphore,
}

impl Users {
    /// Reads a file of `name:hash` lines; empty lines and those that begin with `#` count for nothing.
    ///
    /// # Errors
    /// What is wrong, with the line and what would be valid.
    pub(crate) fn load(file: &Path) -> Result<Self, String> {
        let named = |why: String| format!("edl.users: {}: {why}", file.display());
        let mut text = String::new();
        let unreadable = |error| named(format!("can't be read: {error}"));
        let Some(secret) = Secret::open(file).map_err(unreadable)? else {
            return Err(named("is not a regular file, nor a link to one".into()));
        };
        secret.file.take(LARGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > LARGEST {
            return Err(named(format!("is larger than {} KiB", LARGEST >> 10)));
        }
        Self::parse(&text).map_err(named)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut hashes = BTreeMap::new();
        let mut dearest = (0, String::new());
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line isn't shown: a password may stand in it.
            let refuse = |why: &str| {
                Err(format!("line {number}: {why}; expected NAME:HASH as `htpasswd -nB NAME` writes it"))
            };
            let Some((name, hash)) = line.split_once(':') else { return refuse("has no colon") };
            if name.is_empty() || name.len() > LONGEST || name.contains(char::is_control) {
                return refuse("has no usable name");
            }
            let Ok(parts) = hash.parse::<HashParts>() else { return refuse("its hash isn't bcrypt's") };
            if parts.get_cost() > MOST_COST {
                return refuse(&format!("cost {} takes too long, at most {MOST_COST}", parts.get_cost()));
            }
            if parts.get_cost() > dearest.0 {
                dearest = (parts.get_cost(), hash.to_owned());
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return refuse("its name stands in the file twice");
            }
        }
        match hashes.is_empty() {
            true => {
                Err("has no user, so that nobody could fetch a list; `htpasswd -nB NAME` writes one".into())
            }
            false => Ok(Self {
                hashes,
                dearest: dearest.1,
                right: Mutex::default(),
                places: Semaphore::new(AT_ONCE),
            }),
        }
    }

    /// The user whose name and password an `Authorization` field has, if they are right.
    pub(crate) async fn judge(self: Arc<Self>, field: &[u8]) -> Option<String> {
        let (name, password) = basic(field)?;
        let told = told(&name, &password);
        if let Some(right) = self.right().get(&name)
            && verify_slices_are_equal(right, &told).is_ok()
        {
            return Some(name);
        }
        let _place = self.places.acquire().await.ok()?;
        let (users, of) = (self.clone(), name.clone());
        let compare = move || {
            let known = users.hashes.get(&of);
            // Both are compared in constant time, within the library.
            let equal = bcrypt::verify(password, known.unwrap_or(&users.dearest)).unwrap_or(false);
            equal && known.is_some()
        };
        let right = tokio::task::spawn_blocking(compare).await.unwrap_or(false);
        if right {
            self.right().insert(name.clone(), told);
        }
        right.then_some(name)
    }

    fn right(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, [u8; 32]>> {
        lock(&self.right)
    }
}

/// Name and password of RFC 7617.
fn basic(field: &[u8]) -> Option<(String, String)> {
    let field = std::str::from_utf8(field).ok()?;
    let (scheme, rest) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(rest.trim().as_bytes()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    // The library takes no NUL, and no more than 72 bytes of a password.
    let fits = name.len() <= LONGEST && password.len() <= LONGEST && !password.contains('\0');
    fits.then(|| (name.to_owned(), password.to_owned()))
}

/// A digest over name and password, so that no password is kept.
fn told(name: &str, password: &str) -> [u8; 32] {
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, format!("{name}:{password}").as_bytes()).as_ref());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str) -> Vec<u8> {
        format!("Basic {}", BASE64.encode(text.as_bytes())).into_bytes()
    }

    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_name_is_taken() {
        // As htpasswd -B writes it, with its own prefix.
        let users = format!(
            "# firewalls\n\nfw-a:{}\nfw-b:{}\r\n",
            hash("one:1").replace("$2b$", "$2y$"),
            hash("zwei ü")
        );
        let users = Arc::new(Users::parse(&users).unwrap());
        for _ in 0..2 {
            for (name, password) in [("fw-a", "one:1"), ("fw-b", "zwei ü")] {
                let got = users.clone().judge(&field(&format!("{name}:{password}"))).await;
                assert_eq!(got.as_deref(), Some(name));
            }
            for wrong in
                ["fw-a:one", "fw-a:", "fw-b:one:1", "fw-c:one:1", ":", "fw-a", "FW-A:one:1", "fw-a:one:1\0"]
            {
                assert_eq!(users.clone().judge(&field(wrong)).await, None, "{wrong:?}");
            }
        }
        assert_eq!(users.clone().judge(b"Bearer abc").await, None);
        assert_eq!(users.judge(b"Basic !").await, None);
    }

    #[test]
    fn a_file_that_is_no_such_file_is_refused_without_its_secrets() {
        let good = hash("x");
        for (text, why) in [
            (String::new(), "has no user"),
            ("# none\n".to_owned(), "has no user"),
            ("secret".to_owned(), "line 1: has no colon"),
            (format!("a:{good}\nb:secret"), "line 2: its hash isn't bcrypt's"),
            ("a:$apr1$x$secret".to_owned(), "isn't bcrypt's"),
            (format!(":{good}"), "no usable name"),
            (format!("a:{good}\na:{good}"), "line 2: its name stands in the file twice"),
            (format!("a:{}", good.replacen("$04$", "$17$", 1)), "cost 17 takes too long"),
        ] {
            let error = Users::parse(&text).err().unwrap();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }
}
