//! `ccpgate ranges accept`: lets a version that was kept aside take effect. It is one file in the folder of
//! `ranges.state`; a running proxy notices by itself.

use std::path::PathBuf;

use jiff::Timestamp;

use super::super::out::{say, say_json};
use super::super::{Failure, load};
use crate::config::Sources;
use crate::ranges::admit::{self, Verdict};
use crate::ranges::current::Current;
use crate::ranges::keep::{self, Contents, Kept, State};
use crate::ranges::select::Wanted;

/// Let a version that was kept aside take effect, by its syncToken; a running proxy takes it by itself.
///
/// `ccpgate status` and the log name the version, and what it takes away.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The syncToken of the version.
    #[arg(value_parser = token)]
    token: u64,
    /// The folder; else that of `ranges.state` or `$STATE_DIRECTORY`.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// As an object.
    #[arg(long)]
    json: bool,
}

fn token(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a syncToken, which is digits, as `ccpgate status` names it".to_owned())
}

#[derive(serde::Serialize)]
struct Accepted {
    schema_version: u32,
    sync_token: String,
    create_date: String,
    state: String,
    /// What it takes away.
    takes_away: Option<String>,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, _) = load::plan(sources)?;
        let config = &loaded.config;
        let Some(folder) = self.state.or_else(|| keep::folder(config.ranges.state.as_deref())) else {
            return Err(Failure::Usage(
                "no folder of versions is named: name it with --state or in ranges.state; under systemd it is that of \
                 StateDirectory=, /var/lib/ccpgate"
                    .to_owned(),
            ));
        };
        if !folder.is_dir() {
            return Err(Failure::Usage(format!("{}: there is no such folder", folder.display())));
        }
        let state = State::open(folder).map_err(Failure::Usage)?;
        let contents = state.contents().map_err(Failure::Usage)?;
        let Some(kept) = contents.aside.iter().find(|kept| kept.sync_token == self.token) else {
            return Err(Failure::Usage(none_such(self.token, &state, &contents)));
        };
        let ranges = keep::load(&kept.path).map_err(Failure::Usage)?;
        if ranges.sync_token != self.token {
            return Err(Failure::Usage(format!(
                "{}: it has the syncToken {}; expected {}",
                kept.path.display(),
                ranges.sync_token,
                self.token
            )));
        }
        let wanted = Wanted::new(&config.connect, config.ranges.ec2_global);
        let before = contents.newest().map(|ranges| Current::new(ranges, Vec::new(), &wanted));
        let create_date = ranges.create_date.clone();
        let takes_away = match admit::judge(before.as_ref(), ranges, &wanted, Timestamp::now()) {
            Verdict::Older(why) | Verdict::Refused(why) => {
                return Err(Failure::Usage(format!("{}: {why}", kept.path.display())));
            }
            Verdict::Aside(why) => Some(why),
            Verdict::Take(_) | Verdict::Unchanged => None,
        };
        state.accept(kept).map_err(Failure::Usage)?;
        let state = state.path().display().to_string();
        if self.json {
            let sync_token = self.token.to_string();
            return say_json(&Accepted { schema_version: 1, sync_token, create_date, state, takes_away });
        }
        let away = takes_away.map(|why| format!("it takes away: {why}\n")).unwrap_or_default();
        say(&format!(
            "accepted ip-ranges.json of {create_date}, syncToken {}, in {state}\n{away}a running proxy with this folder \
             takes it within seconds\n",
            self.token
        ))
    }
}

fn none_such(token: u64, state: &State, contents: &Contents) -> String {
    let folder = state.path().display();
    if contents.versions.iter().any(|kept| kept.sync_token == token) {
        return format!("{folder}: the version with the syncToken {token} isn't aside: it was taken already");
    }
    let tokens: Vec<String> =
        contents.aside.iter().map(|Kept { sync_token, .. }| sync_token.to_string()).collect();
    let expected = match tokens.is_empty() {
        true => "no version is kept aside there".to_owned(),
        false => format!("expected one of {}", tokens.join(", ")),
    };
    format!("{folder}: there is no version with the syncToken {token} aside; {expected}")
}
