//! Ticket key files (`tls.ticket_keys`): made, read, and refused when they can't be trusted. What
//! is sealed with them, and when files are read again, is decided elsewhere.
//!
//! A key file holds exactly 32 random bytes, or the same as 64 hexadecimal digits with or without
//! a line end. Reading is all or nothing: one bad file and no key of the new list comes into force.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use thiserror::Error;
use zeroize::Zeroizing;

use super::seal::{Key, Name, random};
use super::secret::Secret;

const KEY_LEN: usize = 32;
const TEXT_LEN: usize = 2 * KEY_LEN;
/// 32 random bytes show about 30 different values; fewer than this has a chance below 10^-15.
const FEWEST_VALUES: usize = 16;
const NAME_LABEL: &[u8] = b"ccpgate ticket key name v1";

/// The keys in force: the first encrypts, all decrypt.
pub struct TicketKeys {
    first: TicketKey,
    others: Vec<TicketKey>,
}

pub(super) struct TicketKey {
    pub(super) name: Name,
    pub(super) key: Key,
}

impl TicketKeys {
    /// Reads all files; `Ok(None)` for an empty list. All problems are reported at once.
    pub fn load<P: AsRef<Path>>(files: &[P]) -> Result<Option<Self>, Vec<KeyFileError>> {
        let mut keys: Vec<TicketKey> = Vec::with_capacity(files.len());
        let mut sources: Vec<&Path> = Vec::with_capacity(files.len());
        let mut errors = Vec::new();
        for path in files.iter().map(AsRef::as_ref) {
            match read(path) {
                Ok(key) => {
                    let key = TicketKey::new(key);
                    if let Some(twin) = keys.iter().position(|k| k.name == key.name) {
                        let twin = sources[twin].to_owned();
                        errors.push(KeyFileError::new(path, Problem::Duplicate { twin }));
                    } else {
                        keys.push(key);
                        sources.push(path);
                    }
                }
                Err(problem) => errors.push(KeyFileError::new(path, problem)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut keys = keys.into_iter();
        Ok(keys.next().map(|first| Self { first, others: keys.collect() }))
    }

    pub(super) fn first(&self) -> &TicketKey {
        &self.first
    }

    pub(super) fn find(&self, name: &Name) -> Option<&TicketKey> {
        std::iter::once(&self.first).chain(&self.others).find(|k| &k.name == name)
    }

    /// Eight hexadecimal digits for each key, in order, to compare replicas by. They are the start
    /// of the name that every ticket carries in the clear, so they may be logged.
    pub fn fingerprints(&self) -> Vec<String> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|k| k.name[..4].iter().map(|b| format!("{b:02x}")).collect())
            .collect()
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TicketKeys").field(&self.fingerprints()).finish()
    }
}

impl TicketKey {
    fn new(key: Key) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), NAME_LABEL);
        let mut name = Name::default();
        name.copy_from_slice(tag.as_ref());
        Self { name, key }
    }
}

/// Makes a key file: 32 random bytes, mode 0600. Never touches a file, link or directory that
/// exists already.
pub fn create(path: &Path) -> Result<(), KeyFileError> {
    let refuse = |problem| KeyFileError::new(path, problem);
    let key: Key = Zeroizing::new(random().ok_or_else(|| refuse(Problem::NoRandomness))?);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
        refuse(match e.kind() {
            io::ErrorKind::AlreadyExists => Problem::Exists,
            io::ErrorKind::NotFound => match path.parent() {
                Some(folder) => Problem::NoFolder { folder: folder.to_owned() },
                None => Problem::Write(e),
            },
            _ => Problem::Write(e),
        })
    })?;
    let written = file.write_all(&*key).and_then(|()| file.sync_all());
    written.map_err(|e| {
        // We have just created it, and half a key is worse than none.
        let _ = std::fs::remove_file(path);
        refuse(Problem::Write(e))
    })
}

/// What is wrong with a ticket key file, with its remedy.
#[derive(Debug, Error)]
#[error("ticket key {}: {problem}", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    problem: Problem,
}

impl KeyFileError {
    fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), problem }
    }
}

#[derive(Debug, Error)]
enum Problem {
    #[error("can't be read: {0}")]
    Read(io::Error),
    #[error("is not a regular file, nor a link to one")]
    NotAFile,
    #[error(
        "has mode {mode:04o}, open to every user of this machine: run chmod o-rwx, or set defaultMode: 0400 where a Kubernetes secret is mounted"
    )]
    Open { mode: u32 },
    #[error(
        "has {len} bytes, must have 32 random bytes or 64 hexadecimal digits: make one with ccpgate ticket-key FILE"
    )]
    Length { len: String },
    #[error("is not random ({what}), so tickets could be forged: make one with ccpgate ticket-key FILE")]
    Weak { what: &'static str },
    #[error("is the same key as {}: remove one of the two", twin.display())]
    Duplicate { twin: PathBuf },
    #[error("exists already and is never overwritten: name a new file")]
    Exists,
    #[error(
        "can't be written, its folder doesn't exist: make one that only root may read with install -d -m 0700 {}",
        folder.display()
    )]
    NoFolder { folder: PathBuf },
    #[error("can't be written: {0}")]
    Write(io::Error),
    #[error("not made, the system gives no random bytes")]
    NoRandomness,
}

fn read(path: &Path) -> Result<Key, Problem> {
    let secret = Secret::open(path).map_err(Problem::Read)?.ok_or(Problem::NotAFile)?;
    if secret.is_open_to_all() {
        return Err(Problem::Open { mode: secret.mode });
    }
    parse(&content(secret.file).map_err(Problem::Read)?)
}

/// The file's bytes, one more than the longest valid key at most.
fn content(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = TEXT_LEN + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<Key, Problem> {
    let mut key: Key = Zeroizing::new([0; KEY_LEN]);
    if bytes.len() == KEY_LEN {
        if bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(Problem::Weak { what: "32 hexadecimal digits are half a key" });
        }
        if bytes.iter().all(|b| matches!(b, b' '..=b'~' | b'\n')) {
            return Err(Problem::Weak { what: "it is a text, such as a password" });
        }
        key.copy_from_slice(bytes);
    } else {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !from_hex(text, &mut key) {
            let len = match bytes.len() {
                n if n > TEXT_LEN + 2 => format!("more than {}", TEXT_LEN + 2),
                n => n.to_string(),
            };
            return Err(Problem::Length { len });
        }
    }
    check_randomness(&key)?;
    Ok(key)
}

fn from_hex(text: &[u8], key: &mut [u8; KEY_LEN]) -> bool {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if text.len() != TEXT_LEN {
        return false;
    }
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return false;
        };
        *byte = high << 4 | low;
    }
    true
}

/// Finds placeholders. No check can tell that bytes are random.
fn check_randomness(key: &[u8; KEY_LEN]) -> Result<(), Problem> {
    let step = key[1].wrapping_sub(key[0]);
    if key.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step) {
        let what = match step {
            0 => "all bytes are equal",
            _ => "its bytes count up or down",
        };
        return Err(Problem::Weak { what });
    }
    let mut seen = [false; 256];
    for byte in key {
        seen[usize::from(*byte)] = true;
    }
    if seen.iter().filter(|s| **s).count() < FEWEST_VALUES {
        return Err(Problem::Weak { what: "too few different bytes" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn put(path: &Path, bytes: &[u8], mode: u32) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn error(path: &Path) -> String {
        let errors = TicketKeys::load(&[path]).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].path, path);
        let text = errors[0].to_string();
        let (_, problem) = text.split_once(": ").unwrap();
        problem.to_owned()
    }

    #[test]
    fn a_made_key_is_read_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        create(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (32, 0o600));
        let before = fs::read(&path).unwrap();
        let refused = create(&path).unwrap_err().to_string();
        assert!(refused.ends_with("exists already and is never overwritten: name a new file"));
        assert_eq!(fs::read(&path).unwrap(), before);
        let dangling = dir.path().join("link");
        symlink(dir.path().join("elsewhere"), &dangling).unwrap();
        assert!(create(&dangling).is_err());
        assert!(!dir.path().join("elsewhere").exists());
        let keys = TicketKeys::load(&[&path]).unwrap().unwrap();
        assert_eq!(keys.fingerprints().len(), 1);
    }

    #[test]
    fn text_and_bytes_are_the_same_key_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        create(&raw).unwrap();
        let hex: String = fs::read(&raw).unwrap().iter().map(|b| format!("{b:02X}")).collect();
        for end in ["", "\n", "\r\n"] {
            let text = dir.path().join("text");
            put(&text, format!("{hex}{end}").as_bytes(), 0o440);
            let link = dir.path().join("link");
            let _ = fs::remove_file(&link);
            symlink(&text, &link).unwrap();
            let a = TicketKeys::load(&[&raw]).unwrap().unwrap();
            let b = TicketKeys::load(&[&link]).unwrap().unwrap();
            assert_eq!(a.fingerprints(), b.fingerprints());
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let good: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(i) ^ 0xa5).collect();
        let cases: [(&[u8], u32, &str); 10] = [
            (&good, 0o644, "has mode 0644, open to every user"),
            (&good, 0o602, "has mode 0602, open to every user"),
            (&good[..31], 0o600, "has 31 bytes, must have 32 random"),
            (b"", 0o600, "has 0 bytes, must have 32 random"),
            (&[7; 4000], 0o600, "has more than 66 bytes, must have"),
            (&[0; 32], 0o600, "is not random (all bytes are equal)"),
            (&[b'0'; 64], 0o600, "is not random (all bytes are equal)"),
            (
                b"0123456789abcdef0123456789abcdef",
                0o600,
                "is not random (32 hexadecimal digits are half a key)",
            ),
            (b"correct horse battery staple 123", 0o600, "is not random (it is a text, such as a password)"),
            (&[[1u8, 200].as_slice(); 16].concat(), 0o600, "is not random (too few different bytes)"),
        ];
        for (bytes, mode, expected) in cases {
            put(&path, bytes, mode);
            let got = error(&path);
            assert!(got.starts_with(expected), "\nexpected: {expected}\ngot:      {got}");
            fs::remove_file(&path).unwrap();
        }
        let counting: Vec<u8> = (1..=32).collect();
        put(&path, &counting, 0o600);
        assert!(error(&path).contains("count up or down"));
        assert!(error(&dir.path().join("missing")).starts_with("can't be read: "));
        let nowhere = create(&dir.path().join("no/folder/k")).unwrap_err().to_string();
        let remedy = format!("install -d -m 0700 {}", dir.path().join("no/folder").display());
        assert!(nowhere.ends_with(&remedy), "{nowhere}");
        assert!(error(dir.path()).starts_with("is not a regular file"));
    }

    #[test]
    fn all_problems_at_once_and_duplicates_by_value() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|n| dir.path().join(n));
        create(&a).unwrap();
        fs::copy(&a, &b).unwrap();
        put(&c, b"short", 0o600);
        let errors = TicketKeys::load(&[&a, &b, &c]).unwrap_err();
        assert_eq!(errors.len(), 2);
        let expected =
            format!("ticket key {}: is the same key as {}: remove one of the two", b.display(), a.display());
        assert_eq!(errors[0].to_string(), expected);
        assert!(TicketKeys::load::<PathBuf>(&[]).unwrap().is_none());
    }

    #[test]
    fn a_named_pipe_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert!(error(&path).starts_with("is not a regular file"));
    }
}
