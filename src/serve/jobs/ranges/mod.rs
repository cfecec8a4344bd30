//! AWS's address ranges, `[ranges]`, kept current beside the loop: from the state folder at the start, from
//! the file when it changes, from the address now and then. It is no reload: nothing but the version in
//! force changes, and neither the DNS cache nor a tunnel notices.

mod errors;
mod folder;
mod keeper;
mod media;
mod standing;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub(in crate::serve) use self::keeper::Keeper;
use self::media::Stray;
use crate::config::Config;
use crate::egress::fetch::{Authorities, Fetched, fetch};
use crate::egress::url::Url;
use crate::findings::change::Change;
use crate::policy::OutsideRanges;
use crate::proxy::shared::Shared;
use crate::ranges::current::{Current, InForce};
use crate::ranges::keep;
use crate::ranges::read::LARGEST;
use crate::ranges::select::Wanted;

/// How often file and folder are looked at: `ccpgate ranges accept` takes effect this soon.
const LOOK: Duration = Duration::from_secs(1);
/// The first pause after a failure; each next one is twice as long, up to `ranges.refresh`.
const PAUSE: Duration = Duration::from_secs(60);

/// `[ranges]` in force, and what else prefixes are selected by.
#[derive(Clone, PartialEq)]
pub(in crate::serve) struct Settings {
    file: Option<PathBuf>,
    url: Option<Url>,
    authorities: Option<Authorities>,
    refresh: Duration,
    max_age: Duration,
    state: Option<PathBuf>,
    wanted: Wanted,
    media: bool,
}

impl Settings {
    /// Reads what the section names, but for the ranges themselves: a process starts without them.
    ///
    /// # Errors
    /// In words, with the key.
    pub(in crate::serve) fn load(config: &Config) -> Result<Self, String> {
        let ranges = &config.ranges;
        let authorities = match ranges.url {
            Some(_) => Some(Authorities::load("ranges.ca", ranges.ca.as_deref())?),
            None => None,
        };
        Ok(Self {
            file: ranges.file.clone(),
            url: ranges.url.clone(),
            authorities,
            refresh: ranges.refresh,
            max_age: ranges.max_age,
            state: keep::folder(ranges.state.as_deref()),
            wanted: Wanted::new(&config.connect, ranges.ec2_global),
            media: config.connect.media,
        })
    }

    /// The folder that the process keeps files in.
    pub(in crate::serve) fn state(&self) -> Option<&PathBuf> {
        self.state.as_ref()
    }

    /// Whether there are ranges at all.
    fn is_on(&self) -> bool {
        self.file.is_some() || self.url.is_some()
    }

    /// The version in force with the prefixes that these settings need of it, where the settings before needed
    /// others. Whoever puts these in force stores it, so that nothing is judged by the former regions.
    pub(in crate::serve) fn reselected(&self, in_force: &InForce) -> Option<Arc<Current>> {
        in_force.reselected(&self.wanted).filter(|_| self.is_on()).map(Arc::new)
    }

    /// Puts the last good version in force that is on this machine, before anything is judged by it. What
    /// has begun so goes on in [`run`].
    pub(in crate::serve) fn first(&self, in_force: &Arc<InForce>) -> Option<Keeper> {
        self.is_on().then(|| Keeper::begin(self, in_force))
    }
}

/// Keeps the version in force current until the drain begins. A change of the settings begins anew; any other
/// reload leaves it as it is, and what failed is tried again at once.
pub(in crate::serve) async fn run(
    shared: Arc<Shared>,
    settings: watch::Receiver<Settings>,
    first: Option<Keeper>,
) {
    tokio::select! {
        () = shared.drain.begun() => {}
        () = keep_current(&shared, settings, first) => {}
    }
}

async fn keep_current(
    shared: &Arc<Shared>,
    mut changes: watch::Receiver<Settings>,
    mut first: Option<Keeper>,
) {
    loop {
        if changes.has_changed().unwrap_or(true) {
            first = None;
        }
        let settings = changes.borrow_and_update().clone();
        if !settings.is_on() {
            shared.ranges.store(None);
            shared.ranges.tell(None);
            shared.journal.findings.stand(Vec::new());
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let mut following = pin!(follow(shared, &settings, changes.clone(), first.take()));
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) if *changes.borrow_and_update() == settings => {}
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = &mut following => return,
            }
        }
    }
}

/// Follows the sources of one configuration, for ever.
async fn follow(
    shared: &Arc<Shared>,
    settings: &Settings,
    reloads: watch::Receiver<Settings>,
    first: Option<Keeper>,
) {
    let (tell_fetched, fetched) = mpsc::channel(1);
    let (tell_strays, strays) = mpsc::channel(1);
    tokio::select! {
        () = fetches(shared, settings, reloads.clone(), tell_fetched) => {}
        () = media::run(shared, settings, reloads.clone(), tell_strays) => {}
        () = take_in(shared, settings, reloads.clone(), first, fetched, strays) => {}
    }
}

/// Takes in what the others bring, and looks at file and folder, at a reload also at what couldn't be used.
async fn take_in(
    shared: &Arc<Shared>,
    settings: &Settings,
    mut reloads: watch::Receiver<Settings>,
    first: Option<Keeper>,
    mut fetched: mpsc::Receiver<Answer>,
    mut strays: mpsc::Receiver<Vec<Stray>>,
) {
    let (begun, in_force) = (settings.clone(), shared.ranges.clone());
    let begin = move || {
        let mut keeper = first.unwrap_or_else(|| Keeper::begin(&begun, &in_force));
        keeper.recall();
        keeper
    };
    let Some(mut keeper) = blocking(begin).await else { return };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut enforced = true;
    let mut known = shared.ranges.load();
    loop {
        let next = tokio::select! {
            _ = look.tick() => blocking(move || { keeper.look(); keeper }).await,
            Some(Answer { from, said, heard }) = fetched.recv() => blocking(move || {
                // The one who fetched has gone only with this proxy.
                let _ = heard.send(keeper.hear(&from, said));
                keeper
            }).await,
            Some(strays) = strays.recv() => {
                keeper.stray(strays);
                Some(keeper)
            }
            Ok(()) = reloads.changed() => blocking(move || { keeper.try_again(); keeper }).await,
        };
        let Some(next) = next else { return };
        keeper = next;
        shared.journal.findings.stand(keeper.standings(Timestamp::now()));
        let now = shared.ranges.load();
        if let Some(current) = &now
            && known.as_ref().is_some_and(|known| known.sync_token() != current.sync_token())
        {
            let date = current.version.ranges.create_date.clone();
            shared.journal.findings.changed(Change::Ranges(date));
        }
        known = now;
        tell_of_enforcement(shared, &mut enforced);
    }
}

/// Runs what reads and writes files on a thread that may block; none while the runtime shuts down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}

/// What came of a fetch.
struct Answer {
    from: String,
    said: Result<Fetched, String>,
    heard: oneshot::Sender<Heard>,
}

/// What became of it.
struct Heard {
    /// What it gave is in force.
    good: bool,
    /// The file is wanted the next time, also where it is the same: the folder lacks it.
    wants_file: bool,
}

/// Asks the address now and then, for ever; after a failure also at each reload, which may be what mends it.
async fn fetches(
    shared: &Arc<Shared>,
    settings: &Settings,
    mut reloads: watch::Receiver<Settings>,
    tell: mpsc::Sender<Answer>,
) {
    let (Some(url), Some(authorities)) = (&settings.url, &settings.authorities) else {
        return std::future::pending().await;
    };
    let mut tag: Option<String> = None;
    let mut failures = 0_u32;
    loop {
        reloads.mark_unchanged();
        let snapshot = shared.snapshot();
        let fetching = fetch(&snapshot.egress, &shared.own, authorities, url, LARGEST, tag.as_deref());
        let said = Box::pin(fetching).await;
        let unchanged = matches!(said, Ok(Fetched::Unchanged));
        let new_tag = match &said {
            Ok(Fetched::File { tag, .. }) => tag.clone(),
            Ok(Fetched::Unchanged) => tag.clone(),
            Err(_) => None,
        };
        let (heard, answer) = oneshot::channel();
        if tell.send(Answer { from: url.shown(), said, heard }).await.is_err() {
            return;
        }
        let Heard { good, wants_file } = answer.await.unwrap_or(Heard { good: false, wants_file: true });
        // What wasn't taken is asked for whole again: it may have been mended behind its tag.
        tag = new_tag.filter(|_| good && !wants_file);
        failures = if good { 0 } else { failures.saturating_add(1) };
        match failures {
            // Its tag alone came, and the folder lacks it.
            0 if unchanged && wants_file => {}
            0 => sleep(settings.refresh).await,
            n => {
                let pause = PAUSE.saturating_mul(1 << (n - 1).min(16)).min(settings.refresh);
                if sleep_or_reload(pause, &mut reloads).await {
                    // Somebody works on it: the pauses begin anew.
                    failures = 0;
                }
            }
        }
    }
}

/// Waits so long, or until a reload that was not seen yet; whether there was one.
async fn sleep_or_reload(pause: Duration, reloads: &mut watch::Receiver<Settings>) -> bool {
    tokio::select! {
        () = sleep(pause) => false,
        Ok(()) = reloads.changed() => true,
    }
}

/// Says loudly when `policy.ranges = "enforce"` begins to only warn, and when that is over.
fn tell_of_enforcement(shared: &Shared, enforced: &mut bool) {
    let snapshot = shared.snapshot();
    let guard = &snapshot.egress.ranges;
    let now = guard.mode == OutsideRanges::Off || guard.mode() == guard.mode;
    if now == *enforced {
        return;
    }
    *enforced = now;
    if now {
        tracing::info!(event = "ranges_enforced", "policy.ranges is in force again as it is configured");
    } else {
        tracing::error!(
            event = "ranges_not_enforced",
            "policy.ranges = \"enforce\" only warns: there is no ip-ranges.json that is younger than ranges.max_age"
        );
    }
}
