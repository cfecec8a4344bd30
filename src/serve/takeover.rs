//! The successor's side of a hand-over, `serve --takeover`: it finds the process before it, gets copies of
//! its listening sockets, and accepts only once it is ready. Until then the other one accepts, and goes on
//! when this one dies.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::control;
use super::error::ServeError;
use crate::admin::older::{Older, Question, Who};
use crate::net::control::Line;
use crate::net::entrance::Entrance;
use crate::net::passed::Passed;

/// How long either side waits for the other.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a process that is asked to hand over may turn out to serve no more: each was told to end, or has handed
/// over, just then.
const ROUNDS: usize = 4;

/// What a process answers that is asked to hand over.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Refused(String),
    Given(Given),
}

/// What goes with the sockets.
#[derive(Serialize, Deserialize)]
pub(super) struct Given {
    /// Of the process that hands over.
    pub id: u32,
    pub pid: u32,
    pub socket: PathBuf,
    /// One for each socket: what it serves and its address as configured.
    pub listeners: Vec<(Entrance, SocketAddr)>,
    /// Processes before that one, which still have tunnels.
    pub older: Vec<(u32, PathBuf)>,
}

/// The word by which the successor says that it is ready, and later that it accepts.
pub(super) const READY: &str = "ready";
pub(super) const ACCEPTING: &str = "accepting";

/// A listening socket that the process before this one still accepts from.
pub(super) struct Offered {
    pub passed: Passed,
    pub kind: Entrance,
    /// May have port 0.
    pub configured: SocketAddr,
}

/// What this process was offered.
pub(super) struct TakeOver {
    line: Line,
    given: Given,
    pub offered: Vec<Offered>,
}

/// The place of this process in the row.
pub(super) struct Place {
    pub id: u32,
    /// Processes before it that have tunnels.
    pub older: Vec<Older>,
    pub takeover: Option<TakeOver>,
}

impl Place {
    /// That of a process that comes after those that drain.
    fn after(living: Vec<(Who, PathBuf)>) -> Self {
        let id = living.first().map_or(1, |(who, _)| who.id + 1);
        let older = living.into_iter().map(|(who, socket)| Older::new(who.id, socket)).collect();
        Self { id, older, takeover: None }
    }
}

impl Default for Place {
    /// That of the first process.
    fn default() -> Self {
        Self { id: 1, older: Vec::new(), takeover: None }
    }
}

/// The place of a process that takes nothing over. Those that drain in the folder that it shares with them,
/// if there is one, are told of with it. Where one serves, this one is another proxy.
pub(super) fn beside(state: Option<&Path>) -> Place {
    let living = control::folder(state).map(|folder| control::living(&folder)).unwrap_or_default();
    if living.iter().any(|(who, _)| who.serves) {
        return Place::default();
    }
    Place::after(living)
}

/// Asks the process that serves for its sockets. Where none serves, this one starts as usual.
///
/// # Errors
/// When there is no folder to meet in, or none that this user may write to; or that process refuses, with its reason.
pub(super) fn ask(state: Option<&Path>) -> Result<Place, ServeError> {
    let folder = control::folder(state).ok_or_else(|| {
        ServeError::NoFolder(
            "serve --takeover needs a folder that the old and the new process share: set RUNTIME_DIRECTORY, as \
             RuntimeDirectory= of a unit does, or ranges.state, for both"
                .to_owned(),
        )
    })?;
    control::usable(&folder).map_err(|error| {
        let folder = folder.display();
        ServeError::NoFolder(format!(
            "serve --takeover: the old and the new process can't share the folder {folder}: {error}; make it for \
             their user: install -d -m 0700 -o USER {folder}"
        ))
    })?;
    let mut rounds = 0..ROUNDS;
    let (id, takeover) = loop {
        let living = control::living(&folder);
        let id = living.first().map_or(1, |(who, _)| who.id + 1);
        let Some((who, socket)) = living.iter().find(|(who, _)| who.serves) else {
            return Ok(Place::after(living));
        };
        match TakeOver::ask(socket) {
            Ok(asked) => break (id, asked.map_err(ServeError::TakeOver)?),
            Err(_) if rounds.next().is_some() && !serves(socket) => {}
            Err(error) => return Err(goes_on(who.pid, &error)),
        }
    };
    let given = &takeover.given;
    let older = std::iter::once((given.id, given.socket.clone())).chain(given.older.iter().cloned());
    let older = older.map(|(id, socket)| Older::new(id, socket)).collect();
    tracing::info!(
        event = "taking_over",
        pid = given.pid,
        sockets = takeover.offered.len(),
        "taking over from process {}, which accepts until this one is ready",
        given.pid
    );
    Ok(Place { id, older, takeover: Some(takeover) })
}

/// Whether the process at a socket serves, as one may that doesn't answer.
fn serves(socket: &Path) -> bool {
    match control::who(socket) {
        Ok(who) => who.serves,
        Err(error) => !matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
    }
}

fn goes_on(pid: u32, error: &io::Error) -> ServeError {
    ServeError::TakeOver(format!("process {pid} doesn't hand over: {error}; it goes on"))
}

impl TakeOver {
    /// The inner error is a refusal.
    fn ask(socket: &Path) -> io::Result<Result<Self, String>> {
        let mut line = Line::connect(socket, PATIENCE)?;
        line.say(&Question::TakeOver { pid: std::process::id(), version: crate::VERSION.to_owned() })?;
        let fds = line.receive()?;
        let given = match line.hear()? {
            Reply::Refused(why) => return Ok(Err(why)),
            Reply::Given(given) => given,
        };
        let named = fds.into_iter().map(|fd| Passed::new(fd, format!("process {}", given.pid)));
        let offered = named.zip(&given.listeners).map(|(passed, (kind, configured))| {
            Ok(Offered { passed: passed?, kind: *kind, configured: *configured })
        });
        Ok(offered.collect::<Result<_, String>>().map(|offered| Self { line, given, offered }))
    }

    /// Says that this process is ready; the other one stops to accept. The ids of the older processes that
    /// it does not count itself, and its TLS sessions. Where it has ended meanwhile, or drains, its sockets
    /// are here already.
    ///
    /// # Errors
    /// When it serves on: then this process must not accept.
    pub(super) fn ready(&mut self) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>), ServeError> {
        let Given { id, pid, socket, older, .. } = &self.given;
        let mut step = || {
            self.line.say(&READY)?;
            let mut older: Vec<u32> = self.line.hear()?;
            older.push(*id);
            // An older version sends any number. Those who come back shake hands in full then.
            Ok((older, self.line.hear_secret()?.unwrap_or_default()))
        };
        step().or_else(|error: io::Error| {
            if serves(socket) {
                return Err(goes_on(*pid, &error));
            }
            tracing::warn!(
                event = "takeover_warning",
                pid,
                "process {pid} has ended meanwhile, or was told to; this one accepts in its place"
            );
            Ok((older.iter().map(|(id, _)| *id).chain([*id]).collect(), Zeroizing::default()))
        })
    }

    /// Says that this process accepts. The other one goes on when this line breaks within a few seconds: keep
    /// it for as long as the process lives.
    pub(super) fn accepting(mut self) -> Line {
        if let Err(error) = self.line.say(&ACCEPTING) {
            tracing::warn!(event = "takeover_warning", %error, "process {} can't be told", self.given.pid);
        }
        self.line
    }
}
