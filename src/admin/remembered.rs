//! Who fetched which list, kept over a restart and a hand-over: one file in the state folder, read and written
//! under a lock, since an older process may still write its last words. What both know of a consumer is what
//! was asked later.

use std::fs::{self, TryLockError};
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::consumers::{Consumers, Content, Fetch, Who};
use crate::export::edl;
use crate::ranges::keep::State;

/// In the state folder. Not `.json`: there versions of ip-ranges.json are.
pub(super) const NAME: &str = "edl-consumers";
/// Bytes of the file at most. What was asked longest ago is left out.
const LARGEST: usize = 4 << 20;
/// What one fetch takes beside the entries of its list.
const OVERHEAD: usize = 200;
/// How often, and how long apart, it is tried to have the file alone.
const TRIES: u32 = 20;
const APART: Duration = Duration::from_millis(50);

/// The file.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct File {
    schema_version: u32,
    /// The lists that somebody holds.
    contents: Vec<Kept>,
    consumers: Vec<Known>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    entries: Vec<String>,
    since: Timestamp,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    regions: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    address: IpAddr,
    user: Option<String>,
    agent: String,
    fetched: Vec<Asked>,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    list: String,
    at: Timestamp,
    /// Its place in `contents`; null where none was ever given.
    held: Option<usize>,
}

impl File {
    /// Reads it; nothing where there is no file.
    ///
    /// # Errors
    /// In one line, with the path.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let failed = |why: String| format!("{}: {why}", path.display());
        let mut bytes = Vec::new();
        match fs::File::open(path) {
            Ok(file) => file.take(LARGEST as u64 + 1).read_to_end(&mut bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => Err(error),
        }
        .map_err(|error| failed(format!("can't be read: {error}")))?;
        if bytes.len() > LARGEST {
            return Err(failed("is larger than this file ever is".to_owned()));
        }
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
    }

    /// What is known of consumers, as far as it has room.
    pub(super) fn of(consumers: &Consumers) -> Self {
        let mut file = Self { schema_version: 1, ..Self::default() };
        let mut all: Vec<_> = consumers
            .all()
            .flat_map(|(key, consumer)| consumer.fetched.iter().map(move |fetch| (key, consumer, fetch)))
            .collect();
        all.sort_by_key(|(_, _, (_, fetch))| std::cmp::Reverse(fetch.at));
        let mut held: Vec<&Arc<Content>> = Vec::new();
        let mut room = LARGEST;
        for ((user, address), consumer, (list, fetch)) in all {
            let at = fetch.held.as_ref().map(|content| {
                held.iter().position(|known| Arc::ptr_eq(known, content)).unwrap_or(held.len())
            });
            let new = fetch.held.as_ref().filter(|_| at == Some(held.len()));
            // With the quotes and the comma of each.
            let size = new.map_or(0, |content| {
                content.entries.iter().chain(&content.regions).map(|text| text.len() + 3).sum::<usize>()
            });
            let text = consumer.agent.len() + user.as_ref().map_or(0, String::len);
            // A character may be escaped, by six.
            let Some(rest) = room.checked_sub(2 * OVERHEAD + size + 6 * text) else { continue };
            room = rest;
            held.extend(new);
            let asked = Asked { list: (*list).to_owned(), at: fetch.at, held: at };
            match file.consumers.iter_mut().find(|known| known.address == *address && known.user == *user) {
                Some(known) => known.fetched.push(asked),
                None => file.consumers.push(Known {
                    address: *address,
                    user: user.clone(),
                    agent: consumer.agent.clone(),
                    fetched: vec![asked],
                }),
            }
        }
        file.contents = held
            .into_iter()
            .map(|content| Kept {
                entries: content.entries.clone(),
                since: content.since,
                first: content.first,
                last: content.last(),
                regions: content.regions.clone(),
            })
            .collect();
        file
    }

    /// Takes what it knows better into `consumers`; `same` is a list that is served and has the same entries.
    pub(super) fn tell(
        self,
        consumers: &mut Consumers,
        now: Timestamp,
        same: impl Fn(&str, &[String]) -> Option<Arc<Content>>,
    ) {
        let mut contents: Vec<(Option<Kept>, Option<Arc<Content>>)> =
            self.contents.into_iter().map(|kept| (Some(kept), None)).collect();
        for Known { address, user, agent, fetched } in self.consumers {
            for Asked { list, at, held } in fetched {
                let Some(list) = edl::ALL.iter().find(|known| known.name == list) else { continue };
                let held = held.and_then(|at| contents.get_mut(at)).and_then(|(kept, content)| {
                    if let Some(kept) = kept.take() {
                        let served = same(list.name, &kept.entries);
                        *content = Some(served.unwrap_or_else(|| Arc::new(kept.content(now))));
                    }
                    content.clone()
                });
                // A clock that was set back must not make it the last word for ever.
                let fetch = Fetch { at: at.min(now), held };
                consumers.knew(Who::new(address, user.clone(), &agent), list, fetch);
            }
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// In one line, with the path.
    pub(super) fn write(&self, folder: &State) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        folder.put(NAME, &bytes)
    }
}

impl Kept {
    fn content(self, now: Timestamp) -> Content {
        let content = Content::new(self.entries, self.since.min(now), self.first, self.regions);
        content.is_also_of(self.last);
        content
    }
}

/// Has the file alone for as long as the answer lives.
///
/// # Errors
/// In one line, with the folder: another process has it for too long.
pub(super) fn alone(folder: &State) -> Result<fs::File, String> {
    let failed = |why: &str| format!("{}: {why}", folder.path().display());
    let file = fs::File::open(folder.path()).map_err(|error| failed(&error.to_string()))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(APART),
            // A file system without locks: two processes write one after the other all the same.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
    Err(failed("another process keeps it locked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "media-udp-3478-v4";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn list() -> &'static edl::Fetched {
        edl::ALL.iter().find(|list| list.name == LIST).unwrap()
    }

    fn content(entries: &[&str]) -> Arc<Content> {
        let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
        Arc::new(Content::new(entries, at(0), Some(at(-100)), vec!["us-west-2".to_owned()]))
    }

    fn who(last: u8, user: Option<&str>) -> Who {
        Who::new([192, 0, 2, last].into(), user.map(str::to_owned), "PAN-OS/11\n")
    }

    fn none(_: &str, _: &[String]) -> Option<Arc<Content>> {
        None
    }

    /// What comes out of a file that was written and read.
    fn again(consumers: &Consumers, now: Timestamp) -> Consumers {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().to_owned()).unwrap();
        File::of(consumers).write(&state).unwrap();
        let mut known = Consumers::default();
        File::read(&folder.path().join(NAME)).unwrap().tell(&mut known, now, none);
        known
    }

    #[test]
    fn what_was_known_is_known_again() {
        let mut consumers = Consumers::default();
        let (old, new) = (content(&["192.0.2.0/24"]), content(&["192.0.2.0/24", "198.51.100.0/24"]));
        new.is_also_of(Some(at(50)));
        consumers.asked(who(1, Some("fw-a")), list(), Some(&old), at(1));
        consumers.asked(who(2, None), list(), Some(&new), at(2));
        consumers.asked(who(3, None), list(), None, at(3));
        let known = again(&consumers, at(100));
        let all: Vec<_> = known.all().collect();
        assert_eq!(all.len(), 3);
        for ((key, consumer), (known_key, known)) in consumers.all().zip(all) {
            assert_eq!((key, &consumer.agent), (known_key, &known.agent));
            let (fetch, known) = (&consumer.fetched[LIST], &known.fetched[LIST]);
            assert_eq!(fetch.at, known.at);
            let shown = |held: &Option<Arc<Content>>| {
                held.as_ref().map(|held| {
                    (held.entries.clone(), held.since, held.first, held.last(), held.regions.clone())
                })
            };
            assert_eq!(shown(&fetch.held), shown(&known.held));
        }
        // A file from the future is as of now.
        let known = again(&consumers, at(0));
        assert!(known.all().all(|(_, consumer)| consumer.fetched[LIST].at <= at(0)));
    }

    #[test]
    fn of_two_the_later_fetch_counts() {
        let (old, new) = (content(&["192.0.2.0/24"]), content(&["198.51.100.0/24"]));
        let (mut earlier, mut later) = (Consumers::default(), Consumers::default());
        earlier.asked(who(1, None), list(), Some(&old), at(1));
        later.asked(who(1, None), list(), Some(&new), at(2));
        earlier.asked(who(2, None), list(), Some(&old), at(1));
        let told = |from: &Consumers, to: &mut Consumers| File::of(from).tell(to, at(9), none);
        let held = |consumers: &Consumers, last: u8| {
            let mut all = consumers.all();
            let (_, consumer) =
                all.find(|((_, address), _)| *address == IpAddr::from([192, 0, 2, last])).unwrap();
            consumer.fetched[LIST].held.as_ref().unwrap().entries.clone()
        };
        let mut first = again(&earlier, at(9));
        told(&later, &mut first);
        told(&earlier, &mut later);
        for consumers in [&first, &later] {
            assert_eq!(held(consumers, 1), new.entries);
            assert_eq!(held(consumers, 2), old.entries);
        }
    }

    #[test]
    fn it_has_room_for_the_latest_alone() {
        let mut consumers = Consumers::default();
        let entries: Vec<String> = (0..20_000).map(|at| format!("2001:db8:{at:x}:ffff:ffff::/80")).collect();
        for last in 0..=255 {
            let mut entries = entries.clone();
            entries.push(format!("192.0.2.{last}/32"));
            let content = Arc::new(Content::new(entries, at(0), None, Vec::new()));
            consumers.asked(who(last, Some(&"\u{1}".repeat(200))), list(), Some(&content), at(last.into()));
        }
        let bytes = serde_json::to_vec(&File::of(&consumers)).unwrap();
        assert!(bytes.len() <= LARGEST && bytes.len() > LARGEST / 2, "{}", bytes.len());
        let known = again(&consumers, at(1000));
        let addresses: Vec<IpAddr> = known.all().map(|((_, address), _)| *address).collect();
        assert!(addresses.contains(&[192, 0, 2, 255].into()) && !addresses.contains(&[192, 0, 2, 0].into()));
    }

    #[test]
    fn what_is_no_such_file_is_told_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert!(File::read(&path).unwrap().consumers.is_empty());
        let large = "x".repeat(LARGEST + 1);
        for text in ["", "{", "[]", r#"{"contents": [], "consumers": [{"address": "fw"}]}"#, &large] {
            fs::write(&path, text).unwrap();
            let why = File::read(&path).err().unwrap();
            assert!(why.starts_with(path.to_str().unwrap()), "{why}");
        }
        // A list that there is no more, and a place that isn't there.
        let text = r#"{"schema_version": 1, "contents": [], "consumers": [{"address": "192.0.2.1", "user": null,
            "agent": "", "fetched": [{"list": "gone", "at": "2026-11-27T09:00:00Z", "held": 0},
            {"list": "domains", "at": "2026-11-27T09:00:00Z", "held": 7}]}]}"#;
        fs::write(&path, text).unwrap();
        let mut known = Consumers::default();
        File::read(&path).unwrap().tell(&mut known, at(0), none);
        let (_, consumer) = known.all().next().unwrap();
        assert_eq!(consumer.fetched.keys().collect::<Vec<_>>(), [&"domains"]);
        assert!(consumer.fetched["domains"].held.is_none());
    }
}
