//! The files: the only I/O of this room. A version is written whole or not at all.
//!
//! The folder of `ranges.state` has a file for each version that was in force, `ip-ranges-TOKEN.json`, and
//! `ip-ranges-TOKEN.json.aside` for one that a person has yet to look at. Several processes may share it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::Ranges;
use super::read::{self, LARGEST};

const PREFIX: &str = "ip-ranges-";
const ASIDE: &str = ".json.aside";
/// What is still being written, or was when the machine stopped.
const UNFINISHED: &str = ".ip-ranges-";
/// Versions of so many days are kept: the notice of AWS and its move onto a new range.
const KEPT_DAYS: i64 = 45;
/// Of the last days all versions are kept, of earlier ones the last of each day: deadlines are days.
const WHOLE_DAYS: i64 = 2;
const DAY: i64 = 24 * 3600;

/// Reads a version of ip-ranges.json.
///
/// # Errors
///
/// The file can't be read, or isn't ip-ranges.json; in one line that begins with its path.
pub fn load(file: &Path) -> Result<Ranges, String> {
    load_with_bytes(file).map(|(ranges, _)| ranges)
}

/// The same with what was read.
///
/// # Errors
///
/// As of [`load`].
pub fn load_with_bytes(file: &Path) -> Result<(Ranges, Vec<u8>), String> {
    let bytes = bytes(file).map_err(|error| format!("{}: can't be read: {error}", file.display()))?;
    let ranges = read::read(&bytes).map_err(|why| format!("{}: {why}", file.display()))?;
    Ok((ranges, bytes))
}

/// The JSON files in a folder, in the order of their names.
///
/// # Errors
///
/// The folder can't be read.
pub fn versions(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads no more than the largest file of this kind, and one byte to notice a larger one.
fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The folder that versions are kept in: what `ranges.state` says, else what systemd gives this process;
/// none without both.
#[must_use]
pub fn folder(configured: Option<&Path>) -> Option<PathBuf> {
    configured.map(Path::to_owned).or_else(|| {
        // Several are separated by colons (systemd.exec(5)); the first is the service's own.
        let given = std::env::var_os("STATE_DIRECTORY")?;
        std::env::split_paths(&given).next().filter(|path| path.is_absolute())
    })
}

/// The newest version on this machine that can be used: that of the file, or of the folder. With it, what
/// was passed over, each in one line that begins with its path.
#[must_use]
pub fn newest(file: Option<&Path>, folder: Option<&Path>) -> (Option<(PathBuf, Ranges)>, Vec<String>) {
    let mut passed_over = Vec::new();
    let kept = folder.filter(|folder| folder.is_dir()).map(|folder| State(folder.to_owned()).contents());
    let kept = match kept {
        Some(Ok(contents)) => contents.versions,
        Some(Err(why)) => {
            passed_over.push(why);
            Vec::new()
        }
        None => Vec::new(),
    };
    let mut found = newest_of(&kept, &mut passed_over);
    match file.map(|file| (file, load(file))) {
        Some((file, Ok(ranges))) if found.as_ref().is_none_or(|(_, f)| f.sync_token <= ranges.sync_token) => {
            found = Some((file.to_owned(), ranges));
        }
        Some((_, Err(why))) => passed_over.push(why),
        _ => {}
    }
    (found, passed_over)
}

/// The newest of these versions that can be used.
fn newest_of(versions: &[Kept], passed_over: &mut Vec<String>) -> Option<(PathBuf, Ranges)> {
    versions.iter().rev().find_map(|kept| match load(&kept.path) {
        Ok(ranges) => Some((kept.path.clone(), ranges)),
        Err(why) => {
            passed_over.push(why);
            None
        }
    })
}

/// A folder of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(PathBuf);

/// A version in the folder, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    pub sync_token: u64,
    pub path: PathBuf,
}

/// What is in the folder, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub versions: Vec<Kept>,
    pub aside: Vec<Kept>,
}

impl Contents {
    /// The newest version that can be read.
    #[must_use]
    pub fn newest(&self) -> Option<Ranges> {
        newest_of(&self.versions, &mut Vec::new()).map(|(_, ranges)| ranges)
    }
}

impl State {
    /// A folder, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// In one line, with the path, when it can't be made or read.
    pub fn open(folder: PathBuf) -> Result<Self, String> {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("{}: can't be made: {error}", folder.display()));
            }
            _ => {}
        }
        let state = Self(folder);
        state.contents()?;
        Ok(state)
    }

    /// Whether a folder can be read, or made; nothing is.
    ///
    /// # Errors
    ///
    /// In one line, with the path.
    pub fn check(folder: &Path) -> Result<(), String> {
        let parent = match folder.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => folder,
        };
        match fs::read_dir(folder) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent.is_dir() => Ok(()),
            Err(error) => Err(format!("{}: can't be read: {error}", folder.display())),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The versions in the folder, by their names.
    ///
    /// # Errors
    ///
    /// In one line, with the path, when it can't be read.
    pub fn contents(&self) -> Result<Contents, String> {
        let unreadable = |error| format!("{}: can't be read: {error}", self.0.display());
        let mut contents = Contents::default();
        for entry in fs::read_dir(&self.0).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let (token, list) = match rest.strip_suffix(".json") {
                Some(token) => (token, &mut contents.versions),
                None => match rest.strip_suffix(ASIDE) {
                    Some(token) => (token, &mut contents.aside),
                    None => continue,
                },
            };
            if let Ok(sync_token) = token.parse() {
                list.push(Kept { sync_token, path });
            }
        }
        contents.versions.sort();
        contents.aside.sort();
        Ok(contents)
    }

    /// Keeps a version.
    ///
    /// # Errors
    ///
    /// In one line, with the path; then nothing is left of it.
    pub fn keep(&self, sync_token: u64, bytes: &[u8]) -> Result<(), String> {
        self.write(&self.version(sync_token), bytes)
    }

    /// Keeps a version for a person to look at.
    ///
    /// # Errors
    ///
    /// As of [`Self::keep`].
    pub fn keep_aside(&self, sync_token: u64, bytes: &[u8]) -> Result<(), String> {
        self.write(&self.0.join(format!("{PREFIX}{sync_token}{ASIDE}")), bytes)
    }

    /// Makes a version that is kept aside one like the others.
    ///
    /// # Errors
    ///
    /// In one line, with the path.
    pub fn accept(&self, kept: &Kept) -> Result<(), String> {
        let renamed = fs::rename(&kept.path, self.version(kept.sync_token)).and_then(|()| self.sync());
        renamed.map_err(|error| format!("{}: can't be renamed: {error}", kept.path.display()))
    }

    /// Removes what is too old to matter, what was never finished, and what was kept aside and is older
    /// than the version in force.
    ///
    /// # Errors
    ///
    /// In one line, with the path.
    pub fn prune(&self, in_force: u64) -> Result<(), String> {
        let Contents { versions, aside } = self.contents()?;
        let tokens: Vec<u64> = versions.iter().map(|kept| kept.sync_token).collect();
        let needed = needed(&tokens, in_force);
        let old = versions.iter().filter(|kept| !needed.contains(&kept.sync_token));
        let passed = aside.iter().filter(|kept| kept.sync_token <= in_force);
        for Kept { path, .. } in old.chain(passed) {
            match fs::remove_file(path) {
                // Another process may do the same.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("{}: can't be removed: {error}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what was being written when the machine stopped. Another process may just be writing, so
    /// what is younger than an hour stays.
    pub fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED));
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if is_ours && age.is_some_and(|age| age.as_secs() > 3600) {
                // It is only a matter of tidiness.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Writes another file of the process into the folder, in the place of the one before.
    ///
    /// # Errors
    ///
    /// As of [`Self::keep`].
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.write(&self.0.join(name), bytes)
    }

    fn version(&self, sync_token: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{sync_token}.json"))
    }

    /// Beside it first, then in its place: a reader sees the whole file or none, also after a power cut.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        let write = || {
            let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.0)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            self.sync()
        };
        write().map_err(|error: io::Error| format!("{}: can't be written: {error}", path.display()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

/// Which versions are needed: the one in force and what tells when its prefixes first appeared. A token is
/// the second since 1970 in which AWS made the version.
pub(super) fn needed(tokens: &[u64], in_force: u64) -> Vec<u64> {
    let seconds = |token: u64| i64::try_from(token).unwrap_or(i64::MAX);
    let newest = seconds(in_force);
    let mut needed: Vec<u64> = Vec::new();
    let mut oldest = None;
    for (at, token) in tokens.iter().enumerate() {
        let age = newest.saturating_sub(seconds(*token));
        let next = tokens.get(at + 1).map(|next| seconds(*next));
        let last_of_day = next.is_none_or(|next| next / DAY != seconds(*token) / DAY);
        if age >= KEPT_DAYS * DAY {
            // The newest of the old ones says what was there before.
            oldest = Some(*token);
        } else if last_of_day || age < WHOLE_DAYS * DAY {
            needed.push(*token);
        }
    }
    needed.extend(oldest);
    needed
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
