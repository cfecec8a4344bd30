//! Notices that files were replaced: by a rename, by a swapped symlink (Kubernetes mounts secrets so) or by
//! writing into them. It looks at metadata every few seconds; the caller decides what to do about a change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often to look.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);

/// Give up waiting for files to come to rest after this many looks.
const PATIENCE: u32 = 5;

/// What a change of the file at a path, links followed, shows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fingerprint {
    /// There is no file, or its metadata can't be read.
    Missing,
    /// Device, inode, size, and times of the last change of content and of metadata, each in
    /// seconds and nanoseconds.
    Present {
        /// Device and inode.
        file: (u64, u64),
        /// Size in bytes.
        size: u64,
        /// Last change of the content.
        modified: (i64, i64),
        /// Last change of the inode; `touch` can't set it back, and `chmod` moves it.
        changed: (i64, i64),
    },
}

/// Looks at a path once.
pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    match fs::metadata(path) {
        Err(_) => Fingerprint::Missing,
        Ok(m) => Fingerprint::Present {
            file: (m.dev(), m.ino()),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        },
    }
}

/// Remembers what a set of files looked like.
///
/// Make it before the files are read for the first time, so that a change in between isn't lost.
#[derive(Debug)]
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    reported: Vec<Fingerprint>,
    last: Vec<Fingerprint>,
    waited: u32,
}

impl Watch {
    /// Begins with the files as they are now.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let now: Vec<_> = paths.iter().map(|p| fingerprint(p)).collect();
        Self { paths, reported: now.clone(), last: now, waited: 0 }
    }

    /// Looks again. Returns the files that changed, once all of them have looked the same twice in
    /// a row: a certificate and its key are replaced one after the other. Files that never come
    /// to rest are reported all the same after a few looks.
    pub(crate) fn poll(&mut self) -> Vec<PathBuf> {
        let now: Vec<_> = self.paths.iter().map(|p| fingerprint(p)).collect();
        let at_rest = now == self.last;
        self.last = now;
        if self.last == self.reported {
            self.waited = 0;
            return Vec::new();
        }
        self.waited += 1;
        if !at_rest && self.waited < PATIENCE {
            return Vec::new();
        }
        self.waited = 0;
        let changed = self
            .paths
            .iter()
            .zip(self.last.iter().zip(&self.reported))
            .filter(|(_, (now, before))| now != before)
            .map(|(path, _)| path.clone())
            .collect();
        self.reported.clone_from(&self.last);
        changed
    }

    /// Looks beside everything else, and notifies of changes, until the guard is dropped.
    pub(crate) fn follow(self, changed: Arc<Notify>) -> DropGuard {
        let watching = CancellationToken::new();
        let stop = watching.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(self.run(PERIOD, |_| changed.notify_one())).await;
        });
        watching.drop_guard()
    }

    /// Looks every `period` and calls back with the files that changed, for ever; drop the future
    /// to end it. Looking happens on a thread that may block, for files on a network.
    pub(crate) async fn run(mut self, period: Duration, mut on_change: impl FnMut(&[PathBuf])) {
        loop {
            tokio::time::sleep(period).await;
            let looked = tokio::task::spawn_blocking(move || {
                let changed = self.poll();
                (self, changed)
            });
            let Ok((watch, changed)) = looked.await else {
                return; // the runtime is shutting down
            };
            self = watch;
            if !changed.is_empty() {
                on_change(&changed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_rename_is_noticed_once_it_is_at_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("key"), dir.path().join("new"));
        fs::write(&path, "aaaa").unwrap();
        let mut watch = Watch::new(vec![path.clone()]);
        assert!(watch.poll().is_empty());
        fs::write(&new, "bbbb").unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(watch.poll().is_empty(), "seen, not at rest");
        assert_eq!(watch.poll(), [path]);
        assert!(watch.poll().is_empty());
    }

    /// Kubernetes: `file -> ..data/file`, `..data -> ..2024_1`, and `..data` is renamed over.
    #[test]
    fn a_swapped_directory_link_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), "same size").unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let mut watch = Watch::new(vec![at("tls.crt")]);
        symlink("v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        watch.poll();
        assert_eq!(watch.poll(), [at("tls.crt")]);
    }

    #[test]
    fn two_files_replaced_one_after_the_other_are_one_change() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").unwrap();
        fs::write(&b, "1").unwrap();
        let mut watch = Watch::new(vec![a.clone(), b.clone()]);
        fs::write(&a, "12").unwrap();
        assert!(watch.poll().is_empty());
        fs::write(&b, "12").unwrap();
        assert!(watch.poll().is_empty());
        assert_eq!(watch.poll(), [a, b]);
    }

    #[test]
    fn a_file_that_never_rests_is_reported_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "").unwrap();
        let mut watch = Watch::new(vec![path.clone()]);
        let mut size = 0;
        let reported = (0..PATIENCE).any(|_| {
            size += 1;
            fs::write(&path, "x".repeat(size)).unwrap();
            !watch.poll().is_empty()
        });
        assert!(reported);
    }

    #[test]
    fn disappearing_and_coming_back_are_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut watch = Watch::new(vec![path.clone()]);
        fs::write(&path, "x").unwrap();
        watch.poll();
        assert_eq!(watch.poll(), std::slice::from_ref(&path));
        fs::remove_file(&path).unwrap();
        watch.poll();
        assert_eq!(watch.poll(), [path]);
    }

    #[tokio::test]
    async fn the_loop_calls_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let watch = Watch::new(vec![path.clone()]);
        fs::write(&path, "x").unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let looking = watch.run(Duration::from_millis(5), move |changed| {
            let _ = sender.send(changed.to_vec());
        });
        tokio::select! {
            () = looking => unreachable!("it looks for ever"),
            changed = receiver.recv() => assert_eq!(changed.unwrap(), [path]),
        }
    }
}
