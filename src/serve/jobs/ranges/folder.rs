//! The folder of versions, `ranges.state`, as this process sees it: it may come and go, and hold what
//! can't be used. Blocks on files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::net::watch::{Fingerprint, fingerprint};
use crate::ranges::Ranges;
use crate::ranges::keep::{self, Contents, State};

/// The folder, in use or not.
pub(super) struct Folder {
    path: PathBuf,
    /// None as long as it can't be used.
    state: Option<State>,
    /// Files that can't be used, as they were when they were read, and why.
    unusable: HashMap<PathBuf, (Fingerprint, String)>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: None, unusable: HashMap::new() }
    }

    pub(super) fn in_use(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Begins to use it, where that isn't so yet; it is made if it isn't there.
    pub(super) fn open(&mut self) -> Result<(), String> {
        if self.state.is_none() {
            let state = State::open(self.path.clone()).map_err(|why| format!("{why}; no version is kept"))?;
            state.tidy();
            self.state = Some(state);
        }
        Ok(())
    }

    /// What is in it; nothing as long as it isn't in use. What is no longer there isn't remembered.
    pub(super) fn contents(&mut self) -> Result<Option<Contents>, String> {
        let Some(state) = &self.state else { return Ok(None) };
        let contents = state.contents().inspect_err(|_| {
            // Somebody has removed it: it is made anew.
            if !self.path.is_dir() {
                self.state = None;
            }
        })?;
        let there =
            |path: &Path| contents.versions.iter().chain(&contents.aside).any(|kept| kept.path == *path);
        self.unusable.retain(|path, _| there(path));
        Ok(Some(contents))
    }

    /// What couldn't be used is read once more: what was wrong may not have been the file.
    pub(super) fn try_again(&mut self) {
        self.unusable.clear();
    }

    /// Whether a version isn't in it, as far as can be seen.
    pub(super) fn lacks(&mut self, sync_token: u64) -> bool {
        let has = |contents: Contents| contents.versions.iter().any(|kept| kept.sync_token == sync_token);
        !self.contents().ok().flatten().is_some_and(has)
    }

    /// Reads a file of the folder. One that can't be used, by what it holds or by `usable`, isn't read again
    /// before it has changed.
    pub(super) fn read_once(
        &mut self,
        path: &Path,
        usable: impl FnOnce(&Ranges) -> Result<(), String>,
    ) -> Result<Ranges, String> {
        let looks = fingerprint(path);
        if let Some((then, why)) = self.unusable.get(path)
            && *then == looks
        {
            return Err(why.clone());
        }
        let read = keep::load(path).and_then(|ranges| usable(&ranges).map(|()| ranges));
        match &read {
            Ok(_) => drop(self.unusable.remove(path)),
            Err(why) => drop(self.unusable.insert(path.to_owned(), (looks, why.clone()))),
        }
        read
    }
}
