//! The Unix socket of this process, by which its successor and `ccpgate reload` find it: one file for each process in
//! the folder that they share.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Access;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::admin::Admin;
use crate::admin::older::{Question, Who, ask};
use crate::admin::reload::{Ask, Verdict};
use crate::net::control::{framed, framed_bytes, is_ours};

/// For a whole question, and for its answer to be taken; they come from this machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// The last words of a process with as many tunnels as a ledger holds are no longer.
const LONGEST: u64 = 64 << 20;
const PREFIX: &str = "ccpgate-";
const SUFFIX: &str = ".sock";

/// Somebody wants to take over.
pub(super) struct Asker {
    pub stream: UnixStream,
    pub pid: u32,
    pub version: String,
}

/// The folder that processes meet in: what systemd made for the unit, `RuntimeDirectory=` or else
/// `StateDirectory=`; before the latter `ranges.state`, where it is known and set.
pub(crate) fn folder(state: Option<&Path>) -> Option<PathBuf> {
    let first = |name: &str| {
        let folders = std::env::var_os(name)?;
        let first = std::env::split_paths(&folders).next()?;
        (!first.as_os_str().is_empty()).then_some(first)
    };
    let state = || state.map(Path::to_owned).or_else(|| first("STATE_DIRECTORY"));
    first("RUNTIME_DIRECTORY").or_else(state)
}

/// # Errors
/// When this process can't open a socket in the folder.
pub(super) fn usable(folder: &Path) -> io::Result<()> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    // A name within it, so that a file is no folder.
    Ok(rustix::fs::access(folder.join("."), access)?)
}

/// Whether the name of a process's socket in this folder is short enough for one (unix(7)).
pub(crate) fn fits(folder: &Path) -> bool {
    /// No process has a higher id (proc(5)).
    const HIGHEST: u32 = 1 << 22;
    std::os::unix::net::SocketAddr::from_pathname(socket(folder, HIGHEST)).is_ok()
}

fn socket(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("{PREFIX}{pid}{SUFFIX}"))
}

/// The processes that live, each with its socket, the newest first. What a dead one left is removed.
pub(crate) fn living(folder: &Path) -> Vec<(Who, PathBuf)> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for path in files.filter_map(|file| Some(file.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !(name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            continue;
        }
        match who(&path) {
            Ok(who) => all.push((who, path)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _ = std::fs::remove_file(&path);
            }
            Err(error) => tracing::warn!(
                event = "control_failed",
                path = %path.display(),
                %error,
                "a process that shares this folder doesn't answer"
            ),
        }
    }
    all.sort_by_key(|(who, _)| std::cmp::Reverse(who.id));
    all
}

/// Who listens on a socket.
///
/// # Errors
/// When nobody answers.
pub(super) fn who(socket: &Path) -> io::Result<Who> {
    Ok(serde_json::from_slice(&ask(socket, &Question::Who)?)?)
}

/// The socket; its file goes when this is dropped.
pub(super) struct Control {
    pub path: PathBuf,
}

impl Control {
    /// Opens it and answers from now on; whoever wants to take over comes out of `askers`.
    ///
    /// # Errors
    /// When the folder can't be written to, or its name is too long for a socket.
    pub(super) fn open(folder: &Path, admin: Arc<Admin>, askers: mpsc::Sender<Asker>) -> io::Result<Self> {
        let path = socket(folder, std::process::id());
        // Under its name only once it listens: one that refuses is taken for a dead process's, and removed.
        let unready = Self { path: path.with_extension("new") };
        match std::fs::remove_file(&unready.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unready.path)?;
        // Also without that only processes of this user and of root are answered.
        std::fs::set_permissions(&unready.path, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&unready.path, &path)?;
        let control = Self { path };
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (admin, askers) = (admin.clone(), askers.clone());
                        tokio::spawn(answer(stream, admin, askers));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers the one question of a connection. What can't be read is closed without an answer. An answer may take
/// its time: a reload waits for its turn, and has taken effect whether its verdict is heard or not.
async fn answer(stream: UnixStream, admin: Arc<Admin>, askers: mpsc::Sender<Asker>) -> io::Result<()> {
    if !is_ours(&stream)? {
        return Ok(());
    }
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    timeout(PATIENCE, (&mut stream).take(LONGEST).read_until(b'\n', &mut line)).await??;
    let question: Question = serde_json::from_slice(&line)?;
    let answer = match question {
        Question::TakeOver { pid, version } => {
            let asker = Asker { stream: stream.into_inner(), pid, version };
            let _ = timeout(PATIENCE, askers.send(asker)).await;
            return Ok(());
        }
        Question::Who => framed(&admin.who())?,
        Question::Ends(last) => {
            tokio::task::block_in_place(|| admin.generations.ended(*last));
            framed(&())?
        }
        Question::Reload { yes } => framed(&reload(&admin, yes).await)?,
        question => match tokio::task::block_in_place(|| admin.own_answer(&question)) {
            Some(bytes) => framed_bytes(&bytes),
            None => return Ok(()),
        },
    };
    timeout(PATIENCE, stream.get_mut().write_all(&answer)).await?
}

async fn reload(admin: &Admin, yes: bool) -> Verdict {
    let (verdict, told) = oneshot::channel();
    match admin.reloads.try_send(Ask { yes, verdict }) {
        Ok(()) => told.await.unwrap_or_else(|_| Verdict::none()),
        Err(_) => Verdict::none(),
    }
}
