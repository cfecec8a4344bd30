//! What fails now, for how many clients, and whose turn it is: ends and denials of a running proxy →
//! findings. Pure: nothing is measured here, and time is an argument, in seconds since the start.
//!
//! A finding is made of distinct clients, not of tunnels. A desk whose panel retries every two
//! seconds makes 300 failed tunnels in ten minutes, and is one client.
//!
//! - [`clients`]: what is remembered of each client, bounded.
//! - [`unlisted`]: hosts that were denied because no rule has them, bounded.
//! - `instances`: instances whose own name doesn't exist.
//! - [`judge`]: from all of them to findings; `group` has the thresholds that keep ordinary noise silent, `desk` what
//!   is told of one desk that fails alone.
//! - [`report`]: what a look found, all of it.
//! - [`networks`]: what the addresses of those who fail have in common.
//! - [`change`]: what changed lately.
//! - [`watch`]: what the rounds of the watch found.
//! - [`standing`]: what the process itself finds wrong.
//! - [`words`]: the sentence of 9:05.

pub mod change;
pub mod clients;
mod desk;
mod group;
mod instances;
pub mod judge;
pub mod networks;
pub mod report;
pub mod standing;
pub mod unlisted;
pub mod watch;
pub mod words;

use std::net::IpAddr;

use crate::cause::Cause;
use crate::outcome::Bound;
use crate::policy::Category;

/// Seconds since the start of the process.
pub type Second = u32;

/// How far back it is looked: a client that did nothing for so long is not active, and what failed
/// before is forgotten.
pub const LOOK_BACK: Second = 600;

/// A finding ends when nothing failed for so long.
pub const QUIET: Second = 300;

/// Targets that a finding names.
const TARGETS: usize = 3;

/// What a failure is about. Failures with the same key make one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub cause: Cause,
    /// None where the request didn't get so far that it belongs to one.
    pub category: Option<Category>,
    pub subject: Subject,
}

/// What tells two findings of one cause and category apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    None,
    /// The limit that was met.
    Bound(Bound),
    /// A denied host: its number in [`unlisted::Unlisted`].
    Host(u32),
    /// What the configuration lacks: its number there.
    Need(u32),
}

/// How a kind of failure is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A target isn't reached. The next tunnel to it says that it is over.
    Path,
    /// A tunnel that stood broke off. A new one to the same target says nothing yet; one that ends
    /// well does.
    End,
    /// The policy denies what agents seem to need.
    Denial,
    /// Nothing that a client does next says that it is over.
    Foreign,
    /// A limit of this proxy. Tunnels come and go at a limit: a success counts a while later only.
    Limit,
}

impl Kind {
    pub(crate) const fn of(cause: Cause) -> Self {
        match cause {
            Cause::TunnelReset | Cause::TunnelIdle => Self::End,
            Cause::NotConfigured => Self::Denial,
            Cause::ForeignProtocol => Self::Foreign,
            Cause::Limit | Cause::SourceAddress => Self::Limit,
            _ => Self::Path,
        }
    }
}

/// Who sees that something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Source {
    /// Agents' browsers, by what becomes of their requests.
    Clients,
    /// The proxy's own rounds of `check`.
    Watch,
    /// What keeps ip-ranges.json current. It looks ahead: nothing that was tried has failed.
    Ranges,
}

impl Source {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What holds now.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub key: Key,
    pub source: Source,
    /// When the first of its clients began to fail.
    pub since: Second,
    /// The last failure.
    pub last: Second,
    /// Distinct, in order; none unless they are the source.
    pub clients: Vec<IpAddr>,
    /// All clients of the last ten minutes.
    pub active: usize,
    /// Networks that the failing clients share, the most of them first.
    pub networks: Vec<ipnet::IpNet>,
    /// A few of the targets.
    pub targets: Vec<String>,
    /// What the configuration lacks.
    pub lacks: Option<Lack>,
    /// Why it fails, where the cause says only for whom: for [`Cause::OneDesk`].
    pub by: Option<Cause>,
}

/// What the configuration lacks, for [`Cause::NotConfigured`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The catalogue knows what the host belongs to: in words, and what agents see without it.
    Known { what: String, agent_sees: &'static str },
    /// No rule and no catalogue has the host.
    Host(String),
}

/// How it goes altogether, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum State {
    Ok,
    Degraded,
    Failed,
}

#[cfg(test)]
mod judge_tests;
