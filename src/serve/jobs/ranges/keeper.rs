//! What becomes of each version that comes: it is put in force, kept aside or refused; the folder is written
//! first, so that what is in force is also what the next start begins with. Blocks on files.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::errors::{Errors, Part};
use super::folder::Folder;
use super::media::Stray;
use super::standing;
use super::{Heard, Settings};
use crate::egress::fetch::Fetched;
use crate::egress::url::Url;
use crate::findings::standing::Standing;
use crate::net::watch::Watch;
use crate::ranges::admit::{self, Verdict};
use crate::ranges::current::{Aside, Current, InForce, Keeping};
use crate::ranges::diff::Version;
use crate::ranges::keep::{self, Contents};
use crate::ranges::select::{Selection, Set, Wanted};
use crate::ranges::{Ranges, day, read};

/// What keeps the version in force.
pub(in crate::serve) struct Keeper {
    file: Option<PathBuf>,
    watch: Watch,
    /// The file is read again, though it is as it was: its version couldn't be kept, and so isn't in force, or there was
    /// a reload.
    again: bool,
    folder: Option<Folder>,
    wanted: Wanted,
    max_age: Duration,
    media: bool,
    in_force: Arc<InForce>,
    keeping: Keeping,
    /// The version in force, as it came, where the folder couldn't be written: for when it can.
    unkept: Option<(u64, Vec<u8>)>,
    /// The day for which `keeping.pending` holds.
    pending_on: Option<Date>,
    errors: Errors,
}

impl Keeper {
    /// Begins with what is on this machine: the newest good version of the folder, then the file. What was
    /// in force before goes on being so where it is newer.
    pub(super) fn begin(settings: &Settings, in_force: &Arc<InForce>) -> Self {
        let file = settings.file.clone();
        let sources = file.iter().map(|file| file.display().to_string());
        let mut keeper = Self {
            watch: Watch::new(file.iter().cloned().collect()),
            again: false,
            folder: settings.state.clone().map(Folder::new),
            wanted: settings.wanted.clone(),
            max_age: settings.max_age,
            media: settings.media,
            in_force: in_force.clone(),
            keeping: Keeping {
                sources: sources.chain(settings.url.iter().map(Url::shown)).collect(),
                state: settings.state.clone(),
                ..Keeping::default()
            },
            unkept: None,
            pending_on: None,
            errors: Errors::default(),
            file,
        };
        keeper.reselect();
        // A reload may ask for what it lacks.
        keeper.warn();
        keeper.open_state();
        keeper.look_at_state();
        keeper.read_file();
        keeper.tell();
        keeper
    }

    /// Selects anew what was selected by other settings; whether there was such. The reload has done so, but what
    /// the keeper before was just reading may have come into force after it.
    fn reselect(&mut self) -> bool {
        let Some(current) = self.in_force.reselected(&self.wanted) else { return false };
        self.put(current);
        true
    }

    fn open_state(&mut self) {
        let Some(folder) = self.folder.as_mut().filter(|folder| folder.in_use().is_none()) else { return };
        match folder.open() {
            Ok(()) => self.errors.fine(Part::State),
            Err(why) => self.wrong_with_state(why),
        }
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.in_force.load()
    }

    /// Reads the earlier versions of the folder: they tell when prefixes first appeared.
    pub(super) fn recall(&mut self) {
        let (Some(current), Some(contents)) = (self.current(), self.contents()) else { return };
        let mut history: Vec<Arc<Version>> = Vec::new();
        for kept in contents.versions.iter().filter(|kept| kept.sync_token < current.sync_token()) {
            let known = current.history.iter().find(|version| version.ranges.sync_token == kept.sync_token);
            if let Some(version) = known {
                history.push(version.clone());
                continue;
            }
            match keep::load(&kept.path) {
                Ok(ranges) if ranges.sync_token == kept.sync_token => {
                    let selection = Selection::new(&ranges, &self.wanted);
                    history.push(Arc::new(Version { ranges, selection }.without_entries()));
                }
                Ok(_) => {}
                Err(why) => tracing::warn!(event = "ranges_unreadable", "{why}; it is passed over"),
            }
        }
        self.put(Current { history, ..(*current).clone() });
        self.tell();
    }

    /// Looks whether the file has changed, or the folder has a newer version, and what day it is.
    pub(super) fn look(&mut self) {
        if self.reselect() {
            self.recall();
        }
        self.open_state();
        self.catch_up();
        self.look_at_state();
        if !self.watch.poll().is_empty() || self.again {
            self.read_file();
        }
        self.tell();
    }

    /// Looks once more at what couldn't be used, as it is at a reload: the clock may have been wrong, or descriptors
    /// lacking.
    pub(super) fn try_again(&mut self) {
        self.again = true;
        if let Some(folder) = &mut self.folder {
            folder.try_again();
        }
        self.look();
    }

    fn contents(&mut self) -> Option<Contents> {
        match self.folder.as_mut()?.contents() {
            Ok(contents) => contents,
            Err(why) => {
                self.wrong_with_state(why);
                None
            }
        }
    }

    /// Takes the newest version of the folder, where it is newer than the one in force: it was in force
    /// before, another process has fetched it, or a person has accepted it.
    fn look_at_state(&mut self) {
        let (Some(contents), Some(folder)) = (self.contents(), &mut self.folder) else { return };
        let before = self.in_force.load();
        let in_force = before.as_ref().map(|current| current.sync_token());
        let (mut found, mut passed_over) = (None, Vec::new());
        for kept in contents.versions.iter().rev() {
            if in_force.is_some_and(|token| kept.sync_token <= token) {
                break;
            }
            let named_so = |ranges: &Ranges| match ranges.sync_token {
                token if token == kept.sync_token => Ok(()),
                token => Err(format!("{}: it has the syncToken {token}", kept.path.display())),
            };
            match folder.read_once(&kept.path, named_so) {
                Ok(ranges) => {
                    found = Some((ranges, &kept.path));
                    break;
                }
                Err(why) => passed_over.push(why),
            }
        }
        if let Some((ranges, path)) = found {
            let next = Current::after(before.as_deref(), ranges, &self.wanted);
            self.take(next, &path.display().to_string());
        }
        if !passed_over.is_empty() {
            let all = passed_over.join("; ");
            self.wrong_with_state(format_args!("{all}; it is passed over, and may be removed"));
        }
        self.note_aside(&contents);
    }

    /// Knows of a version that was kept aside before this process began.
    fn note_aside(&mut self, contents: &Contents) {
        let in_force = self.current();
        let waits = |token: u64| in_force.as_ref().is_none_or(|current| token > current.sync_token());
        match contents.aside.last().filter(|kept| waits(kept.sync_token)) {
            Some(kept)
                if self.keeping.aside.as_ref().is_none_or(|aside| aside.sync_token < kept.sync_token) =>
            {
                let read = self.folder.as_mut().map(|folder| folder.read_once(&kept.path, |_| Ok(())));
                let Some(Ok(ranges)) = read else { return };
                let judged =
                    admit::judge(in_force.as_deref(), ranges.clone(), &self.wanted, Timestamp::now());
                let why = match judged {
                    Verdict::Aside(why) => why,
                    _ => "it took too much of the version before away".to_owned(),
                };
                self.keeping.aside = Some(Aside::of(&ranges, why));
            }
            Some(_) => {}
            // What could not be written waits as well, until something newer is in force.
            None => self.keeping.aside = self.keeping.aside.take().filter(|aside| waits(aside.sync_token)),
        }
    }

    fn read_file(&mut self) {
        let Some(file) = self.file.clone() else { return };
        self.again = false;
        match keep::load_with_bytes(&file) {
            Ok((ranges, bytes)) => {
                self.offer(Part::File, &file.display().to_string(), ranges, &bytes);
            }
            Err(why) => self.failed(Part::File, format!("ranges.file: {why}")),
        }
    }

    /// Takes in what an address said.
    pub(super) fn hear(&mut self, from: &str, said: Result<Fetched, String>) -> Heard {
        let mut wants_file = false;
        let good = match said {
            Ok(Fetched::Unchanged) => {
                self.fine(Part::Url);
                wants_file = self.lacks_in_force();
                true
            }
            Ok(Fetched::File { bytes, .. }) => match read::read(&bytes) {
                Ok(ranges) => self.offer(Part::Url, from, ranges, &bytes),
                Err(why) => {
                    self.failed(Part::Url, format!("{from}: {why}"));
                    false
                }
            },
            Err(why) => {
                self.failed(Part::Url, why);
                false
            }
        };
        self.tell();
        Heard { good, wants_file }
    }

    /// Judges a version of a source; whether it is in force now.
    fn offer(&mut self, source: Part, from: &str, ranges: Ranges, bytes: &[u8]) -> bool {
        let before = self.current();
        let (token, created) = (ranges.sync_token, ranges.create_date.clone());
        match admit::judge(before.as_deref(), ranges, &self.wanted, Timestamp::now()) {
            Verdict::Unchanged => {
                if self.lacks_in_force() && self.keep(token, bytes).is_none() {
                    self.unkept = Some((token, bytes.to_vec()));
                }
                self.fine(source);
            }
            Verdict::Take(next) => {
                let kept = self.keep(token, bytes);
                // What is in force stays what the next start begins with.
                let in_use = self.folder.as_ref().is_some_and(|folder| folder.in_use().is_some());
                if kept.is_none() && in_use && before.is_some() {
                    self.again |= source == Part::File;
                    return false;
                }
                let unkept = kept.is_none() && self.folder.is_some();
                self.unkept = unkept.then(|| (token, bytes.to_vec()));
                self.take(*next, from);
                self.fine(source);
            }
            // A file that was put here once is older than what was fetched since.
            Verdict::Older(why) if source == Part::File => {
                tracing::info!(event = "ranges_older", "{from}: {why}, which stays in force");
                self.errors.fine(source);
            }
            Verdict::Older(why) | Verdict::Refused(why) => {
                self.failed(source, format!("{from}: {why}"));
                return false;
            }
            Verdict::Aside(why) => {
                self.set_aside(from, Aside { sync_token: token, create_date: created, why }, bytes);
                self.fine(source);
                return false;
            }
        }
        true
    }

    /// Whether the folder should have the version in force, and doesn't: a reload has named it since that
    /// was taken, or somebody has emptied it.
    fn lacks_in_force(&mut self) -> bool {
        let (Some(current), Some(folder)) = (self.current(), &mut self.folder) else { return false };
        self.unkept.is_none() && folder.lacks(current.sync_token())
    }

    /// Writes a version into the folder; none where there is no folder, or it can't be written.
    fn keep(&mut self, sync_token: u64, bytes: &[u8]) -> Option<()> {
        let state = self.folder.as_ref()?.in_use()?;
        if let Err(why) = state.keep(sync_token, bytes) {
            self.wrong_with_state(why);
            return None;
        }
        if let Err(why) = state.prune(sync_token) {
            tracing::warn!(event = "ranges_not_pruned", "ranges.state: {why}");
        }
        self.errors.fine(Part::State);
        Some(())
    }

    /// Writes what was put in force while the folder couldn't be used.
    fn catch_up(&mut self) {
        let Some((token, bytes)) = self.unkept.take() else { return };
        if self.keep(token, &bytes).is_none() {
            self.unkept = Some((token, bytes));
        }
    }

    fn set_aside(&mut self, from: &str, version: Aside, bytes: &[u8]) {
        let Aside { sync_token: token, create_date: created, why } = &version;
        let token = *token;
        if self.keeping.aside.as_ref().is_some_and(|aside| aside.sync_token == token) {
            return;
        }
        let kept = self.folder.as_ref().and_then(Folder::in_use).map(|state| state.keep_aside(token, bytes));
        let remedy = match kept {
            Some(Ok(())) => format!("look at it, and run `ccpgate ranges accept {token}` if it is right"),
            Some(Err(why)) => {
                self.wrong_with_state(why);
                "it could not be kept".to_owned()
            }
            None => "name a folder in ranges.state, so that it can be kept and accepted".to_owned(),
        };
        tracing::error!(
            event = "ranges_aside",
            sync_token = token,
            create_date = created,
            "{from}: the version of {created} is not taken: {why}. {remedy}"
        );
        self.keeping.aside = Some(version);
    }

    /// Puts a version in force.
    fn take(&mut self, next: Current, from: &str) {
        let created = next.version.ranges.create_date.clone();
        let token = next.sync_token();
        self.keeping.aside.take_if(|aside| aside.sync_token <= token);
        self.put(next);
        tracing::info!(
            event = "ranges_taken",
            sync_token = token,
            create_date = created,
            from,
            pending = self.keeping.pending.len(),
            "ip-ranges.json of {created} is in force"
        );
        self.warn();
    }

    /// What should be thought about the version in force.
    fn warn(&self) {
        let Some(current) = self.current() else { return };
        let of = format!("ip-ranges.json of {}", current.version.ranges.create_date);
        let selection = &current.version.selection;
        if !selection.unknown_regions.is_empty() && !self.wanted.all {
            let unknown = selection.unknown_regions.join(", ");
            tracing::warn!(
                event = "ranges_warning",
                "{of}: it has nothing of {unknown}, which connect.regions names"
            );
        }
        if self.media && current.table(Set::Media).is_none_or(|table| table.is_empty()) {
            tracing::warn!(
                event = "ranges_warning",
                "{of}: it has no prefix of AMAZON_CONNECT for the voice"
            );
        }
    }

    fn put(&mut self, current: Current) {
        self.in_force.store(Some(Arc::new(current)));
        self.pending_on = None;
        self.count_pending();
    }

    /// What is pending changes with the version and with the day.
    fn count_pending(&mut self) {
        let today = day(Timestamp::now());
        if self.pending_on != Some(today) {
            self.keeping.pending = self.current().map_or_else(Vec::new, |current| current.pending(today));
            self.pending_on = Some(today);
        }
    }

    fn fine(&mut self, source: Part) {
        self.keeping.checked = Some(Timestamp::now());
        self.errors.fine(source);
    }

    fn failed(&mut self, source: Part, why: String) {
        self.errors.wrong(source, why, &self.in_force);
    }

    fn wrong_with_state(&mut self, why: impl fmt::Display) {
        self.errors.wrong(Part::State, format!("ranges.state: {why}"), &self.in_force);
    }

    /// The media names that lead outside.
    pub(super) fn stray(&mut self, strays: Vec<Stray>) {
        for (name, address) in strays.iter().filter(|stray| !self.keeping.strays.contains(stray)) {
            tracing::warn!(
                event = "ranges_stray",
                name,
                %address,
                "{name} resolves to {address}, which isn't in AWS's published media ranges: poisoned DNS, or AWS moved early"
            );
        }
        self.keeping.strays = strays;
        self.tell();
    }

    /// Shows how it goes, to all who ask.
    fn tell(&mut self) {
        self.count_pending();
        self.keeping.errors = self.errors.all();
        if self.in_force.keeping().as_deref() != Some(&self.keeping) {
            self.in_force.tell(Some(self.keeping.clone()));
        }
    }

    /// What is a finding now.
    pub(super) fn standings(&self, now: Timestamp) -> Vec<Standing> {
        standing::standings(self.current().as_deref(), &self.keeping, self.max_age, now)
    }
}
